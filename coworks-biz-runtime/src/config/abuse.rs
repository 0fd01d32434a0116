//! Any file and any environment: TOML, a line `---`, and a variable of the environment on each line.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::abuse::Abuse;
use crate::value::Json;

/// Stands in the samples where a password or a token may be.
const PASSWORD: &str = "hunter22";

/// Variables of which no message repeats what they say.
const CONFIDENTIAL: [&str; 6] = [
    "COWORKS_SMTP_URL",
    "COWORKS_WEBHOOK_URL",
    "COWORKS_WEBHOOK_TOKEN",
    "COWORKS_DIRECTORY_URL",
    "COWORKS_DIRECTORY_TOKEN",
    "AIRFLOW_CONN_COWORKS_DIRECTORY",
];

/// What messages call settings by.
const SETTINGS: [&str; 12] = [
    "parallelism",
    "COWORKS_",
    "AIRFLOW_CONN_",
    "SSL_CERT_FILE",
    "retention",
    "directory_url",
    "smtp_url",
    "webhook_url",
    "services",
    "service `",
    "coworks-biz.toml",
    "gateway_url",
];

fn read(dir: &Path, case: &str) -> Result<Config, ConfigError> {
    let (file, variables) = case.split_once("---\n").unwrap_or((case, ""));
    let path = dir.join(FILE);
    std::fs::write(&path, file).unwrap();
    let variables: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let find =
        move |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Config::from(Flags::default(), &Environment::from(find), &path)
}

/// Whether the password is only where no message may tell it.
fn is_confidential(case: &str) -> bool {
    let (file, variables) = case.split_once("---\n").unwrap_or((case, ""));
    let others = variables.lines().filter(|line| !CONFIDENTIAL.iter().any(|name| line.starts_with(name)));
    !file.contains(PASSWORD) && others.into_iter().all(|line| !line.contains(PASSWORD))
}

fn holds(dir: &Path, case: &[u8]) -> String {
    let case = String::from_utf8_lossy(case);
    let config = match read(dir, &case) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            assert!(SETTINGS.iter().any(|name| text.contains(name)), "{text}");
            assert!(!is_confidential(&case) || !text.contains(PASSWORD), "{text}");
            return text
                .split(['`', '\'', '"'])
                .step_by(2)
                .collect::<String>()
                .replace(&*dir.to_string_lossy(), "");
        }
    };
    assert_eq!(format!("{config:?}"), format!("{:?}", read(dir, &case).unwrap()));
    assert!(config.parallelism > 0 && config.s3_rate > 0);
    assert!(config.retention.is_none_or(|kept| !kept.is_zero()));
    for limits in config.services.named.values().chain([&config.services.default]) {
        assert_ne!(limits.concurrency, Some(0), "no call would ever begin");
        assert!(limits.rate.is_none_or(|rate| rate.calls > 0), "no call would ever begin");
    }
    let addresses = config.gateway_url.iter().chain(config.directory.iter().map(|directory| &directory.url));
    for address in addresses {
        let filled = address.replace("{api_id}", "x").replace("{region}", "x");
        assert!(
            reqwest::Url::parse(&format!("{filled}/service")).is_ok_and(|url| url.has_host()),
            "{address}"
        );
    }
    // What was said in confidence is known as such.
    let smtp = config.smtp.iter().filter_map(|smtp| smtp.login.as_ref()).map(|(_, password)| password);
    let webhook = config.webhook.iter().flat_map(|hook| hook.token.iter().chain([&hook.url]));
    for secret in smtp.chain(webhook).filter(|secret| secret.expose().len() >= 8) {
        assert!(!config.secrets.scrub(&format!("<{}>", secret.expose())).contains(secret.expose()));
    }
    format!(
        "{} {} {} {} {:?} {}",
        config.pools.len().min(3),
        config.services.named.len().min(3),
        config.smtp.is_some(),
        config.webhook.is_some(),
        config.durability,
        config.directory.map_or(9, |directory| directory.headers.len().min(3))
    )
}

#[test]
fn whatever_is_set_can_be_worked_with_or_is_told_by_its_name_and_without_passwords() {
    let words = [
        "db = ",
        "parallelism = ",
        "[pools]\n",
        "[services]\n",
        "[services.default]\n",
        "concurrency = ",
        "rate = ",
        "'50/s'",
        "durability = 'run'\n",
        "gateway_url = ",
        "smtp_url = ",
        "smtp_from = ",
        "webhook_url = ",
        "retention = ",
        "traceparent = ",
        "s3_rate = ",
        "'''",
        "\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "true",
        "none",
        "off",
        "00",
        "+0",
        "0/s",
        "1/h",
        "90d",
        "18446744073709551615s",
        "---\n",
        "COWORKS_BIZ_PARALLELISM=",
        "COWORKS_BIZ_DURABILITY=",
        "COWORKS_BIZ_RETENTION=",
        "COWORKS_BIZ_SERVICE_CONCURRENCY=",
        "COWORKS_BIZ_SERVICE_RATE=",
        "COWORKS_BIZ_S3_RATE=",
        "COWORKS_GATEWAY_URL=",
        "COWORKS_DIRECTORY_URL=",
        "AIRFLOW_CONN_COWORKS_DIRECTORY=",
        "COWORKS_SMTP_URL=",
        "COWORKS_WEBHOOK_URL=",
        "http://",
        "https://",
        "smtps://",
        "://",
        "@",
        ":",
        "?",
        "#",
        "%2F",
        "%ff",
        "[::1]",
        "{api_id}",
        PASSWORD,
        "\"port\": ",
        "\"extra\": ",
    ];
    let dir = tempfile::tempdir().unwrap();
    Abuse { target: "config", words: &words, cases: 3000 }.of(|case| holds(dir.path(), case));
}

#[test]
fn a_secret_of_any_characters_is_found_wherever_it_is_written() {
    let words = ["\"", "\\", "\n", "%", " ", "+", "\\u", "***", "é", "{", "}"];
    Abuse { target: "secret", words: &words, cases: 3000 }.of(|case| {
        let secret = &*String::from_utf8_lossy(&case[..case.len().min(2000)]);
        let secrets = Secrets::new(Environment::from(|_| None));
        secrets.hide(secret);
        if secret.len() < 8 {
            return "short".to_owned();
        }
        let json = Json::encode(&json!({"a": [1, {"key": format!("it is {secret}.")}]})).unwrap();
        assert_eq!(secrets.find_in(&json).as_deref(), Some("$.a[1].key"));
        for text in [format!("<{secret}>"), format!("{secret:?}"), json.as_str().to_owned()] {
            let scrubbed = secrets.scrub(&text);
            assert!(scrubbed.contains("***") && !scrubbed.contains(secret), "{scrubbed}");
        }
        let odd: BTreeSet<char> = secret.chars().filter(|c| !c.is_alphanumeric()).collect();
        odd.into_iter().collect()
    });
}
