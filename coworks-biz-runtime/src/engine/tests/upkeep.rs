//! What an engine meets over the months: a full disk, a new program, runs that are old.

use super::*;
use crate::run::State;
use crate::store::{RunRecord, TaskRecord, Which, Writer};

/// Never ends.
fn never(_: &Context) -> Result<Work> {
    Ok(finish(std::future::pending::<Result<()>>()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_out() {
    fn long(_: &Context) -> Result<Work> {
        Ok(finish(async { Ok::<_, Error>("x".repeat(60_000)) }))
    }
    let dir = tempfile::tempdir().unwrap();
    let definition = definition("large", &[("a", &[], long), ("b", &[0], one)]);
    let engine = Engine::start(&config(dir.path(), 1), &[definition], Mode::Serve).unwrap();
    let mut before = engine.trigger(definition, Trigger::default()).await.unwrap();
    before.ended().await.unwrap();

    // Little room, and none for what comes of a run.
    engine.post.send(Message::Pages(4)).unwrap();
    let told = async {
        let trouble = until(async || match engine.order(Order::Status).await.unwrap() {
            Answer::Status { trouble, .. } => trouble,
            _ => None,
        })
        .await;
        assert!(trouble.contains("nothing goes on until there is room on the disk"), "{trouble}");
        let refused = engine.trigger(definition, Trigger::default()).await.unwrap_err().to_string();
        assert!(refused.contains("the engine takes nothing in at present"), "{refused}");
        engine.post.send(Message::Pages(10_000)).unwrap();
    };
    let (run, ()) = tokio::join!(engine.trigger(definition, Trigger::default()), told);
    let mut run = run.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert!(matches!(engine.order(Order::Status).await.unwrap(), Answer::Status { trouble: None, .. }));
}

/// Leaves a run of `before`, whose last task is under way, to a program that has `after`.
async fn left(
    before: &'static Definition,
    after: &'static Definition,
) -> (tempfile::TempDir, Engine, RunHandleOfAnother) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 4);
    let engine = Engine::start(&config, &[before], Mode::Serve).unwrap();
    let run = engine.trigger(before, Trigger::default()).await.unwrap().run.number;
    let path = dir.path().join("biz.db");
    let reader = Reader::open(&path).unwrap();
    until(async || {
        let tasks = reader.tasks(run).unwrap();
        tasks.iter().any(|task| task.state == Some(State::Running) && task.task_id == "wait").then_some(())
    })
    .await;
    drop(engine);
    let engine = Engine::start(&config, &[after], Mode::Serve).unwrap();
    (dir, engine, RunHandleOfAnother { reader, run })
}

/// A run that another process has begun.
struct RunHandleOfAnother {
    reader: Reader,
    run: i64,
}

impl RunHandleOfAnother {
    async fn ended(&self) -> RunRecord {
        until(async || self.reader.run(self.run).unwrap().filter(|run| run.state.is_final())).await
    }

    async fn held(&self) -> String {
        until(async || self.reader.run(self.run).unwrap().and_then(|run| run.held)).await
    }

    fn states(&self) -> Vec<(String, Option<State>)> {
        let tasks = self.reader.tasks(self.run).unwrap();
        tasks.into_iter().map(|TaskRecord { task_id, state, .. }| (task_id.into_owned(), state)).collect()
    }

    fn name(&self) -> RunName {
        RunName { dag_id: None, run_id: self.reader.run(self.run).unwrap().unwrap().run_id }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_a_program_that_changes_only_what_is_to_come() {
    let before = definition("office", &[("a", &[], one), ("wait", &[0], never), ("old", &[1], one)]);
    let after = definition(
        "office",
        &[("a", &[], one), ("wait", &[0], add), ("new", &[1], add), ("beside", &[], one)],
    );
    let (_dir, _engine, run) = left(before, after).await;
    let ended = run.ended().await;
    assert_eq!((ended.state, ended.version), (RunState::Success, after.dag.version()));
    let success = Some(State::Success);
    let expected = ["a", "beside", "new", "wait"].map(|task| (task.to_owned(), success));
    assert_eq!(run.states(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_past_the_program_has_changed_is_held_until_somebody_decides() {
    let before = definition("office", &[("a", &[], one), ("wait", &[0], never)]);
    let after = definition("office", &[("first", &[], one), ("wait", &[0], add)]);
    let (_dir, engine, run) = left(before, after).await;
    let held = run.held().await;
    assert_eq!(
        held,
        "task `a` has ended (success), and is not in the program any more; \
         task `wait` is under way behind a, and now comes behind first"
    );
    // Not all of it is decided yet.
    let retry = |from: &[&str]| Order::Retry {
        run: run.name(),
        from: from.iter().map(|t| (*t).to_owned()).collect(),
    };
    let refused = engine.order(retry(&["wait"])).await.unwrap_err().to_string();
    assert!(
        refused.contains("task `a` has ended (success), and is not in the program any more"),
        "{refused}"
    );
    let Answer::Run { cleared, .. } = engine.order(retry(&["a", "wait"])).await.unwrap() else { panic!() };
    assert_eq!(cleared, ["wait"]);
    assert_eq!(run.ended().await.state, RunState::Success);
    let states = [("a", State::Removed), ("first", State::Success), ("wait", State::Success)];
    assert_eq!(run.states(), states.map(|(task, state)| (task.to_owned(), Some(state))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_run_can_be_cancelled() {
    let before = definition("office", &[("a", &[], one), ("wait", &[0], never)]);
    let after = definition("office", &[("wait", &[], one)]);
    let (_dir, engine, run) = left(before, after).await;
    run.held().await;
    engine.order(Order::Cancel { run: run.name() }).await.unwrap();
    let ended = run.ended().await;
    assert_eq!(
        (ended.state, ended.stopped.as_deref(), ended.held),
        (RunState::Failed, Some("cancelled"), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_older_than_the_retention_are_removed_while_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), 4);
    let definition = definition("office", &[("a", &[], one)]);
    let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    for _ in 0..5 {
        engine.trigger(definition, Trigger::default()).await.unwrap().ended().await.unwrap();
    }
    drop(engine);
    config.retention = Some(std::time::Duration::from_micros(1));
    let _engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    let reader = Reader::open(&config.db).unwrap();
    until(async || (reader.runs(None, 9).unwrap().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleared_is_run_again_as_a_new_effect_and_counts_on() {
    fn generation(context: &Context) -> Result<Work> {
        let tries = context.try_number;
        Ok(finish(async move { Ok::<_, Error>(tries) }))
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 4);
    let definition = definition("office", &[("a", &[], generation), ("b", &[0], add)]);
    let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    run.ended().await.unwrap();
    let (number, name) =
        (run.run.number, RunName { dag_id: Some("office".into()), run_id: run.run.run_id.to_string() });
    engine.order(Order::Retry { run: name, from: vec!["a".into()] }).await.unwrap();
    let reader = Reader::open(&config.db).unwrap();
    let tasks = until(async || {
        let tasks = reader.tasks(number).unwrap();
        tasks.iter().all(|task| task.try_number == 2 && task.state == Some(State::Success)).then_some(tasks)
    })
    .await;
    for task in &tasks {
        assert_eq!((task.try_number, task.tries_before, task.generation), (2, 1, 1), "{task:?}");
    }
    assert_eq!(reader.xcom(number, "b", -1, "return_value").unwrap().unwrap().as_str(), "3");
    drop(engine);
    // What is recorded is what a later process reads.
    let writer = Writer::open(&config.db, config.durability).unwrap();
    assert!(writer.runs(Which::Open).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_had_ended_is_only_looked_at_where_a_mark_reopens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 4);
    let definition = definition("office", &[("a", &[], one), ("b", &[0], add)]);
    let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    run.ended().await.unwrap();
    let name = RunName { dag_id: None, run_id: run.run.run_id.to_string() };
    let mark = Order::Mark { run: name.clone(), task: "b".into(), state: crate::run::Mark::Failed };
    engine.order(mark.clone()).await.unwrap();
    let status = engine.order(Order::Status).await.unwrap();
    assert!(matches!(status, Answer::Status { runs: 0, .. }), "{status:?}");
    assert!(engine.order(mark).await.unwrap_err().to_string().contains("is failed, and cannot be marked so"));
    let refused = engine.order(Order::Cancel { run: name }).await.unwrap_err().to_string();
    assert!(refused.contains("has ended already"), "{refused}");
    let status = engine.order(Order::Status).await.unwrap();
    assert!(matches!(status, Answer::Status { runs: 0, .. }), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_a_task_that_is_gone_lets_the_run_go_on() {
    let before = definition("office", &[("a", &[], one), ("wait", &[0], never)]);
    let after = definition("office", &[("a", &[], one), ("other", &[0], add)]);
    let (_dir, engine, run) = left(before, after).await;
    run.held().await;
    engine.order(Order::Retry { run: run.name(), from: vec!["wait".into()] }).await.unwrap();
    assert_eq!(run.ended().await.state, RunState::Success);
    let states = [("a", State::Success), ("other", State::Success), ("wait", State::Removed)];
    assert_eq!(run.states(), states.map(|(task, state)| (task.to_owned(), Some(state))));
}

/// The same with a schedule.
fn scheduled(dag: Dag) -> &'static Definition {
    let task = Task { task_id: "a", ..Task::FUNCTION };
    let dag = Dag { dag_id: "office", tasks: vec![task].leak(), order: &[0], ..dag };
    let dag: &'static Dag = Box::leak(Box::new(dag));
    Box::leak(Box::new(Definition { dag, bodies: vec![Body::Function(one)].leak(), ..Definition::EMPTY }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_begin_is_made_once_and_held() {
    let pooled = crate::dag::Options { pool: "nowhere", ..crate::dag::Options::DEFAULT };
    let task = Task { task_id: "a", options: Box::leak(Box::new(pooled)), ..Task::FUNCTION };
    let schedule = Some(crate::dag::Schedule::Continuous);
    let dag = Dag { dag_id: "office", tasks: vec![task].leak(), order: &[0], schedule, ..Dag::EMPTY };
    let dag: &'static Dag = Box::leak(Box::new(dag));
    let definition: &'static Definition = Box::leak(Box::new(Definition {
        dag,
        bodies: vec![Body::Function(one)].leak(),
        ..Definition::EMPTY
    }));
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1);
    for _ in 0..2 {
        let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
        let made = || Reader::open(&config.db).unwrap().runs(None, 9).unwrap();
        until(async || {
            engine.order(Order::Status).await.unwrap();
            (!made().is_empty()).then_some(())
        })
        .await;
        drop(engine);
        let runs = made();
        assert_eq!(runs.len(), 1);
        assert!(runs[0].held.as_deref().is_some_and(|held| held.contains("there is no pool `nowhere`")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catching_up_on_many_ticks_holds_up_no_order() {
    let start = now_on_the_minute() - 60 * 2_000;
    let every = crate::dag::Schedule::Every(std::time::Duration::from_secs(60));
    let definition =
        scheduled(Dag { schedule: Some(every), start_date: Some(start), catchup: true, ..Dag::EMPTY });
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 8);
    let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    // Between two batches of ticks.
    assert!(matches!(engine.order(Order::Status).await.unwrap(), Answer::Status { .. }));
    let reader = Reader::open(&config.db).unwrap();
    let made = reader.runs(None, 9_999).unwrap().len();
    assert!(made < 2_001, "it was answered behind all of them");
    let runs = until(async || {
        let runs = reader.runs(None, 9_999).unwrap();
        (runs.len() >= 2_001 && runs.iter().all(|run| run.state == RunState::Success)).then_some(runs)
    })
    .await;
    let dates: std::collections::BTreeSet<_> = runs.iter().map(|run| run.logical_date).collect();
    assert_eq!(dates.len(), runs.len());
    assert_eq!(dates.first().unwrap().timestamp(), start);
}

fn now_on_the_minute() -> i64 {
    Utc::now().timestamp() / 60 * 60
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_waits_for_what_its_arm_did_in_the_run_before() {
    static OPEN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
    fn choose(_: &Context) -> Result<crate::task::Choice> {
        Ok(crate::task::Choice::arm(0))
    }
    fn waits(_: &Context) -> Result<Work> {
        Ok(finish(async {
            OPEN.acquire().await?.forget();
            Ok::<_, Error>(1)
        }))
    }
    const ARMS: [crate::dag::Arm; 1] = [crate::dag::Arm { label: "yes", members: &[1] }];
    const OPTIONS: crate::dag::Options =
        crate::dag::Options { wait_for_downstream: true, ..crate::dag::Options::DEFAULT };
    let branch = crate::dag::Kind::Branch { arms: &ARMS };
    let gate = Some(crate::dag::Gate { task: 0, arm: 0 });
    let tasks = [
        (Task { task_id: "branch", kind: branch, options: &OPTIONS, ..Task::FUNCTION }, Body::Branch(choose)),
        (Task { task_id: "member", gate, ..Task::FUNCTION }, Body::Function(waits)),
    ];
    let definition = define("office", tasks);
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(&config(dir.path(), 4), &[definition], Mode::Serve).unwrap();
    let mut first = engine.trigger(definition, Trigger::default()).await.unwrap();
    let mut second = engine.trigger(definition, Trigger::default()).await.unwrap();
    let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
    until(async || reader.tasks(first.run.number).unwrap().get(1).map(|_| ())).await;
    assert!(reader.tasks(second.run.number).unwrap().is_empty());
    OPEN.add_permits(2);
    for run in [&mut first, &mut second] {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), run.ended()).await;
        assert_eq!(ended.expect("it is let go").unwrap(), RunState::Success);
    }
}

#[cfg(feature = "local")]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_taken_away_is_noticed_where_nothing_is_to_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let clock = crate::clock::Clock::skipping(Utc::now());
    let config = Config { clock, ..config(dir.path(), 1) };
    let engine = Engine::start(&config, &[definition("idle", &[("a", &[], one)])], Mode::Serve).unwrap();
    std::fs::rename(&config.db, dir.path().join("elsewhere")).unwrap();
    let failed = tokio::time::timeout(std::time::Duration::from_secs(60), engine.failed()).await;
    let error = failed.expect("it looks from time to time").to_string();
    assert!(error.contains("was moved, deleted or replaced while this process had it"), "{error}");
}
