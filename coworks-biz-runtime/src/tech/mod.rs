//! Calling technical microservices: synchronous calls, and asynchronous ones
//! whose results are left in S3.

#[cfg(all(test, feature = "s3"))]
mod abuse;
mod arguments;
mod asked;
mod call;
mod client;
mod data;
mod directory;
mod envelope;
mod guard;
mod intake;
mod pace;
mod parameter;
mod path;
mod reply;
mod request;
#[cfg(feature = "s3")]
mod results;
mod service;

pub use self::arguments::Arguments;
pub use self::asked::Asked;
pub use self::call::{AsyncCall, Call, DEFAULT_REGION, Identity, Method, SensorCall, Token};
pub use self::client::Client;
pub(crate) use self::client::{http, retry_after};
pub use self::data::{Data, Form, IntoData};
pub use self::envelope::{Unread, read_envelope};
pub use self::guard::Guard;
pub use self::intake::Body;
pub use self::pace::Pace;
pub use self::parameter::{Given, Parameter};
pub(crate) use self::reply::transient;
pub use self::reply::{Answer, Wanted};
#[cfg(feature = "s3")]
pub use self::results::{Found, Look, Page, Results};
pub use self::service::{Address, Service, TechService};
