//! Where a service is, and what it wants of every call.

use std::borrow::Cow;
use std::fmt;

use super::Given;

/// Where a service is, as constant data.
#[derive(Debug, Clone, Copy)]
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
    /// Where the directory says.
    Named {
        /// The name that the directory knows.
        cws_name: &'static str,
        /// The stage; the directory chooses where it is `None`.
        stage: Option<&'static str>,
    },
    /// Where a type of the user's says.
    Custom(fn() -> Box<dyn TechService>),
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Behind API Gateway.
    Api {
        /// The id of the API.
        api_id: String,
        /// The stage.
        stage: String,
        /// The AWS region, such as [`DEFAULT_REGION`](super::DEFAULT_REGION).
        region: String,
    },
    /// Where the directory says.
    Named {
        /// The name that the directory knows.
        cws_name: String,
        /// The stage; the directory chooses where it is `None`.
        stage: Option<String>,
    },
    /// At an address; entries are added at its end.
    Url(String),
}

/// A company's own way to its services: where they are, and what they all want.
///
/// `service = expr` in a call takes any value of such a type; it is made anew for each request.
///
/// ```
/// use coworks_biz_runtime::config::secret;
/// use coworks_biz_runtime::tech::{Address, Given, TechService};
///
/// /// A service of ours: `service = NeoRezo("billing")`.
/// struct NeoRezo(&'static str);
///
/// impl TechService for NeoRezo {
///     fn address(&self) -> Address {
///         Address::Named { cws_name: format!("neorezo-{}", self.0), stage: None }
///     }
///
///     fn headers(&self) -> Vec<(String, Given)> {
///         vec![
///             ("Accept".into(), "application/vnd.api+json".into()),
///             ("X-NR-JWT".into(), secret("NR_JWT").into()),
///         ]
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no technical microservice",
    label = "not a `TechService`",
    note = "`service = ..` takes a value whose type implements `TechService`: it says where the service is"
)]
pub trait TechService: Send + Sync {
    /// Where it is.
    fn address(&self) -> Address;

    /// The headers that each call has. They win over ours, and those of the call win over them.
    fn headers(&self) -> Vec<(String, Given)> {
        Vec::new()
    }

    /// The token of calls that bring none of their own; otherwise the directory's, where it has one.
    fn token(&self) -> Option<Given> {
        None
    }
}

/// All that a service says of itself.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) address: Address,
    pub(crate) headers: Vec<(String, Given)>,
    pub(crate) token: Option<Given>,
}

impl Service {
    /// Where it is.
    pub fn address(&self) -> Address {
        self.profile().address
    }

    /// The name it is recorded by: the `cws_name` XCom.
    pub fn name(&self) -> String {
        self.address().to_string()
    }

    pub(crate) fn profile(&self) -> Profile {
        let address = match *self {
            Self::Api { api_id, stage, region } => {
                Address::Api { api_id: api_id.into(), stage: stage.into(), region: region.into() }
            }
            Self::Url(url) => Address::Url(url.into()),
            Self::Named { cws_name, stage } => {
                Address::Named { cws_name: cws_name.into(), stage: stage.map(str::to_owned) }
            }
            Self::Custom(make) => {
                let service = make();
                let (headers, token) = (service.headers(), service.token());
                return Profile { address: service.address(), headers, token };
            }
        };
        Profile { address, headers: Vec::new(), token: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { api_id, .. } => f.write_str(api_id),
            Self::Named { cws_name, .. } => f.write_str(cws_name),
            Self::Url(url) => f.write_str(&without_credentials(url)),
        }
    }
}

/// An address without the user and the password in it, which are nobody's business.
pub(super) fn without_credentials(url: &str) -> Cow<'_, str> {
    let stripped = url.split_once("://").and_then(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next()?.rfind('@')? + 1;
        Some(format!("{scheme}://{}", &rest[host..]))
    });
    stripped.map_or(Cow::Borrowed(url), Cow::Owned)
}

/// The address of an API behind API Gateway. `gateway` stands in for that of the gateway.
pub(super) fn api_url(gateway: Option<&str>, api_id: &str, stage: &str, region: &str) -> String {
    let base = match gateway {
        Some(gateway) => gateway.replace("{api_id}", api_id).replace("{region}", region),
        None => format!("https://{api_id}.execute-api.{region}.amazonaws.com"),
    };
    format!("{}/{stage}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Prefixed(&'static str);

    impl TechService for Prefixed {
        fn address(&self) -> Address {
            Address::Named { cws_name: format!("neorezo-{}", self.0), stage: Some("dev".into()) }
        }
    }

    static CUSTOM: Service = Service::Custom(|| Box::new(Prefixed("billing")));

    #[test]
    fn a_service_is_recorded_by_its_name() {
        assert_eq!(CUSTOM.name(), "neorezo-billing");
        assert_eq!(Service::Api { api_id: "xxxx", stage: "dev", region: "eu-west-1" }.name(), "xxxx");
        assert_eq!(Service::Url("http://h/@a").name(), "http://h/@a");
        assert_eq!(Service::Url("http://user:p@ss@h/b").name(), "http://h/b");
        assert!(!format!("{CUSTOM:?}").is_empty());
    }

    #[test]
    fn a_gateway_by_hand_may_use_the_id_and_the_region() {
        let url = |gateway| api_url(gateway, "xxxx", "dev", "eu-west-1");
        assert_eq!(url(None), "https://xxxx.execute-api.eu-west-1.amazonaws.com/dev");
        assert_eq!(url(Some("http://localhost:1")), "http://localhost:1/dev");
        assert_eq!(url(Some("http://h/{region}/{api_id}/")), "http://h/eu-west-1/xxxx/dev");
    }
}
