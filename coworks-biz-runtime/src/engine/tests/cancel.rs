//! Cancelling what has not begun.

use super::*;
use crate::dag::Role;

/// A teardown without a setup runs whatever becomes of the others: its run is under way by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_queued_run_that_is_cancelled_is_under_way_where_it_has_something_to_take_down() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1);
    let teardown = Task { task_id: "down", role: Role::Teardown, ..Task::FUNCTION };
    let work = Task { task_id: "work", ..Task::FUNCTION };
    let tasks = [(work, Body::Function(one)), (teardown, Body::Function(one))];
    let definition = define("cleans", tasks);
    let engine = Engine::start(&config, &[definition], Mode::Orders).unwrap();
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    let name = RunName { dag_id: None, run_id: run.run_id.to_string() };
    engine.order(Order::Cancel { run: name }).await.unwrap();
    drop(engine);
    let record = Reader::open(&config.db).unwrap().run(run.number).unwrap().unwrap();
    assert_eq!(record.state, RunState::Running, "{record:?}");
    assert!(record.start_date.is_some());

    // Who serves next goes on with it.
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let mut run = engine.resume(None, &run.run_id).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed);
}
