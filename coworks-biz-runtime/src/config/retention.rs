//! How long runs are kept after their end.

use std::time::Duration;

use super::{ConfigError, Environment};

const RETENTION: &str = "COWORKS_BIZ_RETENTION";

/// How long it is where nothing is said: 90 days.
const DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);

/// What the environment says, else the file, else 90 days. `None` is for ever: `off`.
pub(super) fn load(env: &Environment, of_file: Option<String>) -> Result<Option<Duration>, ConfigError> {
    let text = env.get(RETENTION).map(|text| (RETENTION, text));
    let Some((name, text)) = text.or(of_file.map(|text| ("retention", text))) else {
        return Ok(Some(DEFAULT));
    };
    let wrong = || ConfigError::Value {
        name,
        value: text.clone(),
        wanted: "a duration such as `90d` or `12h`, or `off` to keep every run",
    };
    match text.trim() {
        "off" => Ok(None),
        text => match humantime::parse_duration(text).map_err(|_| wrong())? {
            // Runs would be gone as soon as they have ended, before anybody could look.
            Duration::ZERO => Err(wrong()),
            duration => Ok(Some(duration)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_env(text: &'static str) -> Result<Option<Duration>, String> {
        let env = Environment::from(move |name| (name == RETENTION).then(|| text.to_owned()));
        load(&env, Some("1h".to_owned())).map_err(|e| e.to_string())
    }

    #[test]
    fn it_is_a_duration_or_off_and_90_days_where_nothing_is_said() {
        let none = Environment::from(|_| None);
        assert_eq!(load(&none, None).unwrap(), Some(Duration::from_secs(90 * 86_400)));
        assert_eq!(load(&none, Some("12h".into())).unwrap(), Some(Duration::from_secs(43_200)));
        assert_eq!(of_env("30d"), Ok(Some(Duration::from_secs(30 * 86_400))));
        assert_eq!(of_env("off"), Ok(None));
    }

    #[test]
    fn anything_else_is_refused_with_how_it_is_written() {
        let wanted = "it must be a duration such as `90d` or `12h`, or `off` to keep every run";
        for text in ["soon", "90", "0s", "-1d"] {
            assert_eq!(of_env(text), Err(format!("COWORKS_BIZ_RETENTION is `{text}`; {wanted}")));
        }
        let none = Environment::from(|_| None);
        let error = load(&none, Some("never".into())).unwrap_err().to_string();
        assert_eq!(error, format!("retention is `never`; {wanted}"));
    }
}
