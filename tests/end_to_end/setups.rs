//! Setups and their teardowns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::{delete, post};
use coworks_biz::local::axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::{Gate, World};

fn plan(skip: bool, fails: &[&str]) -> Value {
    json!({"skip": skip, "fails": fails})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_up_is_taken_down_whatever_happens_and_nothing_else_is() {
    let broken = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&broken);
    let close = move |Path(server): Path<String>| {
        let fails = fails.load(Ordering::SeqCst);
        async move { if fails { StatusCode::BAD_REQUEST.into_response() } else { Json(server).into_response() } }
    };
    let world = World::new(Router::new().route("/servers/{id}", delete(close))).await;
    let (run_, failed, blocked, skipped) = ("success", "failed", "upstream_failed", "skipped");
    for (conf, teardown_fails, code, states) in [
        (plan(false, &[]), false, 0, [run_, run_, run_, run_]),
        (plan(false, &["work"]), false, 1, [run_, failed, blocked, run_]),
        (plan(false, &["more"]), false, 1, [run_, run_, failed, run_]),
        (plan(false, &[]), true, 0, [run_, run_, run_, failed]),
        (plan(false, &["more"]), true, 1, [run_, run_, failed, failed]),
        (plan(false, &["server"]), false, 1, [failed, blocked, blocked, blocked]),
        (plan(true, &[]), false, 0, [skipped, skipped, skipped, skipped]),
    ] {
        broken.store(teardown_fails, Ordering::SeqCst);
        let before = world.seen().len();
        let (ended, run) = world.run_with("resources", conf.clone()).await;
        assert_eq!(["server", "work", "more", "closed"].map(|id| run.state_of(id)), states, "{conf}");
        assert_eq!(ended.code(), code, "{conf}: {ended:?}");
        assert_eq!(run.state(), ["success", "failed"][code as usize]);
        let closed = world.seen().len() - before;
        assert_eq!(closed, usize::from(states[0] == run_), "{conf}");
    }
    assert!(world.seen().iter().all(|seen| seen.line() == "DELETE /servers/server"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_call_sets_up_and_takes_down_as_a_whole() {
    let (run_, failed, blocked) = ("success", "failed", "upstream_failed");
    for (leases, ends, work_fails, code, states) in [
        (200, 200, false, 0, [run_, run_, run_]),
        (200, 200, true, 1, [run_, failed, run_]),
        (200, 400, false, 0, [run_, run_, failed]),
        (400, 200, false, 1, [failed, blocked, blocked]),
    ] {
        let answer = |status: u16, text: &'static str| {
            move || async move { (StatusCode::from_u16(status).unwrap(), text) }
        };
        let entries = Router::new()
            .route("/leases", post(answer(leases, "seven")))
            .route("/leases/seven", delete(answer(ends, "over")));
        let world = World::new(entries).await;
        let (ended, run) =
            world.run_with("leased", plan(false, if work_fails { &["work"] } else { &[] })).await;
        assert_eq!(["lease.read", "work", "ended.read"].map(|id| run.state_of(id)), states, "{ended:?}");
        assert_eq!(ended.code(), code, "{ended:?}");
        let deleted = world.seen().iter().filter(|seen| seen.method == "DELETE").count();
        assert_eq!(deleted, usize::from(states[0] == run_));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_setup_is_enough_for_a_teardown_and_what_comes_after_waits_for_it() {
    let world = World::new(Router::new().route("/party", post(|| async { Json("fun") }))).await;
    for (fails, code, states, cleaned) in [
        (&[][..], 0, ["success", "success"], json!(["kitchen", "garden"])),
        (&["garden"], 0, ["success", "success"], json!(["kitchen"])),
        (&["kitchen", "garden"], 1, ["upstream_failed", "upstream_failed"], Value::Null),
    ] {
        let (ended, run) = world.run_with("rooms", plan(false, fails)).await;
        assert_eq!(ended.code(), code, "{ended:?}");
        assert_eq!(["party", "clean"].map(|id| run.state_of(id)), states, "{fails:?}");
        assert_eq!(run.value("clean"), &cleaned);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teardown_runs_once_also_where_the_process_dies_before_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let party = move || {
        let held = held.clone();
        async move {
            held.pass().await;
            Json("fun")
        }
    };
    let world = World::new(Router::new().route("/party", post(party))).await;
    let conf = plan(false, &["garden"]).to_string();
    let mut first = world.start(&["run", "rooms", "--conf", &conf]);
    gate.arrival().await;
    first.kill().await;
    gate.open();
    gate.open();
    let (ended, run) = world.run_json(&["--resume", &world.last_run_id().await]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("clean"), &json!(["kitchen"]));
    assert_eq!((run.state_of("garden"), run.state_of("sleep")), ("failed", "success"));
    assert_eq!(run.task("clean")["try_number"], 1);
}
