//! Where the original goes wrong, and what is right.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use coworks_biz::local::axum::Router;
use serde_json::json;

use super::server::{Server, Then, leave, object, raw, run, say};
use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let world = World::new(Router::new()).await;
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let calls = AtomicU32::new(0);
        let gateway = Server::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => say(status, "", "not now"),
            1 => raw("", Then::Close),
            _ => say(200, "", "1"),
        })
        .await;
        let (ended, result) = run(&world, &gateway.url(), &["retried"], &[]).await;
        assert_eq!(
            (ended.code(), &result.task("answer")["try_number"]),
            (0, &json!(3)),
            "{status}: {ended:?}"
        );
        let logs = world.run(&["logs"]).await.stdout;
        let line = |text: &str| {
            logs.lines()
                .find(|line| line.contains(text))
                .unwrap_or_else(|| panic!("{text}: {logs}"))
                .to_owned()
        };
        line(&format!("of `test` answered {status}: not now"));
        line("of `test` got no answer: ");
        // As many as are left when it is written down.
        assert!(line("try 1 of 3, again at ").contains(" UTC (in 3"), "{logs}");
        assert!(line("try 2 of 3, again at ").contains("try 2"), "{logs}");
    }
    for status in [400, 401, 403, 404, 409, 410, 415, 422] {
        let gateway = Server::start(move |_| say(status, "", "never")).await;
        let (ended, result) = run(&world, &gateway.url(), &["retried"], &[]).await;
        assert_eq!(
            (ended.code(), &result.task("answer")["try_number"]),
            (1, &json!(1)),
            "{status}: {ended:?}"
        );
        let logs = world.run(&["logs"]).await.stdout;
        assert!(
            logs.trim_end().ends_with(&format!("no other try: {status} would be the same next time")),
            "{logs}"
        );
        let shown = world.run(&["show"]).await.stdout;
        assert!(shown.contains("try 1 of 3, and no other: it would be the same next time"), "{shown}");
    }
    let gateway = Server::start(|_| say(503, "", "never")).await;
    let (_, result) = run(&world, &gateway.url(), &["retried"], &[]).await;
    assert_eq!(result.task("answer")["try_number"], 3);
    let logs = world.run(&["logs", "--try", "3"]).await.stdout;
    assert!(logs.trim_end().ends_with("try 3 of 3: no other"), "{logs}");
    let shown = world.run(&["show"]).await.stdout;
    assert!(shown.contains("try 3 of 3, and no other\n"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_another_run_is_never_taken() {
    let world = World::new(Router::new()).await;
    let (s3, calls, keys) = (world.path("s3"), AtomicU32::new(0), Arc::<Mutex<Vec<String>>>::default());
    let noted = Arc::clone(&keys);
    let gateway = Server::start(move |heard| {
        let key = heard.header("x-cws-s3key").unwrap();
        let body = format!(
            r#"{{"statusCode": 200, "headers": {{}}, "body": "run {}", "isBase64Encoded": false}}"#,
            calls.fetch_add(1, Ordering::SeqCst)
        );
        noted.lock().unwrap().push(key.to_owned());
        leave(&s3.join("coworks-airflow").join(key), body.as_bytes());
        say(200, "", "")
    })
    .await;
    for number in 0..2 {
        // `impatient` keeps its answers.
        let (ended, result) = run(&world, &gateway.url(), &["impatient"], &[]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(result.value("answer.read"), &json!(format!("run {number}")));
    }
    let keys = keys.lock().unwrap().clone();
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    assert!(!keys[0].starts_with(&keys[1]) && !keys[1].starts_with(&keys[0]), "{keys:?}");
    assert_eq!(world.objects().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_twice_is_read_once_and_never_by_another() {
    let world = World::new(Router::new()).await;
    let (s3, calls) = (world.path("s3"), AtomicU32::new(0));
    let envelope = |body: &str| {
        format!(r#"{{"statusCode": 200, "headers": {{}}, "body": "{body}", "isBase64Encoded": false}}"#)
    };
    let gateway = Server::start(move |heard| {
        let file = s3.join("coworks-airflow").join(heard.header("x-cws-s3key").unwrap());
        let body = envelope(&format!("call {}", calls.fetch_add(1, Ordering::SeqCst)));
        leave(&file, body.as_bytes());
        leave(&file, body.as_bytes());
        say(200, "", "")
    })
    .await;
    let (_, first) = run(&world, &gateway.url(), &["asynchronous"], &[]).await;
    assert_eq!((first.value("print"), world.objects().len()), (&json!("CALL 0"), 0));
    // Delivered once more, when nobody waits for it any longer.
    let key = first.task("answer.call")["xcom"]["key"].as_str().unwrap();
    leave(&object(&world, "coworks-airflow", key), envelope("late").as_bytes());
    let (_, second) = run(&world, &gateway.url(), &["asynchronous"], &[]).await;
    assert_eq!((second.value("print"), world.objects().len()), (&json!("CALL 1"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_is_held_while_answers_are_waited_for() {
    let world = World::new(Router::new()).await;
    let (s3, keys) = (world.path("s3"), Mutex::new(Vec::new()));
    let gateway = Server::start(move |heard| {
        let mut keys = keys.lock().unwrap();
        keys.push(heard.header("x-cws-s3key").unwrap().to_owned());
        // Nobody gets an answer before all have asked.
        if keys.len() == 20 {
            for key in &*keys {
                let body = br#"{"statusCode": 200, "headers": {}, "body": "1", "isBase64Encoded": false}"#;
                leave(&s3.join("coworks-airflow").join(key), body);
            }
        }
        say(200, "", "")
    })
    .await;
    let conf = json!(["a", "b", "c", "d"]).to_string();
    let one = [("COWORKS_BIZ_PARALLELISM", "1")];
    let (ended, result) = run(&world, &gateway.url(), &["left", "--conf", &conf], &one).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(result.values("value.read"), [&json!("1"); 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_asynchronous_call_fails_with_the_status() {
    let world = World::new(Router::new()).await;
    for (status, tries) in [(401, 1), (403, 1), (404, 1), (500, 2)] {
        let gateway = Server::start(move |_| say(status, "", "no")).await;
        let (ended, result) = run(&world, &gateway.url(), &["asynchronous"], &[]).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_eq!(result.task("answer.call")["try_number"], tries, "{status}");
        let error = result.error("answer.call");
        assert!(error.contains(&format!("/dev/work of `test` answered {status}: no")), "{error}");
        assert_eq!(result.state_of("answer.wait"), "upstream_failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stores_nothing_is_asked_again_and_the_group_shares_its_tries() {
    let world = World::new(Router::new()).await;
    let (s3, calls) = (world.path("s3"), AtomicU32::new(0));
    let gateway = Server::start(move |heard| {
        // The first time it dies before it stores anything.
        if calls.fetch_add(1, Ordering::SeqCst) > 0 {
            let key = heard.header("x-cws-s3key").unwrap();
            let body = r#"{"statusCode": 500, "headers": {}, "body": "boom", "isBase64Encoded": false}"#;
            leave(&s3.join("coworks-airflow").join(key), body.as_bytes());
        }
        say(200, "", "")
    })
    .await;
    let (ended, result) = run(&world, &gateway.url(), &["impatient"], &[]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let tries = ["answer.call", "answer.wait", "answer.read"].map(|task| &result.task(task)["try_number"]);
    assert_eq!(tries, [&json!(1), &json!(2), &json!(1)]);
    let logs = world.run(&["logs"]).await.stdout;
    for sentence in [
        "within its timeout of 1s",
        "try 1 of 2, again at ",
        "`test` answered 500, left at s3://coworks-airflow/",
        "no other try: the tasks of its call share 1 retry, and have had it",
    ] {
        assert!(logs.contains(sentence), "{sentence}: {logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_s3_is_waited_out() {
    for status in [403, 500, 503] {
        let world = World::new(Router::new()).await;
        let gateway = Server::start(|_| say(200, "", "")).await;
        let looks = AtomicU32::new(0);
        let s3 = Server::start(move |heard| match heard.line.split(' ').next().unwrap() {
            // The bucket itself.
            "HEAD" if heard.path().trim_end_matches('/').matches('/').count() == 1 => say(200, "", ""),
            "HEAD" => match looks.fetch_add(1, Ordering::SeqCst) {
                0..2 => raw(format!("HTTP/1.1 {status} x\r\n\r\n"), Then::Close),
                _ => raw("HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n", Then::Keep),
            },
            "GET" => say(
                200,
                "",
                r#"{"statusCode": 200, "headers": {}, "body": "late", "isBase64Encoded": false}"#,
            ),
            _ => raw("HTTP/1.1 204 x\r\n\r\n", Then::Keep),
        })
        .await;
        let env = [("AWS_ENDPOINT_URL_S3", &*s3.url())];
        let (ended, result) = run(&world, &gateway.url(), &["asynchronous"], &env).await;
        assert_eq!(ended.code(), 0, "{status}: {ended:?}");
        assert_eq!(result.value("answer.read"), "late");
        assert_eq!(result.task("answer.wait")["try_number"], 1);
        let deleted = s3.heard().iter().filter(|heard| heard.line.starts_with("DELETE")).count();
        assert_eq!(deleted, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_may_not_be_read_is_told_with_its_key_and_not_asked_for_again() {
    let world = World::new(Router::new()).await;
    let gateway = Server::start(|_| say(200, "", "")).await;
    let s3 = Server::start(move |heard| {
        let query = heard.line.split_once('?').map(|(_, query)| query);
        match (heard.line.split(' ').next().unwrap(), query) {
            // Who may list, and look, and not read: it is encrypted with a key of others.
            ("HEAD", _) => raw("HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n", Then::Keep),
            ("GET", Some(query)) if query.contains("list-type=2") => {
                let pairs = coworks_biz::local::axum::http::Uri::try_from(format!("/?{query}")).unwrap();
                let prefix = pairs.query().unwrap().split('&').find_map(|pair| pair.strip_prefix("prefix="));
                let key = prefix.unwrap().replace("%2F", "/");
                say(
                    200,
                    "",
                    format!("<ListBucketResult><Contents><Key>{key}</Key></Contents></ListBucketResult>"),
                )
            }
            ("GET", _) => say(403, "", "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"),
            other => panic!("what is kept is not deleted: {other:?}"),
        }
    })
    .await;
    let env = [("AWS_ENDPOINT_URL_S3", &*s3.url())];
    let (ended, result) = run(&world, &gateway.url(), &["asynchronous"], &env).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let error = result.error("answer.read");
    let told =
        ["s3://coworks-airflow/s3/biz-", "403 AccessDenied: no", "`s3:GetObject`", "The object is kept"];
    assert!(told.iter().all(|part| error.contains(part)), "{error}");
    assert_eq!(gateway.heard().len(), 1, "the service has done its part");
}
