//! What a call says, as constant data: what `tech!` becomes.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Service;
use crate::error::Result;
use crate::value::{Json, Type};

/// The region of an `api_id` that names none; CoWorks' own.
pub const DEFAULT_REGION: &str = "eu-west-1";

/// A call of a technical microservice.
#[derive(Debug)]
pub struct Call {
    /// The verb.
    pub method: Method,
    /// The entry, with its leading `/`; [`Arguments::path`](super::Arguments::path) may replace it.
    pub path: &'static str,
    /// Where the service is.
    pub service: Service,
    /// What it is called with; [`Arguments::token`](super::Arguments::token) may replace it.
    pub token: Token,
    /// The `Accept` header.
    pub accept: &'static str,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Whether the log tells each answer: its status and the beginning of its body.
    pub log_response: bool,
    /// The type of the answer; `None` when nobody uses it.
    pub output: Option<Type>,
}

/// A call whose answer the service leaves in S3.
#[derive(Debug)]
pub struct AsyncCall {
    /// The call.
    pub call: Call,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// The bucket; the configured one when it is `None`.
    pub bucket: Option<&'static str>,
    /// Whether the answer stays in S3 after it was read.
    pub keep: bool,
}

/// A call that is repeated until it succeeds.
#[derive(Debug)]
pub struct SensorCall {
    /// The call.
    pub call: Call,
    /// The time from one call to the next.
    pub poke_interval: Duration,
    /// How long it may take in all.
    pub timeout: Duration,
    /// Whether an answer is what was waited for; `None` where every accepted one is.
    pub until: Option<fn(&Json) -> Result<bool>>,
}

/// Who calls: what makes a request of one run tell from that of another.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The `x-amzn-trace-id` of the run.
    pub trace_id: String,
    /// The `Idempotency-Key` of the call.
    pub idempotency_key: String,
    /// The name of the run in the world, a UUID.
    pub run: String,
    /// The attempt that calls, in its run.
    pub attempt: String,
}

impl Identity {
    /// The `traceparent` (W3C): the trace is the run, and its parent is another one for each attempt.
    pub(super) fn traceparent(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hash = |text: &str| hex(&Sha256::digest(text));
        let trace = match uuid::Uuid::try_parse(&self.run) {
            Ok(uuid) => hex(uuid.as_bytes()),
            Err(_) => hash(&self.run)[..32].to_owned(),
        };
        let parent = hash(&format!("{} {}", self.idempotency_key, self.attempt));
        format!("00-{trace}-{}-01", &parent[..16])
    }
}

/// An HTTP verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Head,
    Options,
}

impl Method {
    /// The verb as it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call is authorized with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// Nothing: `no_auth`.
    None,
    /// What the service itself says: the directory, or a [`TechService`](super::TechService).
    OfService,
    /// The token as it stands in the source.
    Literal(&'static str),
    /// The secret of this name.
    Secret(&'static str),
}

// By hand: a token in the source is a secret all the same.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::OfService => f.write_str("OfService"),
            Self::Literal(_) => f.write_str("Literal(***)"),
            Self::Secret(name) => write!(f, "Secret({name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::Literal("token")), "Literal(***)");
    }

    #[test]
    fn a_trace_is_the_run_and_its_parent_the_attempt() {
        let of = |run: &str, attempt: &str| {
            let (run, attempt) = (run.to_owned(), attempt.to_owned());
            Identity { trace_id: String::new(), idempotency_key: "k".into(), run, attempt }.traceparent()
        };
        let one = of("01890a5d-ac96-774b-bcce-b302099a8057", "x.-1.0.1");
        let (trace, parent) = (&one[..36], &one[36..52]);
        assert_eq!((trace, &one[52..]), ("00-01890a5dac96774bbcceb302099a8057-", "-01"));
        assert!(parent.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
        let two = of("01890a5d-ac96-774b-bcce-b302099a8057", "x.-1.0.2");
        assert!(two.starts_with(trace) && two[36..52] != *parent, "{two}");
        assert_eq!(of("no uuid", "x").len(), one.len());
    }
}
