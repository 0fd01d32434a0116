//! The answers of a gateway, and of a service that is called synchronously.

use serde_json::{Value, json};

use super::server::{Server, Then, raw, run, say};
use coworks_biz::local::axum::Router;
use coworks_biz::prelude::Bytes;

use crate::harness::{Run, TOKEN, World};

/// What became of a task instance: its XComs, or the end of its error behind the status.
fn outcome(result: &Run, task: &str, index: usize) -> Value {
    let instance = result.instances(task)[index];
    match &instance["error"] {
        Value::Null => match &instance["xcom"]["return_value"] {
            Value::Null => json!([instance["xcom"]["status_code"]]),
            value => json!([instance["xcom"]["status_code"], value]),
        },
        error => {
            let error = error.as_str().unwrap();
            json!(error.split_once(" of `test` ").unwrap_or(("", error)).1)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_what_the_output_makes_of_it() {
    let world = World::new(Router::new()).await;
    let binary = [0u8, 159, 146, 150];
    let gateway = Server::start(move |heard| match heard.case() {
        "quoted" => say(200, "", r#""été""#),
        "escaped" => say(200, "", r#""\u00e9t\u00e9 \"x\" \\""#),
        "text" => say(200, "content-type: text/plain\r\n", "not json, été"),
        "number" => say(200, "", " 12 "),
        "json" => say(200, "", " {\"a\": [1, null]}\n"),
        "empty" => say(200, "", ""),
        "created" => say(201, "", "7"),
        "nothing" => raw("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep),
        "null" => say(200, "", "null"),
        "binary" => say(200, "content-type: application/octet-stream\r\n", binary),
        "nul" => say(200, "", "a\0b"),
        "surrogate" => say(200, "", r#""\ud800""#),
        "chunked" => raw(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n",
            Then::Keep,
        ),
        "until-the-end" => raw("HTTP/1.1 200 OK\r\n\r\n[1,2]", Then::Close),
        "missing" => say(404, "x-why: gone\r\nset-cookie: a=b\r\n", r#"{"message":"no such order"}"#),
        other => panic!("{other}"),
    })
    .await;
    let bytes = |text: &str| json!([200, Bytes::from(text.as_bytes().to_vec())]);
    let no = |what: &str, why: &str, found: &str| {
        format!("answered 200, and: this is no `{what}`: {why} in {found}")
    };
    let reply = |status: u16, value: Value| json!([status, value]);
    // Its name, and what it is to `Value`, `String`, `Bytes`, `()`, `Reply<Value>` and `u32`.
    let lone = "unexpected end of hex escape at line 1 column 8";
    let missing = r#"answered 404: {"message":"no such order"}"#;
    let map = "invalid type: map, expected u32 at line 1 column 0";
    let cases: Vec<(&str, [Value; 6])> = vec![
        (
            "quoted",
            [
                json!([200, "été"]),
                json!([200, "été"]),
                bytes("\"été\""),
                json!([200]),
                json!([200, "été"]),
                json!(no("u32", "invalid type: string \"été\", expected u32 at line 1 column 7", "\"été\"")),
            ],
        ),
        (
            "escaped",
            [
                json!([200, "été \"x\" \\"]),
                json!([200, "été \"x\" \\"]),
                bytes(r#""\u00e9t\u00e9 \"x\" \\""#),
                json!([200]),
                json!([200, "été \"x\" \\"]),
                json!(no(
                    "u32",
                    r#"invalid type: string "été \"x\" \\", expected u32 at line 1 column 24"#,
                    r#""\u00e9t\u00e9 \"x\" \\""#
                )),
            ],
        ),
        (
            "text",
            [
                json!([200, "not json, été"]),
                json!([200, "not json, été"]),
                bytes("not json, été"),
                json!([200]),
                json!([200, "not json, été"]),
                json!(no(
                    "u32",
                    "invalid type: string \"not json, été\", expected u32 at line 1 column 17",
                    "\"not json, été\""
                )),
            ],
        ),
        (
            "number",
            [
                json!([200, 12]),
                json!([200, " 12 "]),
                bytes(" 12 "),
                json!([200]),
                json!([200, 12]),
                json!([200, 12]),
            ],
        ),
        (
            "json",
            [
                json!([200, {"a": [1, null]}]),
                json!([200, " {\"a\": [1, null]}\n"]),
                bytes(" {\"a\": [1, null]}\n"),
                json!([200]),
                json!([200, {"a": [1, null]}]),
                json!(no("u32", map, r#"{"a": [1, null]}"#)),
            ],
        ),
        (
            "empty",
            [
                json!([200, {}]),
                json!([200, ""]),
                bytes(""),
                json!([200]),
                json!([200, {}]),
                json!(no("u32", map, "{}")),
            ],
        ),
        (
            "created",
            [
                json!([201, 7]),
                json!([201, "7"]),
                json!([201, {"__bytes__": "Nw=="}]),
                json!([201]),
                json!([201, 7]),
                json!([201, 7]),
            ],
        ),
        (
            "nothing",
            [
                json!([204, {}]),
                json!([204, ""]),
                json!([204, {"__bytes__": ""}]),
                json!([204]),
                json!([204, {}]),
                json!(no("u32", map, "{}").replace("200", "204")),
            ],
        ),
        (
            "null",
            [
                json!([200]),
                json!([200, "null"]),
                bytes("null"),
                json!([200]),
                json!([200]),
                json!(no("u32", "invalid type: null, expected u32 at line 1 column 4", "null")),
            ],
        ),
        (
            "binary",
            [
                json!([200, {"__bytes__": "AJ+Slg=="}]),
                json!(no(
                    "String",
                    "invalid type: map, expected a string at line 1 column 0",
                    r#"{"__bytes__":"AJ+Slg=="}"#
                )),
                json!([200, {"__bytes__": "AJ+Slg=="}]),
                json!([200]),
                json!([200, {"__bytes__": "AJ+Slg=="}]),
                json!(no("u32", map, r#"{"__bytes__":"AJ+Slg=="}"#)),
            ],
        ),
        (
            "nul",
            [
                json!([200, "a\0b"]),
                json!([200, "a\0b"]),
                bytes("a\0b"),
                json!([200]),
                json!([200, "a\0b"]),
                json!(no(
                    "u32",
                    "invalid type: string \"a\\0b\", expected u32 at line 1 column 10",
                    r#""a\u0000b""#
                )),
            ],
        ),
        (
            "surrogate",
            [
                json!(no("Value", lone, r#""\ud800""#)),
                json!(no("String", lone, r#""\ud800""#)),
                bytes(r#""\ud800""#),
                json!([200]),
                json!(no("Reply<Value>", lone, r#""\ud800""#)),
                json!(no("u32", lone, r#""\ud800""#)),
            ],
        ),
        (
            "chunked",
            [
                json!([200, [1, 2]]),
                json!([200, "[1,2]"]),
                bytes("[1,2]"),
                json!([200]),
                json!([200, [1, 2]]),
                json!(no("u32", "invalid type: sequence, expected u32 at line 1 column 0", "[1,2]")),
            ],
        ),
        (
            "until-the-end",
            [
                json!([200, [1, 2]]),
                json!([200, "[1,2]"]),
                bytes("[1,2]"),
                json!([200]),
                json!([200, [1, 2]]),
                json!(no("u32", "invalid type: sequence, expected u32 at line 1 column 0", "[1,2]")),
            ],
        ),
        (
            "missing",
            [
                json!(missing),
                json!(missing),
                json!(missing),
                json!(missing),
                reply(404, json!({"message": "no such order"})),
                json!(missing),
            ],
        ),
    ];
    let names: Vec<_> = cases.iter().map(|(name, _)| *name).collect();
    let (_, result) =
        run(&world, &gateway.url(), &["answered", "--conf", &json!(names).to_string()], &[]).await;
    let tasks = ["value", "text", "bytes", "unit", "reply", "number"];
    let mut wrong = vec![];
    for (index, (name, expected)) in cases.iter().enumerate() {
        for (task, expected) in tasks.iter().zip(expected) {
            let got = outcome(&result, task, index);
            if &got != expected {
                wrong.push(format!("{name} as {task}\n   got  {got}\n   want {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let number = result.instances("value")[names.iter().position(|name| *name == "number").unwrap()];
    assert_eq!(number["xcom"], json!({"cws_name": "test", "status_code": 200, "return_value": 12}));
    let failure = &result.instances("reply")[names.len() - 1]["xcom"]["headers"];
    assert_eq!(failure, &json!({"content-length": "27", "x-why": "gone"}), "without cookies");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_it_means_here() {
    let world = World::new(Router::new()).await;
    let gateway = Server::start(|heard| match heard.case() {
        "missing-token" => say(403, "", r#"{"message":"Missing Authentication Token"}"#),
        "unauthorized" => say(401, "", r#"{"message":"Unauthorized"}"#),
        "forbidden" => say(403, "", "no"),
        "type" => say(415, "", "{}"),
        "late" => say(504, "", r#"{"message":"Endpoint request timed out"}"#),
        "broken" => raw("HTTP/1.1 404 x\r\ncontent-length: 99\r\n\r\nno such", Then::Close),
        "endless" => raw(format!("HTTP/1.1 404 x\r\n\r\n{}", "no such ".repeat(9000)), Then::Repeat),
        other => panic!("{other}"),
    })
    .await;
    let ask = async |case: &str| {
        let (ended, result) =
            run(&world, &gateway.url(), &["turned_away", "--conf", &json!(case).to_string()], &[]).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert!(!format!("{ended:?}").contains(TOKEN) && !ended.stdout.contains("a-bare-token"), "{ended:?}");
        result
    };
    let line = |method: &str, case: &str| format!("{method} {}/dev/{case} of `test` answered", gateway.url());
    let result = ask("missing-token").await;
    for task in ["of_source", "of_nobody", "left.call"] {
        assert_eq!(
            result.error(task),
            format!(
                r#"{} 403: {{"message":"Missing Authentication Token"}} (a gateway says so of a path or a method that it does not have: look at both, and at the stage)"#,
                line("GET", "missing-token")
            )
        );
    }
    for (case, status, body) in
        [("unauthorized", 401, r#"{"message":"Unauthorized"}"#), ("forbidden", 403, "no")]
    {
        let result = ask(case).await;
        for (task, hint) in [
            ("of_source", "its token stands in the source of the call"),
            ("of_secret", "its token is `secret(\"API_TOKEN\")`"),
            ("computed", "its token is what the call computes"),
            ("of_nobody", "it was sent without a token, as `no_auth` says"),
        ] {
            assert_eq!(
                result.error(task),
                format!("{} {status}: {body} ({hint})", line("GET", case)),
                "{task}"
            );
        }
    }
    for case in ["broken", "endless"] {
        let result = ask(case).await;
        assert!(result.error("of_source").starts_with(&format!("{} 404: no such", line("GET", case))));
        assert_eq!(result.task("of_source")["try_number"], 1);
    }
    let result = ask("type").await;
    assert_eq!(
        result.error("sent"),
        format!(
            "{} 415: {{}} (it was sent as `text/plain; charset=utf-8`: `json = ..` sends JSON, and a header `Content-Type` says what else it is)",
            line("POST", "type")
        )
    );
    let result = ask("late").await;
    let late = format!("{} 504: {{\"message\":\"Endpoint request timed out\"}}", line("GET", "late"));
    let hint = " (a gateway gives up after 29s: `tech!(async ..)` calls what takes longer)";
    assert_eq!(result.error("of_nobody"), format!("{late}{hint}"));
    assert_eq!(result.error("left.call"), late);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let world = World::new(Router::new()).await;
    const MIB: u64 = 1 << 20;
    let gateway = Server::start(|heard| {
        let promise = |status: u16, size: u64| {
            // It says how much comes, and it never does: who reads it sees that it breaks off.
            raw(format!("HTTP/1.1 {status} x\r\ncontent-length: {size}\r\n\r\n["), Then::Close)
        };
        match heard.case() {
            "promised" => promise(200, 65 * MIB),
            "first" => {
                let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
                raw(format!("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"), Then::Repeat)
            }
            other => panic!("{other}"),
        }
    })
    .await;
    let advice = "let the service store it elsewhere, and answer where";
    let (_, result) = run(&world, &gateway.url(), &["answered", "--conf", r#"["promised"]"#], &[]).await;
    for task in ["value", "text", "reply", "number"] {
        let error = result.instances(task)[0]["error"].as_str().unwrap();
        assert!(
            error.ends_with(&format!("answered 200 with 65 MiB, and 64 MiB at most are taken; {advice}")),
            "{error}"
        );
    }
    let error = result.instances("bytes")[0]["error"].as_str().unwrap();
    let bytes =
        format!("65 MiB, and 47 MiB at most are taken of bytes, which are base64 between tasks; {advice}");
    assert!(error.ends_with(&bytes), "{error}");
    // What nobody wants may be of any size, and it is read to its end.
    let error = result.instances("unit")[0]["error"].as_str().unwrap();
    assert!(error.contains("of `test` answered 200, and broke off: "), "{error}");

    let (_, result) = run(&world, &gateway.url(), &["many", "--conf", "0"], &[]).await;
    let error = result.error("first");
    assert!(
        error.ends_with(&format!("answered 200 with more than the 64 MiB that are taken at most; {advice}")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_may_be_of_any_size_and_what_has_no_type_is_there_by_name() {
    let world = World::new(Router::new()).await;
    let large = format!("the beginning {}", "x".repeat(70 << 20));
    let gateway = Server::start(move |heard| match heard.case() {
        // It says how much GET would answer, and answers nothing.
        "head" => raw(format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n", 70 << 20), Then::Keep),
        "unwanted" => say(200, "", "found by name"),
        _ => say(200, "", &large),
    })
    .await;
    let (ended, result) = run(&world, &gateway.url(), &["unwanted"], &[]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(result.value("head"), &json!({}));
    assert_eq!(result.value("test_unwanted"), &json!("found by name"));
    assert_eq!(result.task("unit")["xcom"], json!({"cws_name": "test", "status_code": 200}));
    assert!(ended.stderr.contains("answered 200: the beginning xxx"), "{ended:?}");
    assert!(ended.stderr.contains(&format!("200 with {} bytes", (70 << 20) + 14)), "{ended:?}");
}
