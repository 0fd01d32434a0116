//! What a call says, as constant data: what `tech!` becomes.

use std::fmt;
use std::time::Duration;

use crate::value::{Json, Type};

/// The region of an `api_id` that names none; CoWorks' own.
pub const DEFAULT_REGION: &str = "eu-west-1";

/// A call of a technical microservice.
#[derive(Debug)]
pub struct Call {
    /// The verb.
    pub method: Method,
    /// The entry, with its leading `/`.
    pub path: &'static str,
    /// Where the service is.
    pub service: Service,
    /// What it is called with.
    pub token: Token,
    /// The `Accept` header.
    pub accept: &'static str,
    /// How long one request may take.
    pub request_timeout: Duration,
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

/// What a call takes from values that are known when it is sent.
#[derive(Debug, Default)]
pub struct Arguments {
    /// The query, in order; a list is a repeated key.
    pub query: Vec<(String, String)>,
    /// The JSON body.
    pub json: Option<Json>,
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

/// Where a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Behind API Gateway.
    Api {
        /// The id of the API.
        api_id: &'static str,
        /// The stage.
        stage: &'static str,
        /// The AWS region.
        region: &'static str,
    },
    /// At an address.
    Url(&'static str),
}

impl Service {
    /// The name it is recorded by: the `cws_name` XCom.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Api { api_id, .. } => api_id,
            Self::Url(url) => url,
        }
    }

    /// The address of an entry. `gateway` stands in for that of API Gateway.
    pub fn url(&self, gateway: Option<&str>, path: &str) -> String {
        let entry = path.trim_start_matches('/');
        match self {
            Self::Api { api_id, stage, region } => {
                let base = match gateway {
                    Some(gateway) => gateway.replace("{api_id}", api_id).replace("{region}", region),
                    None => format!("https://{api_id}.execute-api.{region}.amazonaws.com"),
                };
                format!("{}/{stage}/{entry}", base.trim_end_matches('/'))
            }
            Self::Url(url) => format!("{}/{entry}", url.trim_end_matches('/')),
        }
    }
}

/// What a call is authorized with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// Nothing: `no_auth`.
    None,
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
            Self::Literal(_) => f.write_str("Literal(***)"),
            Self::Secret(name) => write!(f, "Secret({name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: Service = Service::Api { api_id: "xxxx", stage: "dev", region: "eu-west-1" };

    #[test]
    fn the_address_of_an_entry_has_one_slash_before_it() {
        let url = "https://xxxx.execute-api.eu-west-1.amazonaws.com/dev";
        assert_eq!(API.url(None, "/"), format!("{url}/"));
        assert_eq!(API.url(None, "/a/b"), format!("{url}/a/b"));
        assert_eq!(Service::Url("http://h/base/").url(None, "/a"), "http://h/base/a");
    }

    #[test]
    fn a_gateway_by_hand_may_use_the_id_and_the_region() {
        assert_eq!(API.url(Some("http://localhost:1"), "/a"), "http://localhost:1/dev/a");
        assert_eq!(API.url(Some("http://h/{region}/{api_id}/"), "/a"), "http://h/eu-west-1/xxxx/dev/a");
    }

    #[test]
    fn a_literal_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::Literal("token")), "Literal(***)");
    }
}
