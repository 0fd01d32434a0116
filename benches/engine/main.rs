//! Steps a second of the embedded engine, beside what the disk itself gives.
//!
//! `cargo bench --bench engine`: each shape of work runs in an engine of its own that has worked
//! before, on a database of its own, with events and one log line a task, at `step` durability
//! and with the default limits where its name says nothing else. Then the same again while four
//! readers page through runs and tasks of that database, each a hundred times a second.
//!
//! The engine is one that serves. The reference is the same process committing one row at a time, synced, into the same
//! file: a chain cannot be much faster than that.
//!
//! `-- chain rounds=20` measures what has `chain` in its name, twenty times, and with `exactly` what is
//! called so; `times=2` does it twice in each round; `alone` leaves the readers out. `COWORKS_BENCH_DIR` is where the
//! databases are made; here, where it is not set.

#[allow(dead_code, reason = "other benches measure memory")]
mod measure;
mod reading;
mod shapes;

use std::path::{Path, PathBuf};
use std::time::Instant;

use coworks_biz::__runtime::task::{Capture, Definition};
use coworks_biz::config::{Config, Durability, Environment, Flags};
use coworks_biz::engine::{Engine, Mode};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::measure::{Sync, commits, median};
use self::shapes::work;

/// More commits than the log has pages when it is brought into the file.
const LOG: u32 = 4_200;

/// How often each shape is measured where nothing is said; the median counts.
const ROUNDS: usize = 5;

struct Shape {
    name: &'static str,
    definition: &'static Definition,
    /// How many runs are under way at once, and how often that is done.
    runs: usize,
    times: usize,
    steps: usize,
    durability: Durability,
    parallelism: Option<usize>,
}

impl Shape {
    /// With one run at a time of so many steps.
    fn new(name: &'static str, definition: &'static Definition, steps: usize, times: usize) -> Self {
        Self { name, definition, runs: 1, times, steps, durability: Durability::Step, parallelism: None }
    }
}

fn shapes() -> Vec<Shape> {
    let (fan, chain) = (shapes::fan(), shapes::chain("chain", 1000));
    vec![
        Shape::new("1 > 998 > 1", fan, 1_000, 10),
        Shape { parallelism: Some(1_000), ..Shape::new("1 > 998 > 1, a slot for each", fan, 1_000, 10) },
        Shape::new("chain of 1,000", chain, 1_000, 2),
        Shape { durability: Durability::Run, ..Shape::new("chain of 1,000, run", chain, 1_000, 5) },
        Shape { runs: 1_000, ..Shape::new("1,000 runs of 5", shapes::chain("short", 5), 5_000, 2) },
        Shape::new("1,000 items", shapes::some(), 1_002, 10),
        Shape::new("10,000 items", shapes::many(), 10_002, 1),
    ]
}

fn config(dir: &Path, shape: &Shape) -> Config {
    let flags = Flags { db: Some(dir.join("biz.db")), parallelism: shape.parallelism };
    let nothing = Environment::from(|_| None);
    let config = Config::from(flags, &nothing, &dir.join("none.toml")).expect("the defaults are good");
    Config { durability: shape.durability, ..config }
}

/// Steps a second, and synced commits of one row a second in the same file, in both ways.
fn measure(dir: &Path, shape: &Shape, readers: usize) -> [f64; 3] {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let config = config(dir, shape);
    runtime.block_on(async {
        let engine = Engine::start(&config, &[shape.definition], Mode::Serve).expect("an engine");
        // The log then has its size, to which it grows until it is first brought into the file; and so have the caches.
        commits(&config.db, Sync::Full, LOG, 0);
        work(&engine, shape.definition, shape.runs).await;
        let reading = reading::Reading::start(&config.db, readers);
        let begin = Instant::now();
        for _ in 0..shape.times {
            work(&engine, shape.definition, shape.runs).await;
        }
        let took = begin.elapsed();
        drop(reading);
        let rate = (shape.times * shape.steps) as f64 / took.as_secs_f64();
        let reference = [Sync::Full, Sync::Data].map(|sync| commits(&config.db, sync, 0, 1000));
        [rate, reference[0], reference[1]]
    })
}

fn main() {
    // The log of each task is captured, and nothing is printed.
    let info = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::registry().with(info).with(Capture).init();
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let rounds = asked.iter().find_map(|word| word.strip_prefix("rounds=")?.parse().ok()).unwrap_or(ROUNDS);
    let with: &[usize] = if asked.iter().any(|word| word == "alone") { &[0] } else { &[0, 4] };
    let times = asked.iter().find_map(|word| word.strip_prefix("times=")?.parse().ok());
    let exactly = asked.iter().any(|word| word == "exactly");
    let is_name = |word: &&String| !word.contains('=') && !["alone", "exactly"].contains(&word.as_str());
    let names: Vec<&String> = asked.iter().filter(is_name).collect();
    let mut shapes = shapes();
    shapes.retain(|shape| match exactly {
        true => names.iter().any(|name| shape.name == name.as_str()),
        false => names.is_empty() || names.iter().any(|part| shape.name.contains(part.as_str())),
    });
    for shape in &mut shapes {
        shape.times = times.unwrap_or(shape.times);
    }
    let place = std::env::var_os("COWORKS_BENCH_DIR").map_or(PathBuf::from("."), PathBuf::from);
    // One after the other in turn, so that a drift of the machine hits all alike.
    let mut measured = vec![vec![vec![]; shapes.len()]; with.len()];
    for _ in 0..rounds {
        for (measured, &readers) in measured.iter_mut().zip(with) {
            for (measured, shape) in measured.iter_mut().zip(&shapes) {
                let dir = tempfile::tempdir_in(&place).expect("a folder on the disk of the project");
                measured.push(measure(dir.path(), shape, readers));
            }
        }
    }
    for (measured, readers) in measured.into_iter().zip(with) {
        println!(
            "\n{:<30} {:>10} {:>10} {:>10} {:>10} {:>10}",
            format!("{readers} readers"),
            "steps/s",
            "commits/s",
            "ratio",
            "fdatasync",
            "ratio"
        );
        for (shape, measured) in shapes.iter().zip(measured) {
            let of = |number: usize| median(measured.iter().map(|numbers| numbers[number]).collect());
            let beside =
                |number: usize| median(measured.iter().map(|numbers| numbers[0] / numbers[number]).collect());
            let (rate, full, data) = (of(0), of(1), of(2));
            println!(
                "{:<30} {rate:>10.0} {full:>10.0} {:>10.2} {data:>10.0} {:>10.2}",
                shape.name,
                beside(1),
                beside(2)
            );
        }
    }
}
