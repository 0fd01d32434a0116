//! What an answer means: its status, its value, and the envelope of a stored one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::value::{Bytes, Json, Type, excerpt};

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value, as it is pushed as `return_value`; `None` where it is dropped.
    pub value: Option<Json>,
}

/// The answer as bytes with its status, before anything is made of it.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: &'a [u8],
}

impl Raw<'_> {
    /// The value as `output` wants it, or why this is no answer. `what` names the call.
    pub(super) fn answer(&self, output: Option<&Type>, what: &str) -> Result<Answer> {
        if self.status >= 400 {
            return Err(refused(self.status, self.retry_after, &String::from_utf8_lossy(self.body), what));
        }
        let json = match std::str::from_utf8(self.body) {
            _ if output.is_some_and(Type::is::<Bytes>) => Json::encode(&Bytes::from(self.body.to_vec()))?,
            Ok("") => Json::from_stored("{}"),
            Ok(text) => from_text(text, output)?,
            Err(_) => Json::encode(&Bytes::from(self.body.to_vec()))?,
        };
        answer(self.status, json, output, what)
    }
}

/// The JSON of a text: itself when it is JSON, else a string of it.
fn from_text(text: &str, output: Option<&Type>) -> Result<Json> {
    let json = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
    match json {
        // Who asks for a `String` takes `123` as the text it is.
        Some(json) if json.starts_with('"') || !output.is_some_and(Type::is::<String>) => {
            Ok(Json::from_stored(json))
        }
        _ => Json::encode(text),
    }
}

fn answer(status: u16, json: Json, output: Option<&Type>, what: &str) -> Result<Answer> {
    let value = match output {
        Some(output) if output.is::<()>() => None,
        Some(output) => {
            output.check(&json).map_err(|e| e.context(format!("{what} answered {status}, and")))?;
            Some(json)
        }
        None => Some(json),
    };
    Ok(Answer { status, value })
}

/// A status of 400 and above as an error: what may pass by itself is retried, the rest is not.
fn refused(status: u16, retry_after: Option<Duration>, body: &str, what: &str) -> Error {
    let mut text = format!("{what} answered {status}");
    // A gateway puts a text into quotes; people read it without.
    let unquoted = serde_json::from_str::<String>(body).ok();
    let body = unquoted.as_deref().unwrap_or(body);
    if !body.trim().is_empty() {
        text.push_str(": ");
        text.push_str(&excerpt(body.trim(), 500));
    }
    let transient = status >= 500 || matches!(status, 408 | 425 | 429);
    match retry_after {
        _ if !transient => Error::fatal(text),
        Some(delay) => Error::msg(text).retry_after(delay),
        None => Error::msg(text),
    }
}

/// The object that a service leaves for an asynchronous call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    #[serde(borrow, rename = "headers")]
    _headers: Option<std::collections::HashMap<String, &'a RawValue>>,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(rename = "isBase64Encoded")]
    base64: bool,
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

/// Reads the answer out of a stored object. `what` names the call and the object.
///
/// Where `output` is [`Bytes`], an object that is no envelope is the answer itself.
pub fn read_envelope(object: &[u8], output: Option<&Type>, what: &str) -> Result<Answer, Unread> {
    let wants_bytes = output.is_some_and(Type::is::<Bytes>);
    let unfit = |what: String| Unread::Unfit(Error::fatal(format!("{what}. The object is kept")));
    let whole = |body: &[u8]| Raw { status: 200, retry_after: None, body }.answer(output, what);
    let envelope: Envelope = match serde_json::from_slice(object) {
        Ok(envelope) => envelope,
        Err(_) if wants_bytes => return whole(object).map_err(Unread::Unfit),
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
    if envelope.status >= 400 {
        return Err(Unread::Refused(refused(envelope.status, None, &String::from_utf8_lossy(body), what)));
    }
    let answer = match envelope.base64 || wants_bytes {
        true => Raw { status: envelope.status, retry_after: None, body }.answer(output, what),
        // Native JSON, or a string that is one.
        false => answer(envelope.status, Json::from_stored(envelope.body.get()), output, what),
    };
    answer.map_err(Unread::Unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(status: u16, body: &[u8], output: Type) -> Result<Answer> {
        Raw { status, retry_after: None, body }.answer(Some(&output), "GET http://x/")
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

    fn stored(object: &str, output: Type) -> Result<Answer> {
        read_envelope(object.as_bytes(), Some(&output), "s3://b/k").map_err(|unread| match unread {
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
