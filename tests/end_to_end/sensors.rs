//! Sensors: calls that are repeated until they succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Json, Router};
use serde_json::json;

use crate::harness::{Gate, TOKEN, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_asks_until_it_sees_what_it_waits_for() {
    let (readies, jobs) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let ready = move || {
        let call = readies.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 => (StatusCode::NOT_FOUND, "not yet").into_response(),
                1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => Json(json!({"id": 7, "done": false})).into_response(),
            }
        }
    };
    let job = move |Path(id): Path<u32>| {
        let call = jobs.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0..2 => Json(json!({"id": id, "done": false})).into_response(),
                2..4 => Json(json!({"id": id, "done": true})).into_response(),
                4 => (StatusCode::NOT_FOUND, "moved").into_response(),
                _ => (StatusCode::GONE, "forgotten").into_response(),
            }
        }
    };
    let world = World::new(Router::new().route("/ready", get(ready)).route("/jobs/{id}", get(job))).await;
    let (ended, run) = world.run_json(&["sensing"]).await;
    assert_eq!((ended.code(), run.state()), (0, "success"), "{ended:?}");
    assert_eq!(
        run.task("ready")["xcom"],
        json!({"cws_name": "test", "status_code": 200, "return_value": {"id": 7, "done": false}})
    );
    assert_eq!(run.task("gone")["xcom"]["status_code"], 410);
    assert_eq!(run.value("report"), &json!([7, "forgotten"]));
    for sensor in ["ready", "done", "gone"] {
        assert_eq!(run.task(sensor)["try_number"], 1, "asking again is no other try");
    }
    let seen = world.seen();
    let lines: Vec<_> = seen.iter().map(|seen| seen.line()).collect();
    assert_eq!(lines[..3], ["GET /ready", "GET /ready", "GET /ready"]);
    assert_eq!(lines[3..6], ["GET /jobs/7?full=true", "GET /jobs/7?full=true", "GET /jobs/7?full=true"]);
    assert_eq!(lines[6..], ["GET /jobs/7", "GET /jobs/7", "GET /jobs/7"]);
    assert!(seen[3..6].iter().all(|seen| seen.header("authorization") == Some(TOKEN)));
    let keys: std::collections::HashSet<_> = seen.iter().map(|seen| seen.header("idempotency-key")).collect();
    assert_eq!(keys.len(), seen.len(), "each is a question of its own");
    let logs = world.run(&["logs", "--task", "ready"]).await.stdout;
    assert!(logs.contains("not yet: GET ") && logs.contains("answered 404: not yet"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_waits_in_vain_says_so_and_is_not_tried_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let each = move |Path(n): Path<u32>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move { if call < 4 { StatusCode::NOT_FOUND.into_response() } else { Json(n * 10).into_response() } }
    };
    let entries = Router::new()
        .route("/never", get(|| async { (StatusCode::NOT_FOUND, "no") }))
        .route("/barred", get(|| async { (StatusCode::FORBIDDEN, "not you") }))
        .route("/text", get(|| async { "no job" }))
        .route("/each/{n}", get(each));
    let world = World::new(entries).await;
    let (ended, run) = world.run_json(&["vain"]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let error = run.error("overdue");
    assert!(error.starts_with("not there within its timeout of 50ms: GET http://127.0.0.1:"), "{error}");
    assert!(error.ends_with("/never of `test` answered 404: no"), "{error}");
    let end = "/barred of `test` answered 403: not you (it was sent without a token, as `no_auth` says)";
    assert!(run.error("barred").ends_with(end), "{}", run.error("barred"));
    let other = run.error("other");
    assert!(other.contains("answered 200, and: this is no `Job`"), "{other}");
    for sensor in ["overdue", "barred", "other"] {
        assert_eq!(
            (run.state_of(sensor), &run.task(sensor)["try_number"]),
            ("failed", &json!(1)),
            "{sensor}"
        );
    }
    let count = |path: &str| world.seen().iter().filter(|seen| seen.uri.path() == path).count();
    assert_eq!((count("/barred"), count("/text")), (1, 1), "who is not let in does not ask again");
    assert!((2..=7).contains(&count("/never")), "{}", count("/never"));
    assert_eq!(run.mapped("each"), ["success"; 3]);
    assert_eq!(run.value("sum"), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_waits_holds_no_worker() {
    let (is_open, gate) = (Arc::new(AtomicBool::new(false)), Gate::new());
    let (opens, held) = (Arc::clone(&is_open), gate.clone());
    let opened = move || {
        let is_open = is_open.load(Ordering::SeqCst);
        async move { if is_open { Json("open").into_response() } else { StatusCode::NOT_FOUND.into_response() } }
    };
    let open = move || {
        opens.store(true, Ordering::SeqCst);
        async { Json("done") }
    };
    let slow = move || {
        let held = held.clone();
        async move {
            held.pass().await;
            Json("slow")
        }
    };
    let entries =
        Router::new().route("/opened", get(opened)).route("/open", post(open)).route("/slow", get(slow));
    let world = World::new(entries).await;
    let mut running = world.start(&["run", "crowded", "--parallelism", "1", "--output", "json"]);
    // Both wait, and the only worker is at work elsewhere.
    gate.arrival().await;
    gate.open();
    let ended = running.ended().await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let run = crate::harness::Run(ended.json());
    assert_eq!((run.value("first"), run.value("second")), (&json!("open"), &json!("open")));
}
