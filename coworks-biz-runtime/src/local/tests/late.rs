//! Answers that come when the run that asked for them is over, or asks for something else.

use std::path::Path;
use std::time::Duration;

use axum::Json;
use chrono::{DateTime, TimeDelta};

use super::super::script::Script;
use super::super::*;
use super::runs::asynchronous;
use crate::engine::{Answer, Engine, EngineError, Mode, Order, RunHandle, RunName, Trigger};
use crate::run::{Mark, RunState};
use crate::store::Reader;
use crate::task::Definition;
use crate::tech::{Page, Results};
use crate::value::Object;

/// A service, an engine and a clock that goes as far as it is told.
struct World {
    clock: Clock,
    script: Arc<Script>,
    config: Config,
    results: Results,
    definition: &'static Definition,
    _local: Local,
}

impl World {
    async fn new(dir: &Path, dag_id: &'static str, faults: Vec<Fault>) -> Self {
        let mut config = super::config(dir, &[]);
        let clock = Clock::skipping(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        clock.stop_at(Some(clock.now()));
        config.clock = clock.clone();
        let script: Arc<Script> = Arc::default();
        script.add("xxxx", faults);
        let service = Service::new("xxxx").named("neorezo-status").get("/200", || async { Json(7) });
        let (answers, with) = (dir.join("s3"), Some(Arc::clone(&script)));
        let local = Services::new()
            .with(service)
            .start_by(&answers, &config.bucket, clock.clone(), with)
            .await
            .unwrap();
        local.configure(&mut config);
        let results = Results::connect(&config.s3).await;
        let definition = asynchronous(dag_id, "/200");
        Self { clock, script, config, results, definition, _local: local }
    }

    fn engine(&self) -> Engine {
        Engine::start(&self.config, &[self.definition], Mode::Serve).unwrap()
    }

    async fn pass(&self, seconds: i64) {
        let end = self.clock.now() + TimeDelta::seconds(seconds);
        self.clock.stop_at(Some(end));
        while self.clock.now() < end || !self.clock.is_idle() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn begin(&self, engine: &Engine) -> RunHandle {
        engine.trigger(self.definition, Trigger::default()).await.unwrap()
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.config.db).unwrap()
    }

    async fn answer_goes_to(&self, run: &RunHandle) -> Object {
        let xcom = |key| self.reader().xcom(run.run.number, "x.call", -1, key).unwrap();
        while xcom("key").is_none() {
            tokio::task::yield_now().await;
        }
        let of = |key| xcom(key).unwrap().decode::<String>().unwrap();
        Object { bucket: of("bucket"), key: of("key") }
    }

    async fn keys(&self) -> Vec<String> {
        match self.results.page(&self.config.bucket, "s3/", "").await.unwrap() {
            Page::Keys { keys, .. } => keys,
            Page::Forbidden => panic!("it may list"),
        }
    }
}

fn name(run: &RunHandle) -> RunName {
    RunName { dag_id: None, run_id: run.run.run_id.to_string() }
}

async fn mark(engine: &Engine, run: &RunHandle, task: &str, state: Mark) -> Result<Answer, EngineError> {
    engine.order(Order::Mark { run: name(run), task: task.into(), state }).await
}

const LATE: Duration = Duration::from_secs(1000);

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_cancel_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), "async 200", vec![Fault::delay(LATE), Fault::delay(LATE)]).await;
    let engine = world.engine();
    // Once while it waits, and once while nobody has looked yet.
    let waited = world.begin(&engine).await;
    world.pass(30).await;
    let sent = world.begin(&engine).await;
    for mut run in [waited, sent] {
        world.answer_goes_to(&run).await;
        engine.order(Order::Cancel { run: name(&run) }).await.unwrap();
        assert_eq!(run.ended().await.unwrap(), RunState::Failed);
    }
    world.pass(1200).await;
    assert_eq!(world.keys().await.len(), 2, "both have come");
    world.pass(3000).await;
    assert_eq!(world.keys().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cleared_while_it_waits_is_asked_anew_by_all_of_its_members_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let refused = r#"{"statusCode":503,"headers":{},"body":"busy","isBase64Encoded":false}"#;
    let faults = vec![Fault::delay(LATE), Fault::leaves(refused)];
    let world = World::new(dir.path(), "async retried", faults).await;
    let engine = world.engine();
    let mut run = world.begin(&engine).await;
    world.answer_goes_to(&run).await;
    world.pass(30).await;
    engine.order(Order::Retry { run: name(&run), from: vec!["x.call".into()] }).await.unwrap();
    world.pass(900).await;
    assert_eq!(run.ended().await.unwrap(), RunState::Success);

    let calls = world.script.received("xxxx");
    let sent =
        |header: &str| calls.iter().map(|call| call.header(header).unwrap().to_owned()).collect::<Vec<_>>();
    let (said, keys) = (sent("Idempotency-Key"), sent("X-CWS-S3Key"));
    assert_eq!(said.len(), 3);
    assert!(said[0].ends_with(".0") && said[1].ends_with(".1"), "{said:?}");
    assert_eq!(said[1], said[2], "who reads asks again for the same call");
    assert_eq!(keys[2], format!("{}.2", keys[1]));

    world.pass(200).await;
    assert_eq!(world.keys().await, [keys[0].clone()], "the first one has come");
    world.pass(3600).await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_have_been_waited_for_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), "async 200", vec![Fault::delay(LATE / 2)]).await;
    let engine = world.engine();
    let mut run = world.begin(&engine).await;
    let object = world.answer_goes_to(&run).await;
    world.pass(50).await;
    let answer = r#"{"statusCode":200,"headers":{},"body":9,"isBase64Encoded":false}"#;
    world.results.write(&object, answer.as_bytes().to_vec()).await.unwrap();
    // Should it have been looked for in this moment, it has gone well all the same.
    let _ = mark(&engine, &run, "x.wait", Mark::Success).await;
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let read = world.reader().xcom(run.run.number, "x.read", -1, "return_value").unwrap().unwrap();
    assert_eq!(read.as_str(), "9");
    // The service comes later than who has stood in for it.
    world.pass(3600).await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_to_wait_after_an_idle_day_waits_for_its_whole_time() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path(), "async 200", vec![Fault::delay(Duration::from_secs(30))]).await;
    let engine = world.engine();
    world.pass(86_400).await;
    let mut run = world.begin(&engine).await;
    world.answer_goes_to(&run).await;
    world.pass(50).await;
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(world.script.received("xxxx").len(), 1, "nobody has asked a second time");
}
