//! What a task says when it cannot go on.

use std::fmt;
use std::time::Duration;

/// The result of a task: its output, or an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an attempt of a task failed, and whether another try may help.
///
/// Any standard error becomes one by `?`, with the text of its whole chain of
/// causes. It is retried as the task's `retries` say, unless it was made by
/// [`Error::fatal`].
///
/// ```
/// use coworks_biz_runtime::error::{Error, Result};
/// use std::time::Duration;
///
/// fn price(text: &str) -> Result<f64> {
///     if text.is_empty() {
///         return Err(Error::fatal("the order has no price"));
///     }
///     Ok(text.parse()?)
/// }
///
/// let busy = Error::msg("the printer is busy").retry_after(Duration::from_secs(20));
/// assert_eq!(busy.to_string(), "the printer is busy");
/// assert!(price("").unwrap_err().is_fatal());
/// ```
// Deliberately no `std::error::Error`: that is what lets every error convert into it.
#[derive(Clone)]
pub struct Error {
    text: String,
    retry: Retry,
    status: Option<u16>,
}

/// Whether a failed attempt may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// As the options of the task say.
    AsConfigured,
    /// As the options of the task say, but after this delay.
    After(Duration),
    /// Never: another try would end the same way.
    Never,
}

impl Error {
    /// An error with this text, retried as the task's options say.
    pub fn msg(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), retry: Retry::AsConfigured, status: None }
    }

    /// An error that no retry can mend: the task fails at once, whatever its `retries`.
    pub fn fatal(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), retry: Retry::Never, status: None }
    }

    /// The same error, to be retried after `delay` instead of the task's `retry_delay`.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry = Retry::After(delay);
        self
    }

    /// The same error with `what` in front of its text.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    /// The same error with `more` behind its text.
    #[must_use]
    pub(crate) fn followed_by(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }

    /// The same error, made by an answer of this status.
    #[must_use]
    pub(crate) fn answered(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The status of the answer that made it, where one did.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether [`Error::fatal`] made it.
    pub fn is_fatal(&self) -> bool {
        self.retry == Retry::Never
    }

    /// Whether and when the attempt may be tried again.
    pub fn retry(&self) -> Retry {
        self.retry
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::msg(chain(&error))
    }
}

/// The text of an error and of its causes, each once: many libraries already
/// repeat the cause in their own text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// What to say behind a name that there is not: the nearest of those that there are, where one is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let near = known.filter(|other| distance(other) <= name.len().max(3) / 3);
    let nearest = near.min_by_key(|other| distance(other));
    nearest.map(|other| format!("; did you mean `{other}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order cannot be read")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn a_converted_error_tells_its_causes() {
        let error = Error::from(Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(error.to_string(), "the order cannot be read: invalid digit found in string");
        assert_eq!(error.retry(), Retry::AsConfigured);
    }

    #[test]
    fn a_cause_that_is_already_told_is_not_told_twice() {
        let inner = std::io::Error::other("no route");
        let outer = std::io::Error::other(inner);
        assert_eq!(chain(&outer), "no route");
    }
}
