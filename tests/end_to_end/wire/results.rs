//! The asynchronous result: the object that a service leaves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use coworks_biz::local::axum::Router;
use coworks_biz::prelude::Bytes;
use serde_json::{Value, json};

use super::server::{Server, Then, leave, raw, run, say};
use crate::harness::World;

/// What a case leaves.
fn stored(case: &str) -> Vec<u8> {
    let body = |body: &str| {
        format!(r#"{{"statusCode": 200, "headers": {{}}, "body": {body}, "isBase64Encoded": false}}"#)
    };
    let status = |status: u16, body: &str| {
        format!(
            r#"{{"statusCode": {status}, "headers": {{"X-Why": "gone", "Set-Cookie": "a"}}, "body": {body}, "isBase64Encoded": false}}"#
        )
    };
    let base64 = |body: &str| {
        format!(r#"{{"statusCode": 200, "headers": {{}}, "body": {body}, "isBase64Encoded": true}}"#)
    };
    match case {
        "text" => body(r#""\u00e9t\u00e9""#),
        "native" => body(r#"{"a": [1, null]}"#),
        "number" => body("12"),
        "null" => body("null"),
        "nothing" => status(204, r#""""#),
        "base64-text" => base64(r#""aGVsbG8=""#),
        "base64-binary" => base64(r#""AJ+Slg==""#),
        "no-base64" => base64(r#""*""#),
        "native-base64" => base64("{}"),
        "no-headers" => r#"{"statusCode": 200, "body": 1, "isBase64Encoded": false}"#.into(),
        "other-order" => r#" {"isBase64Encoded":false,"body":1,"headers":null,"statusCode":201} "#.into(),
        "header-values" => {
            r#"{"statusCode": 200, "headers": {"a": 1, "b": ["c"]}, "body": 1, "isBase64Encoded": false}"#
                .into()
        }
        "nul" => body(r#""a\u0000b""#),
        "bad-request" => status(400, r#"{"message": "no order"}"#),
        "not-found" => status(404, r#""no such page""#),
        "crashed" => status(500, r#""KeyError""#),
        "base64-error" => {
            r#"{"statusCode": 404, "headers": {}, "body": "aGVsbG8=", "isBase64Encoded": true}"#.into()
        }
        "empty" => String::new(),
        "truncated" => body("[1, 2, 3]")[..40].to_owned(),
        "truncated-body" => body("[1, 2, 3]")[..47].to_owned(),
        "array" => "[1]".into(),
        // Each of the four, in their order.
        "array-of-four" => r#"[200, {}, "x", false]"#.into(),
        "just-text" => r#""hello""#.into(),
        "twice" => {
            r#"{"statusCode": 200, "statusCode": 200, "headers": {}, "body": 1, "isBase64Encoded": false}"#
                .into()
        }
        "status-text" => {
            r#"{"statusCode": "200", "headers": {}, "body": 1, "isBase64Encoded": false}"#.into()
        }
        "more" => {
            r#"{"statusCode": 200, "headers": {}, "body": 1, "isBase64Encoded": false, "more": 1}"#.into()
        }
        "no-body" => r#"{"statusCode": 200, "headers": {}, "isBase64Encoded": false}"#.into(),
        "no-flag" => r#"{"statusCode": 200, "headers": {}, "body": 1}"#.into(),
        "not-utf8" => return [b"{\"statusCode\": 200, \"body\": \"", &[0xff][..], b"\"}"].concat(),
        "binary" => return vec![0, 159, 146, 150],
        // The beginning of an envelope, and bytes behind it.
        "prefix" => return [body("1").as_bytes(), &[0xff]].concat(),
        other => panic!("{other}"),
    }
    .into_bytes()
}

/// A gateway whose services leave what `stored` says, and the key of each call.
async fn gateway(world: &World) -> (Server, Arc<Mutex<BTreeMap<String, String>>>) {
    let (s3, keys) = (world.path("s3"), Arc::<Mutex<BTreeMap<_, _>>>::default());
    let noted = Arc::clone(&keys);
    let server = Server::start(move |heard| {
        let key = heard.header("x-cws-s3key").unwrap();
        leave(&s3.join(heard.header("x-cws-s3bucket").unwrap()).join(key), &stored(heard.case()));
        noted.lock().unwrap().insert(key.to_owned(), heard.case().to_owned());
        say(200, "", "")
    });
    (server.await, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_what_the_output_makes_of_it() {
    let world = World::new(Router::new()).await;
    let (server, keys) = gateway(&world).await;
    let plain = |text: &str| json!([200, Bytes::from(text.as_bytes().to_vec())]);
    let itself = |case: &str| json!([200, Bytes::from(stored(case))]);
    let done = |value: Value| json!([200, value]);
    let unit = || json!([200]);
    let kept = |why: &str| json!(format!("{why}. The object is kept"));
    let unfit = |case: &str, why: &str| {
        let text = String::from_utf8_lossy(&stored(case)).chars().take(120).collect::<String>();
        kept(&format!(
            "should hold the answer of `test`, and holds no result of a CoWorks service: {why}; found {text}"
        ))
    };
    let no_text = |size: usize| {
        kept(&format!(
            "should hold the answer of `test`, and holds {size} bytes that are no text (a binary answer has the type `Bytes`)"
        ))
    };
    let no_base64 =
        || kept("should hold the answer of `test`, and says that its body is base64, which it is not");
    let failed = |status: u16, body: &str| json!(format!("answered {status}: {body}"));
    let no = |found: &str| {
        kept(&format!(
            "answered 200, and: this is no `String`: invalid type: map, expected a string at line 1 column 0 in {found}"
        ))
    };
    let all = |value: Value| [value.clone(), value.clone(), value.clone(), value.clone(), value];
    // A refusal fails all but a reply.
    let refused = |status: u16, body: &str, value: Value| {
        let mut all = all(failed(status, body));
        all[4] = json!([status, value]);
        all
    };
    // What is no envelope to the others is the answer itself to `Bytes`.
    let others = |case: &str, error: Value| {
        let mut all = all(error);
        all[2] = itself(case);
        all
    };
    let no_envelope = |case: &'static str, why: &str| (case, others(case, unfit(case, why)));
    // Its name, and what it is to `Value`, `String`, `Bytes`, `()` and `Reply<Value>`.
    let cases: Vec<(&str, [Value; 5])> = vec![
        ("text", [done(json!("été")), done(json!("été")), plain("été"), unit(), done(json!("été"))]),
        (
            "native",
            [
                done(json!({"a": [1, null]})),
                done(json!("{\"a\": [1, null]}")),
                plain("{\"a\": [1, null]}"),
                unit(),
                done(json!({"a": [1, null]})),
            ],
        ),
        ("number", [done(json!(12)), done(json!("12")), plain("12"), unit(), done(json!(12))]),
        ("null", [unit(), done(json!("null")), plain("null"), unit(), unit()]),
        (
            "nothing",
            [
                json!([204, ""]),
                json!([204, ""]),
                json!([204, {"__bytes__": ""}]),
                json!([204]),
                json!([204, ""]),
            ],
        ),
        (
            "base64-text",
            [done(json!("hello")), done(json!("hello")), plain("hello"), unit(), done(json!("hello"))],
        ),
        (
            "base64-binary",
            [
                done(json!({"__bytes__": "AJ+Slg=="})),
                no(r#"{"__bytes__":"AJ+Slg=="}"#),
                done(json!({"__bytes__": "AJ+Slg=="})),
                unit(),
                done(json!({"__bytes__": "AJ+Slg=="})),
            ],
        ),
        ("no-base64", all(no_base64())),
        ("native-base64", all(no_base64())),
        ("no-headers", [done(json!(1)), done(json!("1")), plain("1"), unit(), done(json!(1))]),
        (
            "other-order",
            [
                json!([201, 1]),
                json!([201, "1"]),
                json!([201, {"__bytes__": "MQ=="}]),
                json!([201]),
                json!([201, 1]),
            ],
        ),
        ("header-values", [done(json!(1)), done(json!("1")), plain("1"), unit(), done(json!(1))]),
        ("nul", [done(json!("a\0b")), done(json!("a\0b")), plain("a\0b"), unit(), done(json!("a\0b"))]),
        ("bad-request", refused(400, r#"{"message": "no order"}"#, json!({"message": "no order"}))),
        ("not-found", refused(404, "no such page", json!("no such page"))),
        ("crashed", refused(500, "KeyError", json!("KeyError"))),
        ("base64-error", refused(404, "hello", json!("hello"))),
        ("empty", others("empty", kept("should hold the answer of `test`, and is empty"))),
        no_envelope("truncated", "EOF while parsing a string at line 1 column 40"),
        no_envelope("truncated-body", "EOF while parsing a value at line 1 column 47"),
        no_envelope("array", "it is no object"),
        no_envelope("array-of-four", "it is no object"),
        no_envelope("just-text", "it is no object"),
        no_envelope("twice", "duplicate field `statusCode` at line 1 column 32"),
        no_envelope("status-text", "invalid type: string \"200\", expected u16 at line 1 column 20"),
        no_envelope(
            "more",
            "unknown field `more`, expected one of `statusCode`, `headers`, `body`, `isBase64Encoded` at line 1 column 78",
        ),
        no_envelope("no-body", "missing field `body` at line 1 column 60"),
        no_envelope("no-flag", "missing field `isBase64Encoded` at line 1 column 45"),
        ("not-utf8", others("not-utf8", no_text(stored("not-utf8").len()))),
        ("binary", others("binary", no_text(stored("binary").len()))),
        ("prefix", others("prefix", no_text(stored("prefix").len()))),
    ];
    let names: Vec<_> = cases.iter().map(|(name, _)| *name).collect();
    let (_, result) = run(&world, &server.url(), &["left", "--conf", &json!(names).to_string()], &[]).await;
    let mut wrong = vec![];
    let mut unread = vec![];
    for (index, (name, expected)) in cases.iter().enumerate() {
        for (task, expected) in ["value", "text", "bytes", "unit", "reply"].iter().zip(expected) {
            let read = result.instances(&format!("{task}.read"))[index];
            let call = result.instances(&format!("{task}.call"))[index];
            let key = call["xcom"]["key"].as_str().unwrap();
            let object = format!("s3://coworks-airflow/{key}");
            let got = match &read["error"] {
                Value::Null => match &read["xcom"]["return_value"] {
                    Value::Null => json!([read["xcom"]["status_code"]]),
                    value => json!([read["xcom"]["status_code"], value]),
                },
                error => {
                    let error = error.as_str().unwrap();
                    assert!(error.contains(&object), "where it is: {error}");
                    let error =
                        error.replace(&format!(", left at {object}"), "").replace(&format!("{object} "), "");
                    json!(error.replace("`test` answered", "answered"))
                }
            };
            if &got != expected {
                wrong.push(format!("{name} as {task}\n   got  {got}\n   want {expected}"));
            }
            if expected.as_str().is_some_and(|error| error.ends_with("The object is kept")) {
                unread.push(key.to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let failure = &result.instances("reply.read")[names.iter().position(|n| *n == "not-found").unwrap()]["xcom"]
        ["headers"];
    assert_eq!(failure, &json!({"x-why": "gone"}), "without cookies");

    // Kept is what was no answer, and deleted what was one.
    let bucket = world.path("s3/coworks-airflow");
    let mut left: Vec<_> = world
        .objects()
        .iter()
        .map(|path| path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned())
        .collect();
    left.sort();
    unread.sort();
    let named = |keys_left: &[String]| -> Vec<String> {
        let keys = keys.lock().unwrap();
        keys_left.iter().map(|key| format!("{} {key}", keys.get(key).map_or("", String::as_str))).collect()
    };
    assert_eq!(named(&left), named(&unread));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_call_push_what_coworks_pushes() {
    let world = World::new(Router::new()).await;
    let (server, _) = gateway(&world).await;
    let (ended, result) = run(&world, &server.url(), &["left", "--conf", r#"["native"]"#], &[]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let call = &result.task("value.call")["xcom"];
    let (cws_name, bucket, key) = (&call["cws_name"], &call["bucket"], call["key"].as_str().unwrap());
    assert_eq!(call, &json!({"cws_name": "test", "bucket": "coworks-airflow", "key": key}));
    assert_eq!((cws_name, bucket), (&json!("test"), &json!("coworks-airflow")));
    let pieces: Vec<_> = key.split('/').collect();
    assert!(pieces[1].starts_with("biz-"), "{key}");
    assert_eq!((pieces.len(), pieces[0], pieces[3]), (4, "s3", "value.call.0.0"), "{key}");
    assert_eq!(result.task("value.wait")["xcom"], json!({}));
    assert_eq!(
        result.task("value.read")["xcom"],
        json!({"status_code": 200, "return_value": {"a": [1, null]}})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_megabytes_are_ordinary() {
    let world = World::new(Router::new()).await;
    let s3 = world.path("s3");
    let text = r#"\u00e9 and \"so\" on "#.repeat(1 << 20);
    let expected = "é and \"so\" on ".repeat(1 << 20);
    let body =
        format!(r#"{{"statusCode": 200, "headers": {{}}, "body": "{text}", "isBase64Encoded": false}}"#);
    let server = Server::start(move |heard| {
        leave(&s3.join("coworks-airflow").join(heard.header("x-cws-s3key").unwrap()), body.as_bytes());
        say(200, "", "")
    })
    .await;
    let (ended, result) = run(&world, &server.url(), &["asynchronous"], &[]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(result.value("answer.read").as_str().unwrap() == expected);
    assert!(result.value("print").as_str().unwrap() == expected.to_uppercase());
}

/// S3 that has one object for every key, which it sends as it likes.
async fn odd_s3(object: impl Fn() -> super::server::Said + Send + Sync + 'static) -> Server {
    Server::start(move |heard| {
        match (heard.line.split(' ').next().unwrap(), heard.path().matches('/').count()) {
            ("GET", 2..) if !heard.path().contains("list-type") => object(),
            ("HEAD" | "DELETE", _) => raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Keep),
            _ => panic!("{heard:?}"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_whether_or_not_s3_says_how_long_it_is() {
    let world = World::new(Router::new()).await;
    let server = Server::start(|_| say(200, "", "")).await;
    for (said, holds) in [
        // It never comes: who reads it sees that it breaks off.
        (
            raw(format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n[", 65 << 20), Then::Close),
            "65 MiB, and 64 MiB at most are taken",
        ),
        (
            raw(
                format!(
                    "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n100000\r\n{}\r\n",
                    "x".repeat(1 << 20)
                ),
                Then::Repeat,
            ),
            "more than the 64 MiB that are taken at most",
        ),
    ] {
        let s3 = odd_s3(move || said.clone()).await;
        let env = [("AWS_ENDPOINT_URL_S3", &*s3.url())];
        let (ended, result) = run(&world, &server.url(), &["asynchronous"], &env).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        let error = result.error("answer.read");
        let end = format!(
            " holds {holds}; let the service store it elsewhere, and answer where. The object is kept"
        );
        assert!(error.starts_with("s3://coworks-airflow/") && error.ends_with(&end), "{error}");
        assert!(s3.heard().iter().all(|heard| !heard.line.starts_with("DELETE")), "it is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_breaks_off_is_read_again() {
    let world = World::new(Router::new()).await;
    let server = Server::start(|_| say(200, "", "")).await;
    let reads = std::sync::atomic::AtomicU32::new(0);
    let s3 = odd_s3(move || match reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => raw("HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{\"statusCode\"", Then::Close),
        _ => say(200, "", r#"{"statusCode": 200, "headers": {}, "body": "whole", "isBase64Encoded": false}"#),
    })
    .await;
    let env = [("AWS_ENDPOINT_URL_S3", &*s3.url())];
    let (ended, result) = run(&world, &server.url(), &["asynchronous"], &env).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(
        (result.value("answer.read"), &result.task("answer.read")["try_number"]),
        (&json!("whole"), &json!(2))
    );
    assert!(ended.stderr.contains("broke off after 13 of 100 bytes"), "{ended:?}");
    assert_eq!(server.heard().len(), 1, "what is there is not asked for again");
}
