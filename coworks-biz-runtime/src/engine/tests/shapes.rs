//! Branches, loops and joins, from their definition to what is stored.

use tokio::sync::Semaphore;

use super::*;
use crate::dag::{Arm, Gate, Kind, Options, TriggerRule};
use crate::run::State;
use crate::task::{Choice, Items, items};

const JOIN: Options = Options { trigger_rule: TriggerRule::NoneFailedMinOneSuccess, ..Options::DEFAULT };
const DONE: Options = Options { trigger_rule: TriggerRule::AllDone, ..Options::DEFAULT };

/// A task in the loop over task 0.
pub(super) const EACH: Task = Task { gate: Some(Gate { task: 0, arm: 0 }), map: Some(0), ..Task::FUNCTION };

pub(super) fn list(members: &'static [u32]) -> Task {
    Task { task_id: "list", kind: Kind::Map { members }, ..Task::FUNCTION }
}

pub(super) fn conf(context: &Context) -> Result<Items> {
    items(context.conf::<Vec<u32>>()?)
}

/// Gives what it takes.
fn same(context: &Context) -> Result<Work> {
    let input: serde_json::Value = context.input(0)?;
    Ok(finish(async move { Ok::<_, Error>(input) }))
}

pub(super) fn value(dir: &Path, run: i64, task: &str, map_index: i32, key: &str) -> Option<String> {
    let reader = Reader::open(&dir.join("biz.db")).unwrap();
    reader.xcom(run, task, map_index, key).unwrap().map(|json| json.as_str().to_owned())
}

pub(super) fn with(conf: &impl serde::Serialize) -> Trigger {
    Trigger { conf: Some(Json::encode(conf).unwrap()), logical_date: None, idempotency_key: None }
}

/// For each number: small ones as they are, large ones doubled; and then all of them.
fn shapes() -> &'static Definition {
    fn choose(context: &Context) -> Result<Choice> {
        let item: u32 = context.input(0)?;
        Choice::arm(u32::from(item > 15)).bind("n", item)
    }
    fn small(context: &Context) -> Result<Work> {
        let n = context.binding(0, "n", None::<u32>)?;
        Ok(finish(async move { Ok::<_, Error>(n) }))
    }
    fn large(context: &Context) -> Result<Work> {
        let n = context.binding(0, "n", None::<u32>)?;
        Ok(finish(async move { Ok::<_, Error>(2 * n) }))
    }
    fn named(context: &Context) -> Result<Work> {
        let context = context.clone();
        Ok(finish(async move {
            let item: u32 = context.xcom_pull("list").await?;
            let joined: u32 = context.xcom_pull("joined").await?;
            let before: u32 = context.xcom_pull("before").await?;
            let arm: u32 = context.xcom_pull_key("branch", "arm").await?;
            Ok::<_, Error>((context.map_index, item, joined, before, arm))
        }))
    }
    fn all(context: &Context) -> Result<Work> {
        let (joined, items): (Vec<u32>, Vec<u32>) = (context.input(0)?, context.input(1)?);
        let context = context.clone();
        Ok(finish(async move {
            let small: Vec<Option<u32>> = context.xcom_pull("small").await?;
            assert_eq!(items, context.xcom_pull::<Vec<u32>>("list").await?);
            Ok::<_, Error>((joined, items, small))
        }))
    }
    const ARMS: [Arm; 2] = [Arm { label: "n <= 15", members: &[2] }, Arm { label: "n > 15", members: &[3] }];
    let arm = |arm| Task { gate: Some(Gate { task: 1, arm }), inputs: &[1], ..EACH };
    define(
        "shapes",
        [
            (list(&[1, 4, 5]), Body::Map(conf)),
            (
                Task { task_id: "branch", kind: Kind::Branch { arms: &ARMS }, inputs: &[0], ..EACH },
                Body::Branch(choose),
            ),
            (Task { task_id: "small", ..arm(0) }, Body::Function(small)),
            (Task { task_id: "large", ..arm(1) }, Body::Function(large)),
            (
                Task {
                    task_id: "joined",
                    kind: Kind::Join,
                    upstream: &[2, 3],
                    inputs: &[2, 3],
                    options: &JOIN,
                    ..EACH
                },
                Body::Join { branch: 1 },
            ),
            (Task { task_id: "named", upstream: &[4, 6], ..EACH }, Body::Function(named)),
            (Task { task_id: "before", ..Task::FUNCTION }, Body::Function(one)),
            (
                Task { task_id: "all", upstream: &[5], inputs: &[4, 0], options: &DONE, ..Task::FUNCTION },
                Body::Function(all),
            ),
        ],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_takes_its_arm_and_all_come_together_again() {
    let dir = tempfile::tempdir().unwrap();
    let definition = shapes();
    let engine = Engine::start(&config(dir.path(), 4), &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, with(&[10, 20, 5])).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let value = |task, index, key| value(dir.path(), run.run.number, task, index, key);
    assert_eq!(value("all", -1, "return_value").unwrap(), "[[10,40,5],[10,20,5],[10,null,5]]");
    let named = [0, 1, 2].map(|index| value("named", index, "return_value").unwrap());
    assert_eq!(named, ["[0,10,10,1,0]", "[1,20,40,1,1]", "[2,5,5,1,0]"]);
    let branch = ["return_value", "arm", "bindings"].map(|key| value("branch", 1, key).unwrap());
    assert_eq!(branch, [r#""n > 15""#, "1", r#"{"n":20}"#]);
    let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
    let mut tasks = reader.tasks(run.run.number).unwrap();
    tasks.retain(|task| task.task_id != "named" && task.task_id != "before" && task.task_id != "joined");
    let told =
        tasks.iter().map(|t| (&*t.task_id, t.map_index, t.state.map_or("-", State::as_str), t.outcome));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("all", -1, "success", None),
            ("branch", 0, "success", Some(0)),
            ("branch", 1, "success", Some(1)),
            ("branch", 2, "success", Some(0)),
            ("large", 0, "skipped", None),
            ("large", 1, "success", None),
            ("large", 2, "skipped", None),
            ("list", -1, "success", Some(3)),
            ("small", 0, "success", None),
            ("small", 1, "skipped", None),
            ("small", 2, "success", None),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_no_items_come_no_values() {
    let dir = tempfile::tempdir().unwrap();
    let definition = shapes();
    let engine = Engine::start(&config(dir.path(), 4), &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, with(&[0; 0])).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let all = value(dir.path(), run.run.number, "all", -1, "return_value");
    assert_eq!(all.unwrap(), "[[],[],[]]");
    let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
    let tasks = reader.tasks(run.run.number).unwrap();
    assert_eq!(tasks.len(), definition.dag.tasks.len());
    assert_eq!(tasks.iter().filter(|task| task.state == Some(State::Skipped)).count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_goes_on_where_its_process_ended() {
    static GATE: Semaphore = Semaphore::const_new(0);
    static BEGUN: Semaphore = Semaphore::const_new(0);
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn held(context: &Context) -> Result<Work> {
        let item: u32 = context.input(0)?;
        Ok(finish(async move {
            CALLS.fetch_add(1, Ordering::SeqCst);
            BEGUN.add_permits(1);
            GATE.acquire().await?.forget();
            Ok::<_, Error>(item + 100)
        }))
    }
    let dir = tempfile::tempdir().unwrap();
    let definition = define(
        "held",
        [
            (list(&[1, 2]), Body::Map(conf)),
            (Task { task_id: "held", inputs: &[0], ..EACH }, Body::Function(held)),
            (Task { task_id: "same", upstream: &[1], inputs: &[1], ..EACH }, Body::Function(same)),
            (Task { task_id: "all", upstream: &[2], inputs: &[2], ..Task::FUNCTION }, Body::Function(same)),
        ],
    );
    let engine = Engine::start(&config(dir.path(), 2), &[definition], Mode::OneRun).unwrap();
    let run = engine.trigger(definition, with(&[1, 2, 3, 4, 5])).await.unwrap().run;
    // Two have ended, with what follows from them, and two are under way.
    BEGUN.acquire_many(2).await.unwrap().forget();
    GATE.add_permits(2);
    BEGUN.acquire_many(2).await.unwrap().forget();
    drop(engine);
    let states = || {
        let tasks = Reader::open(&dir.path().join("biz.db")).unwrap().tasks(run.number).unwrap();
        // One that waits for its slot says so after a while.
        let held = tasks.into_iter().filter(|task| task.task_id == "held" && task.map_index < 4);
        held.map(|task| (task.map_index, task.state.map_or("-", State::as_str), task.interruptions))
            .collect::<Vec<_>>()
    };
    assert_eq!(states(), [(0, "success", 0), (1, "success", 0), (2, "running", 0), (3, "running", 0)]);

    let engine = Engine::start(&config(dir.path(), 2), &[definition], Mode::OneRun).unwrap();
    let mut run = engine.resume(None, &run.run_id).await.unwrap();
    GATE.add_permits(3);
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(CALLS.load(Ordering::SeqCst), 7, "what had ended did not run again");
    assert_eq!(states().iter().map(|held| held.2).collect::<Vec<_>>(), [0, 0, 1, 1]);
    let all = value(dir.path(), run.run.number, "all", -1, "return_value");
    assert_eq!(all.unwrap(), "[101,102,103,104,105]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_many_items_is_written_in_batches_and_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let definition = define(
        "many",
        [
            (list(&[1]), Body::Map(conf)),
            (Task { task_id: "same", inputs: &[0], ..EACH }, Body::Function(same)),
            (Task { task_id: "all", upstream: &[1], inputs: &[1], ..Task::FUNCTION }, Body::Function(same)),
        ],
    );
    let engine = Engine::start(&config(dir.path(), 32), &[definition], Mode::OneRun).unwrap();
    let numbers: Vec<u32> = (0..10_000).collect();
    let mut run = engine.trigger(definition, with(&numbers)).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let all = value(dir.path(), run.run.number, "all", -1, "return_value").unwrap();
    assert_eq!(serde_json::from_str::<Vec<u32>>(&all).unwrap(), numbers);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_may_be_large_and_may_hold_no_secret() {
    fn large(context: &Context) -> Result<Items> {
        let text: String = context.conf()?;
        items([String::new(), text.repeat(10_000)])
    }
    fn length(context: &Context) -> Result<Work> {
        let text: String = context.input(0)?;
        Ok(finish(async move { Ok::<_, Error>(text.len()) }))
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 2);
    config.secrets.hide("hunter2hunter2");
    let each = || (Task { task_id: "length", inputs: &[0], ..EACH }, Body::Function(length));
    let definition = define("large", [(list(&[1]), Body::Map(large)), each()]);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, with(&"0123456789")).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(value(dir.path(), run.run.number, "length", 1, "return_value").unwrap(), "100000");

    let mut run = engine.trigger(definition, with(&"hunter2")).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed);
    let reader = Reader::open(&config.db).unwrap();
    let tasks = reader.tasks(run.run.number).unwrap();
    assert_eq!((tasks[0].state, tasks[0].map_index), (Some(State::UpstreamFailed), -1));
    let error = tasks[1].error.as_deref().unwrap();
    assert!(error.starts_with("`item 1` holds a secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_or_a_list_that_cannot_be_evaluated_fails() {
    fn panics(_: &Context) -> Result<Choice> {
        panic!("no arm");
    }
    fn refuses(_: &Context) -> Result<Items> {
        Err(Error::msg("no list"))
    }
    let dir = tempfile::tempdir().unwrap();
    let branch = Task { task_id: "branch", kind: Kind::Branch { arms: &[] }, ..Task::FUNCTION };
    let definition = define("bad", [(list(&[]), Body::Map(refuses)), (branch, Body::Branch(panics))]);
    let engine = Engine::start(&config(dir.path(), 2), &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed);
    let tasks = Reader::open(&dir.path().join("biz.db")).unwrap().tasks(run.run.number).unwrap();
    let errors: Vec<_> = tasks.iter().map(|task| task.error.as_deref().unwrap()).collect();
    assert_eq!(errors, ["panicked: no arm", "no list"]);
}
