//! A stand-in for API Gateway and Lambda: the answers of the one, the behaviour of the other.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::Service;
use super::events::{Event, Events};
use super::fault::{self, Kind};
use super::script::Script;
use crate::clock::Clock;
use crate::tech::Results;
use crate::value::Object;

/// What a gateway gives a service before it answers itself.
const LONGEST: Duration = Duration::from_secs(29);

/// The largest body, in bytes.
const LARGEST: usize = 256 * 1024 * 1024;

/// What a gateway works with.
pub(super) struct Gateway {
    pub(super) results: Results,
    pub(super) events: Events,
    pub(super) lambdas: Lambdas,
    pub(super) clock: Clock,
    /// What goes wrong by script; `None` where nothing does, and nothing is remembered.
    pub(super) script: Option<Arc<Script>>,
}

struct World {
    services: HashMap<(String, String), Service>,
    gateway: Gateway,
}

/// The services that run in the background.
pub(super) type Lambdas = Arc<Mutex<JoinSet<()>>>;

/// The gateway: services are at `/{api_id}/{stage}`. Goes on with the events that are left.
pub(super) fn app(services: Vec<Service>, gateway: Gateway) -> io::Result<Router> {
    let services = services.into_iter().map(|mut service| {
        let id = service.api_id.clone();
        let no_entry = move |method: Method, uri: Uri| async move {
            tracing::warn!("the local service `{id}` has no entry {method} {}", uri.path());
            unknown()
        };
        service.entries = service.entries.fallback(no_entry.clone()).method_not_allowed_fallback(no_entry);
        ((service.api_id.clone(), service.stage.clone()), service)
    });
    let left = gateway.events.left()?;
    let world = Arc::new(World { services: services.collect(), gateway });
    for (name, event) in left {
        match event.request() {
            Ok(request) => {
                let (parts, body) = request.into_parts();
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let body = read(body).await;
                    world.run(name, event, Call { parts, body }, Kind::None);
                });
            }
            Err(e) => tracing::warn!("an earlier call of `{}` is no request any more: {e}", event.api_id),
        }
    }
    Ok(Router::new().fallback(answer).with_state(world))
}

/// A call of a service, which can be delivered more than once.
#[derive(Clone)]
struct Call {
    parts: Parts,
    body: Bytes,
}

impl Call {
    fn request(self) -> Request {
        Request::from_parts(self.parts, Body::from(self.body))
    }
}

/// Marks an answer that is not given: the connection is closed instead.
#[derive(Clone)]
struct HangUp;

fn hang_up() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

/// What serves a connection to the gateway.
#[derive(Clone)]
pub(super) struct Connection(Router);

impl Connection {
    pub(super) fn new(app: Router) -> Self {
        Self(app)
    }
}

impl hyper::service::Service<hyper::Request<Incoming>> for Connection {
    type Response = Response;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let answer = self.0.clone().oneshot(request.map(Body::new));
        async move {
            let Ok(response) = answer.await;
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                None => Ok(response),
            }
        }
        .boxed()
    }
}

impl World {
    /// Runs a service in the background, and stores what it answers.
    fn run(self: &Arc<Self>, name: String, event: Event, call: Call, fault: Kind) {
        let world = Arc::clone(self);
        let busy = self.gateway.clock.busy();
        let mut lambdas = self.gateway.lambdas.lock().unwrap_or_else(|e| e.into_inner());
        while lambdas.try_join_next().is_some() {}
        lambdas.spawn(async move {
            let Gateway { results, events, clock, .. } = &world.gateway;
            let busy = match fault {
                Kind::Delay(delay) => {
                    let sleep = clock.sleep(delay);
                    drop(busy);
                    sleep.await
                }
                _ => busy,
            };
            match world.services.get(&(event.api_id.clone(), event.stage.clone())) {
                Some(service) => {
                    let times = if fault == Kind::Duplicate { 2 } else { 1 };
                    for _ in 0..times {
                        let answer = match &fault {
                            Kind::Leaves(bytes) => Some(bytes.clone()),
                            _ => {
                                let stored = stored(service.clone(), call.clone().request()).await;
                                (fault != Kind::Drop).then_some(stored)
                            }
                        };
                        if let Some(answer) = answer
                            && let Err(e) = results.write(&event.object, answer).await
                        {
                            tracing::error!("the local service could not store its answer: {e}");
                        }
                    }
                }
                None => tracing::warn!("there is no local service `{}` any more", event.api_id),
            }
            events.forget(&name);
            drop(busy);
        });
    }
}

async fn answer(State(world): State<Arc<World>>, request: Request) -> Response {
    let (service, request) = match route(&world.services, request) {
        Ok(routed) => routed,
        Err(refusal) => return refusal,
    };
    let (parts, body) = request.into_parts();
    let call = Call { parts, body: read(body).await };
    let Gateway { events, clock, script, .. } = &world.gateway;
    let fault = script
        .as_ref()
        .map_or(Kind::None, |script| script.receive(&service, &call.parts, &call.body, clock.now()));
    match &fault {
        Kind::Status { status, headers, body } => return fault::answer(*status, headers, body.clone()),
        Kind::Reset => return hang_up(),
        _ => {}
    }
    let header =
        |name: &str| call.parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if header("InvocationType").as_deref() == Some("Event") {
        let (Some(bucket), Some(key)) = (header("X-CWS-S3Bucket"), header("X-CWS-S3Key")) else {
            return message(StatusCode::BAD_REQUEST, "an Event call names X-CWS-S3Bucket and X-CWS-S3Key");
        };
        let of = (service.api_id.as_str(), service.stage.as_str());
        let event = Event::new(of, &call.parts, &call.body, Object { bucket, key });
        return match events.keep(&event) {
            Ok(name) => {
                world.run(name, event, call, fault);
                StatusCode::OK.into_response()
            }
            Err(e) => message(StatusCode::INTERNAL_SERVER_ERROR, &format!("the event cannot be kept: {e}")),
        };
    }
    let late = || message(StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out");
    match fault {
        Kind::Delay(delay) => {
            // Who has called only waits.
            let idle = clock.idle();
            let awake = clock.sleep(delay.min(LONGEST)).await;
            drop((idle, awake));
            if delay >= LONGEST {
                return late();
            }
        }
        Kind::Duplicate => drop(invoke(&service, call.clone().request()).await),
        Kind::Leaves(bytes) => return bytes.into_response(),
        _ => {}
    }
    match tokio::time::timeout(LONGEST, invoke(&service, call.request())).await {
        Ok(_) if fault == Kind::Drop => hang_up(),
        Ok(response) => response,
        Err(_) => late(),
    }
}

/// Finds the service, and the request as the service sees it; or the gateway's own answer.
#[expect(clippy::result_large_err, reason = "once a request")]
fn route(
    services: &HashMap<(String, String), Service>,
    request: Request,
) -> Result<(Service, Request), Response> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches('/');
    let mut pieces = path.splitn(3, '/');
    let (api_id, stage) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
    let entry = pieces.next().unwrap_or_default();
    let service = services.get(&(api_id.to_owned(), stage.to_owned())).ok_or_else(|| {
        let there: Vec<_> = services.keys().map(|(id, stage)| format!("`{id}` in `{stage}`")).collect();
        let there = there.join(", ");
        tracing::warn!("there is no local service `{api_id}` in the stage `{stage}`; there is {there}");
        unknown()
    })?;
    if let Some(token) = &service.token {
        authorized(parts.headers.get(AUTHORIZATION), token)?;
    }
    if !service.takes.iter().any(|kind| is(&parts.headers, kind)) {
        return Err(message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"));
    }
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    parts.uri = format!("/{entry}{query}").parse::<Uri>().map_err(|_| unknown())?;
    Ok((service.clone(), Request::from_parts(parts, body)))
}

/// The gateway's answer to a call without the token, or with another.
#[expect(clippy::result_large_err, reason = "once a request")]
pub(super) fn authorized(given: Option<&HeaderValue>, token: &str) -> Result<(), Response> {
    match given {
        None => Err(message(StatusCode::UNAUTHORIZED, "Unauthorized")),
        Some(given) if given.as_bytes() == token.as_bytes() => Ok(()),
        Some(_) => Err(message(StatusCode::FORBIDDEN, "User is not authorized to access this resource")),
    }
}

/// What the service answers, in the form in which a gateway hands it on.
async fn invoke(service: &Service, request: Request) -> Response {
    let json = request.headers().get(ACCEPT).is_some_and(|accept| accept == "application/json");
    let Ok(response) = service.entries.clone().oneshot(request).await;
    if !json || !is(response.headers(), "text/plain") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = read(body).await;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    let quoted = Value::from(String::from_utf8_lossy(&text).into_owned()).to_string();
    Response::from_parts(parts, Body::from(quoted))
}

/// What Lambda stores of an event: what the service answers.
async fn stored(service: Service, request: Request) -> Vec<u8> {
    let Ok(response) = service.entries.oneshot(request).await;
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let bytes = read(body).await;
    let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
    let body = match bytes.is_empty() {
        true => Value::from(""),
        false if is(&parts.headers, "application/json") => {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| text())
        }
        false => text(),
    };
    let binary = is(&parts.headers, "application/octet-stream");
    match binary {
        true => bytes.to_vec(),
        false => {
            let headers: Map<String, Value> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                .collect();
            let envelope =
                json!({ "statusCode": status, "headers": headers, "body": body, "isBase64Encoded": false });
            ascii(&envelope.to_string()).into_bytes()
        }
    }
}

/// JSON with every other character escaped, as Python writes it.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

async fn read(body: Body) -> Bytes {
    to_bytes(body, LARGEST).await.unwrap_or_default()
}

fn is(headers: &HeaderMap, kind: &str) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(kind.as_bytes()))
}

/// API Gateway's answer to a path or a method that it does not know.
fn unknown() -> Response {
    message(StatusCode::FORBIDDEN, "Missing Authentication Token")
}

pub(super) fn message(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({ "message": text }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_answer_is_ascii() {
        assert_eq!(ascii("\"é😀\""), r#""\u00e9\ud83d\ude00""#);
        assert_eq!(serde_json::from_str::<String>(&ascii("\"é😀\"")).unwrap(), "é😀");
    }
}
