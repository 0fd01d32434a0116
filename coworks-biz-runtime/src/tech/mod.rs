//! Calling technical microservices: synchronous calls, and asynchronous ones
//! whose results are left in S3.

mod call;
mod client;
mod reply;
#[cfg(feature = "s3")]
mod results;

pub use self::call::{Arguments, AsyncCall, Call, DEFAULT_REGION, Identity, Method, Service, Token};
pub use self::client::Client;
pub use self::reply::{Answer, Unread, read_envelope};
#[cfg(feature = "s3")]
pub use self::results::{Look, Results};
