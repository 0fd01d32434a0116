//! A stand-in for API Gateway and Lambda: the answers of the one, the behaviour of the other.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::Service;
use super::events::{Event, Events};
use crate::tech::Results;
use crate::value::Object;

/// What a gateway gives a service before it answers itself.
const LONGEST: Duration = Duration::from_secs(29);

/// The largest body, in bytes.
const LARGEST: usize = 256 * 1024 * 1024;

struct Gateway {
    services: HashMap<(String, String), Service>,
    results: Results,
    events: Events,
    lambdas: Lambdas,
}

/// The services that run in the background.
pub(super) type Lambdas = Arc<Mutex<JoinSet<()>>>;

/// The gateway: services are at `/{api_id}/{stage}`. Goes on with the events that are left.
pub(super) fn app(
    services: Vec<Service>,
    results: Results,
    events: Events,
    lambdas: Lambdas,
) -> io::Result<Router> {
    let services = services.into_iter().map(|mut service| {
        let id = service.api_id.clone();
        let no_entry = move |method: Method, uri: Uri| async move {
            tracing::warn!("the local service `{id}` has no entry {method} {}", uri.path());
            unknown()
        };
        service.entries = service.entries.fallback(no_entry.clone()).method_not_allowed_fallback(no_entry);
        ((service.api_id.clone(), service.stage.clone()), service)
    });
    let left = events.left()?;
    let gateway = Arc::new(Gateway { services: services.collect(), results, events, lambdas });
    for (name, event) in left {
        match event.request() {
            Ok(request) => gateway.run(name, event, request),
            Err(e) => tracing::warn!("an earlier call of `{}` is no request any more: {e}", event.api_id),
        }
    }
    Ok(Router::new().fallback(answer).with_state(gateway))
}

impl Gateway {
    /// Runs a service in the background, and stores what it answers.
    fn run(self: &Arc<Self>, name: String, event: Event, request: Request) {
        let gateway = Arc::clone(self);
        let mut lambdas = self.lambdas.lock().unwrap_or_else(|e| e.into_inner());
        while lambdas.try_join_next().is_some() {}
        lambdas.spawn(async move {
            let service = gateway.services.get(&(event.api_id.clone(), event.stage.clone()));
            match service {
                Some(service) => {
                    run_and_store(service.clone(), request, &gateway.results, &event.object).await;
                }
                None => tracing::warn!("there is no local service `{}` any more", event.api_id),
            }
            gateway.events.forget(&name);
        });
    }
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (service, request) = match route(&gateway, request) {
        Ok(routed) => routed,
        Err(refusal) => return refusal,
    };
    let headers = request.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if header("InvocationType").as_deref() == Some("Event") {
        let (Some(bucket), Some(key)) = (header("X-CWS-S3Bucket"), header("X-CWS-S3Key")) else {
            return message(StatusCode::BAD_REQUEST, "an Event call names X-CWS-S3Bucket and X-CWS-S3Key");
        };
        let (parts, body) = request.into_parts();
        let of = (service.api_id.as_str(), service.stage.as_str());
        let body = read(body).await;
        let event = Event::new(of, &parts, &body, Object { bucket, key });
        return match gateway.events.keep(&event) {
            Ok(name) => {
                gateway.run(name, event, Request::from_parts(parts, Body::from(body)));
                StatusCode::OK.into_response()
            }
            Err(e) => message(StatusCode::INTERNAL_SERVER_ERROR, &format!("the event cannot be kept: {e}")),
        };
    }
    match tokio::time::timeout(LONGEST, invoke(&service, request)).await {
        Ok(response) => response,
        Err(_) => message(StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out"),
    }
}

/// Finds the service, and the request as the service sees it; or the gateway's own answer.
#[expect(clippy::result_large_err, reason = "once a request")]
fn route(gateway: &Gateway, request: Request) -> Result<(Service, Request), Response> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches('/');
    let mut pieces = path.splitn(3, '/');
    let (api_id, stage) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
    let entry = pieces.next().unwrap_or_default();
    let service = gateway.services.get(&(api_id.to_owned(), stage.to_owned())).ok_or_else(|| {
        let there: Vec<_> =
            gateway.services.keys().map(|(id, stage)| format!("`{id}` in `{stage}`")).collect();
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

/// What Lambda does with an event: runs it, and stores what it answers.
async fn run_and_store(service: Service, request: Request, results: &Results, object: &Object) {
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
    let stored = match binary {
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
    };
    if let Err(e) = results.write(object, stored).await {
        tracing::error!("the local service could not store its answer: {e}");
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
