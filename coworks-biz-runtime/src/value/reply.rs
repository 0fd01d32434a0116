//! An answer whose refusals are values: [`Reply`].

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::shape::reply_name;
use super::{Json, excerpt};

/// The answer of a service, for who decides what a refusal means: the type of a call's output
/// in place of `T`, with which a status of 400 and above fails the task.
///
/// A status below 400 is `Success`; an empty body is then what JSON `{}` is to `T`, or the empty
/// `String`. 204 and 205 say that there is nothing, and are `NoContent`. A status that no other
/// try would change is a `Failure` at once; one that may pass by itself (500 and above, 408, 425,
/// 429) is tried again, and is a `Failure` when the tries have run out. A service that cannot be
/// reached, or that does not take an asynchronous call, fails the task.
///
/// ```
/// use coworks_biz_runtime::value::Reply;
///
/// fn number(reply: Reply<u32>) -> String {
///     match reply {
///         Reply::Success(number) => format!("invoice {number}"),
///         Reply::NoContent => "nothing to bill".into(),
///         Reply::Failure(failure) => format!("no invoice: it {failure}"),
///     }
/// }
/// assert_eq!(number(Reply::Success(7)), "invoice 7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<T> {
    /// The answer.
    Success(T),
    /// There is nothing to answer.
    NoContent,
    /// The service says no.
    Failure(Failure),
}

impl<T> Reply<T> {
    /// The answer, where there is one.
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Success(value) => Some(value),
            Self::NoContent | Self::Failure(_) => None,
        }
    }
}

/// A service said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The HTTP status, 400 and above.
    pub status: u16,
    /// The headers of the answer, their names in lower case; without cookies.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON, or the text itself where it is none that can be read; `{}` or `""` where there was none.
    pub body: Value,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status)?;
        let body = match &self.body {
            Value::Null => String::new(),
            Value::Object(object) if object.is_empty() => String::new(),
            Value::String(text) => text.trim().to_owned(),
            body => body.to_string(),
        };
        match body.as_str() {
            "" => Ok(()),
            body => write!(f, ": {}", excerpt(body, 500)),
        }
    }
}

impl std::error::Error for Failure {}

/// How a reply passes between tasks.
#[derive(Serialize, Deserialize)]
enum Tagged<T, F> {
    Success(T),
    NoContent,
    Failure(F),
}

impl<T: Serialize + 'static> Serialize for Reply<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = match self {
            Self::Success(value) => Tagged::Success(value),
            Self::NoContent => Tagged::NoContent,
            Self::Failure(failure) => Tagged::Failure(failure),
        };
        serializer.serialize_newtype_struct(reply_name::<T>(), &tagged)
    }
}

impl<'de, T: Deserialize<'de> + 'static> Deserialize<'de> for Reply<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(reply_name::<T>(), ReplyVisitor(PhantomData))
    }
}

struct ReplyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + 'static> Visitor<'de> for ReplyVisitor<T> {
    type Value = Reply<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`Success`, `NoContent` or `Failure`")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Reply<T>, D::Error> {
        Ok(match Tagged::<T, Failure>::deserialize(deserializer)? {
            Tagged::Success(value) => Reply::Success(value),
            Tagged::NoContent => Reply::NoContent,
            Tagged::Failure(failure) => Reply::Failure(failure),
        })
    }
}

/// A reply out of what is pushed of it: `status_code`, `return_value`, and the `headers` of a failure.
pub(crate) fn assemble(status: u16, value: Option<&Json>, headers: Option<&Json>) -> Json {
    let value = value.map_or("null", Json::as_str);
    match status {
        400.. => {
            let headers = headers.map_or("{}", Json::as_str);
            Json::from_stored(format!(
                r#"{{"Failure":{{"status":{status},"headers":{headers},"body":{value}}}}}"#
            ))
        }
        204 | 205 => Json::from_stored(r#""NoContent""#),
        _ => Json::from_stored(format!(r#"{{"Success":{value}}}"#)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reply_passes_between_tasks_and_is_put_together_from_what_was_pushed() {
        let json = |value: Value| Json::encode(&value).unwrap();
        let success = assemble(200, Some(&json(json!([1, 2]))), None);
        let failure = assemble(409, Some(&json(json!("taken"))), Some(&json(json!({"a": "b"}))));
        let expected = Failure {
            status: 409,
            headers: BTreeMap::from([("a".into(), "b".into())]),
            body: "taken".into(),
        };
        for (stored, reply) in [
            (success, Reply::Success(vec![1, 2])),
            (assemble(204, Some(&json(json!({}))), None), Reply::NoContent),
            (failure, Reply::Failure(expected)),
        ] {
            assert_eq!(stored.decode::<Reply<Vec<u8>>>().unwrap(), reply);
            assert_eq!(stored.decode::<Option<Reply<Vec<u8>>>>().unwrap().as_ref(), Some(&reply));
            assert_eq!(Json::encode(&reply).unwrap().decode::<Reply<Vec<u8>>>().unwrap(), reply);
        }
        let none = assemble(200, None, None);
        assert_eq!(none.decode::<Reply<()>>().unwrap(), Reply::Success(()));
        assert_eq!(none.decode::<Reply<Option<u8>>>().unwrap(), Reply::Success(None));
    }

    #[test]
    fn a_failure_reads_as_a_sentence() {
        let failure = |body: Value| Failure { status: 404, headers: BTreeMap::new(), body }.to_string();
        assert_eq!(failure(json!({})), "answered 404");
        assert_eq!(failure(json!(" no such order ")), "answered 404: no such order");
        assert_eq!(failure(json!({"message": "no"})), r#"answered 404: {"message":"no"}"#);
    }
}
