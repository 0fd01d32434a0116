//! The shapes of work, on apalis-workflow with its SQLite storage.
//!
//! A tenth of what the others do: it takes long. `measure setup|full SHAPE DIR` prints the steps and the seconds they
//! took.

use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::callback::HookCallbackListener;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqliteStorage};
use apalis_workflow::{GraphFlow, SteppedFlow, WorkflowSink};
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A graph wants its storage to hold what is written, not what it stands for.
type Graphs = PollWith<SqliteStorage<Vec<u8>>, Strategy>;
type Flows = SqliteStorage<u64>;

/// The update hook tells of a job before it is committed: who looks then and sees nothing looks again after this.
const OFTEN: Duration = Duration::from_millis(1);

static STEPS: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static END: Notify = Notify::const_new();

async fn step(value: u64) -> Result<u64, BoxDynError> {
    STEPS.fetch_add(1, Ordering::Relaxed);
    Ok(value + 1)
}

/// Tells that a run has ended, and whether with what it should.
fn end(value: u64, wanted: u64) -> Result<u64, BoxDynError> {
    STEPS.fetch_add(1, Ordering::Relaxed);
    assert_eq!(value, wanted, "the result of a run");
    ENDED.fetch_add(1, Ordering::Relaxed);
    END.notify_one();
    Ok(value)
}

fn fan() -> GraphFlow<Graphs> {
    let flow = GraphFlow::new("fan");
    let first = flow.add_node("first", task_fn(step));
    let middle: Vec<_> = (0..98)
        .map(|index| flow.add_node(&format!("middle_{index}"), task_fn(step)).depends_on(&first))
        .collect();
    let last = |all: Vec<u64>| async move { end(all.into_iter().sum(), 2 * 98) };
    let _ = flow.add_node("last", task_fn(last)).depends_on(middle);
    flow
}

fn chain(length: u64) -> GraphFlow<Graphs> {
    let flow = GraphFlow::new("chain");
    let first = flow.add_node("first", task_fn(step));
    let mut before = flow.add_node("second", task_fn(step)).depends_on(&first);
    for index in 2..length - 1 {
        before = flow.add_node(&format!("step_{index}"), task_fn(step)).depends_on(&before);
    }
    let last = move |value: u64| async move { end(value + 1, length) };
    let _ = flow.add_node("last", task_fn(last)).depends_on(&before);
    flow
}

/// A pool with the update hook, as the README of apalis-sqlite has it: with what `setup` leaves, or one each of whose
/// connections syncs every commit.
async fn pool(dir: &Path, full: bool) -> (SqlitePool, HookCallbackListener) {
    let url = format!("sqlite://{}?mode=rwc", dir.join("apalis.db").display());
    let (pool, listener) = SqliteStorage::connect_with_callback(&url).expect("a pool");
    if !full {
        SqliteStorage::setup(&pool).await.expect("its tables");
        return (pool, listener);
    }
    let options = SqliteConnectOptions::from_str(&url).expect("a name");
    let first = SqlitePool::connect_with(options.clone()).await.expect("a file");
    SqliteStorage::setup(&first).await.expect("its tables");
    first.close().await;
    pool.set_connect_options(options.pragma("synchronous", "FULL").busy_timeout(Duration::from_secs(30)));
    (pool, listener)
}

/// Looks when the hook says that a job was pushed, and before long.
fn strategy(listener: HookCallbackListener, config: &Config) -> Strategy {
    Strategy::new().stream(listener.ready_chunks(config.batch_size)).interval(OFTEN)
}

/// Does the shape once; the number of steps.
async fn work(storage: &Flows, shape: &str) -> u64 {
    let (runs, steps) = match shape {
        "runs" => (100, 500),
        _ => (1, 100),
    };
    let before = (STEPS.load(Ordering::Relaxed), ENDED.load(Ordering::Relaxed));
    let mut pushes = JoinSet::new();
    for _ in 0..runs {
        let mut storage = storage.clone();
        pushes.spawn(async move { storage.push_start(0).await.expect("a run") });
    }
    pushes.join_all().await;
    while ENDED.load(Ordering::Relaxed) - before.1 < runs {
        END.notified().await;
    }
    assert_eq!(STEPS.load(Ordering::Relaxed) - before.0, steps, "steps that were done");
    steps
}

async fn measure(dir: &Path, variant: &str, shape: &str) {
    let (pool, listener) = pool(dir, variant == "full").await;
    let config = Config::default().queue("versus");
    let strategy = strategy(listener, &config);
    let storage = Flows::new(&pool).with_config(config.clone());
    let told = |_: &WorkerContext, event: &Event| {
        if let Event::Error(error) = event {
            eprintln!("{error}");
        }
    };
    match shape {
        "fan" | "chain" => {
            let flow = if shape == "fan" { fan() } else { chain(100) };
            let backend = SqliteStorage::new(&pool).with_config(config).poll_with_strategy(strategy);
            let builder = WorkerBuilder::new("worker").backend(backend).on_event(told);
            drop(tokio::spawn(builder.build(flow).run()));
        }
        _ => {
            let builder = WorkerBuilder::new("worker")
                .backend(storage.clone().poll_with_strategy(strategy))
                .on_event(told);
            let flow = SteppedFlow::new("runs").and_then(step).and_then(step).and_then(step).and_then(step);
            let flow = flow.and_then(|value: u64| async move { end(value + 1, 5) });
            drop(tokio::spawn(builder.build(flow).run()));
        }
    }
    let mut stored = work(&storage, shape).await;
    let begin = Instant::now();
    let mut steps = 0;
    while steps == 0 || begin.elapsed() < Duration::from_millis(500) {
        steps += work(&storage, shape).await;
    }
    println!("{steps} {}", begin.elapsed().as_secs_f64());
    stored += steps;
    // The fan has a job more for each of its 98 but one: those that come too early to the last.
    let wanted = if shape == "fan" { stored / 100 * (100 + 97) } else { stored };
    let begin = Instant::now();
    loop {
        let rows: (i64,) = sqlx::query_as("SELECT count(*) FROM Jobs WHERE status = 'Done'")
            .fetch_one(&pool)
            .await
            .expect("a number");
        if rows.0 as u64 == wanted {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{} of {wanted} results were stored", rows.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["measure", variant, shape, dir] => measure(Path::new(dir), variant, shape).await,
        _ => panic!("measure setup|full SHAPE DIR"),
    }
}
