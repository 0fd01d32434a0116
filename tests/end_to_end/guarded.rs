//! Services are protected: so many calls at once, at a pace, and none while they want to be left alone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::post;
use coworks_biz::local::axum::{Json, Router};
use serde_json::json;

use crate::harness::{Gate, PATIENCE, Run, World, show, trigger};

/// How many were under way at once, now and at most.
type Held = Arc<Mutex<(usize, usize)>>;

/// `/work/{number}` waits for the gate; `/asked/{number}` answers at once.
fn entries(gate: &Gate, held: &Held) -> Router {
    let (gate, held) = (gate.clone(), Arc::clone(held));
    let work = move |Path(number): Path<u32>| {
        let (gate, held) = (gate.clone(), Arc::clone(&held));
        async move {
            {
                let mut held = held.lock().unwrap();
                held.0 += 1;
                held.1 = held.1.max(held.0);
            }
            gate.pass().await;
            held.lock().unwrap().0 -= 1;
            Json(number)
        }
    };
    let asked = |Path(number): Path<u32>| async move { Json(number) };
    Router::new().route("/work/{number}", post(work)).route("/asked/{number}", post(asked))
}

async fn world(config: &str) -> (World, Gate, Held) {
    let (gate, held) = (Gate::new(), Held::default());
    let world = World::new(entries(&gate, &held)).await;
    std::fs::write(world.path("coworks-biz.toml"), config).unwrap();
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    (world, gate, held)
}

fn count(run: &Run, task: &str, state: &str) -> usize {
    run.instances(task).iter().filter(|instance| instance["state"] == state).count()
}

/// Waits until so many instances of a task are in a state.
async fn until(world: &World, run_id: &str, task: &str, state: &str, expected: usize) -> Run {
    let begin = std::time::Instant::now();
    loop {
        let run = show(world, run_id).await;
        if count(&run, task, state) == expected {
            return run;
        }
        assert!(begin.elapsed() < PATIENCE, "{expected} of {task} are never {state}: {run:?}");
    }
}

const THREE: &str = "[services.test]\nconcurrency = 3\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_has_no_more_calls_under_way_than_the_service_may_have() {
    let (world, gate, held) = world(THREE).await;
    let numbers = json!((0..40).collect::<Vec<_>>()).to_string();
    let mut running = world.start(&["run", "crowd", "--conf", &numbers, "--output", "json"]);
    running.says("3 calls of `test` are under way, and its `concurrency` is 3: others wait").await;
    for _ in 0..3 {
        gate.arrival().await;
    }
    let run_id = world.last_run_id().await;
    let run = until(&world, &run_id, "worked.call", "queued", 37).await;
    assert_eq!(count(&run, "worked.call", "success"), 3);
    for _ in 3..40 {
        gate.open();
        gate.arrival().await;
    }
    for _ in 0..3 {
        gate.open();
    }
    let ended = running.ended().await;
    let run = Run(ended.json());
    assert_eq!((ended.code(), run.state()), (0, "success"), "{}", ended.stderr);
    let numbers: Vec<_> = (0..40).map(|number| json!(number)).collect();
    assert_eq!(run.values("worked.read"), numbers.iter().collect::<Vec<_>>());
    assert_eq!(*held.lock().unwrap(), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_leaves_its_places_to_a_new_run() {
    let (world, gate, held) = world("[services.test]\nconcurrency = 2\n").await;
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let first = trigger(&world, &["crowd", "--conf", "[1, 2, 3, 4]"]).await;
    gate.arrival().await;
    gate.arrival().await;
    let run = until(&world, &first, "worked.wait", "up_for_reschedule", 2).await;
    assert_eq!(count(&run, "worked.call", "success"), 2);
    // Who looks is told what holds it up.
    let told = world.run(&["show", &first]).await.stderr;
    assert!(told.contains("note: 2 calls of `test` are under way, and its `concurrency` is 2"), "{told}");
    assert_eq!(world.run(&["cancel", &first]).await.code(), 0);
    let second = trigger(&world, &["crowd", "--conf", "[5, 6, 7]"]).await;
    gate.arrival().await;
    gate.arrival().await;
    // Of the first run the service does not know that it was cancelled.
    assert_eq!(held.lock().unwrap().1, 4);
    for _ in 0..5 {
        gate.open();
    }
    gate.arrival().await;
    serving.says("run ends: success").await;
    assert_eq!(count(&show(&world, &second).await, "worked.read", "success"), 3);
    let told = world.run(&["show", &first]).await.stderr;
    assert!(!told.contains("calls of `test`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_goes_on_with_what_is_under_way_and_no_more() {
    let (world, gate, held) = world("[services.default]\nconcurrency = 2\n").await;
    let mut first = world.start(&["run", "crowd", "--conf", "[1, 2, 3, 4, 5]"]);
    gate.arrival().await;
    gate.arrival().await;
    let run_id = world.last_run_id().await;
    until(&world, &run_id, "worked.wait", "up_for_reschedule", 2).await;
    first.kill().await;
    let mut second = world.start(&["run", "--resume", &run_id, "--output", "json"]);
    // The first thing that is told of the service: the two are counted before anything starts.
    second.says("2 calls of `test` are under way").await;
    assert_eq!(world.seen().len(), 2);
    for _ in 2..5 {
        gate.open();
        gate.arrival().await;
    }
    gate.open();
    gate.open();
    let ended = second.ended().await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(*held.lock().unwrap(), (0, 2));
    assert_eq!(world.seen().len(), 5, "each was sent once");
}

/// `/busy` is refused once, for so many seconds; when each request came.
fn busy(seconds: u32, arrivals: &Arc<Mutex<Vec<(String, Instant)>>>) -> Router {
    let (busy, asked) = (Arc::clone(arrivals), Arc::clone(arrivals));
    let busy = move || {
        let mut seen = busy.lock().unwrap();
        seen.push(("busy".to_owned(), Instant::now()));
        let first = seen.len() == 1;
        async move {
            match first {
                true => {
                    let after = [("retry-after", seconds.to_string())];
                    (StatusCode::TOO_MANY_REQUESTS, after, "slowly").into_response()
                }
                false => Json(1).into_response(),
            }
        }
    };
    let asked = move |Path(number): Path<u32>| {
        asked.lock().unwrap().push((number.to_string(), Instant::now()));
        async move { Json(number) }
    };
    Router::new().route("/busy", post(busy)).route("/asked/{number}", post(asked))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_to_be_left_alone_is_by_all() {
    let arrivals = Arc::default();
    let world = World::new(busy(1, &arrivals)).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    let refused = trigger(&world, &["refused"]).await;
    serving.says("`test` asked to be left alone until").await;
    let others = trigger(&world, &["queue", "--conf", "[1, 2, 3]"]).await;
    let run = until(&world, &others, "asked", "success", 3).await;
    assert!(run.instances("asked").iter().all(|task| task["try_number"] == 1), "{run:?}");
    let run = until(&world, &refused, "busy", "success", 1).await;
    assert_eq!(run.task("busy")["try_number"], 2);
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 5);
    for (who, at) in &arrivals[1..] {
        assert!(*at - arrivals[0].1 >= Duration::from_secs(1), "{who}: {arrivals:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_closed_service_are_queued_and_can_be_cancelled() {
    let arrivals = Arc::default();
    let world = World::new(busy(3600, &arrivals)).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    trigger(&world, &["refused"]).await;
    serving.says("`test` asked to be left alone until").await;
    let others = trigger(&world, &["queue", "--conf", "[1, 2, 3]"]).await;
    let run = until(&world, &others, "asked", "queued", 3).await;
    assert!(
        run.instances("asked").iter().all(|task| task["try_number"] == 1 && task["start_date"].is_null())
    );
    for verb in [&["show", &*others][..], &["runs"]] {
        let told = world.run(verb).await.stderr;
        assert!(told.contains("note: `test` asked to be left alone until"), "{told}");
    }
    assert_eq!(world.run(&["cancel", &others]).await.code(), 0);
    // They hold nothing: it stops at once.
    serving.signal("-TERM");
    assert_eq!(serving.ended().await.code(), 0);
    assert_eq!(arrivals.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_begin_at_the_rate_of_the_service() {
    let (world, _gate, _held) = world("[services.test]\nrate = '20/s'\n").await;
    let (ended, run) = world.run_with("queue", json!((0..10).collect::<Vec<_>>())).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let starts = run.instances("asked").into_iter().map(|task| task["start_date"].as_str().unwrap());
    let mut starts: Vec<DateTime<Utc>> = starts.map(|at| at.parse().unwrap()).collect();
    starts.sort_unstable();
    // Two at once, and then one after the other, 50 ms apart. The start of each is a little later.
    let took = (starts[9] - starts[0]).num_milliseconds();
    assert!((350..5_000).contains(&took), "{took} ms: {starts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_the_limits_and_what_limits_nobody() {
    let (world, _gate, _held) =
        world("[services.test]\nconcurrency = 8\nrate = '600/m'\n[services.tset]\nconcurrency = 1\n").await;
    let told = world.run(&["check", "queue"]).await;
    assert_eq!(told.code(), 0, "{told:?}");
    for line in [
        "limit `test`: at most 8 calls at once, and 600 begin in 1m",
        "note  coworks-biz.toml no call of this program is of the service `tset`; did you mean `test`?",
    ] {
        assert!(told.stdout.contains(line), "{}", told.stdout);
    }
    std::fs::write(world.path("coworks-biz.toml"), "[services.test]\nrate = 'quick'\n").unwrap();
    let told = world.run(&["run", "queue", "--conf", "[1]"]).await;
    assert_eq!(told.code(), 2);
    assert!(
        told.error().starts_with("`rate` of the service `test` is `quick`; it must be a number"),
        "{told:?}"
    );
    assert_eq!(world.seen().len(), 0);
}
