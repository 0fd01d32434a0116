//! How services are protected: how many calls of each are under way at once, and how many begin in a time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Environment};

const CONCURRENCY: &str = "COWORKS_BIZ_SERVICE_CONCURRENCY";
const RATE: &str = "COWORKS_BIZ_SERVICE_RATE";

/// The name in the file that stands for every service without a limit of its own.
const DEFAULT: &str = "default";

/// How many calls of a service are under way at once where nothing is said. An account of AWS has
/// 1,000 executions of Lambdas at once, and everything in it shares them.
const AT_ONCE: usize = 100;

const NUMBER: &str = "a whole number from 1, or `none` for no limit";
const PACE: &str = "a number of calls in a time such as `50/s`, `600/m` or `1000/h`, or `none` for no limit";

/// What keeps calls of a service from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many calls are under way at once; `None` for any number. An asynchronous one is from when it
    /// is sent until its answer is there, or nobody waits for it any more.
    pub concurrency: Option<usize>,
    /// How many calls begin in a time; `None` for any number.
    pub rate: Option<Rate>,
}

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least one.
    pub calls: u32,
    /// The time: a second, a minute or an hour.
    pub per: Duration,
}

/// The limits of the services, by the names that they are recorded by: the `cws_name` XCom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Of every service without limits of its own.
    pub default: Limits,
    /// Of single ones.
    pub named: BTreeMap<String, Limits>,
}

impl ServiceLimits {
    /// Those of a service.
    pub fn of(&self, service: &str) -> Limits {
        self.named.get(service).copied().unwrap_or(self.default)
    }
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self { default: Limits { concurrency: Some(AT_ONCE), rate: None }, named: BTreeMap::new() }
    }
}

/// What the file says of a service.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    concurrency: Option<toml::Value>,
    rate: Option<toml::Value>,
}

/// What the file says of each service, and of all others the environment, else the file, else 100 at once.
pub(super) fn load(
    env: &Environment,
    mut of_file: BTreeMap<String, Entry>,
) -> Result<ServiceLimits, ConfigError> {
    let all = ServiceLimits::default().default;
    let mut default = of_file.remove(DEFAULT).unwrap_or_default().over(all, DEFAULT)?;
    if let Some(text) = env.get(CONCURRENCY) {
        let wrong = |value| ConfigError::Value { name: CONCURRENCY, value, wanted: NUMBER };
        default.concurrency = concurrency(text.trim()).ok_or_else(|| wrong(text))?;
    }
    if let Some(text) = env.get(RATE) {
        let wrong = |value| ConfigError::Value { name: RATE, value, wanted: PACE };
        default.rate = rate(text.trim()).ok_or_else(|| wrong(text))?;
    }
    let named = of_file.into_iter().map(|(service, entry)| {
        // It would be told in messages, and services are recorded without.
        if service.contains("://") && service.contains('@') {
            let reason = "a service is named by its address without a user and a password".to_owned();
            return Err(ConfigError::Connection { name: "services", reason });
        }
        let limits = entry.over(default, &service)?;
        Ok((service, limits))
    });
    Ok(ServiceLimits { default, named: named.collect::<Result<_, _>>()? })
}

impl Entry {
    /// What it says, over what holds where it says nothing.
    fn over(self, default: Limits, service: &str) -> Result<Limits, ConfigError> {
        let wrong = |name, value: &str, wanted| {
            let (service, value) = (service.to_owned(), value.to_owned());
            ConfigError::Service { name, service, value, wanted }
        };
        Ok(Limits {
            concurrency: match self.concurrency.map(text) {
                None => default.concurrency,
                Some(text) => concurrency(&text).ok_or_else(|| wrong("concurrency", &text, NUMBER))?,
            },
            rate: match self.rate.map(text) {
                None => default.rate,
                Some(text) => rate(&text).ok_or_else(|| wrong("rate", &text, PACE))?,
            },
        })
    }
}

/// A value as it is written, a text without its quotes.
fn text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// `None` where it is neither a number nor `none`.
fn concurrency(text: &str) -> Option<Option<usize>> {
    match text {
        "none" => Some(None),
        // A number of calls that lets none begin is no limit that somebody wants.
        text => text.parse().ok().map(|calls: usize| (calls > 0).then_some(calls)),
    }
}

fn rate(text: &str) -> Option<Option<Rate>> {
    if matches!(text, "none" | "0") {
        return Some(None);
    }
    let (calls, unit) = text.split_once('/')?;
    let per = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let calls = calls.trim().parse().ok().filter(|calls| *calls > 0)?;
    Some(Some(Rate { calls, per: Duration::from_secs(per) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str, env: &'static [(&str, &str)]) -> Result<ServiceLimits, String> {
        let env = Environment::from(move |name| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        let entries = toml::from_str(file).map_err(|e| e.to_string())?;
        load(&env, entries).map_err(|e| e.to_string())
    }

    fn limits(concurrency: Option<usize>, rate: Option<(u32, u64)>) -> Limits {
        let rate = rate.map(|(calls, seconds)| Rate { calls, per: Duration::from_secs(seconds) });
        Limits { concurrency, rate }
    }

    #[test]
    fn a_service_has_its_own_limits_over_those_of_all() {
        let file = "[default]\nrate = '600/m'\n[a]\nconcurrency = 8\n[b]\nrate = '50/s'\nconcurrency = 'none'\n\
                    [c]\nrate = 'none'\nconcurrency = 0\n[d]\nconcurrency = '00'\n";
        let services = of(file, &[]).unwrap();
        assert_eq!(services.of("a"), limits(Some(8), Some((600, 60))));
        assert_eq!(services.of("b"), limits(None, Some((50, 1))));
        assert_eq!(services.of("c"), limits(None, None));
        assert_eq!(services.of("d"), limits(None, Some((600, 60))));
        assert_eq!(services.of("another"), limits(Some(AT_ONCE), Some((600, 60))));
        assert_eq!(services.named.len(), 4);
        assert_eq!(of("", &[]).unwrap(), ServiceLimits::default());

        let services = of(file, &[(CONCURRENCY, "7"), (RATE, "9/h")]).unwrap();
        assert_eq!(services.of("another"), limits(Some(7), Some((9, 3600))));
        assert_eq!(services.of("b"), limits(None, Some((50, 1))));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_how_one_is_written() {
        for (file, error) in [
            (
                "[a]\nconcurrency = -1",
                format!("`concurrency` of the service `a` is `-1`; it must be {NUMBER}"),
            ),
            (
                "[a]\nconcurrency = 'x'",
                format!("`concurrency` of the service `a` is `x`; it must be {NUMBER}"),
            ),
            ("[a]\nrate = 50", format!("`rate` of the service `a` is `50`; it must be {PACE}")),
            (
                "[default]\nrate = '0/s'",
                format!("`rate` of the service `default` is `0/s`; it must be {PACE}"),
            ),
        ] {
            assert_eq!(of(file, &[]), Err(error));
        }
        for text in ["50", "/s", "50/d", "-1/s", "1.5/s", "99999999999/s"] {
            assert_eq!(rate(text), None, "{text}");
        }
        assert!(of("[a]\nconcurency = 1", &[]).unwrap_err().contains("unknown field `concurency`"));
        let error = of("", &[(RATE, "fast")]).unwrap_err();
        assert_eq!(error, format!("{RATE} is `fast`; it must be {PACE}"));
        assert!(!of("['https://u:hunter22@h']\nconcurrency = 1", &[]).unwrap_err().contains("hunter22"));
    }
}
