//! What an answer means: its status, its value, and the envelope of a stored one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Secrets;
use crate::error::{Error, Result};
use crate::value::{Bytes, Content, Json, Shape, Type, assemble, excerpt};

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
    /// The call, and the object where the answer is stored, for messages.
    pub what: &'a str,
    /// Where the log tells a stored answer: the secrets that it leaves out.
    pub log: Option<&'a Secrets>,
}

/// No service makes a task wait longer than this before its next try.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// How much of the body of an answer the log tells, in characters.
const TOLD: usize = 2000;

/// Tells the log what was answered: the status and the beginning of the body.
pub(super) fn tell(status: u16, body: &[u8], secrets: &Secrets) {
    tracing::info!("answered {status}{}", beginning(body, secrets));
}

fn beginning(body: &[u8], secrets: &Secrets) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if text.trim().is_empty() => ", without a body".to_owned(),
        Ok(text) => {
            // Before it is cut: half a secret would not be known as one. Nobody waits for megabytes here.
            let near = excerpt(text.trim(), 32 * TOLD);
            format!(": {}", excerpt(&secrets.scrub(&near), TOLD))
        }
        Err(_) => format!(": {} bytes that are no text", body.len()),
    }
}

impl Wanted<'_> {
    fn shape(&self) -> Shape {
        self.output.map_or(Shape { reply: false, body: Content::Any }, Type::shape)
    }

    /// A status below 400 with its value, which must be one of the type of the output.
    fn success(&self, status: u16, json: Json) -> Result<Answer> {
        let Shape { reply, body } = self.shape();
        let value = (body != Content::Nothing).then_some(json);
        if let (Some(output), Some(value)) = (self.output, &value) {
            let checked = match reply {
                true => output.check(&assemble(status, Some(value), None)),
                false => output.check(value),
            };
            checked.map_err(|e| e.context(format!("{} answered {status}, and", self.what)))?;
        }
        Ok(Answer { status, value, headers: None })
    }

    /// A status of 400 and above: a value where the output is a reply, unless another try may help.
    fn refusal(&self, refusal: &Refusal<'_>, json: Json) -> Result<Answer> {
        let error = refusal.error(self.what);
        if !self.shape().reply || !(self.last_try || error.is_fatal()) {
            return Err(error);
        }
        tracing::warn!("{error}: a reply with this failure");
        let headers = Some(Json::encode(refusal.headers)?);
        Ok(Answer { status: refusal.status, value: Some(json), headers })
    }
}

/// The answer as bytes with its status, before anything is made of it.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a Headers,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: &'a [u8],
}

impl Raw<'_> {
    /// The value as the output wants it, or why this is no answer.
    pub(super) fn answer(&self, wanted: &Wanted<'_>) -> Result<Answer> {
        if self.status >= 400 {
            let text = &String::from_utf8_lossy(self.body);
            let (status, headers, retry_after) = (self.status, self.headers, self.retry_after);
            let refusal = Refusal { status, headers, retry_after, body: text };
            return wanted.refusal(&refusal, self.json(Content::Any)?);
        }
        wanted.success(self.status, self.json(wanted.shape().body)?)
    }

    fn json(&self, content: Content) -> Result<Json> {
        match std::str::from_utf8(self.body) {
            _ if content == Content::Bytes => Json::encode(&Bytes::from(self.body.to_vec())),
            Ok("") if content == Content::Text => Json::encode(""),
            Ok("") => Ok(Json::from_stored("{}")),
            Ok(text) => from_text(text, content),
            Err(_) => Json::encode(&Bytes::from(self.body.to_vec())),
        }
    }
}

/// The JSON of a text: itself when it is JSON, else a string of it.
fn from_text(text: &str, content: Content) -> Result<Json> {
    let json = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
    match json {
        // Who asks for a `String` takes `123` as the text it is.
        Some(json) if json.starts_with('"') || content != Content::Text => Ok(Json::from_stored(json)),
        _ => Json::encode(text),
    }
}

/// A status of 400 and above.
struct Refusal<'a> {
    status: u16,
    headers: &'a Headers,
    retry_after: Option<Duration>,
    body: &'a str,
}

impl Refusal<'_> {
    /// It as an error: what may pass by itself is retried, the rest is not.
    fn error(&self, what: &str) -> Error {
        let mut text = format!("{what} answered {}", self.status);
        // A gateway puts a text into quotes; people read it without.
        let unquoted = serde_json::from_str::<String>(self.body).ok();
        let body = unquoted.as_deref().unwrap_or(self.body);
        if !body.trim().is_empty() {
            text.push_str(": ");
            text.push_str(&excerpt(body.trim(), 500));
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

/// The object that a service leaves for an asynchronous call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    #[serde(borrow)]
    headers: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(rename = "isBase64Encoded")]
    base64: bool,
}

impl Envelope<'_> {
    fn headers(&self) -> Headers {
        let headers = self.headers.iter().flatten().map(|(name, value)| {
            let text = serde_json::from_str::<String>(value.get());
            (name.as_str(), text.unwrap_or_else(|_| value.get().to_owned()))
        });
        kept(headers)
    }
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

/// Why a stored object gives no answer.
#[derive(Debug)]
pub enum Unread {
    /// The service says no. The object has served.
    Refused(Error),
    /// It is no answer, or not of the type that was asked for. It is kept for
    /// who has to find out why.
    Unfit(Error),
}

/// Reads the answer out of a stored object.
///
/// Where the output is [`Bytes`], an object that is no envelope is the answer itself.
pub fn read_envelope(object: &[u8], wanted: &Wanted<'_>) -> Result<Answer, Unread> {
    let (what, wants_bytes) = (wanted.what, wanted.shape().body == Content::Bytes);
    let unfit = |what: String| Unread::Unfit(Error::fatal(format!("{what}. The object is kept")));
    let retry_after = |headers: &Headers| headers.get("retry-after").and_then(|text| delay(text));
    let raw = |status, body, headers| {
        Raw { status, headers, retry_after: retry_after(headers), body }.answer(wanted)
    };
    let envelope: Envelope = match serde_json::from_slice(object) {
        Ok(envelope) => envelope,
        Err(_) if wants_bytes => {
            wanted.log.inspect(|secrets| tell(200, object, secrets));
            return raw(200, object, &Headers::new()).map_err(Unread::Unfit);
        }
        Err(e) => {
            let found = match std::str::from_utf8(object) {
                Ok("") => "an empty object".to_owned(),
                Ok(text) => excerpt(text, 120),
                Err(_) => {
                    let size = object.len();
                    format!("{size} bytes that are no text (a binary answer has the type `Bytes`)")
                }
            };
            return Err(unfit(format!("{what} holds no result of a CoWorks service: {e}; found {found}")));
        }
    };
    let text = serde_json::from_str::<String>(envelope.body.get()).ok();
    let decoded;
    let body = match (&text, envelope.base64) {
        (_, true) => {
            decoded = text.as_ref().and_then(|text| STANDARD.decode(text).ok());
            let no_base64 = || unfit(format!("{what} says that its body is base64, and it is not"));
            decoded.as_deref().ok_or_else(no_base64)?
        }
        (Some(text), false) => text.as_bytes(),
        (None, false) => envelope.body.get().as_bytes(),
    };
    let (status, headers) = (envelope.status, envelope.headers());
    wanted.log.inspect(|secrets| tell(status, body, secrets));
    // Native JSON, or a string that is one; who asks for a `String` takes any as the text it is.
    let native = || match (&text, wanted.shape().body) {
        (None, Content::Text) => Json::encode(envelope.body.get()),
        _ => Ok(Json::from_stored(envelope.body.get())),
    };
    match (status, envelope.base64) {
        (400.., true) => raw(status, body, &headers).map_err(Unread::Refused),
        (400.., false) => {
            let text = &String::from_utf8_lossy(body);
            let retry_after = retry_after(&headers);
            let refusal = Refusal { status, headers: &headers, retry_after, body: text };
            native().and_then(|body| wanted.refusal(&refusal, body)).map_err(Unread::Refused)
        }
        (_, base64) if base64 || wants_bytes => raw(status, body, &headers).map_err(Unread::Unfit),
        _ => native().and_then(|body| wanted.success(status, body)).map_err(Unread::Unfit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Retry;
    use crate::value::Reply;

    fn wanted<'a>(output: &'a Type, what: &'a str) -> Wanted<'a> {
        Wanted { output: Some(output), last_try: false, what, log: None }
    }

    fn sync(status: u16, body: &[u8], output: Type) -> Result<Answer> {
        let headers = kept([("X-A", "b".to_owned()), ("Set-Cookie", "c".to_owned())].into_iter());
        let raw = Raw { status, headers: &headers, retry_after: None, body };
        raw.answer(&wanted(&output, "GET http://x/"))
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
            assert_eq!(error.to_string(), format!("GET http://x/ answered {status}: no"));
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
        assert!(!sync(503, b"no", output).unwrap_err().is_fatal());
        let headers = Headers::new();
        let raw = Raw { status: 503, headers: &headers, retry_after: None, body: b"" };
        let last = Wanted { output: Some(&output), last_try: true, what: "GET http://x/", log: None };
        assert_eq!(raw.answer(&last).unwrap().status, 503);
        assert!(raw.answer(&Wanted { output: None, ..last }).is_err());
    }

    #[test]
    fn the_log_tells_the_beginning_of_a_body_and_no_piece_of_a_secret() {
        let secrets = Secrets::new(crate::config::Environment::from(|_| None));
        secrets.hide("very-secret");
        let told = |body: &[u8]| beginning(body, &secrets);
        assert_eq!(told(b" {\"a\": \"very-secret\"}\n"), r#": {"a": "***"}"#);
        assert_eq!(told(b""), ", without a body");
        assert_eq!(told(&[0xff, 0]), ": 2 bytes that are no text");
        let across = format!("{}very-secret{}", "x".repeat(TOLD - 5), "y".repeat(TOLD));
        let told = told(across.as_bytes());
        assert!(told.ends_with("xx***yy…") && !told.contains("very"), "{told}");
    }

    fn stored(object: &str, output: Type) -> Result<Answer> {
        read_envelope(object.as_bytes(), &wanted(&output, "s3://b/k")).map_err(|unread| match unread {
            Unread::Refused(error) | Unread::Unfit(error) => error,
        })
    }

    #[test]
    fn an_envelope_gives_its_body() {
        let wrap = |body: &str| {
            format!(r#"{{"statusCode":200,"headers":{{"a":"b"}},"body":{body},"isBase64Encoded":false}}"#)
        };
        assert_eq!(value(stored(&wrap(r#""hello""#), Type::of::<String>())), r#""hello""#);
        assert_eq!(value(stored(&wrap(r#"{"a":[1]}"#), Type::of::<serde_json::Value>())), r#"{"a":[1]}"#);
        assert_eq!(value(stored(&wrap("12"), Type::of::<String>())), r#""12""#);
        assert_eq!(value(stored(&wrap(r#""""#), Type::of::<String>())), r#""""#);
        let encoded = r#"{"statusCode":200,"headers":{},"body":"aGVsbG8=","isBase64Encoded":true}"#;
        assert_eq!(value(stored(encoded, Type::of::<String>())), r#""hello""#);
    }

    #[test]
    fn an_error_in_an_envelope_is_an_error() {
        let wrap = |status: u16| {
            format!(r#"{{"statusCode":{status},"headers":{{}},"body":"boom","isBase64Encoded":false}}"#)
        };
        let error = stored(&wrap(500), Type::of::<String>()).unwrap_err();
        assert_eq!(error.to_string(), "s3://b/k answered 500: boom");
        assert!(!error.is_fatal());
        assert!(stored(&wrap(404), Type::of::<String>()).unwrap_err().is_fatal());
        for encoded in [false, true] {
            let busy = format!(
                r#"{{"statusCode":503,"headers":{{"Retry-After":"7"}},"body":"bm8=","isBase64Encoded":{encoded}}}"#
            );
            let error = stored(&busy, Type::of::<String>()).unwrap_err();
            assert_eq!(error.retry(), Retry::After(Duration::from_secs(7)));
        }
        assert!(stored(&wrap(500), Type::of::<Reply<String>>()).is_err());
        let refused = stored(&wrap(404), Type::of::<Reply<Bytes>>()).unwrap();
        assert_eq!((refused.status, refused.value.unwrap().as_str()), (404, r#""boom""#));
    }

    #[test]
    fn what_is_no_envelope_is_told_unless_bytes_were_asked_for() {
        for object in [
            "",
            "{\"statusCode\": 2",
            "[1]",
            r#"{"statusCode":200,"body":1}"#,
            r#"{"statusCode":200,"headers":{},"body":1,"isBase64Encoded":false,"more":1}"#,
        ] {
            let error = stored(object, Type::of::<String>()).unwrap_err();
            assert!(error.is_fatal() && error.to_string().contains("The object is kept"), "{error}");
            assert!(stored(object, Type::of::<Bytes>()).is_ok());
        }
    }
}
