mod calls;
mod events;
mod late;
mod named;
mod runs;

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::routing::any;
use serde_json::{Value, json};

use crate::config::{Config, Environment, Flags};
use crate::tech::{Call, Identity, Method, Service, Token};
use crate::value::Type;

/// A service that answers with what it was asked.
fn echo() -> Router {
    let entry = |parts: Parts, body: Bytes| async move {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: serde_json::Map<String, Value> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value.as_bytes()).into()))
            .collect();
        axum::Json(json!({
            "method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers, "body": text(&body),
        }))
    };
    Router::new().route("/{*path}", any(entry))
}

fn config(dir: &Path, pairs: &'static [(&str, &str)]) -> Config {
    let flags = Flags { db: Some(dir.join("biz.db")), parallelism: Some(4) };
    let env = Environment::from(|name| {
        pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    });
    let mut config = Config::from(flags, &env, &dir.join("none.toml")).unwrap();
    config.proxy = false;
    config
}

fn call(method: Method, service: Service, token: Token) -> Call {
    Call {
        method,
        path: "/entry",
        service,
        token,
        accept: "application/json",
        request_timeout: std::time::Duration::from_secs(10),
        log_response: false,
        output: Some(Type::of::<Value>()),
    }
}

fn who() -> Identity {
    let (trace_id, idempotency_key) = ("Root=1-0-0".into(), "uuid/x.-1.0".into());
    Identity { trace_id, idempotency_key, run: "uuid".into(), attempt: "x.-1.0.1".into() }
}
