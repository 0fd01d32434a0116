//! What becomes of calls over their tries. How they look on the wire is in `wire`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Json, Router};
use serde_json::json;

use crate::harness::{TOKEN, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_call_names_where_its_answer_goes_which_is_deleted_once_read() {
    let world = World::new(Router::new().route("/work", post(|| async { "done, été" }))).await;
    let (ended, run) = world.run_json(&["asynchronous"]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("print"), "DONE, ÉTÉ");
    let seen = world.seen();
    let [call] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(call.method.as_str(), "POST");
    assert_eq!(call.header("invocationtype"), Some("Event"));
    assert_eq!(call.header("x-cws-s3bucket"), Some("coworks-airflow"));
    assert_eq!(call.header("authorization"), Some(TOKEN));
    assert_eq!(call.header("content-length"), Some("0"), "there is no body, and that is said");
    let key = call.header("x-cws-s3key").unwrap();
    assert_eq!(run.task("answer.call")["xcom"]["key"], key);
    let pieces: Vec<_> = key.split('/').collect();
    assert_eq!((pieces[0], pieces[3]), ("s3", "answer.call.-1.0"));
    assert!(pieces[1].starts_with("biz-"), "{key}");
    assert!(key.ends_with(call.header("idempotency-key").unwrap()), "both are derived from the same name");
    assert_eq!(world.objects(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_after_the_delay_that_the_service_wants() {
    let calls = Arc::new(AtomicU32::new(0));
    let flaky = move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "busy").into_response(),
                1 => (StatusCode::BAD_GATEWAY, "gone").into_response(),
                _ => Json(json!({"ok": true})).into_response(),
            }
        }
    };
    let world = World::new(Router::new().route("/flaky", get(flaky))).await;
    let (ended, run) = world.run_json(&["flaky"]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.task("answer")["try_number"], 3);
    assert_eq!(run.value("answer"), &json!({"ok": true}));
    assert_eq!(run.task("answer")["error"], json!(null), "what was mended is no error of the task");
    let logs = world.run(&["logs", "--try", "1"]).await.stdout;
    assert!(logs.contains("answered 503: busy"), "{logs}");
    // All tries of a call are one effect to a service that looks.
    let keys: Vec<_> = world.seen().iter().map(|s| s.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| key == &keys[0]), "{keys:?}");
    // The second try came after the service's second, not after the task's 20 ms.
    let begun: chrono::DateTime<chrono::Utc> = run.0["start_date"].as_str().unwrap().parse().unwrap();
    let ended: chrono::DateTime<chrono::Utc> = run.0["end_date"].as_str().unwrap().parse().unwrap();
    assert!(ended - begun >= chrono::TimeDelta::seconds(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_refused_is_asked_for_again_under_the_same_name_elsewhere() {
    let calls = Arc::new(AtomicU32::new(0));
    let work = move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 => (StatusCode::INTERNAL_SERVER_ERROR, "not today").into_response(),
                _ => "second time lucky".into_response(),
            }
        }
    };
    let world = World::new(Router::new().route("/work", post(work))).await;
    let (ended, run) = world.run_json(&["asynchronous"]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("answer.read"), "second time lucky");
    assert_eq!(run.task("answer.read")["try_number"], 2);
    assert_eq!(run.task("answer.call")["try_number"], 1);
    let seen = world.seen();
    let [first, second] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(first.header("idempotency-key"), second.header("idempotency-key"));
    let (one, two) = (first.header("x-cws-s3key").unwrap(), second.header("x-cws-s3key").unwrap());
    assert_eq!(two, format!("{one}.2"));
    assert_eq!(world.objects(), Vec::<std::path::PathBuf>::new(), "both answers are deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_call_share_its_retries_and_a_refused_answer_does_not_stay() {
    let refuse = || async { (StatusCode::INTERNAL_SERVER_ERROR, "never") };
    let world = World::new(Router::new().route("/work", post(refuse))).await;
    let (ended, run) = world.run_json(&["asynchronous"]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let error = run.task("answer.read")["error"].as_str().unwrap();
    assert!(error.starts_with("`test` answered 500, left at s3://") && error.ends_with(": never"), "{error}");
    assert_eq!(world.seen().len(), 2, "retries = 1: asked twice, whoever asks");
    assert_eq!(world.objects(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_source_is_hidden_also_by_a_process_that_did_not_send_it() {
    let echo = || async { (StatusCode::BAD_REQUEST, "got the header literal-token") };
    let world = World::new(Router::new().route("/gate", get(echo))).await;
    let (ended, run) = world.run_json(&["held"]).await;
    let error = run.task("gate")["error"].as_str().unwrap();
    assert!(error.ends_with("answered 400: got the header ***"), "{error}");
    assert!(!ended.stderr.contains("literal-token"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_without_an_answer_asks_again_and_a_kept_answer_stays() {
    let calls = Arc::new(AtomicU32::new(0));
    let work = move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            if call == 0 {
                std::future::pending::<()>().await;
            }
            "at last"
        }
    };
    let world = World::new(Router::new().route("/work", get(work))).await;
    let (ended, run) = world.run_json(&["impatient"]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("answer.read"), "at last");
    assert_eq!(run.task("answer.wait")["try_number"], 2);
    let seen = world.seen();
    let [first, second] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(first.header("x-cws-s3key"), second.header("x-cws-s3key"));
    assert_eq!(first.header("idempotency-key"), second.header("idempotency-key"));
    assert_eq!(world.objects().len(), 1);
}
