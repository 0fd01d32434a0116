use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::post;
use tokio::sync::Semaphore;

use super::super::*;
use crate::tech::{Found, Look, Results};
use crate::value::Object;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_accepted_is_answered_also_by_a_later_process() {
    let dir = tempfile::tempdir().unwrap();
    let (calls, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let services = || {
        let (calls, begun) = (Arc::clone(&calls), Arc::clone(&begun));
        let entry = move |body: String| async move {
            begun.add_permits(1);
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                std::future::pending::<()>().await;
            }
            format!("got {body}")
        };
        let service = Service::new("slow").token("token").entries(Router::new().route("/work", post(entry)));
        Services::new().with(service)
    };
    let first = services().start(dir.path(), "results").await.unwrap();
    let url = first.gateway_url().replace("{api_id}", "slow/dev/work");
    let call = reqwest::Client::new()
        .post(url)
        .header("authorization", "token")
        .header("content-type", "application/json")
        .header("invocationtype", "Event")
        .header("x-cws-s3bucket", "results")
        .header("x-cws-s3key", "the/key");
    assert_eq!(call.body("this").send().await.unwrap().status(), 200);
    begun.acquire().await.unwrap().forget();
    drop(first);

    let second = services().start(dir.path(), "results").await.unwrap();
    let results = Results::connect(&S3 { server: Some(second.s3().clone()), path_style: true }).await;
    let object = Object { bucket: "results".into(), key: "the/key".into() };
    while results.look(&object).await.unwrap() != Look::There {
        tokio::task::yield_now().await;
    }
    let stored = String::from_utf8(found(results.read(&object, None).await.unwrap())).unwrap();
    assert!(stored.contains("\"body\":\"got this\""), "{stored}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

fn found(found: Found) -> Vec<u8> {
    match found {
        Found::Body(body) => body.into_bytes().unwrap(),
        other => panic!("{other:?}"),
    }
}
