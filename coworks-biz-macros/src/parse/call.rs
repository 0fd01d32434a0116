//! A call of a technical microservice as plain data.

use std::time::Duration;

use syn::{Expr, ExprCall, ExprPath};

use super::path::PathTemplate;

/// Which macro it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Tech,
    Sensor,
}

/// A call as it is written.
pub struct TechCall {
    pub kind: Kind,
    /// The verb as the runtime calls it: `Get`.
    pub method: &'static str,
    pub path: PathTemplate,
    pub service: Service,
    pub token: Token,
    pub query: Option<Expr>,
    pub body: Option<Body>,
    pub headers: Option<Expr>,
    /// `None` where it is not said: then that of the service's type, or JSON.
    pub accept: Option<String>,
    pub request_timeout: Duration,
    pub log_response: bool,
}

/// How its answer comes.
pub enum Kind {
    /// At once.
    Sync,
    /// By S3.
    Async { timeout: Duration, bucket: Option<String>, keep: bool, transformer: Option<ExprCall> },
    /// When it succeeds.
    Sensor { poke_interval: Duration, timeout: Duration, until: Option<ExprPath> },
}

pub enum Service {
    Api { api_id: String, stage: String, region: Option<String> },
    Named { cws_name: String, stage: Option<String> },
    Url(String),
    Custom(Expr),
}

pub enum Token {
    /// What the service itself brings along: the directory's, or that of a `TechService`.
    Service,
    None,
    Literal(String),
    Secret(String),
    Value(Box<Expr>),
}

pub enum Body {
    Json(Expr),
    Data(Expr),
}

impl TechCall {
    /// Everything in it that is evaluated when the call is sent.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let body = self.body.iter().map(|(Body::Json(e) | Body::Data(e))| e);
        let token = match &self.token {
            Token::Value(e) => Some(&**e),
            Token::Service | Token::None | Token::Literal(_) | Token::Secret(_) => None,
        };
        self.path.values.iter().chain(&self.query).chain(&self.headers).chain(token).chain(body)
    }
}
