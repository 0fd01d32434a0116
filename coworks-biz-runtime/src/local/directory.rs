//! A stand-in for the directory: it knows the local services that have a name.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::Service;
use super::gateway::{authorized, message};
use crate::config::{self, Secret};

/// No service has this for its API id.
const PATH: &str = ".directory";

struct Names {
    token: Secret,
    /// Where services are, and their tokens, by their names and stages.
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    stage: String,
    url: String,
    token: Option<String>,
}

/// The directory of the services that have a name, and how it is reached; `None` where none has.
pub(super) fn app(services: &[Service], gateway: &str) -> Option<(Router, config::Directory)> {
    let entry = |service: &Service| {
        Some(Entry {
            name: service.cws_name.clone()?,
            stage: service.stage.clone(),
            url: format!("{gateway}/{}/{}", service.api_id, service.stage),
            token: service.token.clone(),
        })
    };
    let entries: Vec<_> = services.iter().filter_map(entry).collect();
    if entries.is_empty() {
        return None;
    }
    let token = Secret::new(uuid::Uuid::now_v7().to_string());
    let directory = config::Directory::new(format!("{gateway}/{PATH}"), Some(token.clone()));
    let names = Arc::new(Names { token, entries });
    Some((Router::new().route(&format!("/{PATH}/{{name}}"), get(look_up)).with_state(names), directory))
}

async fn look_up(
    State(names): State<Arc<Names>>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = authorized(headers.get(AUTHORIZATION), names.token.expose()) {
        return refusal;
    }
    let wanted = query.get("stage");
    let named = |entry: &&Entry| entry.name == name && wanted.is_none_or(|stage| entry.stage == *stage);
    // Where no stage is asked for, the last of them, as CoWorks' own does.
    match names.entries.iter().filter(named).max_by_key(|entry| &entry.stage) {
        Some(entry) => Json(json!({ "token": entry.token, "url": entry.url })).into_response(),
        None => {
            let there: Vec<_> =
                names.entries.iter().map(|e| format!("`{}` in `{}`", e.name, e.stage)).collect();
            tracing::warn!("no local service is named `{name}`; there is {}", there.join(", "));
            message(StatusCode::NOT_FOUND, "Not Found")
        }
    }
}
