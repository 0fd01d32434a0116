//! Calls that were accepted and are not answered yet. As Lambda's own queue
//! does, they survive the process: what was accepted is answered in the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::value::{self, Object};

/// A call that was accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) api_id: String,
    pub(super) stage: String,
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    body: value::Bytes,
    /// Where the answer goes.
    pub(super) object: Object,
}

impl Event {
    pub(super) fn new((api_id, stage): (&str, &str), parts: &Parts, body: &Bytes, object: Object) -> Self {
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            api_id: api_id.to_owned(),
            stage: stage.to_owned(),
            method: parts.method.to_string(),
            uri: parts.uri.to_string(),
            // The token has done its work, and no secret is written.
            headers: parts
                .headers
                .iter()
                .filter(|(name, _)| *name != AUTHORIZATION)
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: body.to_vec().into(),
            object,
        }
    }

    /// The request as the service sees it.
    pub(super) fn request(&self) -> Result<Request, axum::http::Error> {
        let request = Request::builder().method(self.method.as_str()).uri(self.uri.as_str());
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(Body::from(self.body.to_vec()))
    }
}

/// The folder of the events.
#[derive(Debug)]
pub(super) struct Events(PathBuf);

impl Events {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join(".events");
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// Keeps an event until it is [forgotten](Self::forget) by the name it gets here.
    pub(super) fn keep(&self, event: &Event) -> io::Result<String> {
        let name = uuid::Uuid::now_v7().to_string();
        let draft = self.0.join(format!("{name}.draft"));
        fs::write(&draft, serde_json::to_vec(event)?)?;
        fs::rename(draft, self.0.join(&name))?;
        Ok(name)
    }

    pub(super) fn forget(&self, name: &str) {
        // One that stays is answered twice, as Lambda's own may be.
        let _ = fs::remove_file(self.0.join(name));
    }

    /// What an earlier process left behind, the oldest first.
    pub(super) fn left(&self) -> io::Result<Vec<(String, Event)>> {
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(event) if !name.ends_with(".draft") => left.push((name, event)),
                // Nobody was told that it was accepted.
                _ => fs::remove_file(path)?,
            }
        }
        left.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(left)
    }
}
