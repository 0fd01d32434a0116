//! The directory.

use std::sync::atomic::{AtomicU32, Ordering};

use coworks_biz::local::axum::Router;
use serde_json::{Value, json};

use super::server::{Server, raw, run, say};
use crate::harness::{Ended, Run, World};

/// Runs where the directory answers this.
async fn looked_up(directory: &Server) -> (Ended, Run) {
    let world = World::new(Router::new()).await;
    let url = format!("{}/dir/", directory.url());
    let env = [("COWORKS_DIRECTORY_URL", &*url), ("COWORKS_DIRECTORY_TOKEN", "the-directorys-own")];
    let (ended, result) = run(&world, "http://127.0.0.1:1", &["looked_up"], &env).await;
    assert!(!ended.stderr.contains("the-directorys-own"), "{ended:?}");
    (ended, result)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_is_this_and_nothing_else() {
    let shop = Server::start(|_| say(200, "", "1")).await;
    let entry = json!({"url": format!("{}/at/", shop.url()), "token": "token-of-the-shop"}).to_string();
    let directory = Server::start(move |_| say(200, "", &entry)).await;
    let (ended, result) = looked_up(&directory).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(!ended.stderr.contains("token-of-the-shop"), "{ended:?}");
    let heard = directory.heard();
    // The same one is asked once.
    assert_eq!(
        heard.iter().map(|heard| &*heard.line).collect::<Vec<_>>(),
        ["GET /dir/shop", "GET /dir/shop?stage=prod"]
    );
    let headers = [
        ("accept", "application/json"),
        ("authorization", "the-directorys-own"),
        ("host", &directory.address.to_string()),
        ("user-agent", concat!("coworks-biz/", env!("CARGO_PKG_VERSION"))),
    ];
    for one in &heard {
        assert_eq!(one.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    for one in shop.heard() {
        assert_eq!((&*one.line, one.header("authorization")), ("GET /at/entry", Some("token-of-the-shop")));
    }
    assert_eq!(result.task("named")["xcom"]["cws_name"], "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_have_no_token() {
    let shop = Server::start(|heard| match heard.path() {
        "/null/entry" => say(401, "", "no"),
        _ => say(404, "", "no"),
    })
    .await;
    for (place, token, status, hint) in [
        (
            "null",
            Value::Null,
            401,
            "it was sent without a token: neither the call nor the service has one".to_owned(),
        ),
        ("none", Value::Null, 404, format!("the directory says that it is at {}/none", shop.url())),
        (
            "some",
            json!("token-of-the-shop"),
            404,
            format!("the directory says that it is at {}/some", shop.url()),
        ),
    ] {
        let entry = json!({"url": format!("{}/{place}", shop.url()), "token": token}).to_string();
        let directory = Server::start(move |_| say(200, "", &entry)).await;
        let (ended, result) = looked_up(&directory).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        let url = format!("{}/{place}/entry", shop.url());
        assert_eq!(result.error("named"), format!("GET {url} of `shop` answered {status}: no ({hint})"));
        let heard = shop.heard().pop().unwrap();
        assert_eq!(heard.header("authorization"), token.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_directory_does_not_know_is_told() {
    let how = "set COWORKS_DIRECTORY_URL and COWORKS_DIRECTORY_TOKEN, or AIRFLOW_CONN_COWORKS_DIRECTORY";
    for (status, body, sentence) in [
        (404, "no", "there is no `shop` in the directory {}: it answered 404: no".to_owned()),
        (500, "KeyError", "there is no `shop` in the directory {}: it answered 500: KeyError".to_owned()),
        (401, "", format!("the directory {{}} does not let us look for `shop`: it answered 401; {how}")),
        (400, "", "the directory {} could not be asked for `shop`: it answered 400".to_owned()),
        (503, "busy", "the directory {} could not be asked for `shop`: it answered 503: busy".to_owned()),
        (
            200,
            r#"{"token": "token-of-the-shop"}"#,
            r#"the directory {} answered for `shop` with 200, but not as {"token": "..", "url": ".."}"#
                .to_owned(),
        ),
    ] {
        let directory = Server::start(move |_| say(status, "", body)).await;
        let (ended, result) = looked_up(&directory).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_eq!(result.error("named"), sentence.replacen("{}", &format!("{}/dir", directory.url()), 1));
        assert!(!ended.stderr.contains("token-of-the-shop"), "{ended:?}");
    }
    // Larger than any entry: it is not read to its end.
    let asked = AtomicU32::new(0);
    let directory = Server::start(move |_| {
        asked.fetch_add(1, Ordering::SeqCst);
        raw(format!("HTTP/1.1 200 x\r\n\r\n{}", " ".repeat(1 << 20)), super::server::Then::Repeat)
    })
    .await;
    let (_, result) = looked_up(&directory).await;
    let error = result.error("named");
    assert!(error.contains("answered for `shop` with more than 1 MiB"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_where_the_directory_says_is_told_so() {
    let entry = json!({"url": "http://127.0.0.1:1/at", "token": null}).to_string();
    let directory = Server::start(move |_| say(200, "", &entry)).await;
    let (_, result) = looked_up(&directory).await;
    let error = result.error("named");
    assert!(
        error.starts_with("GET http://127.0.0.1:1/at/entry of `shop` got no answer: nobody listens there"),
        "{error}"
    );
    assert!(error.ends_with("(the directory says that it is at http://127.0.0.1:1/at)"), "{error}");
}
