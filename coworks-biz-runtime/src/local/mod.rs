//! Stand-ins for API Gateway, Lambda and S3 on loopback, for examples and tests.
//!
//! A technical microservice is made of axum's handlers; the stand-in gateway gives
//! it an address, holds calls against its token, and answers as API Gateway
//! does; a directory knows those that have a name. A call that asks for it is run in the background, and its answer is
//! left in a real S3 server in this process.
//!
//! A [`Sandbox`] is all that for a test, with a database and a clock of its own: it runs a whole business service in
//! milliseconds, has its calls go wrong by script, and tells what was called.

mod directory;
mod events;
mod fault;
mod finished;
mod gateway;
mod s3;
mod sandbox;
mod script;
mod serve;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub use axum;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::events::Events;
pub use self::fault::Fault;
pub use self::finished::Finished;
use self::gateway::{Gateway, Lambdas};
pub use self::sandbox::Sandbox;
pub use self::script::Received;
use self::script::Script;
pub use self::service::Service;
use crate::clock::Clock;
use crate::config::{Config, Directory, S3, S3Server, Secret};
pub use crate::run::{RunState, State};
pub use crate::task::Capture;

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
        self.start_by(dir, bucket, Clock::default(), None).await
    }

    async fn start_by(
        self,
        dir: &Path,
        bucket: &str,
        clock: Clock,
        script: Option<Arc<Script>>,
    ) -> io::Result<Local> {
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
        let mut places = HashSet::new();
        if let Some(twice) = self.0.iter().find(|service| !places.insert((&service.api_id, &service.stage))) {
            let Service { api_id, stage, .. } = twice;
            return Err(io::Error::other(format!(
                "there are two services `{api_id}` in the stage `{stage}`"
            )));
        }
        let at = |service: &Service| format!("http://{gateway}/{}/{}", service.api_id, service.stage);
        let stand_ins =
            self.0.iter().flat_map(|service| service.at.iter().map(move |url| (url.clone(), at(service))));
        let stand_ins = stand_ins.collect();
        let named = directory::app(&self.0, &format!("http://{gateway}"));
        let held =
            Gateway { results, events: Events::open(dir)?, lambdas: Arc::clone(&lambdas), clock, script };
        let app = gateway::app(self.0, held)?;
        let (app, directory) = match named {
            Some((entries, directory)) => (app.merge(entries), Some(directory)),
            None => (app, None),
        };
        servers.spawn(serve::serve(for_gateway, gateway::Connection::new(app)));
        Ok(Local { gateway, directory, stand_ins, s3, lambdas, _servers: servers })
    }
}

/// Running stand-ins. They stop when this is dropped.
#[derive(Debug)]
pub struct Local {
    gateway: SocketAddr,
    directory: Option<Directory>,
    stand_ins: BTreeMap<String, String>,
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
        config.stand_ins.clone_from(&self.stand_ins);
        config.proxy = false;
        config.s3 = S3 { server: Some(self.s3.clone()), path_style: true };
    }
}
