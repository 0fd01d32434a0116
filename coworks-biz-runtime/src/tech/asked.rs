//! What was asked, in words: for who reads why a call has failed, and what to do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;

use super::{Address, Call, Given, Token};
use crate::config::Secrets;
use crate::error::{Error, chain};
use crate::value::excerpt;

/// How long it may take until a connection is there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A text is searched for secrets up to here before it is cut to what a message shows.
const SEARCHED: usize = 64 << 10;

/// A request as messages speak of it. There is no secret in it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The verb and the address; empty where they are not known any more.
    line: String,
    /// The name of the service; `None` where it has none but its address.
    service: Option<String>,
    token: Origin,
    /// Where the directory says that the service is, where it was asked.
    found: Option<String>,
    content_type: String,
    timeout: Duration,
    asynchronous: bool,
    /// The variables that name a proxy for it.
    proxies: Vec<&'static str>,
    secrets: Arc<Secrets>,
}

/// Where a token is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is none: `no_auth`.
    NoAuth,
    /// There is none: the service has none to give.
    NoneGiven,
    /// It stands in the source.
    Source,
    /// `secret("NAME")`.
    Secret(String),
    /// `var("NAME")`.
    Variable(String),
    /// It was computed by an expression.
    Computed,
    /// The type of the service gives it.
    Service,
    /// The directory gives it.
    Directory,
}

impl Origin {
    /// Where this token of a call is from, or of the service where it has none of its own.
    pub(super) fn of(own: Option<&Given>, call: &Call, of_service: bool, of_directory: bool) -> Self {
        match (own, call.token) {
            (Some(Given::Secret(name)), _) => Self::Secret(name.name().to_owned()),
            (Some(Given::Variable(name)), _) => Self::Variable(name.name().to_owned()),
            (Some(Given::Text(_) | Given::Hidden(_)), _) => Self::Computed,
            (None, Token::None) => Self::NoAuth,
            (None, Token::Literal(_)) => Self::Source,
            (None, Token::Secret(name)) => Self::Secret(name.to_owned()),
            (None, Token::OfService) if of_service => Self::Service,
            (None, Token::OfService) if of_directory => Self::Directory,
            (None, Token::OfService) => Self::NoneGiven,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAuth => f.write_str("it was sent without a token, as `no_auth` says"),
            Self::NoneGiven => {
                f.write_str("it was sent without a token: neither the call nor the service has one")
            }
            Self::Source => f.write_str("its token stands in the source of the call"),
            Self::Secret(name) => write!(f, "its token is `secret(\"{name}\")`"),
            Self::Variable(name) => write!(f, "its token is `var(\"{name}\")`"),
            Self::Computed => f.write_str("its token is what the call computes"),
            Self::Service => f.write_str("its token is that of the `TechService`"),
            Self::Directory => f.write_str("its token is the directory's"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.line, &self.service) {
            ("", Some(service)) => write!(f, "`{service}`"),
            (line, Some(service)) => write!(f, "{line} of `{service}`"),
            (line, None) => f.write_str(line),
        }
    }
}

impl Asked {
    pub(super) fn new(line: String, call: &Call, asynchronous: bool, secrets: &Arc<Secrets>) -> Self {
        Self {
            line,
            service: None,
            token: Origin::NoAuth,
            found: None,
            content_type: String::new(),
            timeout: call.request_timeout,
            asynchronous,
            proxies: Vec::new(),
            secrets: Arc::clone(secrets),
        }
    }

    /// The call whose answer was left for us.
    pub fn stored(call: &Call, secrets: &Arc<Secrets>) -> Self {
        Self { service: Some(call.service.name()), ..Self::new(String::new(), call, true, secrets) }
    }

    /// The same, of the service there. The directory said that it is at `found`.
    pub(super) fn of(mut self, address: &Address, found: Option<String>) -> Self {
        self.service = match address {
            Address::Api { .. } | Address::Named { .. } => Some(address.to_string()),
            Address::Url(_) => None,
        };
        self.found = found;
        self
    }

    /// The same, with this token and a body of this type.
    pub(super) fn with(mut self, token: Origin, content_type: &str) -> Self {
        self.token = token;
        self.content_type = content_type.to_owned();
        self
    }

    /// The same, where these variables name proxies.
    pub(super) fn by(mut self, proxies: &[&'static str]) -> Self {
        let scheme = if self.line.contains(" https://") { "HTTPS_" } else { "HTTP_" };
        let fits = |name: &str| [scheme, "ALL_"].iter().any(|begin| name.to_uppercase().starts_with(begin));
        self.proxies = proxies.iter().copied().filter(|name| fits(name)).collect();
        self
    }

    /// The beginning of a text that came, as many characters of it as a message shows. Half a secret
    /// would not be known as one: it is looked for before.
    pub(super) fn cut(&self, text: &str, limit: usize) -> String {
        excerpt(&self.secrets.scrub(&excerpt(text, SEARCHED)), limit)
    }

    /// What to make of a refusal, where more can be said than what was answered.
    pub(super) fn hint(&self, status: u16, body: &str) -> Option<String> {
        let directory = || self.found.as_ref().map(|url| format!("the directory says that it is at {url}"));
        let hint: Cow<str> = match status {
            403 if body.contains("Missing Authentication Token") => {
                let found = directory().map(|found| format!("; {found}")).unwrap_or_default();
                format!(
                    "a gateway says so of a path or a method that it does not have: look at both, and at the stage{found}"
                )
                .into()
            }
            401 | 403 => self.token.to_string().into(),
            404 => directory()?.into(),
            415 => {
                let sent = &self.content_type;
                format!("it was sent as `{sent}`: `json = ..` sends JSON, and a header `Content-Type` says what else it is")
                    .into()
            }
            504 if !self.asynchronous => {
                "a gateway gives up after 29s: `tech!(async ..)` calls what takes longer".into()
            }
            _ => return None,
        };
        Some(hint.into_owned())
    }

    /// Why there is no answer, or not all of one: `status` is that of an answer that broke off.
    pub(super) fn fault(&self, error: reqwest::Error, status: Option<u16>) -> Error {
        // What cannot even be written down will not be better next time.
        let hopeless = error.is_builder() || error.is_redirect();
        // The error's own text repeats the URL, which this tells.
        let error = error.without_url();
        let begun = match status {
            Some(status) => format!("{self} answered {status}, and broke off: "),
            None => format!("{self} got no answer: "),
        };
        let mut text = begun + &self.cause(&error);
        if let (true, Some(found)) = (error.is_connect(), &self.found) {
            text.push_str(&format!(" (the directory says that it is at {found})"));
        }
        if let (true, [proxy, ..]) = (error.is_connect(), &*self.proxies) {
            text.push_str(&format!(" ({proxy} is set: it may be of the proxy)"));
        }
        if hopeless { Error::fatal(text) } else { Error::msg(text) }
    }

    fn cause(&self, error: &reqwest::Error) -> String {
        let longer =
            if self.asynchronous { "" } else { ", and `tech!(async ..)` waits without a connection" };
        why(error, self.timeout, &format!("; `request_timeout` gives it more{longer}"))
    }

    /// A request with this line, for tests.
    #[cfg(test)]
    pub(crate) fn example(line: &str) -> Self {
        Self {
            line: line.to_owned(),
            service: None,
            token: Origin::NoAuth,
            found: None,
            content_type: "application/json".to_owned(),
            timeout: Duration::from_secs(30),
            asynchronous: false,
            proxies: Vec::new(),
            secrets: Arc::new(Secrets::new(crate::config::Environment::from(|_| None))),
        }
    }
}

/// Why a request has failed that may take as long as `limit`; `longer` says how to give it more.
pub(super) fn why(error: &reqwest::Error, limit: Duration, longer: &str) -> String {
    let all = chain(error);
    if error.is_timeout() && error.is_connect() {
        return format!(
            "no connection within {}, which is what connecting may take",
            format_duration(CONNECT_TIMEOUT)
        );
    }
    if error.is_timeout() {
        return format!("not there within {}{longer}", format_duration(limit));
    }
    if let Some(io) = cause::<io::Error>(error)
        && error.is_connect()
        && io.kind() == io::ErrorKind::ConnectionRefused
    {
        return format!("nobody listens there ({io})");
    }
    if all.contains("dns error") {
        return format!("no such host is known: {}", last(error));
    }
    if all.contains("UnknownIssuer") || all.contains("BadSignature") {
        return "its certificate is of an issuer that is not trusted here: add that to the certificates of the \
                system, or to the file that SSL_CERT_FILE names"
            .to_owned();
    }
    if all.contains("CaUsedAsEndEntity") {
        return "its certificate is that of an authority, and not of a server: make one for the server that the \
                authority signs"
            .to_owned();
    }
    if all.contains("invalid peer certificate") {
        return format!("its certificate is not to be trusted: {}", last(error));
    }
    if all.contains("tls handshake eof") || all.contains("InvalidContentType") {
        return format!("it does not speak TLS there: is it `http://`? ({all})");
    }
    if all.contains("connection closed before message completed") {
        return "the connection was closed before the answer".to_owned();
    }
    if all.contains("tunnel error") {
        return format!("the proxy of the environment (HTTPS_PROXY) leads nowhere: {all}");
    }
    all
}

/// The last cause of this type. One may be wrapped in others that are of the same type.
fn cause<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<E>())
        .last()
}

fn last(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_says_what_a_status_means_here() {
        let asked = Asked::example("GET http://x/");
        let hint = |token: Origin, status, body| Asked { token, ..asked.clone() }.hint(status, body);
        let secret = || Origin::Secret("KEY".into());
        assert_eq!(hint(secret(), 403, "no").as_deref(), Some("its token is `secret(\"KEY\")`"));
        assert_eq!(
            hint(Origin::NoAuth, 401, "").as_deref(),
            Some("it was sent without a token, as `no_auth` says")
        );
        let missing = hint(secret(), 403, r#"{"message":"Missing Authentication Token"}"#).unwrap();
        assert!(missing.starts_with("a gateway says so of a path") && !missing.contains("KEY"), "{missing}");
        assert_eq!(hint(secret(), 404, ""), None);
        assert_eq!(hint(secret(), 500, ""), None);
        let found = Asked { found: Some("http://h".into()), ..asked.clone() };
        assert_eq!(found.hint(404, "").as_deref(), Some("the directory says that it is at http://h"));
        assert!(asked.hint(504, "").unwrap().contains("29s"));
        assert_eq!(Asked { asynchronous: true, ..asked }.hint(504, ""), None);
    }

    #[tokio::test]
    async fn a_connection_that_does_not_come_about_is_told_apart_from_a_slow_answer() {
        // Nobody accepts, and the queue is full: the next one waits.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let _listener = socket.listen(1).unwrap();
        let short = Duration::from_millis(200);
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(short, tokio::net::TcpStream::connect(address)).await
        {
            queue.push(stream);
        }
        let http = reqwest::Client::builder().no_proxy().connect_timeout(short).build().unwrap();
        let request = http.get(format!("http://{address}")).timeout(Duration::from_secs(60));
        let error = Asked::example("GET http://x/").fault(request.send().await.unwrap_err(), None);
        assert_eq!(
            error.to_string(),
            "GET http://x/ got no answer: no connection within 10s, which is what connecting may take"
        );
        assert!(!error.is_fatal());
    }

    #[test]
    fn no_half_of_a_secret_is_shown() {
        let asked = Asked::example("GET http://x/");
        asked.secrets.hide("very-secret");
        let text = format!("{}very-secret", "x".repeat(115));
        assert_eq!(asked.cut(&text, 120), format!("{}***", "x".repeat(115)));
    }
}
