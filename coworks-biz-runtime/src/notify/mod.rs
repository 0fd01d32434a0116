//! Telling people: e-mail, and a webhook.
//!
//! A [`Notice`] is plain data that can be stored. `Mailer` and [`Webhook`] send it once and say how
//! that went; who asks them remembers what is still to be told, and tries again.

#[cfg(feature = "email")]
mod mail;
mod notice;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(feature = "email")]
mod text;
mod webhook;

#[cfg(feature = "email")]
pub use self::mail::{Mailer, Refused, Sent};
pub use self::notice::{FailedTask, Notice, RunFailed, Subject, TaskNotice, excerpt, host};
pub use self::webhook::Webhook;
