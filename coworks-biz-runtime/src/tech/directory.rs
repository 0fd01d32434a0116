//! Looking services up by their names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use reqwest::Url;
use reqwest::header::ACCEPT;
use serde::Deserialize;

use super::asked::why;
use super::path::segment;
use super::reply::transient;
use crate::config::{self, Secret, Secrets};
use crate::error::{Error, Result};
use crate::value::excerpt;

/// How long a service that was found is not looked up again: a run is seldom longer, and a
/// service that has moved is found there soon.
const KEPT: Duration = Duration::from_secs(600);

/// How long a lookup may take. A gateway answers by itself after 29 s.
const LONGEST: Duration = Duration::from_secs(30);

/// The largest answer of a directory, in bytes: an address and a token.
const LARGEST: usize = 1 << 20;

/// The services that were found. They are kept for the process, for ten minutes at most, and until
/// one answers 401 or 403, or cannot be reached.
#[derive(Debug)]
pub(super) struct Directory {
    at: Option<Arc<At>>,
    lookups: Mutex<HashMap<Name, Lookup>>,
}

/// The name of a service, and the stage where one is asked for.
type Name = (String, Option<String>);

/// Where a service is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    name: Name,
    pub(super) url: String,
    pub(super) token: Option<Secret>,
}

/// A lookup that is under way or done. All who ask meanwhile wait for the same one.
#[derive(Debug)]
struct Lookup {
    asked: Instant,
    found: Shared<BoxFuture<'static, Result<Arc<Found>>>>,
}

#[derive(Debug)]
struct At {
    http: reqwest::Client,
    directory: config::Directory,
    secrets: Arc<Secrets>,
}

impl Directory {
    pub(super) fn new(
        http: &reqwest::Client,
        directory: Option<&config::Directory>,
        secrets: &Arc<Secrets>,
    ) -> Self {
        let at = directory.cloned().map(|directory| {
            directory.headers.iter().for_each(|(_, value)| secrets.hide(value.expose()));
            Arc::new(At { http: http.clone(), directory, secrets: Arc::clone(secrets) })
        });
        Self { at, lookups: Mutex::default() }
    }

    pub(super) fn is_there(&self) -> bool {
        self.at.is_some()
    }

    /// Where the service is.
    pub(super) async fn find(&self, cws_name: &str, stage: Option<&str>) -> Result<Arc<Found>> {
        let Some(at) = &self.at else {
            let how = config::Directory::HOW;
            return Err(Error::fatal(format!(
                "`{cws_name}` is called by its name, and no directory is configured: {how}"
            )));
        };
        let name = (cws_name.to_owned(), stage.map(str::to_owned));
        let lookup = self.lookup(at, &name);
        let found = lookup.clone().await;
        if found.is_err() {
            // The next one asks again. This may be the next one's already.
            let mut lookups = self.lookups();
            if lookups.get(&name).is_some_and(|known| known.found.ptr_eq(&lookup)) {
                lookups.remove(&name);
            }
        }
        found
    }

    fn lookup(&self, at: &Arc<At>, name: &Name) -> Shared<BoxFuture<'static, Result<Arc<Found>>>> {
        let mut lookups = self.lookups();
        if let Some(known) = lookups.get(name).filter(|known| known.asked.elapsed() < KEPT) {
            return known.found.clone();
        }
        // On its own, for the one who asked first may be cut off while others wait.
        let (at, asked_for) = (Arc::clone(at), name.clone());
        let asking = tokio::spawn(async move { at.ask(asked_for).await });
        let found = async move {
            asking.await.unwrap_or_else(|e| Err(Error::msg(format!("the lookup was cut off: {e}"))))
        };
        let lookup = Lookup { asked: Instant::now(), found: found.boxed().shared() };
        let found = lookup.found.clone();
        lookups.insert(name.clone(), lookup);
        found
    }

    /// Has the service looked up again at its next call.
    pub(super) fn forget(&self, found: &Arc<Found>) {
        let mut lookups = self.lookups();
        let same = |known: &Lookup| {
            known.found.peek().and_then(|found| found.as_ref().ok()).is_some_and(|f| Arc::ptr_eq(f, found))
        };
        if lookups.get(&found.name).is_some_and(same) {
            lookups.remove(&found.name);
        }
    }

    fn lookups(&self) -> MutexGuard<'_, HashMap<Name, Lookup>> {
        self.lookups.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What a directory answers.
#[derive(Deserialize)]
struct Entry {
    url: String,
    token: Option<String>,
}

impl At {
    async fn ask(&self, name: Name) -> Result<Arc<Found>> {
        let (cws_name, stage) = &name;
        let base = &self.directory.url;
        let who = match stage {
            Some(stage) => format!("`{cws_name}` in the stage `{stage}`"),
            None => format!("`{cws_name}`"),
        };
        let what = format!("the directory {base}");
        let path = segment(cws_name).map_err(|e| e.context("the name of a service"))?;
        let mut url = Url::parse(&format!("{base}/{path}"))
            .map_err(|e| Error::fatal(format!("{what} has no address of a service: {e}")))?;
        if let Some(stage) = stage {
            url.query_pairs_mut().append_pair("stage", stage);
        }
        let mut request = self.http.get(url).timeout(LONGEST).header(ACCEPT, "application/json");
        for (name, value) in &self.directory.headers {
            request = request.header(name, value.expose());
        }
        let fault = |e: reqwest::Error| {
            let hopeless = e.is_builder() || e.is_redirect();
            let text = format!("{what} could not be asked for {who}: {}", why(&e.without_url(), LONGEST, ""));
            if hopeless { Error::fatal(text) } else { Error::msg(text) }
        };
        let mut response = request.send().await.map_err(fault)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(fault)? {
            body.extend_from_slice(&piece);
            if body.len() > LARGEST {
                let most = LARGEST >> 20;
                return Err(Error::fatal(format!("{what} answered for {who} with more than {most} MiB")));
            }
        }
        let told = || match String::from_utf8_lossy(&body).trim() {
            "" => format!("it answered {status}"),
            text => format!("it answered {status}: {}", excerpt(text, 200)),
        };
        match status {
            // What has not the name is told from what is out of order by no directory: the original
            // answers 500 for it.
            404 | 500 => Err(Error::fatal(format!("there is no {who} in {what}: {}", told()))),
            401 | 403 => Err(Error::fatal(format!(
                "{what} does not let us look for {who}: {}; {}",
                told(),
                config::Directory::HOW
            ))),
            400.. => {
                let text = format!("{what} could not be asked for {who}: {}", told());
                Err(if transient(status) { Error::msg(text) } else { Error::fatal(text) })
            }
            _ => {
                // The error's own text may quote the token.
                let entry: Entry = serde_json::from_slice(&body).map_err(|_| {
                    let form = r#"{"token": "..", "url": ".."}"#;
                    Error::fatal(format!("{what} answered for {who} with {status}, but not as {form}"))
                })?;
                if let Some(token) = &entry.token {
                    self.secrets.hide(token);
                }
                Ok(Arc::new(Found { name, url: entry.url, token: entry.token.map(Secret::new) }))
            }
        }
    }
}
