//! What a call says, as constant data: what `tech!` becomes.

use std::fmt;
use std::time::Duration;

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
}
