//! Stand-ins for API Gateway, Lambda and S3 on loopback, for examples and tests.
//!
//! A technical microservice is an [`axum::Router`]; the stand-in gateway gives
//! it an address, holds calls against its token, and answers as API Gateway
//! does; a directory knows those that have a name. A call that asks for it is run in the background, and its answer is
//! left in a real S3 server in this process.

mod directory;
mod events;
mod gateway;
mod s3;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub use axum;
use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::events::Events;
use self::gateway::Lambdas;
use crate::config::{Config, Directory, S3, S3Server, Secret};

/// A technical microservice.
///
/// ```
/// use coworks_biz_runtime::local::{Service, axum::{Router, routing::get}};
///
/// let hello = Service::new("xxxx").token("token").entries(
///     Router::new().route("/", get(|| async { "hello" })),
/// );
/// # let _ = hello;
/// ```
#[derive(Debug, Clone)]
pub struct Service {
    api_id: String,
    stage: String,
    cws_name: Option<String>,
    token: Option<String>,
    /// The types of bodies.
    takes: Vec<String>,
    entries: Router,
}

impl Service {
    /// The service with this API id, in the stage `dev`, without entries, open to all.
    pub fn new(api_id: impl Into<String>) -> Self {
        Self {
            api_id: api_id.into(),
            stage: "dev".into(),
            cws_name: None,
            token: None,
            takes: vec!["application/json".into()],
            entries: Router::new(),
        }
    }

    /// Puts it into this stage.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = stage.into();
        self
    }

    /// Gives it this name in the directory, for calls with a `cws_name`.
    #[must_use]
    pub fn named(mut self, cws_name: impl Into<String>) -> Self {
        self.cws_name = Some(cws_name.into());
        self
    }

    /// Also takes bodies of this `Content-Type`; JSON always, and others are answered 415.
    #[must_use]
    pub fn takes(mut self, content_type: impl Into<String>) -> Self {
        self.takes.push(content_type.into());
        self
    }

    /// Takes only calls with this token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Answers with these entries.
    #[must_use]
    pub fn entries(mut self, entries: Router) -> Self {
        self.entries = entries;
        self
    }
}

/// The services that a program brings along for `--local`.
#[derive(Debug, Clone, Default)]
pub struct Services(Vec<Service>);

impl Services {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, service: Service) -> Self {
        self.0.push(service);
        self
    }

    /// Starts the gateway and the S3 server on free ports of 127.0.0.1. What
    /// the S3 server holds is under `dir`; it has the bucket `bucket`. Calls that an
    /// earlier one accepted there and did not answer are answered now.
    pub async fn start(self, dir: &Path, bucket: &str) -> io::Result<Local> {
        let mut servers = JoinSet::new();
        let listener = || TcpListener::bind(("127.0.0.1", 0));
        let (for_s3, for_gateway) = (listener().await?, listener().await?);
        let s3 = S3Server {
            endpoint: format!("http://{}", for_s3.local_addr()?),
            access_key: "local".into(),
            secret_key: Secret::new("local-secret"),
        };
        s3::serve(for_s3, dir, bucket, &s3, &mut servers)?;
        let gateway = for_gateway.local_addr()?;
        let answers = S3 { server: Some(s3.clone()), path_style: true };
        let lambdas = Lambdas::default();
        let results = crate::tech::Results::connect(&answers).await;
        let named = directory::app(&self.0, &format!("http://{gateway}"));
        let app = gateway::app(self.0, results, Events::open(dir)?, Arc::clone(&lambdas))?;
        let (app, directory) = match named {
            Some((entries, directory)) => (app.merge(entries), Some(directory)),
            None => (app, None),
        };
        servers.spawn(async move {
            if let Err(e) =
                axum::serve(for_gateway.tap_io(|stream| drop(stream.set_nodelay(true))), app).await
            {
                tracing::error!("the local gateway has stopped: {e}");
            }
        });
        Ok(Local { gateway, directory, s3, lambdas, _servers: servers })
    }
}

/// Running stand-ins. They stop when this is dropped.
#[derive(Debug)]
pub struct Local {
    gateway: SocketAddr,
    directory: Option<Directory>,
    s3: S3Server,
    lambdas: Lambdas,
    _servers: JoinSet<()>,
}

impl Drop for Local {
    fn drop(&mut self) {
        // Connections may outlive this; what services do must not.
        self.lambdas.lock().unwrap_or_else(|e| e.into_inner()).abort_all();
    }
}

impl Local {
    /// The address for `COWORKS_GATEWAY_URL`.
    pub fn gateway_url(&self) -> String {
        format!("http://{}/{{api_id}}", self.gateway)
    }

    /// The directory, where a service has a name.
    pub fn directory(&self) -> Option<&Directory> {
        self.directory.as_ref()
    }

    /// The S3 server.
    pub fn s3(&self) -> &S3Server {
        &self.s3
    }

    /// Lets a configuration use these stand-ins.
    pub fn configure(&self, config: &mut Config) {
        config.gateway_url = Some(self.gateway_url());
        if let Some(directory) = &self.directory {
            config.directory = Some(directory.clone());
        }
        config.proxy = false;
        config.s3 = S3 { server: Some(self.s3.clone()), path_style: true };
    }
}
