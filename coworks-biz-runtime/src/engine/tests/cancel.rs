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

/// Its tasks are skipped, and that lets the next run go, whenever it begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cancelled_before_it_began_does_not_hold_up_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1);
    let definition = definition("looks_back", &[("a", &[], one)]);
    let dag = Box::leak(Box::new(Dag { depends_on_past: true, ..copy_of(definition.dag) }));
    let definition = Box::leak(Box::new(Definition { dag, bodies: definition.bodies, ..Definition::EMPTY }));
    let engine = Engine::start(&config, &[definition], Mode::Orders).unwrap();
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    let name = RunName { dag_id: None, run_id: run.run_id.to_string() };
    engine.order(Order::Cancel { run: name }).await.unwrap();
    drop(engine);

    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let mut next = engine.trigger(definition, Trigger::default()).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), next.ended()).await;
    assert_eq!(ended.expect("it is let go").unwrap(), RunState::Success);
}

fn copy_of(dag: &'static Dag) -> Dag {
    Dag { dag_id: dag.dag_id, tasks: dag.tasks, order: dag.order, ..Dag::EMPTY }
}
