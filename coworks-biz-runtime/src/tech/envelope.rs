//! The object that a service leaves for an asynchronous call: an envelope around its answer, or bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::intake::{Body, beginning_of_string, cut};
use super::reply::{Answer, Headers, Raw, Refusal, Wanted, delay, kept, tell};
use crate::error::Error;
use crate::value::{Content, Cut, Json, misread};

/// The envelope, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    #[serde(borrow)]
    headers: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(rename = "isBase64Encoded")]
    base64: bool,
}

impl Written<'_> {
    fn headers(&self) -> Headers {
        let headers = self.headers.iter().flatten().map(|(name, value)| {
            let text = serde_json::from_str::<String>(value.get());
            (name.as_str(), text.unwrap_or_else(|_| value.get().to_owned()))
        });
        kept(headers)
    }
}

/// The envelope, without what was around its body.
struct Envelope {
    status: u16,
    headers: Headers,
    base64: bool,
    /// JSON.
    body: String,
}

impl Envelope {
    /// The body stays where it is: it may be large. What is no envelope is given back, with the reason.
    fn open(object: String, cut_off: Cut) -> Result<Self, (String, String)> {
        // A list of four would do as well to what reads it.
        let is_object = object.trim_ascii_start().starts_with('{');
        if !is_object && serde_json::from_str::<&RawValue>(&object).is_ok() {
            return Err((object, "it is no object".to_owned()));
        }
        let (status, headers, base64, start, end) = match serde_json::from_str::<Written>(&object) {
            Ok(written) => {
                let body = written.body.get();
                let start = body.as_ptr() as usize - object.as_ptr() as usize;
                (written.status, written.headers(), written.base64, start, start + body.len())
            }
            Err(e) => return Err((object, misread(&e, cut_off))),
        };
        Ok(Self { status, headers, base64, body: cut(object, start, end) })
    }

    /// What the body says, as far as messages and the log tell it.
    fn beginning(&self) -> Cow<'_, str> {
        match self.body.starts_with('"') {
            true => beginning_of_string(&self.body).map_or(Cow::Borrowed(&self.body), Cow::Owned),
            false => Cow::Borrowed(&self.body),
        }
    }
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
/// Where the output is [`Bytes`](crate::value::Bytes), an object that is no envelope is the answer itself.
pub fn read_envelope(object: Body, wanted: &Wanted<'_>) -> Result<Answer, Unread> {
    let wants_bytes = wanted.content() == Content::Bytes;
    let place = wanted.stored.map_or_else(|| wanted.asked.to_string(), ToString::to_string);
    let unfit = |what: String| Unread::Unfit(Error::fatal(format!("{place} {what}. The object is kept")));
    let kept = |error: Error| Unread::Unfit(error.followed_by(". The object is kept"));
    let retry_after = |headers: &Headers| headers.get("retry-after").and_then(|text| delay(text));
    let none = Headers::new();
    let raw = |body: Body| {
        wanted.log.inspect(|secrets| tell(200, body.size(), body.beginning(), secrets));
        Raw { status: 200, headers: &none, retry_after: None, body }.answer(wanted).map_err(kept)
    };
    let of = || format!("the answer of {}", wanted.asked);
    let size = object.size();
    let bytes = match object.into_bytes() {
        Ok(bytes) => bytes,
        Err(encoded) => return raw(encoded),
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if wants_bytes => return raw(e.into_bytes().into()),
        Err(_) => {
            return Err(unfit(format!(
                "should hold {}, and holds {size} bytes that are no text (a binary answer has the type `Bytes`)",
                of()
            )));
        }
    };
    let envelope = match Envelope::open(text, &|text, limit| wanted.asked.cut(text, limit)) {
        Ok(envelope) => envelope,
        Err((text, _)) if wants_bytes => return raw(text.into_bytes().into()),
        Err((text, _)) if text.is_empty() => {
            return Err(unfit(format!("should hold {}, and is empty", of())));
        }
        Err((text, e)) => {
            let found = wanted.asked.cut(&text, 120);
            return Err(unfit(format!(
                "should hold {}, and holds no result of a CoWorks service: {e}; found {found}",
                of()
            )));
        }
    };
    if envelope.base64 {
        let Envelope { status, headers, body, .. } = envelope;
        // Base64 has nothing to be escaped; who does it all the same is understood.
        let decoded = match serde_json::from_str::<&str>(&body) {
            Ok(text) => STANDARD.decode(text).ok(),
            Err(_) => serde_json::from_str::<String>(&body).ok().and_then(|text| STANDARD.decode(text).ok()),
        };
        drop(body);
        let decoded = decoded.ok_or_else(|| {
            unfit(format!("should hold {}, and says that its body is base64, which it is not", of()))
        })?;
        wanted.log.inspect(|secrets| tell(status, decoded.len() as u64, &decoded, secrets));
        let retry_after = retry_after(&headers);
        let answer = Raw { status, headers: &headers, retry_after, body: decoded.into() }.answer(wanted);
        return answer.map_err(|error| if status >= 400 { Unread::Refused(error) } else { kept(error) });
    }
    let beginning = envelope.beginning();
    wanted
        .log
        .inspect(|secrets| tell(envelope.status, envelope.body.len() as u64, beginning.as_bytes(), secrets));
    if envelope.status >= 400 {
        let beginning = beginning.into_owned();
        let Envelope { status, headers, body, .. } = envelope;
        let retry_after = retry_after(&headers);
        let refusal = Refusal { status, headers: &headers, retry_after, body: &beginning };
        return wanted.refusal(&refusal, || Ok(Json::from_stored(body))).map_err(Unread::Refused);
    }
    drop(beginning);
    let Envelope { status, body, headers, .. } = envelope;
    let is_text = body.starts_with('"');
    let answer = match wanted.content() {
        Content::Bytes => {
            let bytes = match is_text {
                true => serde_json::from_str::<String>(&body)
                    .map_err(|e| unfit(format!("has a body that is no text: {e}")))?,
                false => body,
            };
            let body = bytes.into_bytes().into();
            Raw { status, headers: &headers, retry_after: None, body }.answer(wanted)
        }
        // Native JSON, or a string that is one; who asks for a `String` takes any as the text it is.
        Content::Text if !is_text => Json::encode(&body).and_then(|json| wanted.success(status, json)),
        Content::Text | Content::Any | Content::Nothing => wanted.success(status, Json::from_stored(body)),
    };
    answer.map_err(kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Result, Retry};
    use crate::tech::Asked;
    use crate::value::{Bytes, Object, Reply, Type};

    fn stored(object: &str, output: Type) -> Result<Answer> {
        let object_at = Object { bucket: "b".into(), key: "k".into() };
        let asked = Asked::example("GET /x");
        let wanted = Wanted {
            output: Some(&output),
            last_try: false,
            asked: &asked,
            stored: Some(&object_at),
            log: None,
        };
        read_envelope(object.as_bytes().to_vec().into(), &wanted).map_err(|unread| match unread {
            Unread::Refused(error) | Unread::Unfit(error) => error,
        })
    }

    fn value(answer: Result<Answer>) -> String {
        answer.unwrap().value.map_or("dropped".into(), |json| json.as_str().to_owned())
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
        assert_eq!(error.to_string(), "GET /x answered 500, left at s3://b/k: boom");
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
