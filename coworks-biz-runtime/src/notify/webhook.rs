//! A service of the user's own that is told of failures.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::Notice;
use crate::config::{Config, Secret, Secrets};
use crate::error::{Error, Result, chain};
use crate::tech::{http, retry_after, transient};

/// What one notice may take in all.
const LONGEST: Duration = Duration::from_secs(30);

/// Of a refusal, no more characters than this are told.
const TOLD: usize = 300;

/// Posts notices as JSON to `COWORKS_WEBHOOK_URL`.
#[derive(Debug)]
pub struct Webhook {
    http: reqwest::Client,
    url: Secret,
    token: Option<Secret>,
    /// The scheme and the host, which may be seen.
    shown: String,
    secrets: Arc<Secrets>,
    limit: Duration,
}

impl Webhook {
    /// A webhook as the configuration says; none where it names none.
    pub fn new(config: &Config) -> Result<Option<Self>> {
        let Some(target) = &config.webhook else { return Ok(None) };
        let url = Url::parse(target.url.expose())
            .map_err(|e| Error::fatal(format!("COWORKS_WEBHOOK_URL cannot be used: {e}")))?;
        Ok(Some(Self {
            http: http(config)?,
            url: target.url.clone(),
            token: target.token.clone(),
            shown: url.origin().ascii_serialization(),
            secrets: Arc::clone(&config.secrets),
            limit: LONGEST,
        }))
    }

    #[cfg(test)]
    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Posts a notice. Any status of 200 to 299 is taken for an answer that it was understood.
    ///
    /// The header `Idempotency-Key` is the [id](Notice::id) of the notice: the same when it is sent
    /// again. Nothing known to be a secret is in it. The error is [fatal](Error::fatal) for an answer
    /// that would be the same next time, and carries the service's `Retry-After` where it gave one.
    pub async fn send(&self, notice: &Notice) -> Result<()> {
        let mut body = serde_json::to_value(notice)?;
        scrub(&mut body, &self.secrets);
        let mut request = self
            .http
            .post(self.url.expose())
            .timeout(self.limit)
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", notice.id())
            .body(body.to_string());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let fault = |e: reqwest::Error| {
            let text = format!("the webhook at {} got no answer: {}", self.shown, chain(&e.without_url()));
            Error::msg(self.secrets.scrub(&text))
        };
        let mut response = request.send().await.map_err(fault)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after = retry_after(&response);
        // The first piece of what it says is enough, and none is no second fault.
        let said = response.chunk().await.ok().flatten().unwrap_or_default();
        let said: String = String::from_utf8_lossy(&said).chars().take(TOLD).collect();
        let said = self.secrets.scrub(said.trim()).replace(char::is_control, " ");
        let colon = if said.is_empty() { "" } else { ": " };
        let text = format!("the webhook at {} answered with {}{colon}{said}", self.shown, status.as_u16());
        Err(match (transient(status.as_u16()), after) {
            (false, _) => Error::fatal(text),
            (true, Some(delay)) => Error::msg(text).retry_after(delay),
            (true, None) => Error::msg(text),
        })
    }
}

fn scrub(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::String(text) => *text = secrets.scrub(text).into_owned(),
        Value::Array(list) => list.iter_mut().for_each(|item| scrub(item, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|field| scrub(field, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
