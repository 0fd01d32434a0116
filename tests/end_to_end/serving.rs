//! A process that serves: ticks, orders from other processes, and what is left of it when it dies.

use std::collections::BTreeSet;

use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::{Gate, World, show};

/// `/tick` tells the gate and answers at once; `/steps` waits for it.
fn entries(gate: &Gate) -> Router {
    let (ticks, steps) = (gate.clone(), gate.clone());
    let tick = get(move || async move {
        ticks.tell();
        Json(json!(1))
    });
    let step = post(move || async move {
        steps.pass().await;
        Json(json!(20))
    });
    Router::new().route("/tick", tick).route("/steps", step)
}

async fn world() -> (World, Gate) {
    let gate = Gate::new();
    (World::new(entries(&gate)).await, gate)
}

/// With everything but this paused, so that nothing else calls.
async fn only(world: &World, biz: &str) {
    for other in ["ticking"].iter().filter(|other| **other != biz) {
        assert_eq!(world.run(&["pause", other]).await.code(), 0);
    }
}

async fn runs(world: &World, biz: &str) -> Vec<Value> {
    let runs = world.run(&["runs", biz, "--limit", "1000", "--output", "json"]).await.json();
    runs.as_array().unwrap().clone()
}

/// The run ids that an order has answered with.
async fn order(world: &World, arguments: &[&str]) -> Value {
    let ended = world.run(&[arguments, &["--output", "json"]].concat()).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.json()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tick_makes_one_run_also_across_a_kill() {
    let (world, gate) = world().await;
    let mut first = world.start(&["serve"]);
    for _ in 0..3 {
        gate.arrival().await;
    }
    first.kill().await;
    let mut second = world.start(&["serve"]);
    for _ in 0..3 {
        gate.arrival().await;
    }
    second.signal("-TERM");
    assert_eq!(second.ended().await.code(), 0);

    let runs = runs(&world, "ticking").await;
    let dates: BTreeSet<&str> = runs.iter().map(|run| text(run, "logical_date")).collect();
    assert_eq!(dates.len(), runs.len(), "one run for each");
    assert!(runs.iter().all(|run| text(run, "run_type") == "scheduled"));
    assert!(dates.iter().all(|date| date.ends_with(".000000Z")), "{dates:?}");
    let date = text(&runs[0], "logical_date").replace(".000000Z", "+00:00");
    assert_eq!(text(&runs[0], "run_id"), format!("scheduled__{date}"));
    // Each stands for the second before it.
    for seen in world.seen() {
        let query = seen.uri.query().unwrap().to_owned();
        let query: std::collections::HashMap<_, _> =
            query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        assert_eq!(query["at"], query["end"]);
        assert_ne!(query["start"], query["end"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_has_the_database_and_does_what_others_ask_for() {
    let (world, gate) = world().await;
    only(&world, "steps").await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let pid = serving.pid().to_string();
    for refused in [&["serve"][..], &["run", "steps"][..]] {
        let ended = world.run(refused).await;
        assert_eq!(ended.code(), 3);
        assert!(ended.stderr.contains(&format!("in use by process {pid}")), "{ended:?}");
    }

    let made = order(&world, &["trigger", "steps", "--idempotency-key", "k"]).await;
    let again = order(&world, &["trigger", "steps", "--idempotency-key", "k"]).await;
    let run_id = text(&made, "run_id");
    assert_eq!(run_id, text(&again, "run_id"));
    gate.arrival().await;
    let shown = world.run(&["runs", "steps"]).await.stdout;
    assert!(shown.contains("call: runs since"), "{shown}");
    gate.open();
    serving.says("run ends").await;
    assert_eq!(show(&world, run_id).await.state(), "success");

    // A moment stands for one run.
    let moment = ["trigger", "steps", "--logical-date", "2026-01-01T00:00:00Z"];
    order(&world, &moment).await;
    let ended = world.run(&moment).await;
    assert_eq!(
        (ended.code(), ended.error()),
        (5, "biz `steps` already has a run with the logical date 2026-01-01 00:00:00 UTC")
    );
    gate.arrival().await;
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_paused_nothing_starts() {
    let (world, gate) = world().await;
    only(&world, "steps").await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    order(&world, &["trigger", "steps"]).await;
    gate.arrival().await;
    assert_eq!(order(&world, &["pause", "steps"]).await["already"], false);
    assert_eq!(order(&world, &["pause", "steps"]).await["already"], true);
    // What runs comes to its end, and nothing new starts.
    gate.open();
    serving.says("call").await;
    let second = order(&world, &["trigger", "steps"]).await;
    assert_eq!(text(&second, "state"), "queued");
    let runs = runs(&world, "steps").await;
    assert!(text(&runs[0], "why").contains("until its biz is unpaused"), "{runs:?}");
    order(&world, &["unpause", "steps"]).await;
    gate.arrival().await;
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_and_run_again_with_a_new_effect() {
    let (world, gate) = world().await;
    only(&world, "steps").await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let made = order(&world, &["trigger", "steps"]).await;
    let run_id = text(&made, "run_id").to_owned();
    gate.arrival().await;
    let cancelled = order(&world, &["cancel", &run_id]).await;
    assert_eq!(text(&cancelled, "state"), "failed");
    let run = show(&world, &run_id).await;
    let states = [("prepare", "success"), ("call", "failed"), ("report", "skipped"), ("tidy", "skipped")];
    assert_eq!((run.state(), run.states().as_slice()), ("failed", &states[..]));
    assert_eq!(text(&runs(&world, "steps").await[0], "why"), "cancelled");
    let ended = world.run(&["cancel", &run_id]).await;
    assert_eq!(ended.code(), 5, "{ended:?}");

    let retried = order(&world, &["retry", &run_id]).await;
    assert_eq!(retried["cleared"], json!(["call", "report", "tidy"]));
    gate.arrival().await;
    gate.open();
    gate.open();
    serving.says("run ends: success").await;
    let run = show(&world, &run_id).await;
    assert_eq!((run.state(), run.task("call")["try_number"].as_u64()), ("success", Some(2)));
    assert_eq!(run.value("report"), 40);
    let keys: BTreeSet<_> =
        world.seen().iter().map(|seen| seen.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 2, "a new effect is wanted");

    // From its beginning, and with a name that is not there.
    let ended = world.run(&["retry", &run_id, "--from", "repot"]).await;
    assert_eq!(ended.error(), format!("run `{run_id}` has no task `repot`; did you mean `report`?"));
    let retried = order(&world, &["retry", &run_id, "--from", "prepare"]).await;
    assert_eq!(retried["cleared"], json!(["prepare", "call", "report", "tidy"]));
    gate.arrival().await;
    assert_eq!(world.seen().last().unwrap().json()["prepared"], 2, "its second try");
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_how_a_task_has_ended() {
    let failing = Router::new().route("/steps", post(|| async { StatusCode::BAD_REQUEST }));
    let world = World::new(failing).await;
    only(&world, "steps").await;
    // What tidies up at the end has worked, and so has the run.
    assert_eq!(world.run(&["run", "steps"]).await.code(), 0);
    let run_id = world.last_run_id().await;
    let ended = world.run(&["mark", &run_id, "nothing", "success"]).await;
    assert_eq!(ended.code(), 5);
    // Nothing serves: it is recorded, and executed by who does next.
    let marked = order(&world, &["mark", &run_id, "call", "success"]).await;
    assert_eq!(text(&marked, "state"), "running");
    let mut serving = world.start(&["serve"]);
    serving.says("run ends").await;
    let run = show(&world, &run_id).await;
    assert_eq!(run.state_of("call"), "success");
    // It has no output, so that what needs it cannot run.
    assert_eq!(run.state_of("report"), "failed");
    let story = world.run(&["show", &run_id, "--events"]).await.stdout;
    assert!(story.contains("call marked success by an operator"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_nothing_serves_is_done_by_who_does_next() {
    let (world, gate) = world().await;
    only(&world, "steps").await;
    let ended = world.run(&["trigger", "steps"]).await;
    assert_eq!(ended.code(), 0);
    assert!(ended.stdout.contains("is queued") && ended.stderr.contains("nothing serves"), "{ended:?}");
    let mut serving = world.start(&["serve"]);
    gate.arrival().await;
    gate.open();
    serving.says("run ends: success").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_by_takes_over() {
    let (world, gate) = world().await;
    only(&world, "steps").await;
    let mut first = world.start(&["serve"]);
    first.says("serving").await;
    let mut second = world.start(&["serve", "--standby"]);
    second.says("standing by").await;
    order(&world, &["trigger", "steps"]).await;
    gate.arrival().await;
    first.kill().await;
    second.says("serving").await;
    gate.arrival().await;
    gate.open();
    gate.open();
    second.says("run ends: success").await;
    assert_eq!(runs(&world, "steps").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_runs_the_ticks_that_have_no_run() {
    let (world, gate) = world().await;
    only(&world, "backfill").await;
    let span = ["backfill", "ticking", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:00:03Z"];
    let planned = order(&world, &[&span[..], &["--dry-run"]].concat()).await;
    assert_eq!(planned["runs"].as_array().unwrap().len(), 4);
    assert!(runs(&world, "ticking").await.is_empty());
    order(&world, &span).await;
    let refused = world.run(&span).await;
    assert_eq!(refused.code(), 5);
    assert!(refused.error().contains("there is one at a time"), "{refused:?}");

    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    order(&world, &["unpause", "ticking"]).await;
    for _ in 0..4 {
        gate.arrival().await;
    }
    serving.says("is complete").await;
    order(&world, &["pause", "ticking"]).await;
    let again = order(&world, &span).await;
    let actions: Vec<_> = again["runs"].as_array().unwrap().iter().map(|run| text(run, "action")).collect();
    assert_eq!(actions, ["skipped"; 4]);
    let all = order(&world, &[&span[..], &["--reprocess", "all"]].concat()).await;
    assert!(all["runs"].as_array().unwrap().iter().all(|run| run["action"] == "again"), "{all}");
    let cancelled = order(&world, &["backfill", "ticking", "--cancel"]).await;
    assert_eq!(cancelled["runs"].as_array().unwrap().len(), 4);
}
