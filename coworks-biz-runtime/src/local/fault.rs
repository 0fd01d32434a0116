//! What goes wrong with a call, by script.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};

/// What goes wrong with a call.
///
/// ```
/// use std::time::Duration;
/// use coworks_biz_runtime::local::Fault;
///
/// let busy = Fault::status(503).retry_after(Duration::from_secs(30));
/// # let _ = busy;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub(super) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Status { status: u16, headers: Vec<(&'static str, String)>, body: String },
    Delay(Duration),
    Drop,
    Duplicate,
    Reset,
    Leaves(Vec<u8>),
    None,
}

impl Fault {
    /// The gateway answers so, and the service knows nothing of the call.
    pub fn status(status: u16) -> Self {
        let body = format!("{{\"message\":\"scripted {status}\"}}");
        Self(Kind::Status { status, headers: Vec::new(), body })
    }

    /// The service begins so much later. A gateway waits for 29 seconds, and for an asynchronous call as long as it
    /// takes.
    pub fn delay(delay: Duration) -> Self {
        Self(Kind::Delay(delay))
    }

    /// The service does its work, and the answer is lost: the connection is closed, or nothing is left in S3.
    pub fn drop() -> Self {
        Self(Kind::Drop)
    }

    /// The call is delivered twice; of a synchronous one, the second answer is given.
    pub fn duplicate() -> Self {
        Self(Kind::Duplicate)
    }

    /// The connection is closed before the service knows of the call.
    pub fn reset() -> Self {
        Self(Kind::Reset)
    }

    /// The service of an asynchronous call leaves these bytes in S3 in place of its answer; a synchronous one
    /// answers them with 200.
    pub fn leaves(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Kind::Leaves(bytes.into()))
    }

    /// Nothing goes wrong: for scripts in which something does later.
    pub fn none() -> Self {
        Self(Kind::None)
    }

    /// A [status](Self::status) comes with `Retry-After`, in whole seconds.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        self.header(RETRY_AFTER.as_str(), delay.as_secs().to_string())
    }

    /// A [status](Self::status) comes with this header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Kind::Status { headers, .. } = &mut self.0 {
            headers.push((name, value.into()));
        }
        self
    }

    /// A [status](Self::status) comes with this body.
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Self {
        if let Kind::Status { body, .. } = &mut self.0 {
            *body = text.into();
        }
        self
    }
}

/// The answer of a gateway.
pub(super) fn answer(status: u16, headers: &[(&'static str, String)], body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
