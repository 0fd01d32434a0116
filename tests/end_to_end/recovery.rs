//! Processes that are stopped or killed, and go on.

use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Json, Router};

use crate::harness::{Gate, World, until};

fn gated(gate: &Gate) -> Router {
    let gate = gate.clone();
    Router::new().route(
        "/gate",
        get(move || {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Json(1)
            }
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_goes_on_from_what_was_committed() {
    let gate = Gate::new();
    let world = World::new(gated(&gate)).await;
    let mut first = world.start(&["run", "held"]);
    gate.arrival().await;
    first.kill().await;
    let run_id = world.last_run_id().await;
    let shown = crate::harness::Run(world.run(&["show", "--output", "json"]).await.json());
    assert_eq!(shown.state(), "running");
    assert_eq!(shown.states(), [("before", "success"), ("gate", "running"), ("after", "")]);

    gate.open();
    gate.open();
    let (ended, run) = world.run_json(&["--resume", &run_id]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("after"), 42);
    assert_eq!(run.0["run_id"], run_id.as_str());
    assert_eq!(run.task("gate")["try_number"], 1, "an interruption is no try");
    assert_eq!(
        run.task("before")["start_date"],
        shown.task("before")["start_date"],
        "what was done is not done again"
    );
    let seen = world.seen();
    assert_eq!(seen.len(), 2);
    for header in ["idempotency-key", "x-amzn-trace-id"] {
        assert_eq!(seen[0].header(header), seen[1].header(header));
    }
    let text = world.run(&["show"]).await.stdout;
    assert!(text.contains("cut off once by the end of its process"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_arrives_while_nobody_runs_is_taken() {
    let gate = Gate::new();
    let held = gate.clone();
    let work = move || {
        let held = held.clone();
        async move {
            held.pass().await;
            "while you were away"
        }
    };
    let world = World::new(Router::new().route("/work", post(work))).await;
    let mut first = world.start(&["run", "asynchronous"]);
    gate.arrival().await;
    first.says("up_for_reschedule").await;
    first.kill().await;
    gate.open();
    until("the answer is there", || !world.objects().is_empty()).await;
    let run_id = world.last_run_id().await;
    let (ended, run) = world.run_json(&["--resume", &run_id]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("print"), "WHILE YOU WERE AWAY");
    assert_eq!(world.seen().len(), 1, "the service was called once");
    assert_eq!(run.task("answer.wait")["try_number"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_lets_what_runs_come_to_its_end() {
    for signal in ["-INT", "-TERM"] {
        let gate = Gate::new();
        let world = World::new(gated(&gate)).await;
        let mut first = world.start(&["run", "held"]);
        gate.arrival().await;
        first.signal(signal);
        first.says("stopping").await;
        gate.open();
        let ended = first.ended().await;
        assert_eq!(ended.code(), 130, "{ended:?}");
        let run_id = world.last_run_id().await;
        assert!(ended.stderr.contains(&format!("program run held --resume '{run_id}'\n")), "{ended:?}");
        let (ended, run) = world.run_json(&["--resume", &run_id]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(run.value("after"), 42);
        assert_eq!(world.seen().len(), 1, "the call that was under way was not cut off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_stops_at_once() {
    let gate = Gate::new();
    let world = World::new(gated(&gate)).await;
    let mut first = world.start(&["run", "held"]);
    gate.arrival().await;
    first.signal("-INT");
    first.says("stopping").await;
    first.signal("-INT");
    assert_eq!(first.ended().await.code(), 130);
    gate.open();
    gate.open();
    let run_id = world.last_run_id().await;
    let (ended, run) = world.run_json(&["--resume", &run_id]).await;
    assert_eq!((ended.code(), run.state()), (0, "success"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_stops_at_once_also_who_serves() {
    let gate = Gate::new();
    let world = World::new(gated(&gate)).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let run_id = crate::harness::trigger(&world, &["held"]).await;
    let mut first = world.start(&["serve"]);
    gate.arrival().await;
    first.signal("-TERM");
    first.says("stopping").await;
    first.signal("-TERM");
    let ended = first.ended().await;
    assert_eq!(ended.code(), 130, "{ended:?}");
    assert!(ended.stderr.contains("what was cut off is tried again by the next `serve`"), "{ended:?}");
    let mut second = world.start(&["serve"]);
    gate.arrival().await;
    gate.open();
    gate.open();
    second.says("run ends: success").await;
    let run = crate::harness::show(&world, &run_id).await;
    assert_eq!((run.state(), &run.task("gate")["try_number"]), ("success", &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_done_in_time_can_be_gone_on_with() {
    let gate = Gate::new();
    let world = World::new(gated(&gate)).await;
    let mut first = world.start(&["run", "held", "--timeout", "1s"]);
    gate.arrival().await;
    first.says("stopping").await;
    gate.open();
    assert_eq!(first.ended().await.code(), 4);
    let run_id = world.last_run_id().await;
    assert_eq!(world.run(&["run", "--resume", &run_id]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_the_process_ends_failed_and_burns_no_tries() {
    let world = World::new(Router::new()).await;
    let file = world.path("starts");
    let conf = serde_json::to_string(&file).unwrap();
    world.run(&["run", "poison", "--conf", &conf]).await;
    let run_id = world.last_run_id().await;
    let mut code = -1;
    for _ in 0..10 {
        code = world.run(&["run", "--resume", &run_id]).await.code();
        if code != -1 {
            break;
        }
    }
    assert_eq!(code, 1);
    let shown = crate::harness::Run(world.run(&["show", "--output", "json"]).await.json());
    let task = shown.task("deadly");
    assert_eq!((&task["state"], &task["try_number"]), (&"failed".into(), &1.into()));
    assert!(task["error"].as_str().unwrap().starts_with("the process died 5 times"), "{task}");
    assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 5);
    let events = world.run(&["show", "--events", "--output", "json"]).await.json();
    let ends = events.as_array().unwrap().iter().filter(|event| event["event"] == "failed");
    let who: Vec<_> = ends.map(|event| event["task_id"].as_str()).collect();
    assert_eq!(who, [Some("deadly"), None], "each has ended once: {events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_value_that_a_killed_process_has_left_is_removed() {
    let world = World::new(Router::new()).await;
    assert_eq!(world.run(&["run", "large"]).await.code(), 0);
    let values = world.path(".coworks-biz/biz.db.blobs");
    let names = || {
        let names = std::fs::read_dir(&values).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    let whole = names();
    // What is being written has another name until it is whole.
    let half = values.join(format!("{}.{}", "0".repeat(64), "01a20a1c-a21f-71db-a632-252a23da885d"));
    std::fs::write(half, "half").unwrap();
    // Whose it is, nobody can tell.
    std::fs::write(values.join("README.txt"), "of somebody else").unwrap();
    assert_eq!(world.run(&["run", "large"]).await.code(), 0);
    let mut left = names();
    left.retain(|name| name != "README.txt");
    assert_eq!((left, names().len()), (whole, 2));
}

/// The database beside whoever has it.
fn look(world: &World) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(world.path(".coworks-biz/biz.db"), flags).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    connection
}

/// How many instances of the ten thousand there are in this state.
fn doubled(connection: &rusqlite::Connection, state: &str) -> u64 {
    let sql = "SELECT count(*) FROM task_instance WHERE task_id = 'doubled' AND state = ?";
    connection.query_row(sql, [state], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_instances_are_gone_on_with_after_a_kill_and_a_stop() {
    let world = World::new(Router::new()).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let run_id = crate::harness::trigger(&world, &["counted", "--conf", "10000"]).await;
    for (signal, at) in [("-KILL", 1_000), ("-TERM", 4_000)] {
        let mut serving = world.start(&["serve", "--quiet"]);
        let database = look(&world);
        until(&format!("{at} have succeeded"), || doubled(&database, "success") >= at).await;
        serving.signal(signal);
        let ended = serving.ended().await;
        if signal == "-TERM" {
            assert_eq!((ended.code(), doubled(&database, "running")), (0, 0), "{ended:?}");
        }
    }
    let _serving = world.start(&["serve", "--quiet"]);
    let database = look(&world);
    let open = "SELECT count(*) FROM dag_run WHERE end_date IS NULL";
    let number = |sql: &str| database.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    until("the run has ended", || number(open) == 0).await;
    let starts = "SELECT count(*) FROM event WHERE task_id = 'doubled' AND state = 'running'";
    let ends = "SELECT count(*) FROM event WHERE task_id = 'doubled' AND state = 'success'";
    let interruptions = number("SELECT sum(interruptions) FROM task_instance");
    assert_eq!((doubled(&database, "success"), number(ends)), (10_000, 10_000));
    assert_eq!(number(starts), 10_000 + interruptions);
    assert!(interruptions <= 32, "as many as there are slots, and by the kill alone: {interruptions}");
    let total = "SELECT value FROM xcom WHERE task_id = 'total'";
    let total: String = database.query_row(total, [], |row| row.get(0)).unwrap();
    assert_eq!(total, "[10000,99990000]", "{run_id}");
}
