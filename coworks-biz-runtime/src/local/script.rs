//! What goes wrong with which call, and what was called.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use axum::body::Bytes;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};

use super::Service;
use super::fault::{Fault, Kind};
use crate::error::{Error, Result};

/// A call that has reached a service, or would have.
#[derive(Debug, Clone)]
pub struct Received {
    /// The API id of the service.
    pub api_id: String,
    /// The name of the service, where it has one.
    pub cws_name: Option<String>,
    /// The verb.
    pub method: String,
    /// The path of the entry, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: Option<String>,
    /// The headers, by their names in lower case, without the token.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When it came, by the clock of the test.
    pub at: DateTime<Utc>,
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let line = format!("{} {}", self.method, self.path);
        serde_json::from_slice(&self.body).map_err(|e| Error::msg(format!("the body of {line}: {e}")))
    }

    fn is_of(&self, service: &str) -> bool {
        self.api_id == service || self.cws_name.as_deref() == Some(service)
    }
}

/// The script of a test.
#[derive(Debug, Default)]
pub(super) struct Script {
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    received: Mutex<Vec<Received>>,
}

impl Script {
    pub(super) fn add(&self, service: &str, faults: impl IntoIterator<Item = Fault>) {
        let mut all = lock(&self.faults);
        match all.iter_mut().find(|(name, _)| name == service) {
            Some((_, queue)) => queue.extend(faults),
            None => all.push((service.to_owned(), faults.into_iter().collect())),
        }
    }

    /// Remembers a call, and says what goes wrong with it.
    pub(super) fn receive(&self, service: &Service, parts: &Parts, body: &Bytes, at: DateTime<Utc>) -> Kind {
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let shown = parts.headers.iter().filter(|(name, _)| *name != axum::http::header::AUTHORIZATION);
        let received = Received {
            api_id: service.api_id.clone(),
            cws_name: service.cws_name.clone(),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: shown.map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.to_vec(),
            at,
        };
        let mut faults = lock(&self.faults);
        let of_it = faults.iter_mut().filter(|(name, _)| received.is_of(name));
        let fault = of_it.filter_map(|(_, queue)| queue.pop_front()).next();
        lock(&self.received).push(received);
        fault.map_or(Kind::None, |fault| fault.0)
    }

    pub(super) fn left(&self, service: &str) -> usize {
        lock(&self.faults).iter().filter(|(name, _)| name == service).map(|(_, queue)| queue.len()).sum()
    }

    pub(super) fn received(&self, service: &str) -> Vec<Received> {
        lock(&self.received).iter().filter(|received| received.is_of(service)).cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
