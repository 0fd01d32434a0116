//! The one place that reads flags, environment and file.
//!
//! A flag wins over the environment, the environment over `coworks-biz.toml`,
//! the file over the default.

#[cfg(test)]
mod abuse;
mod directory;
mod handles;
mod notices;
mod retention;
mod secrets;
mod services;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use self::directory::Directory;
pub use self::handles::{SecretName, VarName, secret, var};
pub use self::notices::{Smtp, SmtpTls, WebhookTarget};
pub(crate) use self::secrets::RESERVED;
pub use self::secrets::{MissingSecret, MissingVariable, Secret, Secrets};
pub use self::services::{Limits, Rate, ServiceLimits};
use crate::clock::Clock;
use crate::error::did_you_mean;

/// The file that is read from the working directory when it is there.
pub const FILE: &str = "coworks-biz.toml";

/// What may name a proxy.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Where the database is, where nothing is said.
pub(crate) const DATABASE: &str = ".coworks-biz/biz.db";

/// What a binary works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database file (`COWORKS_BIZ_DB`, `db`); `.coworks-biz/biz.db` by default.
    pub db: PathBuf,
    /// How many attempts run at once (`COWORKS_BIZ_PARALLELISM`, `parallelism`); 32 by default.
    pub parallelism: usize,
    /// How many slots each pool has (`[pools]` of the file).
    pub pools: BTreeMap<String, usize>,
    /// How each service is protected (`[services]` of the file; `COWORKS_BIZ_SERVICE_CONCURRENCY` and
    /// `COWORKS_BIZ_SERVICE_RATE` for those that have no limits of their own).
    pub services: ServiceLimits,
    /// What is on disk before what (`COWORKS_BIZ_DURABILITY`, `durability`).
    pub durability: Durability,
    /// In place of the address of API Gateway (`COWORKS_GATEWAY_URL`,
    /// `gateway_url`); `{api_id}` and `{region}` in it are filled in.
    pub gateway_url: Option<String>,
    /// The directory (`COWORKS_DIRECTORY_URL`, `directory_url`, with `COWORKS_DIRECTORY_TOKEN`; else
    /// the connection `AIRFLOW_CONN_COWORKS_DIRECTORY`); `None` where there is none.
    pub directory: Option<Directory>,
    /// The bucket of asynchronous results (`COWORKS_BUCKET`, `bucket`); `coworks-airflow` by default.
    pub bucket: String,
    /// Where results of asynchronous calls are.
    pub s3: S3,
    /// Whether calls say by a `traceparent` to which run they belong (`COWORKS_BIZ_TRACEPARENT`,
    /// `traceparent`); off by default.
    pub traceparent: bool,
    /// How much S3 is asked at most for what is waited for (`COWORKS_BIZ_S3_RATE`, `s3_rate`): `HEAD`s a
    /// second, of which a `LIST` costs 12.5; 25 by default.
    pub s3_rate: u32,
    /// Services of this machine that stand in for those at an address, by that address without a slash at its end.
    pub stand_ins: BTreeMap<String, String>,
    /// Whether nothing beyond this machine may be called, as in tests.
    pub hermetic: bool,
    /// Whether the proxy that the environment names is used. Services on this machine need none.
    pub proxy: bool,
    /// The variables that name a proxy, of those that are set, for messages.
    pub proxies: Vec<&'static str>,
    /// What e-mail goes through (`COWORKS_SMTP_URL`, `smtp_url`, with `COWORKS_SMTP_FROM`, `smtp_from`);
    /// `None` where none is sent.
    pub smtp: Option<Smtp>,
    /// Who is told of failures (`COWORKS_WEBHOOK_URL`, `webhook_url`, with `COWORKS_WEBHOOK_TOKEN`).
    pub webhook: Option<WebhookTarget>,
    /// How long runs are kept after their end (`COWORKS_BIZ_RETENTION`, `retention`); 90 days by
    /// default, `None` for ever.
    pub retention: Option<Duration>,
    /// Where secrets and variables come from.
    pub secrets: Arc<Secrets>,
    /// What time it is; the machine's but in tests.
    pub clock: Clock,
}

/// How S3 is reached.
#[derive(Debug, Clone, Default)]
pub struct S3 {
    /// A server in place of what the AWS SDK finds in `AWS_*` and its files.
    pub server: Option<S3Server>,
    /// Whether the bucket is part of the path: a server that is named by hand
    /// seldom has a host name for each bucket.
    pub path_style: bool,
}

/// An S3 server that is named by hand, such as the one of `--local`.
#[derive(Debug, Clone)]
pub struct S3Server {
    /// Its address, such as `http://127.0.0.1:9000`.
    pub endpoint: String,
    /// The access key id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: Secret,
}

/// What is on disk before what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A task starts after the results it builds on are synced to disk.
    #[default]
    Step,
    /// A task starts after they are written; the end of a run is told after the
    /// sync. A crash of the machine can lose steps of runs that have not ended.
    Run,
    /// Nothing but triggers is synced. A crash of the machine can lose the last
    /// seconds; a crash of the process loses nothing.
    Relaxed,
}

/// Values from the command line; what is `None` is looked for elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// See [`Config::db`].
    pub db: Option<PathBuf>,
    /// See [`Config::parallelism`].
    pub parallelism: Option<usize>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that is not of the form its setting wants.
    #[error("{name} is `{value}`; it must be {wanted}")]
    Value {
        /// The name of the setting.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        wanted: &'static str,
    },
    /// A limit of a service that is not of the form it wants.
    #[error("`{name}` of the service `{service}` is `{value}`; it must be {wanted}")]
    Service {
        /// The name of the limit.
        name: &'static str,
        /// The service.
        service: String,
        /// What it says.
        value: String,
        /// What it may say.
        wanted: &'static str,
    },
    /// A way to a service that cannot be read. What it says is not shown: there may be a password in it.
    #[error("{name} cannot be used: {reason}")]
    Connection {
        /// The name of the setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that another one needs.
    #[error("{name} is not set: {reason}")]
    Missing {
        /// The name of the setting.
        name: &'static str,
        /// What it is for.
        reason: &'static str,
    },
    /// The file is there and cannot be read.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key that is not known.
    #[error("{file} is not as it should be: {reason}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
}

/// Looks a variable of the environment up. A function, so that a test brings its own.
#[derive(Clone)]
pub struct Environment(Arc<LookUp>);

type LookUp = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// The environment of this process. A variable that is empty counts as not set.
    pub fn process() -> Self {
        Self::from(|name: &str| std::env::var(name).ok())
    }

    /// The environment that `look_up` answers for.
    pub fn from(look_up: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    db: Option<PathBuf>,
    parallelism: Option<usize>,
    #[serde(default)]
    pools: BTreeMap<String, usize>,
    #[serde(default)]
    services: BTreeMap<String, services::Entry>,
    durability: Option<Durability>,
    gateway_url: Option<String>,
    directory_url: Option<String>,
    bucket: Option<String>,
    smtp_url: Option<String>,
    smtp_from: Option<String>,
    webhook_url: Option<String>,
    retention: Option<String>,
    traceparent: Option<bool>,
    s3_rate: Option<u32>,
}

/// The settings of the engine, as variables of the environment.
const SETTINGS: [&str; 8] = [
    "COWORKS_BIZ_DB",
    "COWORKS_BIZ_DURABILITY",
    "COWORKS_BIZ_PARALLELISM",
    "COWORKS_BIZ_RETENTION",
    "COWORKS_BIZ_S3_RATE",
    "COWORKS_BIZ_SERVICE_CONCURRENCY",
    "COWORKS_BIZ_SERVICE_RATE",
    "COWORKS_BIZ_TRACEPARENT",
];

/// A sentence for each variable that looks like a setting, and is none.
pub fn unknown_settings() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| name.starts_with("COWORKS_BIZ_") && !SETTINGS.contains(&name.as_str()));
    unknown
        .map(|name| format!("`{name}` is no setting{}", did_you_mean(&name, SETTINGS.into_iter())))
        .collect()
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|e| ConfigError::Malformed {
                file: path.to_owned(),
                reason: e.message().to_owned() + &line_of(&text, e.span()),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Unreadable { file: path.to_owned(), source }),
        }
    }
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    span.and_then(|span| text.get(..span.start))
        .map(|before| format!(" (line {})", before.matches('\n').count() + 1))
        .unwrap_or_default()
}

impl Config {
    /// Reads the settings of this process, with `coworks-biz.toml` from the working directory.
    pub fn load(flags: Flags) -> Result<Self, ConfigError> {
        Self::from(flags, &Environment::process(), Path::new(FILE))
    }

    /// Reads the settings from the given places.
    pub fn from(flags: Flags, env: &Environment, file: &Path) -> Result<Self, ConfigError> {
        let file = File::read(file)?;
        let parallelism = match env.get("COWORKS_BIZ_PARALLELISM") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| ConfigError::Value {
                name: "COWORKS_BIZ_PARALLELISM",
                value: text,
                wanted: "a whole number from 1",
            })?),
        };
        let parallelism = flags.parallelism.or(parallelism).or(file.parallelism).unwrap_or(32);
        if parallelism == 0 {
            let name = "parallelism";
            return Err(ConfigError::Value { name, value: "0".into(), wanted: "a whole number from 1" });
        }
        let durability = match env.get("COWORKS_BIZ_DURABILITY").as_deref() {
            None => file.durability.unwrap_or_default(),
            Some("step") => Durability::Step,
            Some("run") => Durability::Run,
            Some("relaxed") => Durability::Relaxed,
            Some(other) => {
                return Err(ConfigError::Value {
                    name: "COWORKS_BIZ_DURABILITY",
                    value: other.to_owned(),
                    wanted: "`step`, `run` or `relaxed`",
                });
            }
        };
        let traceparent = match env.get("COWORKS_BIZ_TRACEPARENT").as_deref() {
            None => file.traceparent.unwrap_or(false),
            Some("on") => true,
            Some("off") => false,
            Some(other) => {
                return Err(ConfigError::Value {
                    name: "COWORKS_BIZ_TRACEPARENT",
                    value: other.to_owned(),
                    wanted: "`on` or `off`",
                });
            }
        };
        let s3_rate = match env.get("COWORKS_BIZ_S3_RATE") {
            None => file
                .s3_rate
                .map_or(Ok(25), |rate| Some(rate).filter(|rate| *rate > 0).ok_or(rate.to_string())),
            Some(text) => text.parse().ok().filter(|rate| *rate > 0).ok_or(text),
        };
        let s3_rate = s3_rate.map_err(|value| {
            let (name, wanted) = ("COWORKS_BIZ_S3_RATE", "a whole number of requests a second, from 1");
            ConfigError::Value { name, value, wanted }
        })?;
        if let Some(value) = env.get("SSL_CERT_FILE") {
            certificates(value)?;
        }
        let secrets = Secrets::new(env.clone());
        let db = flags.db.or_else(|| env.get("COWORKS_BIZ_DB").map(PathBuf::from)).or(file.db);
        Ok(Self {
            db: target(db.unwrap_or_else(|| PathBuf::from(DATABASE))),
            parallelism,
            pools: file.pools,
            services: services::load(env, file.services)?,
            durability,
            gateway_url: env.get("COWORKS_GATEWAY_URL").or(file.gateway_url).map(gateway).transpose()?,
            directory: Directory::load(env, file.directory_url)?,
            bucket: env.get("COWORKS_BUCKET").or(file.bucket).unwrap_or_else(|| "coworks-airflow".into()),
            s3: S3 {
                server: None,
                path_style: ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
                    .iter()
                    .any(|name| env.get(name).is_some()),
            },
            traceparent,
            s3_rate,
            stand_ins: BTreeMap::new(),
            hermetic: false,
            proxy: true,
            proxies: PROXIES.into_iter().filter(|name| env.get(name).is_some()).collect(),
            smtp: Smtp::load(env, &secrets, (file.smtp_url, file.smtp_from))?,
            webhook: WebhookTarget::load(env, &secrets, file.webhook_url)?,
            retention: retention::load(env, file.retention)?,
            secrets: Arc::new(secrets),
            clock: Clock::default(),
        })
    }
}

/// An address in place of that of API Gateway, which may name what is filled in.
fn gateway(value: String) -> Result<String, ConfigError> {
    let filled = value.replace("{api_id}", "x").replace("{region}", "x");
    let is_address =
        reqwest::Url::parse(&filled).is_ok_and(|url| url.has_host() && url.scheme().starts_with("http"));
    match is_address && !filled.contains(['{', '}', '?', '#']) {
        true => Ok(value),
        false => Err(ConfigError::Connection {
            name: "COWORKS_GATEWAY_URL",
            reason:
                "it must be an address such as `http://127.0.0.1:8000/{api_id}`, in which `{api_id}` and \
                     `{region}` are filled in"
                    .to_owned(),
        }),
    }
}

/// The file of certificates that are trusted: without it, they would be trusted as if it had not been named.
fn certificates(value: String) -> Result<(), ConfigError> {
    let has_one =
        std::fs::read_to_string(&value).is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----"));
    let (name, wanted) = ("SSL_CERT_FILE", "a file of certificates (PEM) that can be read");
    if has_one { Ok(()) } else { Err(ConfigError::Value { name, value, wanted }) }
}

/// The file behind a symbolic link: what belongs to a database is beside that.
fn target(db: PathBuf) -> PathBuf {
    match std::fs::read_link(&db) {
        Ok(to) => std::fs::canonicalize(&db).unwrap_or_else(|_| db.with_file_name("").join(to)),
        Err(_) => db,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&str, &str)]) -> Environment {
        Environment::from(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    #[cfg(unix)]
    fn a_database_behind_a_link_is_that_which_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (real, link) = (dir.join("real.db"), dir.join("link.db"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(target(link.clone()), real, "which is not there yet");
        std::fs::write(&real, "").unwrap();
        assert_eq!((target(link), target(real.clone())), (real.clone(), real));
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let (_dir, path) =
            file("db = 'file.db'\nbucket = 'of-the-file'\nparallelism = 3\ntraceparent = true\n");
        let flags = Flags { db: Some("flag.db".into()), parallelism: None };
        let env = env(&[("COWORKS_BIZ_DB", "env.db"), ("COWORKS_BIZ_PARALLELISM", "4")]);
        let config = Config::from(flags, &env, &path).unwrap();
        assert_eq!(config.db, Path::new("flag.db"));
        assert_eq!(config.parallelism, 4);
        assert_eq!(config.bucket, "of-the-file");
        assert_eq!(config.durability, Durability::Step);
        assert!(config.traceparent);
        let off = Environment::from(|name| (name == "COWORKS_BIZ_TRACEPARENT").then(|| "off".into()));
        assert!(!Config::from(Flags::default(), &off, &path).unwrap().traceparent);
    }

    #[test]
    fn a_bad_value_is_named_with_what_it_may_be() {
        let none = Path::new("/nowhere/coworks-biz.toml");
        let bad = |pairs| Config::from(Flags::default(), &env(pairs), none).unwrap_err().to_string();
        assert_eq!(
            bad(&[("COWORKS_BIZ_PARALLELISM", "many")]),
            "COWORKS_BIZ_PARALLELISM is `many`; it must be a whole number from 1"
        );
        assert_eq!(
            bad(&[("COWORKS_BIZ_DURABILITY", "max")]),
            "COWORKS_BIZ_DURABILITY is `max`; it must be `step`, `run` or `relaxed`"
        );
        let rates: [&'static [(&str, &str)]; 2] =
            [&[("COWORKS_BIZ_S3_RATE", "0")], &[("COWORKS_BIZ_S3_RATE", "fast")]];
        for rate in rates {
            assert!(bad(rate).ends_with("must be a whole number of requests a second, from 1"));
        }
        assert!(
            bad(&[("COWORKS_GATEWAY_URL", "127.0.0.1:8000")])
                .starts_with("COWORKS_GATEWAY_URL cannot be used: it must be an address")
        );
        assert!(
            bad(&[("COWORKS_GATEWAY_URL", "http://h/{api}")])
                .contains("`{api_id}` and `{region}` are filled in")
        );
        assert!(
            bad(&[("SSL_CERT_FILE", "/nowhere/ca.pem")]).starts_with("SSL_CERT_FILE is `/nowhere/ca.pem`")
        );
        assert_eq!(
            bad(&[("COWORKS_BIZ_TRACEPARENT", "yes")]),
            "COWORKS_BIZ_TRACEPARENT is `yes`; it must be `on` or `off`"
        );
    }

    #[test]
    fn an_unknown_key_of_the_file_is_refused_with_its_line() {
        let (_dir, path) = file("db = 'x'\nbuket = 'y'\n");
        let error = Config::from(Flags::default(), &env(&[]), &path).unwrap_err().to_string();
        assert!(error.contains("unknown field `buket`") && error.contains("(line 2)"), "{error}");
    }
}
