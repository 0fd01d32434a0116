//! Where notices go: an SMTP server, a webhook.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{ConfigError, Environment, Secret, Secrets};

const SMTP_URL: &str = "COWORKS_SMTP_URL";
const SMTP_FROM: &str = "COWORKS_SMTP_FROM";
const WEBHOOK_URL: &str = "COWORKS_WEBHOOK_URL";
const WEBHOOK_TOKEN: &str = "COWORKS_WEBHOOK_TOKEN";

/// Parts of the address of a webhook of this length are taken for tokens.
const TOKEN_LIKE: usize = 16;

/// How an address of an SMTP server is written, for messages.
const SMTP_FORM: &str =
    "it must be an address such as `smtps://user:password@host` or `smtp://host:587?tls=required`";

/// The SMTP server that e-mail goes through, and who it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    /// The host of the server: a name, or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: SmtpTls,
    /// The user and the password, where it wants them.
    pub login: Option<(String, Secret)>,
    /// Who the mails come from, such as `Biz <biz@example.com>`.
    pub from: String,
}

/// How a connection to an SMTP server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Not at all: `smtp://host`, port 25.
    Never,
    /// By `STARTTLS` where the server offers it: `smtp://host?tls=opportunistic`, port 587.
    Opportunistic,
    /// By `STARTTLS`, or nothing is sent: `smtp://host?tls=required`, port 587.
    Required,
    /// From the first byte: `smtps://host`, port 465.
    Wrapper,
}

/// The service that is told of failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    /// Its address. It is a secret: many services have their token in the path.
    pub url: Secret,
    /// What it is called with, as a bearer token.
    pub token: Option<Secret>,
}

/// What it says is not repeated: there may be a password in it.
fn malformed(name: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Connection { name, reason: reason.into() }
}

impl Smtp {
    /// The server that the environment names, else the one of the file.
    pub(super) fn load(
        env: &Environment,
        secrets: &Secrets,
        (url_of_file, from_of_file): (Option<String>, Option<String>),
    ) -> Result<Option<Self>, ConfigError> {
        let (name, url, may_log_in) = match (env.get(SMTP_URL), url_of_file) {
            (Some(url), _) => (SMTP_URL, url, true),
            (None, Some(url)) => ("smtp_url", url, false),
            (None, None) => return Ok(None),
        };
        let from = env.get(SMTP_FROM).or(from_of_file).ok_or(ConfigError::Missing {
            name: SMTP_FROM,
            reason: "mails need somebody they come from, such as `Biz <biz@example.com>`",
        })?;
        let smtp = Self::parse(&url, from).map_err(|reason| malformed(name, reason))?;
        if let Some((_, password)) = &smtp.login {
            if !may_log_in {
                let reason =
                    format!("a password does not belong into a file: put the address into {SMTP_URL}");
                return Err(malformed(name, reason));
            }
            secrets.hide(password.expose());
        }
        Ok(Some(smtp))
    }

    fn parse(text: &str, from: String) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim_end()).map_err(|_| SMTP_FORM)?;
        let mut tls = None;
        for (key, value) in url.query_pairs() {
            match (&*key, &*value) {
                ("tls", "required") => tls = Some(SmtpTls::Required),
                ("tls", "opportunistic") => tls = Some(SmtpTls::Opportunistic),
                _ => {
                    return Err(
                        "behind `?` it takes `tls=required` or `tls=opportunistic`, and nothing else",
                    );
                }
            }
        }
        let (tls, port) = match (url.scheme(), tls) {
            ("smtps", None) => (SmtpTls::Wrapper, 465),
            ("smtps", Some(_)) => return Err("`smtps://` is encrypted from the start: leave `?tls=..` out"),
            ("smtp", None) => (SmtpTls::Never, 25),
            ("smtp", Some(tls)) => (tls, 587),
            _ => return Err(SMTP_FORM),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SMTP_FORM)?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(SMTP_FORM);
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let host = decoded(host.trim_start_matches('[').trim_end_matches(']')).map_err(|_| SMTP_FORM)?;
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) | (_, None) => return Err("it has a user or a password, and needs both or none"),
            (user, Some(password)) => {
                let no_text = "the user and the password must be UTF-8, percent-encoded";
                let user = decoded(user).map_err(|_| no_text)?;
                Some((user, Secret::new(decoded(password).map_err(|_| no_text)?)))
            }
        };
        let clear = matches!(tls, SmtpTls::Never | SmtpTls::Opportunistic);
        if login.is_some() && clear && !is_here(&host) {
            return Err("the password could be read on its way: use `smtps://` or `?tls=required`");
        }
        Ok(Self { host, port: url.port().unwrap_or(port), tls, login, from })
    }
}

/// Whether the host is this machine.
fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl WebhookTarget {
    /// The one that the environment names, else the one of the file.
    pub(super) fn load(
        env: &Environment,
        secrets: &Secrets,
        of_file: Option<String>,
    ) -> Result<Option<Self>, ConfigError> {
        let url = env.get(WEBHOOK_URL).map(|url| (WEBHOOK_URL, url));
        let Some((name, text)) = url.or(of_file.map(|url| ("webhook_url", url))) else { return Ok(None) };
        let text = text.trim_end();
        let form = "it must be an address such as `https://host/path`";
        let url = Url::parse(text).map_err(|_| malformed(name, form))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(malformed(name, form));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed(name, format!("a user and a password are not sent: use {WEBHOOK_TOKEN}")));
        }
        let token = env.get(WEBHOOK_TOKEN).map(|token| Secret::new(token.trim_end_matches(['\r', '\n'])));
        if let Some(token) = &token {
            secrets.hide(token.expose());
        }
        // What is behind the host may hold a token; ordinary words in it are no secrets elsewhere.
        secrets.hide(url.as_str());
        let words = url.path().split('/').chain(url.query().unwrap_or_default().split(['&', '=']));
        words.filter(|word| word.len() >= TOKEN_LIKE).for_each(|word| secrets.hide(word));
        Ok(Some(Self { url: Secret::new(url.as_str()), token }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(url: &'static str) -> Result<Option<Smtp>, String> {
        let env = Environment::from(move |name| match name {
            SMTP_URL => Some(url.to_owned()),
            SMTP_FROM => Some("biz@example.com".to_owned()),
            _ => None,
        });
        Smtp::load(&env, &Secrets::new(env.clone()), (None, None)).map_err(|e| e.to_string())
    }

    fn parsed(url: &'static str) -> (String, u16, SmtpTls) {
        let smtp = smtp(url).unwrap().unwrap();
        (smtp.host, smtp.port, smtp.tls)
    }

    #[test]
    fn the_scheme_and_tls_say_how_it_is_encrypted_and_which_port() {
        assert_eq!(parsed("smtp://relay"), ("relay".into(), 25, SmtpTls::Never));
        assert_eq!(parsed("smtp://relay?tls=required"), ("relay".into(), 587, SmtpTls::Required));
        assert_eq!(parsed("smtp://relay/?tls=opportunistic"), ("relay".into(), 587, SmtpTls::Opportunistic));
        assert_eq!(parsed("smtps://mail.example.com"), ("mail.example.com".into(), 465, SmtpTls::Wrapper));
        assert_eq!(parsed("smtp://[::1]:2525"), ("::1".into(), 2525, SmtpTls::Never));
    }

    #[test]
    fn a_user_and_a_password_are_decoded_and_kept_out_of_sight() {
        let env = Environment::from(|name| match name {
            SMTP_URL => Some("smtps://me%40x:p%2Fss%3Aword@host\n".to_owned()),
            SMTP_FROM => Some("biz@example.com".to_owned()),
            _ => None,
        });
        let secrets = Secrets::new(env.clone());
        let smtp = Smtp::load(&env, &secrets, (None, None)).unwrap().unwrap();
        assert_eq!(smtp.login, Some(("me@x".into(), Secret::new("p/ss:word"))));
        assert_eq!(secrets.scrub("with p/ss:word, p%2Fss%3Aword"), "with ***, ***");
        assert!(!format!("{smtp:?}").contains("word"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_what_it_says() {
        for (url, reason) in [
            ("mail.example.com", SMTP_FORM),
            ("http://host", SMTP_FORM),
            ("smtp://host/hunter22", SMTP_FORM),
            ("smtp://hunter22@localhost", "it has a user or a password, and needs both or none"),
            ("smtps://host?tls=required", "`smtps://` is encrypted from the start: leave `?tls=..` out"),
            (
                "smtp://host?tls=yes",
                "behind `?` it takes `tls=required` or `tls=opportunistic`, and nothing else",
            ),
            (
                "smtp://me:hunter22@host",
                "the password could be read on its way: use `smtps://` or `?tls=required`",
            ),
            (
                "smtp://me:hunter22@host?tls=opportunistic",
                "the password could be read on its way: use `smtps://` or `?tls=required`",
            ),
        ] {
            assert_eq!(smtp(url), Err(format!("COWORKS_SMTP_URL cannot be used: {reason}")), "{url}");
        }
        assert!(smtp("smtp://me:hunter22@127.0.0.1").is_ok(), "it does not leave the machine");
    }

    #[test]
    fn mails_come_from_somebody_and_a_password_is_in_no_file() {
        let env = Environment::from(|name| (name == SMTP_URL).then(|| "smtp://relay".to_owned()));
        let error = Smtp::load(&env, &Secrets::new(env.clone()), (None, None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "COWORKS_SMTP_FROM is not set: mails need somebody they come from, such as `Biz <biz@example.com>`"
        );
        let none = Environment::from(|_| None);
        let file = |url: &str| (Some(url.to_owned()), Some("biz@example.com".to_owned()));
        assert!(Smtp::load(&none, &Secrets::new(none.clone()), file("smtp://relay")).unwrap().is_some());
        let error =
            Smtp::load(&none, &Secrets::new(none.clone()), file("smtps://me:hunter22@h")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "smtp_url cannot be used: a password does not belong into a file: put the address into COWORKS_SMTP_URL"
        );
    }

    #[test]
    fn a_webhook_is_an_address_that_may_hold_a_token() {
        let load = |url: &'static str| {
            let env = Environment::from(move |name| match name {
                WEBHOOK_URL => Some(url.to_owned()),
                WEBHOOK_TOKEN => Some("hook-token\n".to_owned()),
                _ => None,
            });
            let secrets = Secrets::new(env.clone());
            WebhookTarget::load(&env, &secrets, None).map(|hook| (hook, secrets)).map_err(|e| e.to_string())
        };
        let (hook, secrets) =
            load("https://hooks.example.com/services/T0/0123456789abcdef?key=fedcba9876543210").unwrap();
        assert_eq!(hook.unwrap().token, Some(Secret::new("hook-token")));
        let text = "hook-token at /services/T0/0123456789abcdef?key=fedcba9876543210";
        assert_eq!(secrets.scrub(text), "*** at /services/T0/***?key=***");
        let reason = |url| load(url).map(|_| ()).unwrap_err();
        assert_eq!(
            reason("hooks.example.com/hunter22"),
            "COWORKS_WEBHOOK_URL cannot be used: it must be an address such as `https://host/path`"
        );
        assert_eq!(
            reason("https://u:hunter22@h/"),
            "COWORKS_WEBHOOK_URL cannot be used: a user and a password are not sent: use COWORKS_WEBHOOK_TOKEN"
        );
    }
}
