//! Sending: one client for all calls of a process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_LENGTH, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};

use super::asked::{Asked, CONNECT_TIMEOUT, Origin};
use super::directory::{Directory, Found};
use super::guard::Guard;
use super::intake::{Body, Intake, Want};
use super::reply::{self, Answer, Raw, Wanted, kept};
use super::request::{Headers, Target};
use super::service::{Profile, api_url, without_credentials};
use super::{Address, Arguments, Call, Given, Identity, Method, Service, Token};
use crate::clock::Clock;
use crate::config::{Config, Secret, Secrets, secret};
use crate::error::{Error, Result, chain};
use crate::value::{Object, Type};

/// No longer a call that is under way waits for a service that wants to be left alone.
const LONGEST_IN_PLACE: Duration = Duration::from_secs(5);

/// What speaks HTTP, for all that is called from here.
pub(crate) fn http(config: &Config) -> Result<reqwest::Client> {
    let mut http = reqwest::Client::builder()
        .user_agent(concat!("coworks-biz/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::custom(redirect))
        .referer(false);
    if !config.proxy {
        http = http.no_proxy();
    }
    http.build().map_err(|e| Error::fatal(format!("no HTTP client: {}", chain(&e))))
}

/// Calls services, and reaches the results of asynchronous calls.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    gateway: Option<String>,
    bucket: String,
    traced: bool,
    /// The variables that name a proxy.
    proxies: Vec<&'static str>,
    directory: Directory,
    guard: Guard,
    secrets: Arc<Secrets>,
    clock: Clock,
    stand_ins: BTreeMap<String, String>,
    hermetic: bool,
    #[cfg(feature = "s3")]
    s3: (crate::config::S3, tokio::sync::OnceCell<super::Results>),
}

impl Client {
    /// A client as the configuration says.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self::over(http(config)?, config))
    }

    /// The same, over what speaks HTTP already: that takes some milliseconds to make.
    pub(crate) fn over(http: reqwest::Client, config: &Config) -> Self {
        Self {
            directory: Directory::new(&http, config.directory.as_ref(), &config.secrets),
            http,
            gateway: config.gateway_url.clone(),
            bucket: config.bucket.clone(),
            traced: config.traceparent,
            proxies: if config.proxy { config.proxies.clone() } else { Vec::new() },
            guard: Guard::default(),
            secrets: Arc::clone(&config.secrets),
            clock: config.clock.clone(),
            stand_ins: config.stand_ins.clone(),
            hermetic: config.hermetic,
            #[cfg(feature = "s3")]
            s3: (config.s3.clone(), tokio::sync::OnceCell::new()),
        }
    }

    /// The bucket of results that name none.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The results in S3; connected at the first use.
    #[cfg(feature = "s3")]
    pub async fn results(&self) -> &super::Results {
        self.s3.1.get_or_init(|| super::Results::connect(&self.s3.0)).await
    }

    /// Whether services can be called by their names.
    pub fn has_directory(&self) -> bool {
        self.directory.is_there()
    }

    /// Which services have asked to be left alone.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Until when a service wants to be left alone; `None` where it may be called.
    pub fn left_alone(&self, service: &Service) -> Option<DateTime<Utc>> {
        match self.guard.is_idle() {
            true => None,
            false => self.guard.closed_until(&service.name(), self.clock.now()),
        }
    }

    /// Calls a service and waits for its answer. One that says `Retry-After` with a refusal is to be
    /// [left alone](Client::left_alone) by all calls.
    ///
    /// The error is [fatal](Error::fatal) for an answer that would be the same
    /// next time, and carries the service's `Retry-After` where it gave one. An output
    /// that is a [`Reply`](crate::value::Reply) takes a refusal as its value: one that may
    /// pass by itself only at the last try.
    pub async fn call(
        &self,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
        last_try: bool,
    ) -> Result<Answer> {
        self.call_for(call.output.as_ref(), call, arguments, who, last_try).await
    }

    /// The same for an output of this type, whatever that of the call is.
    pub(crate) async fn call_for(
        &self,
        output: Option<&Type>,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
        last_try: bool,
    ) -> Result<Answer> {
        let (asked, received) = self.exchange(call, arguments, who, output, None).await?;
        let (status, size) = (received.status, received.body.size());
        let wanted = Wanted { output, last_try, asked: &asked, stored: None, log: None };
        let answer = received.answer(&wanted)?;
        tracing::info!("{status} with {size} bytes");
        Ok(answer)
    }

    /// Asks a service to leave its answer at `result`. Returns once it accepted.
    pub async fn submit(
        &self,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
        result: &Object,
    ) -> Result<()> {
        let (asked, received) = self.exchange(call, arguments, who, None, Some(result)).await?;
        let status = received.status;
        let wanted = Wanted { output: None, last_try: false, asked: &asked, stored: None, log: None };
        received.answer(&wanted)?;
        tracing::info!("accepted with {status}");
        Ok(())
    }

    /// Sends a call, and what it is called in messages. Where the directory's word is refused, it is
    /// asked once more: the service may have moved, or have a new token.
    async fn exchange(
        &self,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
        output: Option<&Type>,
        result: Option<&Object>,
    ) -> Result<(Asked, Received)> {
        let profile = call.service.profile();
        let mut place = self.place(&profile.address).await?;
        let mut again = false;
        loop {
            let (asked, request) = self.request(call, arguments, who, result, &profile, &place)?;
            tracing::info!("{asked}");
            if let Some(object) = result {
                tracing::debug!("the answer goes to {object}");
            }
            let received = send(request, &asked, output).await;
            self.heed(&profile.address, &received);
            if let (true, Ok(Received { status, body, .. })) = (call.log_response, &received) {
                reply::tell(*status, body.size(), body.beginning(), &self.secrets);
            }
            let Place::Found(found) = &place else { return Ok((asked, received?)) };
            let refused = matches!(received, Ok(Received { status: 401 | 403, .. }));
            if refused || received.is_err() {
                self.directory.forget(found);
            }
            if refused && !again {
                match self.place(&profile.address).await {
                    Ok(other) if other != place => {
                        self.wait_for(&profile.address).await?;
                        tracing::info!("refused, and the directory says something else now: once more");
                        (place, again) = (other, true);
                        continue;
                    }
                    // The refusal tells more.
                    Ok(_) | Err(_) => {}
                }
            }
            return Ok((asked, received?));
        }
    }

    /// Leaves a service alone that says so.
    fn heed(&self, address: &Address, received: &Result<Received>) {
        if let Ok(Received { status, retry_after: Some(delay), .. }) = received
            && reply::transient(*status)
        {
            self.guard.close(&address.to_string(), *delay, self.clock.now());
        }
    }

    /// Waits in place until a service may be called, where that is soon; else its call comes later.
    pub(crate) async fn wait_for(&self, address: &Address) -> Result<()> {
        if self.guard.is_idle() {
            return Ok(());
        }
        let service = address.to_string();
        let give_up = self.clock.instant() + LONGEST_IN_PLACE;
        while let Some(until) = self.guard.closed_until(&service, self.clock.now()) {
            let left = (until - self.clock.now()).to_std().unwrap_or_default();
            if self.clock.instant() + left > give_up {
                return Err(Error::msg(format!("`{service}` asked to be left alone")).retry_after(left));
            }
            // Who has called only waits.
            let idle = self.clock.idle();
            let awake = self.clock.sleep(left).await;
            drop((idle, awake));
        }
        Ok(())
    }

    async fn place(&self, address: &Address) -> Result<Place> {
        Ok(match address {
            Address::Api { api_id, stage, region } => {
                Place::Known(api_url(self.gateway.as_deref(), api_id, stage, region))
            }
            Address::Url(url) => Place::Known(self.stand_in(url)?),
            Address::Named { cws_name, stage } => {
                Place::Found(self.directory.find(cws_name, stage.as_deref()).await?)
            }
        })
    }

    /// The address itself, or that of what stands in for it.
    fn stand_in(&self, url: &str) -> Result<String> {
        if let Some(there) = self.stand_ins.get(url.trim_end_matches('/')) {
            return Ok(there.clone());
        }
        let host = reqwest::Url::parse(url).ok().and_then(|url| Some(url.host_str()?.to_owned()));
        let is_here = host.is_none_or(|host| {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        });
        match self.hermetic && !is_here {
            false => Ok(url.to_owned()),
            true => Err(Error::fatal(format!(
                "a sandbox calls nothing beyond this machine: let a service stand in for \
                 `{0}` with `Service::new(..).at(\"{0}\")`",
                without_credentials(url)
            ))),
        }
    }

    fn request(
        &self,
        call: &Call,
        arguments: &Arguments,
        who: &Identity,
        result: Option<&Object>,
        profile: &Profile,
        place: &Place,
    ) -> Result<(Asked, RequestBuilder)> {
        let secrets = &self.secrets;
        let path = arguments.path.as_deref().unwrap_or(call.path);
        let Target { url, shown } = Target::new(place.url(), path, &arguments.query, secrets)?;
        let method = reqwest::Method::from_bytes(call.method.as_str().as_bytes())
            .map_err(|e| Error::fatal(format!("{}: {e}", call.method)))?;
        let content_type = arguments.body.as_ref().map_or("application/json", |body| body.content_type);
        let mut headers = Headers::of_call(call.accept, content_type, who, self.traced)?;
        headers.extend(&profile.headers, secrets)?;
        headers.extend(&arguments.headers, secrets)?;
        let of_call = match (&arguments.token, call.token) {
            (Some(token), _) => Some(token.clone()),
            (None, Token::None) => None,
            (None, Token::Literal(token)) => Some(Secret::new(token).into()),
            (None, Token::Secret(name)) => Some(secret(name).into()),
            (None, Token::OfService) => profile.token.clone().or_else(|| place.token()),
        };
        let origin =
            Origin::of(arguments.token.as_ref(), call, profile.token.is_some(), place.token().is_some());
        if let Some(token) = of_call {
            headers.authorize(&token.resolve(secrets)?.text, secrets)?;
        }
        if let Some(object) = result {
            headers.leave_at(object)?;
        }
        let mut request = self.http.request(method, url).timeout(call.request_timeout).headers(headers.0);
        request = match (&arguments.body, call.method) {
            (Some(body), _) => request.body(body.bytes.clone()),
            (None, Method::Get | Method::Head | Method::Options) => request,
            // There are gateways that answer 411 where it is not said.
            (None, _) => request.header(CONTENT_LENGTH, 0),
        };
        let asked = Asked::new(format!("{} {shown}", call.method), call, result.is_some(), secrets)
            .of(&profile.address, place.found())
            .with(origin, content_type)
            .by(&self.proxies);
        Ok((asked, request))
    }
}

/// Sends a request, and takes in as much of the answer as the output wants.
async fn send(request: RequestBuilder, asked: &Asked, output: Option<&Type>) -> Result<Received> {
    let mut response = request.send().await.map_err(|e| asked.fault(e, None))?;
    let status = response.status().as_u16();
    let retry_after = retry_after(&response);
    let headers = response.headers().iter();
    let headers =
        kept(headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into())));
    let too_large = |e| Error::fatal(format!("{asked} answered {status} with {e}"));
    let want = Want::of(status, output);
    let mut body = Intake::new(want, response.content_length()).map_err(too_large)?;
    // Who refuses has said why; what else he says, or does not, changes nothing.
    let refused = status >= 400 && want == Want::Nothing;
    while !(refused && body.has_begun()) {
        match response.chunk().await {
            Ok(Some(piece)) => body.push(&piece).map_err(too_large)?,
            Ok(None) => break,
            Err(_) if refused => break,
            Err(e) => return Err(asked.fault(e, Some(status))),
        }
    }
    Ok(Received { status, headers, retry_after, body: body.finish() })
}

/// Where a service is: by its own address, or as the directory says.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Known(String),
    Found(Arc<Found>),
}

impl Place {
    fn url(&self) -> &str {
        match self {
            Self::Known(url) => url,
            Self::Found(found) => &found.url,
        }
    }

    fn token(&self) -> Option<Given> {
        match self {
            Self::Known(_) => None,
            Self::Found(found) => found.token.clone().map(Given::Hidden),
        }
    }

    /// Where the directory says that it is, where it was asked.
    fn found(&self) -> Option<String> {
        match self {
            Self::Known(_) => None,
            Self::Found(found) => Some(without_credentials(&found.url).into_owned()),
        }
    }
}

/// An answer as it came.
#[derive(Debug)]
struct Received {
    status: u16,
    headers: reply::Headers,
    retry_after: Option<Duration>,
    body: Body,
}

impl Received {
    fn answer(self, wanted: &Wanted<'_>) -> Result<Answer> {
        let Self { status, headers, retry_after, body } = self;
        Raw { status, headers: &headers, retry_after, body }.answer(wanted)
    }
}

/// How long the service wants to be left alone, where it says so.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    reply::delay(response.headers().get(RETRY_AFTER)?.to_str().ok()?)
}

/// Follows within a host. Another one would get the headers and the query that were meant for this.
fn redirect(attempt: reqwest::redirect::Attempt) -> reqwest::redirect::Action {
    let same = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    match (same, attempt.previous().len()) {
        (false, _) => {
            let to = attempt.url().origin().ascii_serialization();
            attempt.error(format!("it redirects to another host, {to}: give the service its address there"))
        }
        (true, 6..) => attempt.error("it redirects too often"),
        (true, _) => attempt.follow(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Flags};

    #[tokio::test]
    async fn who_is_under_way_waits_a_little_for_a_service_that_wants_to_be_left_alone() {
        let none = Environment::from(|_| None);
        let client =
            Client::new(&Config::from(Flags::default(), &none, "none.toml".as_ref()).unwrap()).unwrap();
        let address = Address::Url("http://h".into());
        client.wait_for(&address).await.unwrap();
        client.guard.close("http://h", Duration::from_millis(20), Utc::now());
        client.wait_for(&address).await.unwrap();
        assert_eq!(client.left_alone(&Service::Url("http://h")), None);
        client.guard.close("http://h", Duration::from_secs(3600), Utc::now());
        let error = client.wait_for(&address).await.unwrap_err();
        let crate::error::Retry::After(delay) = error.retry() else { panic!("{error}") };
        assert!(delay > Duration::from_secs(3500), "{delay:?}");
        client.wait_for(&Address::Url("http://other".into())).await.unwrap();
    }
}
