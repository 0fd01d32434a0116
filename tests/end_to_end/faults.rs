//! What goes wrong inside a task, and what is kept out of sight.

use coworks_biz::local::axum::Router;
use serde_json::json;

use crate::harness::{TOKEN, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_fail_ends_with_its_reason() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_json(&["faults"]).await;
    assert_eq!(ended.code(), 0, "the last task succeeded: {ended:?}");
    let mut states = run.states();
    states.sort_unstable();
    assert_eq!(
        states,
        [
            ("blocking", "success"),
            ("cleanup", "success"),
            ("fatal", "failed"),
            ("late", "failed"),
            ("never", "upstream_failed"),
            ("panics", "failed"),
        ]
    );
    let error = |id| run.task(id)["error"].as_str().unwrap();
    assert_eq!(error("panics"), "panicked: something is very wrong");
    assert_eq!(error("late"), "took longer than its execution_timeout of 50ms");
    assert_eq!(error("fatal"), "no retry can mend this");
    assert_eq!(run.task("fatal")["try_number"], 1);
    assert_eq!(run.task("never")["try_number"], 0);
    let logs = world.run(&["logs", "--task", "panics"]).await.stdout;
    assert!(logs.contains("panicked at tests/program/main.rs:"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_log_no_error_no_output_and_no_file() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_json(&["indiscreet"]).await;
    assert_eq!(ended.code(), 1);
    assert_eq!(run.task("log")["error"], "*** is wrong");
    assert_eq!(
        run.task("output")["error"],
        "`return_value` holds a secret at $.request.headers[0], and would be stored"
    );
    assert_eq!(run.task("output")["xcom"], json!({}));
    let logs = world.run(&["logs"]).await.stdout;
    assert!(logs.contains("the token is ***"), "{logs}");
    assert!(!ended.stderr.contains(TOKEN) && !ended.stdout.contains(TOKEN) && !logs.contains(TOKEN));
    for file in std::fs::read_dir(world.path(".coworks-biz")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_goes_through_a_file_of_its_own() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_json(&["large"]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("measure"), 1_000_000);
    assert_eq!(run.value("make").as_str().unwrap().len(), 1_000_000);
    assert_eq!(std::fs::read_dir(world.path(".coworks-biz/biz.db.blobs")).unwrap().count(), 1);
}
