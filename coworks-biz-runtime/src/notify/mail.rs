//! E-mail, by SMTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{self, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{Notice, text};
use crate::config::{Config, ConfigError, Secrets, Smtp, SmtpTls};
use crate::error::{Error, Result, chain};

/// What one mail may take in all: to connect, to log in, to be sent.
const LONGEST: Duration = Duration::from_secs(60);

/// Connections that are open at once. Servers limit them, and notices are few.
const CONNECTIONS: u32 = 2;

/// Who a mail could not be handed over for, though it was for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The address.
    pub to: String,
    /// What the server said.
    pub reason: String,
    /// Whether the server may take it later.
    pub may_pass: bool,
}

/// What became of a mail that the server took for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "some may not have got it"]
pub struct Sent {
    /// Who it was not taken for.
    pub refused: Vec<Refused>,
}

/// Sends notices by e-mail, over connections that are kept for the next one.
#[derive(Debug)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
    from: Mailbox,
    secrets: Arc<Secrets>,
    limit: Duration,
}

impl Mailer {
    /// A mailer as the configuration says; none where it names no server.
    ///
    /// The error says what is wrong with the setting. Whether the server is there turns out with the
    /// first mail.
    pub fn new(config: &Config) -> Result<Option<Self>, ConfigError> {
        let of = |smtp| Self::to(smtp, Arc::clone(&config.secrets), LONGEST, None);
        config.smtp.as_ref().map(of).transpose()
    }

    /// `root` is trusted beside what the machine trusts.
    pub(super) fn to(
        smtp: &Smtp,
        secrets: Arc<Secrets>,
        limit: Duration,
        root: Option<Certificate>,
    ) -> Result<Self, ConfigError> {
        let from = smtp.from.parse().map_err(|_| ConfigError::Value {
            name: "COWORKS_SMTP_FROM",
            value: smtp.from.clone(),
            wanted: "an address such as `biz@example.com` or `Biz <biz@example.com>`",
        })?;
        let mut tls = TlsParameters::builder(smtp.host.clone());
        if let Some(root) = root {
            tls = tls.add_root_certificate(root);
        }
        let tls = || {
            tls.build().map_err(|e| ConfigError::Connection {
                name: "COWORKS_SMTP_URL",
                reason: format!("no TLS to its host: {}", chain(&e)),
            })
        };
        let tls = match smtp.tls {
            SmtpTls::Never => Tls::None,
            SmtpTls::Opportunistic => Tls::Opportunistic(tls()?),
            SmtpTls::Required => Tls::Required(tls()?),
            SmtpTls::Wrapper => Tls::Wrapper(tls()?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
            .port(smtp.port)
            .tls(tls)
            .timeout(Some(limit))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS));
        if let Some((user, password)) = &smtp.login {
            transport = transport.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        let server = format!("{}:{}", smtp.host, smtp.port);
        Ok(Self { transport: transport.build(), server, from, secrets, limit })
    }

    #[cfg(test)]
    pub(super) fn hide(&self, value: &str) {
        self.secrets.hide(value);
    }

    /// Hands a mail about this over to the server, for all of these addresses. Nothing known to be
    /// a secret is in it.
    ///
    /// The same notice makes the same `Message-ID`, so that one which is sent again, because nobody
    /// knows whether it went out before a crash, is recognised. The error is [fatal](Error::fatal)
    /// where another try would end the same way, and means that nobody got it: where the server takes
    /// the mail for some and not for others, [`Sent`] tells the others. Who has to know of each
    /// address alone sends to one at a time.
    pub async fn send(&self, notice: &Notice, to: &[&str]) -> Result<Sent> {
        let mut refused = Vec::new();
        let mut known: Vec<Mailbox> = Vec::new();
        for text in to {
            match text.parse() {
                Ok(mailbox) => known.push(mailbox),
                Err(e) => {
                    let reason = format!("it is no e-mail address: {e}");
                    refused.push(Refused { to: (*text).to_owned(), reason, may_pass: false });
                }
            }
        }
        if known.is_empty() {
            return Err(nobody(&refused));
        }
        let message = self.message(notice, &known)?.formatted();
        let all: Vec<_> = known.into_iter().map(|mailbox| mailbox.email).collect();
        match self.hand_over(&all, &message).await {
            Ok(()) => return Ok(Sent { refused }),
            // One address that the server does not take keeps the mail from all the others.
            Err(fault) if fault.refused && all.len() > 1 => {}
            Err(fault) => return Err(fault.error),
        }
        let before = refused.len();
        for address in &all {
            if let Err(Fault { error, .. }) = self.hand_over(std::slice::from_ref(address), &message).await {
                let reason = error.to_string();
                refused.push(Refused { to: address.to_string(), reason, may_pass: !error.is_fatal() });
            }
        }
        match refused.len() - before == all.len() {
            true => Err(nobody(&refused)),
            false => Ok(Sent { refused }),
        }
    }

    fn message(&self, notice: &Notice, to: &[Mailbox]) -> Result<Message> {
        let id = format!("<{}@{}>", notice.id(), self.from.email.domain());
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(self.secrets.scrub(&text::subject(notice)))
            // When it came about, which is the same each time.
            .date(SystemTime::from(notice.at))
            .message_id(Some(id))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for mailbox in to {
            message = message.to(mailbox.clone());
        }
        let body = self.secrets.scrub(&text::body(notice)).into_owned();
        message.body(body).map_err(|e| Error::fatal(format!("no mail can be made of it: {}", chain(&e))))
    }

    async fn hand_over(&self, to: &[Address], message: &[u8]) -> Result<(), Fault> {
        let envelope = Envelope::new(Some(self.from.email.clone()), to.to_vec())
            .map_err(|e| Fault { error: Error::fatal(chain(&e)), refused: false })?;
        match tokio::time::timeout(self.limit, self.transport.send_raw(&envelope, message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(self.fault(&e)),
            Err(_) => {
                let limit = humantime::format_duration(self.limit);
                let text = format!("the SMTP server {} took longer than {limit}", self.server);
                Err(Fault { error: Error::msg(text), refused: false })
            }
        }
    }

    fn fault(&self, error: &smtp::Error) -> Fault {
        let status = error.status().map(u16::from);
        let what = match status {
            Some(530 | 534 | 535 | 538) => "does not let us in, see COWORKS_SMTP_URL",
            Some(_) => "refused the mail",
            None if error.is_tls() => "has no TLS that can be trusted",
            None => "did not take the mail",
        };
        let text = format!("the SMTP server {} {what}: {}", self.server, chain(error));
        let text = self.secrets.scrub(&text);
        match status {
            // Who may log in is changed at the server, and the next try finds out.
            Some(530 | 534 | 535 | 538) => Fault { error: Error::msg(text), refused: false },
            Some(500..) => Fault { error: Error::fatal(text), refused: true },
            Some(_) => Fault { error: Error::msg(text), refused: true },
            // Such as an address that the server could not be told of.
            None if error.is_client() => Fault { error: Error::fatal(text), refused: true },
            None => Fault { error: Error::msg(text), refused: false },
        }
    }
}

/// Why a mail was not handed over.
struct Fault {
    error: Error,
    /// Whether it may be for one of its addresses.
    refused: bool,
}

/// What there is to say when nobody got a mail.
fn nobody(refused: &[Refused]) -> Error {
    let text: Vec<_> = refused.iter().map(|Refused { to, reason, .. }| format!("{to}: {reason}")).collect();
    let text = match text.is_empty() {
        true => "there is nobody to send it to: `email` of the task names no address".to_owned(),
        false => text.join("; "),
    };
    match refused.iter().any(|refused| refused.may_pass) {
        true => Error::msg(text),
        false => Error::fatal(text),
    }
}

/// Says that no person wrote this, so that nobody's out-of-office answers it (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
