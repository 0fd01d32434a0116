//! Where the directory is: by settings of its own, or by a connection of Airflow.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ConfigError, Environment, Secret};

const URL: &str = "COWORKS_DIRECTORY_URL";
const TOKEN: &str = "COWORKS_DIRECTORY_TOKEN";
const CONNECTION: &str = "AIRFLOW_CONN_COWORKS_DIRECTORY";

/// What an HTTP connection of Airflow says beside the headers, under its `extra`.
const NO_HEADERS: [&str; 10] = [
    "timeout",
    "allow_redirects",
    "proxies",
    "proxy",
    "verify",
    "stream",
    "cert",
    "max_redirects",
    "trust_env",
    "check_response",
];

/// The service that knows the others by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its address: a service is looked up at `{url}/{cws_name}`.
    pub url: String,
    /// The headers it wants, its authorization among them. All are taken for secrets.
    pub headers: Vec<(String, Secret)>,
}

impl Directory {
    /// What to do where there is none, for messages.
    pub const HOW: &str =
        "set COWORKS_DIRECTORY_URL and COWORKS_DIRECTORY_TOKEN, or AIRFLOW_CONN_COWORKS_DIRECTORY";

    /// The directory at this address, called with this token.
    pub fn new(url: impl Into<String>, token: Option<Secret>) -> Self {
        let headers = token.map(|token| ("authorization".to_owned(), token)).into_iter().collect();
        Self { url: url.into(), headers }
    }

    /// The one that the environment names, else the one of the file.
    pub(super) fn load(env: &Environment, of_file: Option<String>) -> Result<Option<Self>, ConfigError> {
        let token = env.get(TOKEN).map(|token| Secret::new(token.trim_end_matches(['\r', '\n'])));
        let url = env.get(URL).map(|url| (URL, url)).or(of_file.map(|url| ("directory_url", url)));
        if let Some((name, url)) = url {
            return Ok(Some(Self::new(address(&url).map_err(|what| malformed(name, what))?, token)));
        }
        let Some(text) = env.get(CONNECTION) else { return Ok(None) };
        let connection = match text.trim_start().starts_with('{') {
            true => Connection::from_json(&text),
            false => Connection::from_uri(&text),
        };
        let mut directory =
            connection.and_then(Connection::directory).map_err(|what| malformed(CONNECTION, what))?;
        if let Some(token) = token {
            directory.authorize(token);
        }
        Ok(Some(directory))
    }

    fn authorize(&mut self, token: Secret) {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        self.headers.push(("authorization".to_owned(), token));
    }
}

/// What it says is not repeated: there may be a password in it.
fn malformed(name: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Connection { name, reason: reason.into() }
}

/// Refuses what is no address of a service.
fn address(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).map_err(|_| "it must be an address such as `https://host/stage`")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("it must be an address such as `https://host/stage`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user and a password in it would be told in messages: use COWORKS_DIRECTORY_TOKEN");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the name of a service is added at its end, and so it ends before `?` and `#`");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// An HTTP connection as Airflow knows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Connection {
    host: Option<String>,
    /// The scheme of the address, in spite of its name.
    schema: Option<String>,
    port: Option<Value>,
    login: Option<String>,
    password: Option<String>,
    extra: Option<Value>,
}

impl Connection {
    fn from_json(text: &str) -> Result<Self, String> {
        // The error's own text may quote a value.
        serde_json::from_str(text)
            .map_err(|e| format!("it is no connection as JSON (line {}, column {})", e.line(), e.column()))
    }

    /// `type://login:password@host:port/schema?header=value`, in which `type://` may be followed by
    /// the scheme of the address: `type://https://host`.
    fn from_uri(text: &str) -> Result<Self, String> {
        let rest = text.split_once("://").ok_or("it must be a URI or JSON")?.1;
        let (scheme, rest) = match rest.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['@', '/', '?', ':']) => (Some(scheme), rest),
            _ => (None, rest),
        };
        // Of an unknown scheme, so that the host may be anything that is encoded.
        let uri = Url::parse(&format!("airflow://{rest}")).map_err(|e| format!("it is no URI: {e}"))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let some = |text: &str| (!text.is_empty()).then(|| decoded(text));
        let mut query: BTreeMap<_, _> = uri.query_pairs().into_owned().collect();
        let extra = match query.remove("__extra__") {
            Some(extra) => Value::String(extra),
            None => query.into_iter().map(|(name, value)| (name, Value::String(value))).collect(),
        };
        let host = uri.host_str().and_then(some);
        Ok(Self {
            host: match scheme {
                Some(scheme) => host.map(|host| format!("{scheme}://{host}")),
                None => host,
            },
            schema: some(uri.path().trim_matches('/')),
            port: uri.port().map(Value::from),
            login: some(uri.username()),
            password: uri.password().and_then(some),
            extra: Some(extra),
        })
    }

    fn directory(self) -> Result<Directory, String> {
        let host = self.host.filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let mut url = match host.contains("://") {
            true => host.trim_end_matches('/').to_owned(),
            false => {
                format!("{}://{host}", self.schema.filter(|s| !s.is_empty()).as_deref().unwrap_or("http"))
            }
        };
        match self.port {
            None | Some(Value::Null) => {}
            Some(Value::Number(port)) => url.push_str(&format!(":{port}")),
            Some(Value::String(port)) if port.is_empty() => {}
            Some(Value::String(port)) => url.push_str(&format!(":{port}")),
            Some(_) => return Err("its port is no number".to_owned()),
        }
        let mut directory = Directory { url: address(&url)?, headers: headers(self.extra)? };
        let authorized = directory.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        match (self.login.filter(|login| !login.is_empty()), self.password) {
            (Some(login), password) => {
                let pair = format!("{login}:{}", password.unwrap_or_default());
                directory.authorize(Secret::new(format!("Basic {}", STANDARD.encode(pair))));
            }
            (None, Some(token)) if !authorized && !token.is_empty() => {
                directory.authorize(Secret::new(token));
            }
            (None, _) => {}
        }
        Ok(directory)
    }
}

/// As Airflow's HTTP hook: what `extra` says is sent in the headers.
fn headers(extra: Option<Value>) -> Result<Vec<(String, Secret)>, String> {
    let extra: Map<String, Value> = match extra {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(extra)) => extra,
        Some(Value::String(text)) if text.is_empty() => Map::new(),
        Some(Value::String(text)) => {
            serde_json::from_str(&text).map_err(|_| "its extra is no JSON object")?
        }
        Some(_) => return Err("its extra is no JSON object".to_owned()),
    };
    let header = |(name, value): (String, Value)| match value {
        Value::String(value) if !NO_HEADERS.contains(&&*name) => Some((name, Secret::new(value))),
        _ => None,
    };
    Ok(extra.into_iter().filter_map(header).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &'static [(&str, &str)]) -> Result<Option<Directory>, String> {
        let env = Environment::from(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        Directory::load(&env, None).map_err(|e| e.to_string())
    }

    fn connection(text: &'static str) -> Result<(String, Vec<(String, String)>), String> {
        let env = Environment::from(move |name| (name == CONNECTION).then(|| text.to_owned()));
        let directory = Directory::load(&env, None).map_err(|e| e.to_string())?.unwrap();
        let shown = |(name, value): (String, Secret)| (name, value.expose().to_owned());
        Ok((directory.url, directory.headers.into_iter().map(shown).collect()))
    }

    fn header(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn the_settings_win_over_the_connection() {
        let both = load(&[(URL, "https://d/dev/"), (TOKEN, "t\n"), (CONNECTION, "http://other")]);
        assert_eq!(both, Ok(Some(Directory::new("https://d/dev", Some(Secret::new("t"))))));
        assert_eq!(load(&[]), Ok(None));
    }

    #[test]
    fn a_connection_is_a_uri_as_airflow_reads_it() {
        assert_eq!(connection("http://d:81"), Ok(("http://d:81".into(), vec![])));
        assert_eq!(connection("http://d/https"), Ok(("https://d".into(), vec![])));
        assert_eq!(
            connection("http://https%3A%2F%2Fd%2Fdev/?Authorization=a%20token&timeout=3"),
            Ok(("https://d/dev".into(), header("Authorization", "a token")))
        );
        assert_eq!(connection("http://https://d:443"), Ok(("https://d:443".into(), vec![])));
        assert_eq!(
            connection("http://u%40x:p%2Fw@d/https"),
            Ok(("https://d".into(), header("authorization", "Basic dUB4OnAvdw==")))
        );
        assert_eq!(
            connection(
                "http://d/https?__extra__=%7B%22x-api-key%22%3A%20%22k%22%2C%20%22verify%22%3A%20false%7D"
            ),
            Ok(("https://d".into(), header("x-api-key", "k")))
        );
        assert_eq!(connection("http://:token@d"), Ok(("http://d".into(), header("authorization", "token"))));
    }

    #[test]
    fn a_connection_is_json_as_airflow_reads_it() {
        assert_eq!(
            connection(
                r#"{"conn_type": "http", "host": "d", "schema": "https", "port": "8443",
                    "extra": "{\"Authorization\": \"token\"}"}"#
            ),
            Ok(("https://d:8443".into(), header("Authorization", "token")))
        );
        assert_eq!(
            connection(r#"{"host": "https://d/dev/", "port": null, "extra": {"Authorization": "token"}}"#),
            Ok(("https://d/dev".into(), header("Authorization", "token")))
        );
    }

    #[test]
    fn what_cannot_be_used_is_told_without_what_it_says() {
        for text in [
            "https",
            r#"{"host": "d", "password": 123456789}"#,
            r#"{"login": "hunter22", "password": "hunter22"}"#,
            r#"{"host": "d", "extra": "hunter22"}"#,
            r#"{"host": "https://u:hunter22@d"}"#,
            "http://u:hunter22@",
        ] {
            let error = connection(text).unwrap_err();
            assert!(error.starts_with("AIRFLOW_CONN_COWORKS_DIRECTORY cannot be used: "), "{error}");
            assert!(!error.contains("hunter22") && !error.contains("123456789"), "{error}");
        }
        assert_eq!(
            load(&[(URL, "directory.neorezo.io")]),
            Err("COWORKS_DIRECTORY_URL cannot be used: it must be an address such as `https://host/stage`"
                .into())
        );
    }
}
