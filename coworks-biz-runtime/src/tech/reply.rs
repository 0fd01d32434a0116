//! What an answer means: its status, and its value.

use std::collections::BTreeMap;
use std::time::Duration;

use super::asked::Asked;
use super::intake::{Body, text_of};
use crate::config::Secrets;
use crate::error::{Error, Result};
use crate::value::{Content, Json, Object, Type, excerpt};

/// The headers of an answer, their names in lower case.
pub(super) type Headers = BTreeMap<String, String>;

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value, as it is pushed as `return_value`; `None` where it is dropped.
    pub value: Option<Json>,
    /// The headers, where the answer is the failure of a [`Reply`](crate::value::Reply).
    pub headers: Option<Json>,
}

/// What is wanted of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The type of the output; `None` when nobody uses it.
    pub output: Option<&'a Type>,
    /// Whether there is no other try, so that a refusal that may pass by itself counts as well.
    pub last_try: bool,
    /// What was asked, for messages.
    pub asked: &'a Asked,
    /// Where the answer was left, where it was.
    pub stored: Option<&'a Object>,
    /// Where the log tells a stored answer: the secrets that it leaves out.
    pub log: Option<&'a Secrets>,
}

/// No service makes a task wait longer than this before its next try.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// How much of the body of an answer the log tells, in characters.
const TOLD: usize = 2000;

/// Tells the log what was answered: the status and the beginning of the body.
pub(super) fn tell(status: u16, size: u64, beginning: &[u8], secrets: &Secrets) {
    tracing::info!("answered {status}{}", told(size, beginning, secrets));
}

fn told(size: u64, beginning: &[u8], secrets: &Secrets) -> String {
    match text_of(beginning) {
        Some(text) if text.trim().is_empty() => ", without a body".to_owned(),
        Some(text) => {
            // Before it is cut: half a secret would not be known as one.
            let text = secrets.scrub(text.trim());
            format!(": {}", excerpt(&text, TOLD))
        }
        None => format!(": {size} bytes that are no text"),
    }
}

impl Wanted<'_> {
    pub(super) fn content(&self) -> Content {
        self.output.map_or(Content::Any, |output| output.shape().body)
    }

    /// What was answered, as messages begin.
    fn answered(&self, status: u16) -> String {
        let stored = self.stored.map(|object| format!(", left at {object}")).unwrap_or_default();
        format!("{} answered {status}{stored}", self.asked)
    }

    /// A status below 400 with its value, which must be one of the type of the output.
    pub(super) fn success(&self, status: u16, json: Json) -> Result<Answer> {
        let value = (self.content() != Content::Nothing).then_some(json);
        if let (Some(output), Some(value)) = (self.output, &value) {
            output
                .check_body(status, value, &|text, limit| self.asked.cut(text, limit))
                .map_err(|e| e.context(format!("{}, and", self.answered(status))))?;
        }
        Ok(Answer { status, value, headers: None })
    }

    /// A status of 400 and above: a value where the output is a reply, unless another try may help.
    pub(super) fn refusal(
        &self,
        refusal: &Refusal<'_>,
        json: impl FnOnce() -> Result<Json>,
    ) -> Result<Answer> {
        let error = refusal.error(self);
        if !self.output.is_some_and(Type::is_reply) || !(self.last_try || error.is_fatal()) {
            return Err(error);
        }
        tracing::warn!("{error}: a reply with this failure");
        let headers = Some(Json::encode(refusal.headers)?);
        let body = json()?;
        // What is JSON and no value of anything is told as the text that it is.
        let body = if body.is_readable() { body } else { Json::encode(body.as_str())? };
        Ok(Answer { status: refusal.status, value: Some(body), headers })
    }
}

/// The answer with its status, before anything is made of it.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a Headers,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Body,
}

impl Raw<'_> {
    /// The value as the output wants it, or why this is no answer.
    pub(super) fn answer(self, wanted: &Wanted<'_>) -> Result<Answer> {
        let Self { status, headers, retry_after, body } = self;
        if status >= 400 {
            let text = String::from_utf8_lossy(body.beginning()).into_owned();
            let refusal = Refusal { status, headers, retry_after, body: &text };
            return wanted.refusal(&refusal, || body.into_json(Content::Any));
        }
        wanted.success(status, body.into_json(wanted.content())?)
    }
}

/// A status of 400 and above.
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a Headers,
    pub(super) retry_after: Option<Duration>,
    /// Its beginning.
    pub(super) body: &'a str,
}

impl Refusal<'_> {
    /// It as an error: what may pass by itself is retried, the rest is not.
    fn error(&self, wanted: &Wanted<'_>) -> Error {
        let mut text = wanted.answered(self.status);
        // A gateway puts a text into quotes; people read it without.
        let unquoted = serde_json::from_str::<String>(self.body).ok();
        let body = unquoted.as_deref().unwrap_or(self.body).trim();
        if !body.is_empty() {
            text.push_str(": ");
            text.push_str(&wanted.asked.cut(body, 500));
        }
        if let (Some(hint), None) = (wanted.asked.hint(self.status, body), wanted.stored) {
            text.push_str(" (");
            text.push_str(&hint);
            text.push(')');
        }
        let error = match self.retry_after {
            _ if !transient(self.status) => Error::fatal(text),
            Some(delay) => Error::msg(text).retry_after(delay),
            None => Error::msg(text),
        };
        error.answered(self.status)
    }
}

/// `Retry-After` in either of its forms: seconds, or a date.
pub(super) fn delay(text: &str) -> Option<Duration> {
    let text = text.trim();
    let delay = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            (date.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default()
        }
    };
    Some(delay.min(LONGEST_DELAY))
}

/// Whether a refusal may pass by itself.
pub(crate) fn transient(status: u16) -> bool {
    status >= 500 || matches!(status, 408 | 425 | 429)
}

/// The headers that a failure keeps: all but cookies, which may open a door. One that is repeated
/// is one list.
pub(super) fn kept<'a>(headers: impl Iterator<Item = (&'a str, String)>) -> Headers {
    let mut kept = Headers::new();
    for (name, value) in headers.filter(|(name, _)| !name.eq_ignore_ascii_case("set-cookie")) {
        kept.entry(name.to_lowercase())
            .and_modify(|earlier| *earlier = format!("{earlier}, {value}"))
            .or_insert(value);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Bytes, Reply};

    fn sync(status: u16, body: &[u8], output: Type) -> Result<Answer> {
        let headers = kept([("X-A", "b".to_owned()), ("Set-Cookie", "c".to_owned())].into_iter());
        let raw = Raw { status, headers: &headers, retry_after: None, body: body.to_vec().into() };
        let asked = Asked::example("GET http://x/");
        raw.answer(&Wanted { output: Some(&output), last_try: false, asked: &asked, stored: None, log: None })
    }

    fn value(answer: Result<Answer>) -> String {
        answer.unwrap().value.map_or("dropped".into(), |json| json.as_str().to_owned())
    }

    #[test]
    fn a_body_is_json_or_the_text_itself() {
        let any = Type::of::<serde_json::Value>();
        assert_eq!(value(sync(200, br#" {"a": 1} "#, any)), r#"{"a": 1}"#);
        assert_eq!(value(sync(200, b"hello", any)), r#""hello""#);
        assert_eq!(value(sync(200, b"", any)), "{}");
        assert_eq!(value(sync(200, b"", Type::of::<String>())), r#""""#);
        assert_eq!(value(sync(200, b"123", any)), "123");
        assert_eq!(value(sync(200, b"123", Type::of::<String>())), r#""123""#);
        assert_eq!(value(sync(200, br#""123""#, Type::of::<String>())), r#""123""#);
        assert_eq!(value(sync(200, b"whatever", Type::of::<()>())), "dropped");
        assert_eq!(value(sync(200, &[0xff, 0], Type::of::<Bytes>())), r#"{"__bytes__":"/wA="}"#);
    }

    #[test]
    fn an_answer_of_another_type_says_what_was_found() {
        let error = sync(200, br#"{"name": "x"}"#, Type::of::<u32>()).unwrap_err();
        assert!(error.is_fatal());
        let text = error.to_string();
        assert!(text.starts_with("GET http://x/ answered 200, and: this is no `u32`:"), "{text}");
    }

    #[test]
    fn what_may_pass_by_itself_is_retried_and_the_rest_is_not() {
        for (status, fatal) in
            [(400, true), (403, true), (404, true), (408, false), (429, false), (503, false)]
        {
            let error = sync(status, b"no", Type::of::<String>()).unwrap_err();
            assert_eq!(error.is_fatal(), fatal, "{status}");
            assert!(
                error.to_string().starts_with(&format!("GET http://x/ answered {status}: no")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_reply_takes_refusals_that_no_other_try_would_change_and_at_the_last_try_all() {
        let output = Type::of::<Reply<u32>>();
        assert_eq!(value(sync(200, b"7", output)), "7");
        assert_eq!(value(sync(204, b"", output)), "{}");
        assert_eq!(value(sync(200, b"7", Type::of::<Reply<()>>())), "dropped");
        assert_eq!(value(sync(200, b"7", Type::of::<Reply<String>>())), r#""7""#);
        let error = sync(200, br#""seven""#, output).unwrap_err().to_string();
        assert!(error.starts_with("GET http://x/ answered 200, and: this is no `"), "{error}");

        let refused = sync(404, b"no", output).unwrap();
        assert_eq!((refused.status, refused.value.unwrap().as_str()), (404, r#""no""#));
        assert_eq!(refused.headers.unwrap().as_str(), r#"{"x-a":"b"}"#);
        // JSON that nobody could read out of the reply any more.
        let deep = "[".repeat(126) + &"]".repeat(126);
        for body in [r#"{"code":1e999}"#, r#""\ud800""#, &deep] {
            let refused = sync(404, body.as_bytes(), output).unwrap();
            assert_eq!(refused.value.unwrap().decode::<String>().unwrap(), body);
        }
        assert!(!sync(503, b"no", output).unwrap_err().is_fatal());
        let headers = Headers::new();
        let raw = || Raw { status: 503, headers: &headers, retry_after: None, body: Vec::new().into() };
        let asked = &Asked::example("GET http://x/");
        let last = Wanted { output: Some(&output), last_try: true, asked, stored: None, log: None };
        assert_eq!(raw().answer(&last).unwrap().status, 503);
        assert!(raw().answer(&Wanted { output: None, ..last }).is_err());
    }

    #[test]
    fn the_log_tells_the_beginning_of_a_body_and_no_piece_of_a_secret() {
        let secrets = Secrets::new(crate::config::Environment::from(|_| None));
        secrets.hide("very-secret");
        let told = |body: &[u8]| told(body.len() as u64, body, &secrets);
        assert_eq!(told(b" {\"a\": \"very-secret\"}\n"), r#": {"a": "***"}"#);
        assert_eq!(told(b""), ", without a body");
        assert_eq!(told(&[0xff, 0]), ": 2 bytes that are no text");
        let across = format!("{}very-secret{}", "x".repeat(TOLD - 5), "y".repeat(TOLD));
        let told = told(across.as_bytes());
        assert!(told.ends_with("xx***yy…") && !told.contains("very"), "{told}");
    }
}
