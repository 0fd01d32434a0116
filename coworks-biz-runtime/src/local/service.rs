//! A technical microservice of this machine: where it is, what it takes, and what it answers.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};

/// A technical microservice.
///
/// ```
/// use coworks_biz_runtime::local::Service;
/// use coworks_biz_runtime::local::axum::{Json, extract::Path};
///
/// let hello = Service::new("xxxx")
///     .token("token")
///     .get("/", || async { "hello" })
///     .post("/orders/{id}", |Path(id): Path<u32>| async move { Json(id) });
/// # let _ = hello;
/// ```
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) api_id: String,
    pub(super) stage: String,
    pub(super) cws_name: Option<String>,
    /// The addresses that it stands in for.
    pub(super) at: Vec<String>,
    pub(super) token: Option<String>,
    /// The types of bodies.
    pub(super) takes: Vec<String>,
    pub(super) entries: Router,
}

impl Service {
    /// The service with this API id, in the stage `dev`, without entries, open to all.
    pub fn new(api_id: impl Into<String>) -> Self {
        Self {
            api_id: api_id.into(),
            stage: "dev".into(),
            cws_name: None,
            at: Vec::new(),
            token: None,
            takes: vec!["application/json".into()],
            entries: Router::new(),
        }
    }

    /// Puts it into this stage.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = stage.into();
        self
    }

    /// Gives it this name in the directory, for calls with a `cws_name`.
    #[must_use]
    pub fn named(mut self, cws_name: impl Into<String>) -> Self {
        self.cws_name = Some(cws_name.into());
        self
    }

    /// Lets it stand in for the service at this address, for calls with a `url`.
    #[must_use]
    pub fn at(mut self, url: impl Into<String>) -> Self {
        self.at.push(url.into().trim_end_matches('/').to_owned());
        self
    }

    /// Also takes bodies of this `Content-Type`; JSON always, and others are answered 415.
    #[must_use]
    pub fn takes(mut self, content_type: impl Into<String>) -> Self {
        self.takes.push(content_type.into());
        self
    }

    /// Takes only calls with this token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Answers with these entries as well.
    ///
    /// # Panics
    ///
    /// If one of them is there already: a mistake in the program, as with a [`Router`]'s own.
    #[must_use]
    pub fn entries(mut self, entries: Router) -> Self {
        self.entries = self.entries.merge(entries);
        self
    }

    /// Answers `GET` at this path with a handler of axum's: a closure or a function whose parameters
    /// are extractors.
    ///
    /// # Panics
    ///
    /// As [`entries`](Self::entries), and if the path is none of a [`Router`]'s.
    #[must_use]
    pub fn get<H: Handler<T, ()>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, routing::get(handler))
    }

    /// The same for `POST`.
    #[must_use]
    pub fn post<H: Handler<T, ()>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, routing::post(handler))
    }

    /// The same for `PUT`.
    #[must_use]
    pub fn put<H: Handler<T, ()>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, routing::put(handler))
    }

    /// The same for `PATCH`.
    #[must_use]
    pub fn patch<H: Handler<T, ()>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, routing::patch(handler))
    }

    /// The same for `DELETE`.
    #[must_use]
    pub fn delete<H: Handler<T, ()>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, routing::delete(handler))
    }

    fn on(mut self, path: &str, entry: MethodRouter) -> Self {
        self.entries = self.entries.route(path, entry);
        self
    }
}
