//! What the engine takes where there is much of everything: how long from a trigger to the first task, what a
//! million past runs, ten thousand schedules, ten thousand runs under way and a hundred thousand waits cost.
//!
//! `cargo bench --bench scale`; `-- latency past idle open waits prune` does only what it names. `runs=100000` is how
//! many past runs there are, `rounds=3` how often they are measured, in turns with a file without any.
//! `COWORKS_BENCH_DIR` is where the databases are made; here, where it is not set. Nothing is called: S3 is a port at
//! which nobody listens.

mod calls;
mod files;
mod idle;
mod latency;
#[path = "../engine/measure.rs"]
#[allow(dead_code, reason = "what the disk gives is measured by another bench")]
mod measure;
mod open;
mod past;
mod plans;
#[path = "../engine/shapes.rs"]
#[allow(dead_code, reason = "not all of them are measured here")]
mod shapes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coworks_biz::__runtime::task::{Capture, Definition};
use coworks_biz::config::{Config, Environment, Flags, S3, S3Server, Secret};
use coworks_biz::engine::{Answer, Engine, Mode, Order};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::measure::{median, memory};

/// The defaults, and an S3 that is not there.
fn config(db: &Path) -> Config {
    let flags = Flags { db: Some(db.to_owned()), parallelism: None };
    let nothing = Environment::from(|_| None);
    let config = Config::from(flags, &nothing, Path::new("none.toml")).expect("the defaults are good");
    let server = S3Server {
        endpoint: "http://127.0.0.1:9".into(),
        access_key: "bench".into(),
        secret_key: Secret::new("bench-secret"),
    };
    Config { s3: S3 { server: Some(server), path_style: true }, proxy: false, ..config }
}

/// How much is under way, and how many answers are waited for.
struct Status {
    running: usize,
    runs: usize,
    answers: usize,
}

async fn status(engine: &Engine) -> Status {
    match engine.order(Order::Status).await.expect("an answer") {
        Answer::Status { running, runs, waiting, .. } => Status { running, runs, answers: waiting.answers },
        other => panic!("{other:?}"),
    }
}

/// An engine that serves, and how long it took until it answered.
async fn serving(db: &Path, definitions: &[&'static Definition]) -> (Engine, Duration) {
    let config = config(db);
    let begin = Instant::now();
    let engine = Engine::start(&config, definitions, Mode::Serve).expect("an engine");
    status(&engine).await;
    (engine, begin.elapsed())
}

/// The CPU time of this process.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("usage");
    let micros = |time: nix::sys::time::TimeVal| (time.tv_sec() * 1_000_000 + time.tv_usec()) as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn main() {
    let info = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::registry().with(info).with(Capture).init();
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |name: &str, default: i64| {
        let given = asked.iter().find_map(|word| word.strip_prefix(name));
        given.map_or(default, |given| given.parse().expect("a number"))
    };
    let (runs, rounds) = (number("runs=", 1_000_000), number("rounds=", 3));
    let parts: Vec<&String> = asked.iter().filter(|word| !word.contains('=')).collect();
    let place = std::env::var_os("COWORKS_BENCH_DIR").map_or(PathBuf::from("."), PathBuf::from);
    for part in ["latency", "idle", "open", "waits", "prune", "past"] {
        if !parts.is_empty() && !parts.iter().any(|asked| *asked == part) {
            continue;
        }
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("\n{part} (load {})", load.split(' ').next().unwrap_or_default());
        let dir = tempfile::tempdir_in(&place).expect("a folder on the disk of the project");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        runtime.block_on(async {
            match part {
                "latency" => latency::measure(dir.path()).await,
                "idle" => idle::measure(dir.path()).await,
                "open" => open::runs(dir.path()).await,
                "waits" => open::waits(dir.path()).await,
                "prune" => past::prune(dir.path()).await,
                _ => past::measure(dir.path(), runs, rounds).await,
            }
        });
    }
}
