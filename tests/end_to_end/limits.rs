//! Pools and limits, deadlines of runs, the past, callbacks, and one biz that triggers another.

use coworks_biz::local::axum::extract::State;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::post;
use coworks_biz::local::axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::{Gate, PATIENCE, Run, World, show, trigger};

/// `/held` waits for the gate and gives back what it was given.
async fn world() -> (World, Gate) {
    let gate = Gate::new();
    let held = |State(gate): State<Gate>, Json(body): Json<Value>| async move {
        gate.pass().await;
        Json(body)
    };
    let world = World::new(Router::new().route("/held", post(held)).with_state(gate.clone())).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    (world, gate)
}

async fn why(world: &World, biz: &str) -> Vec<String> {
    let runs = world.run(&["runs", biz, "--output", "json"]).await.json();
    runs.as_array().unwrap().iter().map(|run| run["why"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_slot_has_one_call_at_a_time() {
    let (world, gate) = world().await;
    let ended = world.run(&["trigger", "pooled", "--conf", "[1, 2, 3]"]).await;
    assert_eq!(ended.code(), 5);
    assert!(
        ended.error().contains("there is no pool `narrow`: give it slots in coworks-biz.toml"),
        "{ended:?}"
    );
    assert_eq!(world.run(&["check", "pooled"]).await.code(), 5);

    std::fs::write(world.path("coworks-biz.toml"), "[pools]\nnarrow = 1\n").unwrap();
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let run_id = trigger(&world, &["pooled", "--conf", "[1, 2, 3]"]).await;
    for left in (0..3).rev() {
        gate.arrival().await;
        // Who waits for a slot says so after a while.
        let count = |run: &Run, state: &str| run.mapped("held").iter().filter(|is| **is == state).count();
        let begin = std::time::Instant::now();
        let mut run = show(&world, &run_id).await;
        while count(&run, "queued") < left {
            assert!(begin.elapsed() < PATIENCE, "{left} do not wait for a slot: {run:?}");
            run = show(&world, &run_id).await;
        }
        assert_eq!((count(&run, "running"), count(&run, "queued")), (1, left));
        gate.open();
    }
    serving.says("run ends: success").await;
    assert_eq!(world.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_begin_one_after_the_other_the_earliest_first() {
    let (world, gate) = world().await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let run = |date: &'static str| ["lonely", "--logical-date", date];
    let first = trigger(&world, &run("2026-01-05")).await;
    gate.arrival().await;
    let late = trigger(&world, &run("2026-01-03")).await;
    let early = trigger(&world, &run("2026-01-02")).await;
    let waits = "waits until fewer than 1 of its biz are under way";
    let told = why(&world, "lonely").await;
    assert_eq!((told[0].as_str(), told[1].as_str()), (waits, waits));
    gate.open();
    for (running, queued) in [(&early, Some(&late)), (&late, None)] {
        gate.arrival().await;
        assert_eq!(show(&world, running).await.state(), "running");
        if let Some(queued) = queued {
            assert_eq!(show(&world, queued).await.state(), "queued");
        }
        gate.open();
    }
    assert_eq!(show(&world, &first).await.state(), "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_has_failed() {
    let (world, _gate) = world().await;
    let (ended, run) = world.run_json(&["hasty"]).await;
    assert_eq!((ended.code(), run.state()), (1, "failed"));
    assert_eq!(run.states(), [("sleeps", "skipped"), ("after", "skipped")]);
    assert_eq!(why(&world, "hasty").await, ["timed out"]);
    let run_id = world.last_run_id().await;
    let story = world.run(&["show", &run_id, "--events"]).await.stdout;
    assert!(story.contains("it took longer than its dagrun_timeout of 300ms"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_waits_for_itself_in_the_run_before() {
    let (world, gate) = world().await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    trigger(&world, &["faithful", "--logical-date", "2026-01-01"]).await;
    gate.arrival().await;
    let second = trigger(&world, &["faithful", "--logical-date", "2026-01-02"]).await;
    assert_eq!(show(&world, &second).await.state_of("held"), "", "it has not begun");
    // Also for a process that comes later.
    serving.kill().await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    gate.arrival().await;
    assert_eq!(show(&world, &second).await.state_of("held"), "");
    gate.open();
    gate.arrival().await;
    gate.open();
    serving.says("run ends: success").await;
    assert_eq!(world.seen().len(), 3, "the first one twice, for it was cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_called_once_what_they_tell_of_is_committed() {
    let failing = post(|| async { (StatusCode::SERVICE_UNAVAILABLE, "try later").into_response() });
    let world = World::new(Router::new().route("/held", failing)).await;
    let ended = world.run(&["run", "telling"]).await;
    assert_eq!(ended.code(), 1);
    let logs = world.run(&["logs", "--task", "held"]).await.stdout;
    for told in ["told of held try 1: ", "told of held try 2: "] {
        assert!(logs.contains(told), "{logs}");
    }
    assert!(logs.contains("503"), "{logs}");

    let working = Router::new().route("/held", post(|| async { Json(json!(7)) }));
    let world = World::new(working).await;
    assert_eq!(world.run(&["run", "telling"]).await.code(), 0);
    let logs = world.run(&["logs"]).await.stdout;
    for told in ["told of held try 1: well", "told of after try 1: well"] {
        assert!(logs.contains(told), "{logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mailed_is_tried_later_and_fails_nothing() {
    let failing = post(|| async { StatusCode::BAD_REQUEST });
    let world = World::new(Router::new().route("/held", failing)).await;
    // Nobody listens there.
    let mut command = world.command(&["run", "telling"]);
    command.env("COWORKS_SMTP_URL", "smtp://127.0.0.1:9").env("COWORKS_SMTP_FROM", "biz@example.com");
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("email is tried again at"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_triggers_another_biz_and_waits_for_its_run() {
    let (world, gate) = world().await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let run_id = trigger(&world, &["parent", "--conf", "5"]).await;
    gate.arrival().await;
    let waiting = why(&world, "parent").await;
    assert!(waiting[0].contains("waits for run manual__"), "{waiting:?}");
    // The wait is a row: the next process goes on with it.
    serving.kill().await;
    gate.open();
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    gate.arrival().await;
    gate.open();
    serving.says("after").await;
    serving.says("run ends: success").await;
    let run = show(&world, &run_id).await;
    assert_eq!(run.state(), "success");
    let children = world.run(&["runs", "child", "--output", "json"]).await.json();
    assert_eq!(children.as_array().unwrap().len(), 1, "one key, one run");
    assert_eq!(run.value("after"), &children[0]["run_id"]);
    assert!(world.seen().iter().all(|seen| seen.json() == json!(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_or_marked_while_it_waits_for_a_slot_neither_runs_nor_keeps_one() {
    let (world, gate) = world().await;
    std::fs::write(world.path("coworks-biz.toml"), "[pools]\nnarrow = 1\n").unwrap();
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let first = trigger(&world, &["pooled", "--conf", "[1, 2, 3]"]).await;
    gate.arrival().await;
    // One of the same run, and all of another.
    let second = trigger(&world, &["pooled", "--conf", "[4]"]).await;
    for order in [&["mark", &*first, "held[1]", "failed"][..], &["cancel", &*second]] {
        assert_eq!(world.run(order).await.code(), 0);
    }
    gate.open();
    gate.arrival().await;
    gate.open();
    serving.says("run ends").await;
    assert_eq!(show(&world, &first).await.mapped("held"), ["success", "failed", "success"]);
    let told = async |run_id: &str| world.run(&["show", run_id]).await.stdout;
    assert!(told(&first).await.contains("marked so by an operator"), "{}", told(&first).await);
    let none = world.run(&["mark", &first, "held[3]", "failed"]).await;
    let has = "which has 3 instances of it, from 0 to 2";
    assert!(none.code() == 5 && none.error().contains(has), "{none:?}");
    // The slot is free, and who is told to stop does.
    let third = trigger(&world, &["pooled", "--conf", "[5]"]).await;
    gate.arrival().await;
    gate.open();
    serving.says("run ends: success").await;
    assert_eq!(show(&world, &third).await.state(), "success");
    serving.signal("-TERM");
    assert_eq!(serving.ended().await.code(), 0);
    let bodies: Vec<_> = world.seen().iter().map(|seen| seen.json()).collect();
    assert_eq!(bodies, [json!(1), json!(3), json!(5)]);

    // What the cancel has skipped is run again, too.
    let retried = world.run(&["retry", &second, "--output", "json"]).await.json();
    assert_eq!(retried["cleared"], json!(["held[0]"]), "{retried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_engine_runs_old_ticks_again() {
    let gate = Gate::new();
    let ticks = gate.clone();
    let tick = coworks_biz::local::axum::routing::get(move || async move {
        ticks.tell();
        Json(json!(1))
    });
    let world = World::new(Router::new().route("/tick", tick)).await;
    let mut serving = world.start(&["serve"]);
    for _ in 0..2 {
        gate.arrival().await;
    }
    let runs = world.run(&["runs", "ticking", "--output", "json"]).await.json();
    let date = runs.as_array().unwrap().last().unwrap()["logical_date"].as_str().unwrap().to_owned();
    let span = ["backfill", "ticking", "--from", &date, "--to", &date];
    let ended = world.run(&[&span[..], &["--reprocess", "all", "--output", "json"]].concat()).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.json()["runs"][0]["action"], "again");
    serving.says("is complete").await;
    let seen = world.seen();
    let at = |seen: &crate::harness::Seen| seen.uri.query().unwrap().split('&').next().unwrap().to_owned();
    let asked = seen.iter().filter(|one| at(one) == at(&seen[0])).count();
    assert_eq!(asked, 2, "once for the tick, and once more");
    let ended = world.run(&["backfill", "ticking", "--from", "2026-01-01", "--to", "2999-01-01"]).await;
    assert!(ended.error().contains("is still to come"), "{ended:?}");
}
