//! Steps a second of the embedded engine, beside what the disk itself gives.
//!
//! `cargo bench --bench engine`: each shape of work runs on a database of its
//! own, with the default limits, events, and one log line a task, at `step`
//! durability. The reference is the same process committing one row at a time,
//! synced, into a file beside it: a chain cannot be faster than that.

use std::path::Path;
use std::time::{Duration, Instant};

use coworks_biz::__runtime::dag::{Dag, Gate, Kind, Task};
use coworks_biz::__runtime::run::RunState;
use coworks_biz::__runtime::task::{Body, Capture, Context, Definition, Items, Work, finish, items};
use coworks_biz::config::{Config, Environment, Flags};
use coworks_biz::engine::{Engine, Mode, Trigger};
use coworks_biz::{Error, Result};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How often each shape is measured; the median counts.
const ROUNDS: usize = 5;

fn step(context: &Context) -> Result<Work> {
    let index = context.try_number;
    Ok(finish(async move {
        tracing::info!("try {index}");
        Ok::<_, Error>(index)
    }))
}

/// A DAG of functions that do nothing but log a line; `upstream` gives the upstreams of each.
fn definition(dag_id: &'static str, upstream: Vec<Vec<u32>>) -> &'static Definition {
    let mut downstream = vec![vec![]; upstream.len()];
    for (task, above) in upstream.iter().enumerate() {
        for &above in above {
            downstream[above as usize].push(task as u32);
        }
    }
    let order: Vec<u32> = (0..upstream.len() as u32).collect();
    let tasks = upstream.into_iter().zip(downstream).enumerate().map(|(index, (up, down))| Task {
        task_id: format!("task_{index}").leak(),
        upstream: up.leak(),
        downstream: down.leak(),
        output: "u32",
        ..Task::FUNCTION
    });
    let dag = Dag { dag_id, tasks: tasks.collect::<Vec<_>>().leak(), order: order.leak(), ..Dag::EMPTY };
    let bodies: Vec<Body> = dag.tasks.iter().map(|_| Body::Function(step)).collect();
    Box::leak(Box::new(Definition {
        dag: Box::leak(Box::new(dag)),
        bodies: bodies.leak(),
        ..Definition::EMPTY
    }))
}

fn chain(length: u32) -> Vec<Vec<u32>> {
    (0..length).map(|task| task.checked_sub(1).into_iter().collect()).collect()
}

/// 1 > 998 > 1.
fn fan() -> Vec<Vec<u32>> {
    let middle = (1..999).map(|_| vec![0]);
    std::iter::once(vec![]).chain(middle).chain([(1..999).collect()]).collect()
}

/// One task for each of so many items, and one that takes all their outputs.
fn mapped(dag_id: &'static str, items: fn(&Context) -> Result<Items>) -> &'static Definition {
    fn all(context: &Context) -> Result<Work> {
        let all: Vec<u32> = context.input(0)?;
        Ok(finish(async move { Ok::<_, Error>(all.len()) }))
    }
    let tasks = [
        Task { task_id: "list", kind: Kind::Map { members: &[1] }, ..Task::FUNCTION },
        Task {
            task_id: "each",
            downstream: &[2],
            gate: Some(Gate { task: 0, arm: 0 }),
            map: Some(0),
            ..Task::FUNCTION
        },
        Task { task_id: "all", upstream: &[1], inputs: &[1], ..Task::FUNCTION },
    ];
    let dag = Box::new(Dag { dag_id, tasks: Vec::leak(tasks.into()), order: &[0, 1, 2], ..Dag::EMPTY });
    let bodies = Vec::leak(vec![Body::Map(items), Body::Function(step), Body::Function(all)]);
    Box::leak(Box::new(Definition { dag: Box::leak(dag), bodies, ..Definition::EMPTY }))
}

fn config(dir: &Path) -> Config {
    let flags = Flags { db: Some(dir.join("biz.db")), parallelism: None };
    let nothing = Environment::from(|_| None);
    Config::from(flags, &nothing, &dir.join("none.toml")).expect("the defaults are good")
}

/// Runs `runs` runs at once, and gives the time until the last has ended.
fn measure(dir: &Path, definition: &'static Definition, runs: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let engine = Engine::start(&config(dir), &[definition], Mode::OneRun).expect("an engine");
        let begin = Instant::now();
        let triggers = (0..runs).map(|_| engine.trigger(definition, Trigger::default()));
        let handles = futures_util::future::join_all(triggers).await;
        for handle in handles {
            let state = handle.expect("a run").ended().await.expect("its end");
            assert_eq!(state, RunState::Success);
        }
        begin.elapsed()
    })
}

/// Synced commits of one row each, a second.
fn reference(dir: &Path) -> f64 {
    let file = rusqlite::Connection::open(dir.join("reference.db")).expect("a file");
    file.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (a, b, c)")
        .expect("a table");
    let commits = 1000;
    let mut insert = file.prepare("INSERT INTO t VALUES (?, 'task_1', 'success')").expect("a statement");
    let begin = Instant::now();
    for number in 0..commits {
        insert.execute([number]).expect("a row");
    }
    f64::from(commits) / begin.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // The log of each task is captured, and nothing is printed.
    let info = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::registry().with(info).with(Capture).init();
    let shapes = [
        ("1 > 998 > 1", definition("fan", fan()), 1, 1000),
        ("chain of 1,000", definition("chain", chain(1000)), 1, 1000),
        ("1,000 runs of 5", definition("short", chain(5)), 1000, 5000),
        ("1,000 items", mapped("some", |_| items(0..1_000)), 1, 1_002),
        ("10,000 items", mapped("many", |_| items(0..10_000)), 1, 10_002),
    ];
    // Other shapes first and last in turn, so that a drift of the machine hits all alike.
    let mut rates = vec![vec![]; shapes.len() + 1];
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(".").expect("a folder on the disk of the project");
        rates[shapes.len()].push(reference(dir.path()));
        for (index, (_, definition, runs, steps)) in shapes.iter().enumerate() {
            let dir = tempfile::tempdir_in(".").expect("a folder on the disk of the project");
            rates[index].push(f64::from(*steps) / measure(dir.path(), definition, *runs).as_secs_f64());
        }
    }
    let commits = median(rates.pop().unwrap_or_default());
    println!("{:<28} {:>10} {:>10}", "", "per second", "ratio");
    println!("{:<28} {commits:>10.0} {:>10.2}", "synced single-row commits", 1.0);
    for ((name, ..), rates) in shapes.iter().zip(rates) {
        let rate = median(rates);
        println!("{name:<28} {rate:>10.0} {:>10.2}", rate / commits);
    }
}
