//! The parts of a request: its address, with a form of it that can be shown, and its headers.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::parameter::Resolved;
use super::service::without_credentials;
use super::{Given, Identity};
use crate::config::{Secret, Secrets};
use crate::error::{Error, Result};
use crate::value::{Object, excerpt};

/// What would end a path, or begin a new segment of it.
const NO_PATH: &AsciiSet = &CONTROLS.add(b'?').add(b'#').add(b'\\');

/// The longest address that messages show, in characters.
const LONGEST_SHOWN: usize = 300;

/// The address of an entry.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    /// It without secrets, for messages.
    pub(super) shown: String,
}

impl Target {
    /// The entry `path` of the service at `base`, with one slash between them.
    pub(super) fn new(base: &str, path: &str, query: &[(String, Given)], secrets: &Secrets) -> Result<Self> {
        let entry = utf8_percent_encode(path.trim_start_matches('/'), NO_PATH);
        let mut url = Url::parse(base)
            .ok()
            .filter(|base| base.has_host() && base.query().is_none() && base.fragment().is_none())
            .and_then(|_| Url::parse(&format!("{}/{entry}", base.trim_end_matches('/'))).ok())
            .ok_or_else(|| {
                Error::fatal(format!(
                    "`{}` is no address of a service: it must be one such as `https://host/stage`",
                    excerpt(&without_credentials(base), LONGEST_SHOWN)
                ))
            })?;
        let mut shown = url.clone();
        if let Some(password) = url.password() {
            secrets.hide(password);
        }
        // Only an address without a host has neither.
        let _ = (shown.set_username(""), shown.set_password(None));
        for (name, given) in query {
            let Resolved { text, hidden } =
                given.resolve(secrets).map_err(|e| e.context(format!("`{name}` in the query")))?;
            url.query_pairs_mut().append_pair(name, text.expose());
            shown.query_pairs_mut().append_pair(name, if hidden { "***" } else { text.expose() });
        }
        Ok(Self { url, shown: excerpt(shown.as_str(), LONGEST_SHOWN) })
    }
}

/// The headers of a request. A later one replaces an earlier one of its name.
#[derive(Debug, Default)]
pub(super) struct Headers(pub(super) HeaderMap);

impl Headers {
    /// What every call says.
    pub(super) fn of_call(accept: &str, content_type: &str, who: &Identity, traced: bool) -> Result<Self> {
        let mut headers = Self::default();
        for (name, value) in [
            ("accept", accept),
            ("content-type", content_type),
            ("x-amzn-trace-id", &who.trace_id),
            ("idempotency-key", &who.idempotency_key),
        ] {
            headers.insert(name, value, false)?;
        }
        if traced {
            headers.insert("traceparent", &who.traceparent(), false)?;
        }
        Ok(headers)
    }

    /// Those that a service or a call wants.
    pub(super) fn extend(&mut self, given: &[(String, Given)], secrets: &Secrets) -> Result<()> {
        for (name, given) in given {
            let Resolved { text, hidden } =
                given.resolve(secrets).map_err(|e| e.context(format!("the header `{name}`")))?;
            self.insert(name, text.expose(), hidden)?;
        }
        Ok(())
    }

    pub(super) fn authorize(&mut self, token: &Secret, secrets: &Secrets) -> Result<()> {
        secrets.hide(token.expose());
        self.insert(AUTHORIZATION.as_str(), token.expose(), true)
    }

    /// Asks for the answer to be left at an object. Nothing may change that: it is waited for there.
    pub(super) fn leave_at(&mut self, object: &Object) -> Result<()> {
        self.insert("invocationtype", "Event", false)?;
        self.insert("x-cws-s3bucket", &object.bucket, false)?;
        self.insert("x-cws-s3key", &object.key, false)
    }

    fn insert(&mut self, name: &str, value: &str, hidden: bool) -> Result<()> {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::fatal(format!("`{name}` cannot be the name of a header")))?;
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Error::fatal(format!(
                "what the header `{name}` says cannot be sent: there is a line end or a control character in it"
            ))
        })?;
        value.set_sensitive(hidden);
        self.0.insert(header, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, secret, var};

    fn secrets() -> Secrets {
        Secrets::new(Environment::from(|name| match name {
            "COWORKS_SECRET_KEY" => Some("k y".into()),
            "COWORKS_VAR_PAGE" => Some("2".into()),
            _ => None,
        }))
    }

    fn url(base: &str, path: &str) -> String {
        Target::new(base, path, &[], &secrets()).unwrap().url.to_string()
    }

    #[test]
    fn the_address_of_an_entry_has_one_slash_before_it() {
        assert_eq!(url("https://h/dev", "/"), "https://h/dev/");
        assert_eq!(url("https://h/dev/", "/a/b"), "https://h/dev/a/b");
        assert_eq!(url("https://h", "//a%20b c?d#e"), "https://h/a%20b%20c%3Fd%23e");
        for base in ["host/dev", "https://h/?a=b", "mailto:x@y"] {
            let error = Target::new(base, "/", &[], &secrets()).unwrap_err();
            assert!(error.is_fatal() && error.to_string().contains(base), "{error}");
        }
    }

    #[test]
    fn a_secret_in_an_address_is_sent_and_not_shown() {
        let query = [
            ("q".to_owned(), Given::Text("a b".into())),
            ("key".to_owned(), secret("KEY").into()),
            ("page".to_owned(), var("PAGE").into()),
        ];
        let target = Target::new("https://u:password@h", "/a", &query, &secrets()).unwrap();
        assert_eq!(target.url.as_str(), "https://u:password@h/a?q=a+b&key=k+y&page=2");
        assert_eq!(target.shown, "https://h/a?q=a+b&key=***&page=2");
        let query = [("key".to_owned(), secret("NONE").into())];
        let error = Target::new("https://h", "/a", &query, &secrets()).unwrap_err();
        assert!(error.is_fatal());
        assert!(error.to_string().starts_with("`key` in the query: the secret `NONE` is not set"), "{error}");
    }

    #[test]
    fn headers_that_are_given_win_but_for_the_token() {
        let who = Identity {
            trace_id: "t".into(),
            idempotency_key: "i".into(),
            run: "r".into(),
            attempt: "a".into(),
        };
        let mut headers = Headers::of_call("application/json", "application/json", &who, false).unwrap();
        assert!(!headers.0.contains_key("traceparent"));
        let given = [
            ("Content-Type".to_owned(), "text/csv".into()),
            ("authorization".to_owned(), "mine".into()),
            ("X-Key".to_owned(), secret("KEY").into()),
        ];
        headers.extend(&given, &secrets()).unwrap();
        headers.authorize(&Secret::new("token"), &secrets()).unwrap();
        let shown = format!("{:?}", headers.0);
        assert_eq!(headers.0["content-type"], "text/csv");
        assert_eq!(headers.0["authorization"], "token");
        assert_eq!(headers.0["x-key"], "k y");
        assert!(!shown.contains("token") && !shown.contains("k y"), "{shown}");

        let error = headers.insert("x-key", "a\nb", true).unwrap_err().to_string();
        assert!(error.starts_with("what the header `x-key` says cannot be sent") && !error.contains("a\nb"));
    }
}
