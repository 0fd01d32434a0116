mod abuse;
#[cfg(feature = "local")]
mod calls;
mod cancel;
#[cfg(feature = "email")]
mod outbox;
mod sensors;
#[cfg(feature = "local")]
mod services;
mod shapes;
mod slots;
mod upkeep;
mod webhooks;

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::config::{Environment, Flags};
use crate::dag::{Dag, Task};
use crate::error::Result;
use crate::store::Reader;
use crate::task::{Body, Context, Runner, Work, finish};

fn definition(dag_id: &'static str, tasks: &[(&'static str, &[u32], Runner)]) -> &'static Definition {
    let tasks = tasks.iter().map(|(task_id, upstream, runner)| {
        let upstream = upstream.to_vec().leak();
        (Task { task_id, upstream, inputs: upstream, ..Task::FUNCTION }, Body::Function(*runner))
    });
    define(dag_id, tasks)
}

/// The definition of these tasks, whose downstreams are found.
fn define(dag_id: &'static str, tasks: impl IntoIterator<Item = (Task, Body)>) -> &'static Definition {
    let (mut tasks, bodies): (Vec<Task>, Vec<Body>) = tasks.into_iter().unzip();
    let mut downstream = vec![vec![]; tasks.len()];
    for (index, task) in (0..).zip(&tasks) {
        task.upstream.iter().for_each(|&above| downstream[above as usize].push(index));
    }
    tasks.iter_mut().zip(downstream).for_each(|(task, downstream)| task.downstream = downstream.leak());
    let order = (0..tasks.len() as u32).collect::<Vec<_>>().leak();
    let dag = Box::leak(Box::new(Dag { dag_id, tasks: tasks.leak(), order, ..Dag::EMPTY }));
    Box::leak(Box::new(Definition { dag, bodies: bodies.leak(), ..Definition::EMPTY }))
}

fn config(dir: &Path, parallelism: usize) -> Config {
    let flags = Flags { db: Some(dir.join("biz.db")), parallelism: Some(parallelism) };
    Config::from(flags, &Environment::from(|_| None), &dir.join("none.toml")).unwrap()
}

/// What is looked for, once it is there. What is not within minutes never will be.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => break found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(300), found).await.expect("it does not come about")
}

fn one(_: &Context) -> Result<Work> {
    Ok(finish(async { Ok::<_, Error>(1usize) }))
}

/// Adds its input to one.
fn add(context: &Context) -> Result<Work> {
    let input: usize = context.input(0)?;
    Ok(finish(async move { Ok::<_, Error>(input + 1) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_attempts_run_at_once_than_there_are_slots() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    static MEETING: LazyLock<tokio::sync::Barrier> = LazyLock::new(|| tokio::sync::Barrier::new(3));
    fn busy(_: &Context) -> Result<Work> {
        Ok(finish(async {
            MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Three at a time meet here; fewer would wait for ever.
            MEETING.wait().await;
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            MEETING.wait().await;
            Ok::<_, Error>(())
        }))
    }
    let dir = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|id| (id, &[][..], busy as Runner)).into();
    let definition = definition("busy", &tasks);
    let engine = Engine::start(&config(dir.path(), 3), &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_at_once_all_end_with_their_own_values() {
    let dir = tempfile::tempdir().unwrap();
    let definition = definition("chain", &[("a", &[], one), ("b", &[0], add), ("c", &[1], add)]);
    let engine = Engine::start(&config(dir.path(), 8), &[definition], Mode::OneRun).unwrap();
    let runs = (0..50).map(|_| engine.trigger(definition, Trigger::default()));
    for run in futures_util::future::join_all(runs).await {
        let mut run = run.unwrap();
        assert_eq!(run.ended().await.unwrap(), RunState::Success);
        let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
        let value = reader.xcom(run.run.number, "c", -1, "return_value").unwrap().unwrap();
        assert_eq!(value.as_str(), "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_dag_has_changed_too_much_is_refused() {
    fn never(_: &Context) -> Result<Work> {
        Ok(finish(std::future::pending::<Result<()>>()))
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1);
    let before = definition("changing", &[("a", &[], never)]);
    let engine = Engine::start(&config, &[before], Mode::OneRun).unwrap();
    let run_id = engine.trigger(before, Trigger::default()).await.unwrap().run.run_id.to_string();
    assert!(matches!(engine.resume(None, &run_id).await, Err(EngineError::Refused(Refusal::Live { .. }))));
    drop(engine);

    let after = definition("changing", &[("first", &[], one), ("a", &[0], add)]);
    let engine = Engine::start(&config, &[after], Mode::OneRun).unwrap();
    let error = engine.resume(None, &run_id).await.unwrap_err().to_string();
    let why = "task `a` is under way behind nothing, and now comes behind first";
    assert!(error.contains(why), "{error}");
    drop(engine);

    let other = definition("other", &[("a", &[], one)]);
    let engine = Engine::start(&config, &[other], Mode::OneRun).unwrap();
    let error = engine.resume(None, &run_id).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused(Refusal::NoDag { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_stops_the_engine_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let definition = definition("short", &[("a", &[], one)]);
    let engine = Engine::start(&config(dir.path(), 1), &[definition], Mode::OneRun).unwrap();
    // Another program that knows nothing of our lock breaks the table of runs.
    let intruder = rusqlite::Connection::open(dir.path().join("biz.db")).unwrap();
    intruder.execute_batch("DROP TABLE event").unwrap();
    let error = engine.trigger(definition, Trigger::default()).await.unwrap_err();
    assert!(matches!(error, EngineError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("no such table"), "{error}");
    assert!(matches!(engine.drain().await, Err(EngineError::Stopped(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_starts_nothing_more_and_leaves_the_rest_to_be_resumed() {
    static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    static BEGUN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    fn held(_: &Context) -> Result<Work> {
        Ok(finish(async {
            BEGUN.add_permits(1);
            GATE.acquire().await?.forget();
            Ok::<_, Error>(1usize)
        }))
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1);
    let definition = definition("held", &[("a", &[], held), ("b", &[0], add), ("c", &[], one)]);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    BEGUN.acquire().await.unwrap().forget();
    let (drained, ()) = tokio::join!(engine.drain(), async { GATE.add_permits(1) });
    drained.unwrap();
    drop(engine);
    let reader = Reader::open(&config.db).unwrap();
    let states = reader.tasks(run.number).unwrap();
    let states: Vec<_> = states
        .iter()
        .map(|task| (&*task.task_id, task.state.map_or("-", crate::run::State::as_str)))
        .collect();
    assert_eq!(states, [("a", "success"), ("b", "queued"), ("c", "queued")]);

    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let mut run = engine.resume(None, &run.run_id).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let tasks = reader.tasks(run.run.number).unwrap();
    assert!(tasks.iter().all(|task| (task.try_number, task.interruptions) == (1, 0)), "{tasks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_interruption_is_recorded_before_any_body_runs_again() {
    static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    static BEGUN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    fn held(_: &Context) -> Result<Work> {
        Ok(finish(async {
            BEGUN.add_permits(1);
            GATE.acquire().await?.forget();
            Ok::<_, Error>(())
        }))
    }
    let dir = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = ["a", "b", "c", "d", "e"].map(|id| (id, &[][..], held as Runner)).into();
    let definition = definition("held", &tasks);
    let engine = Engine::start(&config(dir.path(), 4), &[definition], Mode::OneRun).unwrap();
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    BEGUN.acquire_many(4).await.unwrap().forget();
    drop(engine);

    // One that waits for its slot says so after a while.
    let recorded = || {
        let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
        let tasks = reader.tasks(run.number).unwrap();
        tasks
            .iter()
            .filter(|task| task.task_id != "e")
            .map(|task| (task.state.map_or("-", crate::run::State::as_str), task.interruptions))
            .collect::<Vec<_>>()
    };
    assert_eq!(recorded(), [("running", 0), ("running", 0), ("running", 0), ("running", 0)]);
    let rest = [("queued", 1), ("queued", 1), ("queued", 1)];

    let engine = Engine::start(&config(dir.path(), 1), &[definition], Mode::OneRun).unwrap();
    engine.resume(None, &run.run_id).await.unwrap();
    BEGUN.acquire().await.unwrap().forget();
    assert_eq!(recorded(), [&[("running", 1)][..], &rest].concat());
    drop(engine);

    // What was interrupted twice runs alone, however many slots there are.
    let engine = Engine::start(&config(dir.path(), 4), &[definition], Mode::OneRun).unwrap();
    let mut run = engine.resume(None, &run.run_id).await.unwrap();
    BEGUN.acquire().await.unwrap().forget();
    assert_eq!(recorded(), [&[("running", 2)][..], &rest].concat());
    GATE.add_permits(5);
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_moment_is_so_far_that_a_database_cannot_be_read_for_it() {
    fn never_again(_: &Context) -> Result<Work> {
        Ok(finish(async { Err::<(), _>(Error::msg("not for ages").retry_after(Duration::MAX)) }))
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1);
    let options = Box::leak(Box::new(crate::dag::Options { retries: 1, ..crate::dag::Options::DEFAULT }));
    let task = Task { task_id: "a", options, ..Task::FUNCTION };
    let definition = define("patient", [(task, Body::Function(never_again))]);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    for year in [-262_143, 0, 10_000, 250_000] {
        let date = chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or(chrono::NaiveDate::MIN);
        let logical_date = Some(date.and_time(chrono::NaiveTime::MIN).and_utc());
        let refused =
            engine.trigger(definition, Trigger { logical_date, ..Trigger::default() }).await.unwrap_err();
        assert!(matches!(refused, EngineError::Refused(Refusal::Year { .. })), "{year}: {refused}");
    }
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    let waits = async || {
        let task = Reader::open(&config.db).unwrap().tasks(run.number).ok()?.pop()?;
        (task.state == Some(crate::run::State::UpForRetry)).then_some(task)
    };
    let task = until(waits).await;
    assert_eq!(task.due_at, Some(crate::clock::LAST));
    drop(engine);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let name = RunName { dag_id: None, run_id: run.run_id.to_string() };
    engine.order(Order::Cancel { run: name }).await.unwrap();
}
