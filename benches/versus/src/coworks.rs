//! coworks-biz: the shapes of work, and the runs that are killed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coworks_biz::__runtime::dag::Task;
use coworks_biz::__runtime::run::RunState;
use coworks_biz::__runtime::task::{Body, Capture, Context, Definition, Work, finish};
use coworks_biz::config::{Config, Durability, Environment, Flags};
use coworks_biz::engine::{Engine, Mode, Trigger};
use coworks_biz::prelude::{biz, json};
use coworks_biz::value::Json;
use coworks_biz::{Biz, Error, Result};
use futures_util::future::join_all;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::effect::effect;
use crate::shapes::{self, chained, definition, fanned};

static STEPS: AtomicU64 = AtomicU64::new(0);

/// One more than what comes in, together.
fn step(context: &Context, inputs: usize) -> Result<Work> {
    let mut value = 0;
    for place in 0..inputs {
        value += context.input::<u64>(place)?;
    }
    Ok(finish(async move {
        STEPS.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(value + 1)
    }))
}

/// What such a function is.
fn task(upstream: &'static [u32]) -> Task {
    Task { inputs: upstream, output: "u64", ..Task::FUNCTION }
}

fn body(task: &Task) -> Body {
    match task.inputs.len() {
        0 => Body::Function(|context| step(context, 0)),
        1 => Body::Function(|context| step(context, 1)),
        _ => Body::Function(|context| step(context, 998)),
    }
}

fn config(dir: &Path, durability: Durability) -> Config {
    let flags = Flags { db: Some(dir.join("biz.db")), ..Flags::default() };
    let nothing = Environment::from(|_| None);
    let config = Config::from(flags, &nothing, &dir.join("none.toml")).expect("the defaults are good");
    Config { durability, ..config }
}

/// Does the shape once; the number of steps.
async fn work(engine: &Engine, definition: &'static Definition, runs: usize) -> u64 {
    let before = STEPS.load(Ordering::Relaxed);
    shapes::work(engine, definition, runs).await;
    let steps = (runs * definition.dag.tasks.len()) as u64;
    assert_eq!(STEPS.load(Ordering::Relaxed) - before, steps, "steps that were done");
    steps
}

/// Many threads, and the log of each task captured.
fn runtime() -> tokio::runtime::Runtime {
    let info = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::registry().with(info).with(Capture).init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads")
}

pub fn measure(dir: &Path, variant: &str, shape: &str) {
    let durability = if variant == "run" { Durability::Run } else { Durability::Step };
    let (definition, runs, result) = match shape {
        "fan" => (definition("fan", fanned(), task, body), 1, 2 * 998 + 1),
        "chain" => (definition("chain", chained(1_000), task, body), 1, 1_000),
        _ => (definition("runs", chained(5), task, body), 1_000, 5),
    };
    let config = config(dir, durability);
    runtime().block_on(async {
        let engine = Engine::start(&config, &[definition], Mode::Serve).expect("an engine");
        let mut stored = work(&engine, definition, runs).await;
        let begin = Instant::now();
        let mut steps = 0;
        while steps == 0 || begin.elapsed() < Duration::from_millis(500) {
            steps += work(&engine, definition, runs).await;
        }
        println!("{steps} {}", begin.elapsed().as_secs_f64());
        stored += steps;
        engine.drain().await.expect("its end");
        // All results are there, and each last one is right.
        let file = rusqlite::Connection::open(&config.db).expect("a file");
        let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, u64>(0)).expect("a number");
        assert_eq!(count("SELECT count(*) FROM task_instance WHERE state = 'success'"), stored);
        assert_eq!(count("SELECT count(*) FROM xcom"), stored);
        let last = definition.dag.tasks.len() - 1;
        let right = format!("SELECT count(*) FROM xcom WHERE task_id = 'task_{last}' AND value = '{result}'");
        assert_eq!(count(&right), stored / (last as u64 + 1));
    });
}

/// Five effects, one after the other.
#[biz]
fn effects(conf: Value) {
    let one = send(conf, 1);
    let two = send(conf, 2);
    let three = send(conf, 3);
    let four = send(conf, 4);
    let five = send(conf, 5);
    one >> two >> three >> four >> five;
}

async fn send(conf: Value, number: u32) -> Result<u32> {
    let text = |name: &str| conf[name].as_str().unwrap_or_default().to_owned();
    effect(&text("server"), &format!("{}/{number}", text("id"))).await.map_err(Error::msg)?;
    Ok(number)
}

/// One step that may be tried twice.
#[biz(retries = 1, retry_delay = "1s")]
fn twice(conf: Value) {
    let one = try_it(conf);
}

async fn try_it(conf: Value) -> Result<u32> {
    effect(conf["server"].as_str().unwrap_or_default(), "tries").await.map_err(Error::msg)?;
    Ok(1)
}

/// Says which runs the file still has, before anybody asks for one of them again.
fn kept(db: &Path) {
    let file = rusqlite::Connection::open(db).expect("a file");
    let mut keys = file.prepare("SELECT idempotency_key FROM dag_run").expect("a table");
    let keys = keys.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    keys.for_each(|key| println!("kept {}", key.expect("a key")));
}

pub fn killed(words: &[&str]) {
    let (dir, server, ids) = (Path::new(words[1]), words[2], &words[3..]);
    let config = config(dir, Durability::Step);
    let (effects, twice) = (<effects as Biz>::DEFINITION, <twice as Biz>::DEFINITION);
    if words[0] == "finish" {
        kept(&config.db);
    }
    runtime().block_on(async {
        let engine = Engine::start(&config, &[effects, twice], Mode::Serve).expect("an engine");
        let (definition, ids) = if words[0] == "tries" { (twice, &["tries"][..]) } else { (effects, ids) };
        let handles = join_all(ids.iter().map(|id| {
            let conf = Json::encode(&json!({ "server": server, "id": id })).expect("words");
            let (conf, idempotency_key) = (Some(conf), Some((*id).to_owned()));
            let trigger = Trigger { conf, idempotency_key, ..Trigger::default() };
            let engine = &engine;
            async move {
                // A second trigger with a key is the first one.
                let handle = engine.trigger(definition, trigger).await;
                if handle.is_ok() {
                    println!("acked {id}");
                }
                (id, handle)
            }
        }));
        for (id, handle) in handles.await {
            let ended = match handle {
                Ok(mut handle) => handle.ended().await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match ended {
                Ok(state) => println!("ended {id} {}", state == RunState::Success),
                Err(error) => println!("ended {id} false {error}"),
            }
        }
        println!("done");
        if words[0] != "tries" {
            std::future::pending::<()>().await;
        }
    });
}
