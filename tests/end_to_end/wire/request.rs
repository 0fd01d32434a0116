//! The request.

use coworks_biz::local::axum::Router;
use serde_json::json;

use super::server::{Server, Then, leave, object, raw, run, say};
use crate::harness::World;

const ACCEPTED: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_this_and_nothing_else() {
    let world = World::new(Router::new()).await;
    let s3 = world.path("s3");
    let gateway = Server::start(move |heard| match heard.header("x-cws-s3key") {
        Some(key) => {
            let file = s3.join(heard.header("x-cws-s3bucket").unwrap()).join(key);
            leave(&file, br#"{"statusCode": 204, "headers": {}, "body": "", "isBase64Encoded": false}"#);
            // As Lambda accepts an event.
            raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Keep)
        }
        None => say(200, "", "1"),
    })
    .await;
    // The slash at its end makes no second one.
    let url = format!("{}/{{api_id}}/{{region}}/", gateway.url());
    let (ended, result) = run(&world, &url, &["requested"], &[]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");

    let heard = gateway.heard();
    let trace = heard[0].header("x-amzn-trace-id").unwrap().to_owned();
    let run_uuid = heard[0].header("idempotency-key").unwrap().split('/').next().unwrap().to_owned();
    let host = gateway.address.to_string();
    let key = |task: &str| format!("{run_uuid}/{task}.-1.0");
    let agent = concat!("coworks-biz/", env!("CARGO_PKG_VERSION"));
    let expect = |line: &str, body: &str, headers: &[(&str, &str)]| {
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend([("host".into(), host.clone()), ("user-agent".into(), agent.into())]);
        all.sort();
        (line.to_owned(), body.to_owned(), all)
    };
    let got: Vec<_> = heard
        .iter()
        .map(|one| (one.line.clone(), String::from_utf8(one.body.clone()).unwrap(), one.headers.clone()))
        .collect();
    let stored = result.task("left.call")["xcom"]["key"].as_str().unwrap();
    let json = r#"{"list":[1,null],"name":"été"}"#;
    let expected = [
        expect(
            "GET /test/eu-west-1/dev/plain",
            "",
            &[
                ("accept", ACCEPTED),
                ("authorization", "a-bare-token"),
                ("content-type", "application/json"),
                ("idempotency-key", &key("plain")),
                ("x-amzn-trace-id", &trace),
            ],
        ),
        expect(
            "POST /test/eu-west-1/prod/open",
            json,
            &[
                ("accept", ACCEPTED),
                ("content-length", &json.len().to_string()),
                ("content-type", "application/json"),
                ("idempotency-key", &key("open")),
                ("x-amzn-trace-id", &trace),
            ],
        ),
        expect(
            "GET /test/eu-west-1/dev/query?page=2&tag=a+b&tag=c%26d",
            "",
            &[
                ("accept", "application/vnd.api+json"),
                ("content-type", "application/json"),
                ("idempotency-key", &key("query")),
                ("x-amzn-trace-id", &trace),
            ],
        ),
        expect(
            "PUT /test/eu-west-1/dev/headers",
            "text",
            &[
                ("accept", "text/csv"),
                ("authorization", "a-bare-token"),
                ("content-length", "4"),
                ("content-type", "text/csv"),
                ("idempotency-key", "own-key"),
                ("x-amzn-trace-id", "Root=own"),
                ("x-own", "own"),
            ],
        ),
        expect(
            "POST /test/eu-west-1/dev/left",
            "",
            &[
                ("accept", ACCEPTED),
                ("authorization", "a-bare-token"),
                ("content-length", "0"),
                ("content-type", "application/json"),
                ("idempotency-key", &key("left.call")),
                ("invocationtype", "Event"),
                ("x-amzn-trace-id", &trace),
                ("x-cws-s3bucket", "coworks-airflow"),
                ("x-cws-s3key", stored),
            ],
        ),
    ];
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.len());
    assert!(!object(&world, "coworks-airflow", stored).exists());
    assert_eq!(result.task("left.read")["xcom"], json!({"status_code": 204}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_is_the_run() {
    let world = World::new(Router::new()).await;
    let tries = std::sync::atomic::AtomicU32::new(0);
    let gateway = Server::start(move |_| match tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => say(503, "", ""),
        _ => say(200, "", "1"),
    })
    .await;
    let of = |name: &str, from: usize| -> Vec<String> {
        gateway.heard()[from..].iter().map(|one| one.header(name).unwrap_or("none").to_owned()).collect()
    };
    let on = [("COWORKS_BIZ_TRACEPARENT", "on")];
    let (ended, result) = run(&world, &gateway.url(), &["retried"], &on).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let begun: chrono::DateTime<chrono::Utc> = result.0["start_date"].as_str().unwrap().parse().unwrap();
    let expected = format!("Root=1-{:x}-637773303030303030303031", begun.timestamp());
    assert_eq!(of("x-amzn-trace-id", 0), [expected.clone(), expected], "run 1, both tries");
    let parents = of("traceparent", 0);
    let pieces: Vec<Vec<&str>> = parents.iter().map(|parent| parent.split('-').collect()).collect();
    let uuid = gateway.heard()[0].header("idempotency-key").unwrap()[..36].replace('-', "");
    for piece in &pieces {
        assert_eq!((piece[0], piece[1], piece[2].len(), piece[3]), ("00", uuid.as_str(), 16, "01"));
    }
    assert_ne!(pieces[0][2], pieces[1][2], "each attempt is a parent of its own");

    // A file turns it on as well; without either it is off.
    let (ended, _) = run(&world, &gateway.url(), &["many", "--conf", "2"], &[]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(of("traceparent", 2), ["none"; 3]);
    std::fs::write(world.path("coworks-biz.toml"), "traceparent = true\n").unwrap();
    let (ended, result) = run(&world, &gateway.url(), &["many", "--conf", "2"], &[]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let parents = of("traceparent", 5);
    assert!(parents.iter().all(|parent| parent[..36] == parents[0][..36]), "one trace: {parents:?}");
    let different: std::collections::HashSet<_> = parents.iter().collect();
    assert_eq!(different.len(), 3, "{parents:?}");
    let begun: chrono::DateTime<chrono::Utc> = result.0["start_date"].as_str().unwrap().parse().unwrap();
    let expected = format!("Root=1-{:x}-637773303030303030303033", begun.timestamp());
    assert_eq!(of("x-amzn-trace-id", 5), [expected.as_str(); 3], "the third run");
}
