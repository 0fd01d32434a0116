//! Sending: one client for all calls of a process.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};

use super::reply::{Answer, Raw};
use super::{Arguments, Call, Identity, Token};
use crate::config::{Config, Secrets};
use crate::error::{Error, Result, chain};
use crate::value::Object;

/// The largest answer that is taken, in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// No service makes a task wait longer than this before its next try.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// Calls services, and reaches the results of asynchronous calls.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    gateway: Option<String>,
    bucket: String,
    secrets: Arc<Secrets>,
    #[cfg(feature = "s3")]
    s3: (crate::config::S3, tokio::sync::OnceCell<super::Results>),
}

impl Client {
    /// A client as the configuration says.
    pub fn new(config: &Config) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("coworks-biz/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::limited(5));
        if !config.proxy {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| Error::fatal(format!("no HTTP client: {}", chain(&e))))?;
        Ok(Self {
            http,
            gateway: config.gateway_url.clone(),
            bucket: config.bucket.clone(),
            secrets: Arc::clone(&config.secrets),
            #[cfg(feature = "s3")]
            s3: (config.s3.clone(), tokio::sync::OnceCell::new()),
        })
    }

    /// The bucket of results that name none.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The results in S3; connected at the first use.
    #[cfg(feature = "s3")]
    pub async fn results(&self) -> &super::Results {
        self.s3.1.get_or_init(|| super::Results::connect(&self.s3.0)).await
    }

    /// Calls a service and waits for its answer.
    ///
    /// The error is [fatal](Error::fatal) for an answer that would be the same
    /// next time, and carries the service's `Retry-After` where it gave one.
    pub async fn call(&self, call: &Call, arguments: &Arguments, who: &Identity) -> Result<Answer> {
        let (url, request) = self.request(call, arguments, who)?;
        let what = format!("{} {url}", call.method);
        tracing::info!("{what}");
        let (status, retry_after, body) = self.send(request, &what).await?;
        let raw = Raw { status, retry_after, body: &body };
        let answer = raw.answer(call.output.as_ref(), &what)?;
        tracing::info!("{status} with {} bytes", body.len());
        Ok(answer)
    }

    /// Asks a service to leave its answer at `result`. Returns once it accepted.
    pub async fn submit(
        &self,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
        result: &Object,
    ) -> Result<()> {
        let (url, request) = self.request(call, arguments, who)?;
        let what = format!("{} {url}", call.method);
        tracing::info!("{what}");
        tracing::debug!("the answer goes to {result}");
        let request = request
            .header("InvocationType", "Event")
            .header("X-CWS-S3Bucket", &result.bucket)
            .header("X-CWS-S3Key", &result.key);
        let (status, retry_after, body) = self.send(request, &what).await?;
        Raw { status, retry_after, body: &body }.answer(None, &what)?;
        tracing::info!("accepted with {status}");
        Ok(())
    }

    fn request(
        &self,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
    ) -> Result<(String, RequestBuilder)> {
        let url = call.service.url(self.gateway.as_deref(), call.path);
        let mut parsed = reqwest::Url::parse(&url)
            .map_err(|e| Error::fatal(format!("{url} is no address of a service: {e}")))?;
        if !arguments.query.is_empty() {
            parsed.query_pairs_mut().extend_pairs(&arguments.query);
        }
        let method = reqwest::Method::from_bytes(call.method.as_str().as_bytes())
            .map_err(|e| Error::fatal(format!("{}: {e}", call.method)))?;
        let mut request = self
            .http
            .request(method, parsed)
            .timeout(call.request_timeout)
            .header(ACCEPT, call.accept)
            .header(CONTENT_TYPE, "application/json")
            .header("x-amzn-trace-id", &who.trace_id)
            .header("Idempotency-Key", &who.idempotency_key);
        request = match call.token {
            Token::None => request,
            Token::Literal(token) => {
                self.secrets.hide(token);
                request.header(AUTHORIZATION, token)
            }
            Token::Secret(name) => {
                let secret = self.secrets.get(name).map_err(|e| Error::fatal(e.to_string()))?;
                request.header(AUTHORIZATION, secret.expose())
            }
        };
        if let Some(json) = &arguments.json {
            request = request.body(json.as_str().to_owned());
        }
        Ok((url, request))
    }

    async fn send(&self, request: RequestBuilder, what: &str) -> Result<(u16, Option<Duration>, Vec<u8>)> {
        // The error's own text repeats the URL, which `what` has told.
        let fault = |e: reqwest::Error| {
            // What cannot even be written down will not be better next time.
            let hopeless = e.is_builder();
            let text = format!("{what} got no answer: {}", chain(&e.without_url()));
            if hopeless { Error::fatal(text) } else { Error::msg(text) }
        };
        let mut response = request.send().await.map_err(fault)?;
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fault)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(Error::fatal(format!("{what} answered with more than {} MiB", LARGEST >> 20)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, retry_after, body))
    }
}

/// `Retry-After` in either of its forms: seconds, or a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            (date.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default()
        }
    };
    Some(delay.min(LONGEST_DELAY))
}
