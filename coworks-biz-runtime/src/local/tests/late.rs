//! Answers that come when the run that asked for them is over.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};

use super::super::script::Script;
use super::super::*;
use super::runs::asynchronous;
use crate::engine::{Engine, Mode, Order, RunName, Trigger};
use crate::run::RunState;
use crate::store::Reader;
use crate::tech::Results;

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_cancel_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = super::config(dir.path(), &[]);
    let clock = Clock::skipping(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    config.clock = clock.clone();
    let script: Arc<Script> = Arc::default();
    script.add("xxxx", [Fault::delay(Duration::from_secs(1000)), Fault::delay(Duration::from_secs(1000))]);
    let services =
        Services::new().with(Service::new("xxxx").named("neorezo-status").get("/200", || async { "7" }));
    let answers = dir.path().join("s3");
    let local = services.start_by(&answers, &config.bucket, clock.clone(), Some(script)).await.unwrap();
    local.configure(&mut config);
    let definition = asynchronous("async 200", "/200");
    let until = |seconds: i64| {
        clock.stop_at(Some(clock.now() + TimeDelta::seconds(seconds)));
        let (clock, end) = (clock.clone(), clock.now() + TimeDelta::seconds(seconds));
        async move {
            while clock.now() < end || !clock.is_idle() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    clock.stop_at(Some(clock.now()));
    let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    // Once while it waits, and once while nobody has looked yet.
    let waited = engine.trigger(definition, Trigger::default()).await.unwrap();
    until(30).await;
    let sent = engine.trigger(definition, Trigger::default()).await.unwrap();
    let reader = Reader::open(&config.db).unwrap();
    for mut run in [waited, sent] {
        while reader.xcom(run.run.number, "x.call", -1, "key").unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let name = RunName { dag_id: None, run_id: run.run.run_id.to_string() };
        engine.order(Order::Cancel { run: name }).await.unwrap();
        assert_eq!(run.ended().await.unwrap(), RunState::Failed);
    }
    let results = Results::connect(&config.s3).await;
    let left = async || {
        let crate::tech::Page::Keys { keys, .. } = results.page(&config.bucket, "s3/", "").await.unwrap()
        else {
            panic!("it may list")
        };
        keys.len()
    };
    until(1200).await;
    assert_eq!(left().await, 2, "both have come");
    until(3000).await;
    assert_eq!(left().await, 0);
}
