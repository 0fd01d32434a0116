//! Any answer of a service, and any object in S3: a status or `object`, a line end, and what follows is the body.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::intake::{Intake, Want};
use super::reply::{Headers, Raw, delay, kept};
use super::{Answer, Asked, Body, Unread, Wanted, read_envelope};
use crate::abuse::Abuse;
use crate::config::{Environment, Secrets};
use crate::error::{Error, Result};
use crate::value::{Bytes, Json, Object, Output, Reply, Type, assemble};

#[derive(Serialize, Deserialize)]
struct Invoice {
    number: u64,
    #[serde(default)]
    lines: Vec<BTreeMap<String, Value>>,
    paid: Option<bool>,
}

/// A type, and what holds of what is taken for it.
type Taken = (Option<Type>, fn(&Answer));

fn taken() -> [Taken; 12] {
    fn of<T: Output>() -> Taken {
        (Some(Type::of::<T>()), |answer| match &answer.value {
            None => assert_eq!(size_of::<T>(), 0, "it is dropped"),
            Some(json) => same(json.decode::<T>().unwrap()),
        })
    }
    fn reply<T: Output>() -> Taken {
        (Some(Type::of::<Reply<T>>()), |answer| {
            let json = assemble(answer.status, answer.value.as_ref(), answer.headers.as_ref());
            same(json.decode::<Reply<T>>().unwrap());
        })
    }
    [
        (None, |_| {}),
        of::<Value>(),
        of::<String>(),
        of::<Bytes>(),
        of::<()>(),
        of::<Invoice>(),
        of::<Option<Vec<u8>>>(),
        reply::<Value>(),
        reply::<String>(),
        reply::<Bytes>(),
        reply::<()>(),
        reply::<Invoice>(),
    ]
}

/// It passes between tasks as what it is.
fn same<T: Output>(value: T) {
    let json = Json::encode(&value).unwrap();
    let again: T = json.decode().unwrap();
    assert_eq!(Json::encode(&again).unwrap(), json);
}

/// Says what was asked, and not all that was answered.
fn is_told(error: &Error, what: &str) {
    let text = error.to_string();
    assert!(text.contains("GET /x") || text.contains("s3://b/k"), "{what}: {text}");
    assert!(text.chars().count() < 1500, "{what}: {} characters", text.chars().count());
}

fn of_service(status: u16, retry_after: &str, body: &[u8], wanted: &Wanted) -> Result<Answer> {
    let headers = kept([("Retry-After", retry_after.to_owned()), ("set-cookie", "c".to_owned())].into_iter());
    let retry_after = headers.get("retry-after").and_then(|text| delay(text));
    assert!(retry_after.is_none_or(|delay| delay <= Duration::from_secs(86_400)));
    let answer = |headers: &Headers, body| Raw { status, headers, retry_after, body }.answer(wanted);
    // In pieces it is what it is at once, where any of it is wanted.
    let want = Want::of(status, wanted.output);
    let mut intake = Intake::new(want, body.len().is_multiple_of(2).then_some(body.len() as u64)).unwrap();
    let size = 1 + body.len() % 7 * body.len() / 5;
    body.chunks(size).for_each(|piece| intake.push(piece).unwrap());
    let (whole, pieces) = (answer(&headers, body.to_vec().into()), answer(&headers, intake.finish()));
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (whole, pieces) => assert_eq!(
            whole.as_ref().err().map(ToString::to_string),
            pieces.as_ref().err().map(ToString::to_string)
        ),
    }
    whole
}

fn of_object(body: &[u8], wanted: &Wanted) -> Result<Answer> {
    let mut intake = Intake::new(Want::of_object(wanted.output), None).unwrap();
    body.chunks(3).for_each(|piece| intake.push(piece).unwrap());
    let told = |answer: Result<Answer, Unread>| {
        answer.map_err(|unread| match unread {
            Unread::Refused(error) => error,
            Unread::Unfit(error) => {
                assert!(error.is_fatal() && error.to_string().contains("The object is kept"), "{error}");
                error
            }
        })
    };
    let whole = told(read_envelope(Body::from(body.to_vec()), wanted));
    let pieces = told(read_envelope(intake.finish(), wanted));
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok());
    whole
}

fn holds(case: &[u8]) -> String {
    let end = case.iter().position(|&byte| byte == b'\n').unwrap_or(case.len());
    let (head, body) = (String::from_utf8_lossy(&case[..end]), case.get(end + 1..).unwrap_or_default());
    let (head, retry_after) = head.split_once(' ').unwrap_or((&head, "7"));
    let (asked, object) = (Asked::example("GET /x"), Object { bucket: "b".into(), key: "k".into() });
    let is_object = head == "object";
    let secrets = Secrets::new(Environment::from(|_| None));
    let mut kind = if is_object { "object".to_owned() } else { head.chars().take(1).collect() };
    for (place, (output, holds)) in taken().into_iter().enumerate() {
        let wanted = Wanted {
            output: output.as_ref(),
            last_try: case.len().is_multiple_of(2),
            asked: &asked,
            stored: is_object.then_some(&object),
            log: is_object.then_some(&secrets),
        };
        let answer = match is_object {
            true => of_object(body, &wanted),
            false => of_service(head.parse().unwrap_or(200), retry_after, body, &wanted),
        };
        match answer {
            Ok(answer) => {
                for json in [&answer.value, &answer.headers].into_iter().flatten() {
                    let read = serde_json::from_str::<&RawValue>(json.as_str());
                    assert!(read.is_ok(), "type {place}: this is no JSON: {}", json.as_str());
                }
                holds(&answer);
                kind.push('+');
            }
            Err(error) => {
                is_told(&error, &format!("type {place}"));
                let text = error.to_string();
                kind.push(if error.is_fatal() { '-' } else { '~' });
                if place == 5 {
                    kind.extend(text.split(':').nth(1).unwrap_or_default().chars().take(24));
                }
            }
        }
    }
    kind
}

#[test]
fn whatever_is_answered_is_a_value_of_its_type_or_an_error_that_says_what_was_asked() {
    let words = [
        "object\n",
        "200\n",
        "204\n",
        "404\n",
        "500 Wed, 21 Oct 2065 07:28:00 GMT\n",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "null",
        "true",
        "1e999",
        "-0",
        "0.1",
        r"\ud800",
        r"\u0000",
        r"\",
        "\u{feff}",
        "\"statusCode\":",
        "\"headers\":",
        "\"body\":",
        "\"isBase64Encoded\":",
        "true,",
        "aGVsbG8=",
        "{\"__bytes__\":\"aGVsbG8=\"}",
        "\"number\":",
        "[[[[[[[[[[[[[[[[",
        "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
        "]]]]]]]]]]]]]]]]",
        "\"Success\"",
        "\"$serde_json::private::RawValue\"",
        "\"retry-after\":\"7\"",
        "\"Set-Cookie\":\"c\"",
    ];
    Abuse { target: "answer", words: &words, cases: 1500 }.of(holds);
}
