//! A hundred thousand answers that are waited for, in one process.
//!
//! `cargo bench --bench waiting`: a run sends as many asynchronous calls to a service of another process, with a
//! real S3 server in it. First nothing comes for a while, and what waiting costs is measured; then answers come one
//! by one, and how late each is noticed; in the end all the others. `-- 1000` waits for fewer.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coworks_biz::config::{Config, Durability, Environment, Flags, S3, S3Server, Secret};
use coworks_biz::engine::{Answer, Engine, Mode, Order, Trigger, Waiting};
use coworks_biz::local::axum::extract;
use coworks_biz::local::{RunState, Service, Services};
use coworks_biz::prelude::*;
use coworks_biz::store::Reader;
use coworks_biz::value::Json;
use coworks_biz::{Biz, Error};

/// For so long nothing comes.
const CALM: Duration = Duration::from_secs(60);

/// For so long some come, and then all the others.
const SOME: Duration = Duration::from_secs(60);

#[biz]
fn waiting(conf: Vec<u64>) {
    for at in conf {
        let answered: u64 = tech!(async GET "/at/{at}", api_id = "oracle", no_auth, timeout = "12h");
    }
}

/// Milliseconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve(Path::new(&arguments[1]))),
        count => runtime.block_on(wait(count.map_or(100_000, |count| count.parse().unwrap()))).unwrap(),
    }
}

/// The other process: a service that answers at the moment it is told, with that moment.
async fn serve(dir: &Path) {
    let oracle = |extract::Path(at): extract::Path<u64>| async move {
        tokio::time::sleep(Duration::from_millis(at.saturating_sub(now()))).await;
        extract::Json(now())
    };
    let services = Services::new().with(Service::new("oracle").get("/at/{at}", oracle));
    let local = services.start(dir, "answers").await.unwrap();
    let s3 = local.s3();
    println!("{} {} {} {}", local.gateway_url(), s3.endpoint, s3.access_key, s3.secret_key.expose());
    std::future::pending::<()>().await;
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(dir: &Path, config: &mut Config) -> Server {
    use std::io::BufRead;
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.arg("serve").arg(dir).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let [gateway, endpoint, access_key, secret_key] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("the server says {line:?}")
    };
    config.gateway_url = Some(gateway.into());
    let server = S3Server {
        endpoint: endpoint.into(),
        access_key: access_key.into(),
        secret_key: Secret::new(secret_key),
    };
    config.s3 = S3 { server: Some(server), path_style: true };
    Server(child)
}

/// Resident memory now and at most in MiB, and CPU seconds since the start.
fn usage() -> (u64, u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (of("VmRSS:"), of("VmHWM:"), ticks / 100.0)
}

async fn asked(engine: &Engine) -> Waiting {
    match engine.order(Order::Status).await.unwrap() {
        Answer::Status { waiting, .. } => waiting,
        other => panic!("{other:?}"),
    }
}

async fn wait(count: usize) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let flags = Flags { db: Some(dir.path().join("biz.db")), parallelism: None };
    let mut config = Config::from(flags, &Environment::from(|_| None), Path::new("none.toml"))?;
    config.bucket = "answers".into();
    config.proxy = false;
    config.durability = Durability::Step;
    let _server = server(&dir.path().join("s3"), &mut config);
    println!("with nothing to wait for: {} MiB", usage().0);

    let engine = Engine::start(&config, &[waiting::DEFINITION], Mode::OneRun).unwrap();
    // Time to send them all: measured, and generous.
    let sending = Duration::from_millis(count as u64 * 2) + Duration::from_secs(10);
    let calm = now() + sending.as_millis() as u64;
    let some = calm + CALM.as_millis() as u64;
    let rest = some + SOME.as_millis() as u64;
    let few = (count / 50).max(1) as u64;
    // One in fifty comes while some do; the others within ten seconds afterwards.
    let at = |n: u64| match n % 50 {
        0 => some + (rest - some) * (n / 50) / few,
        _ => rest + n % 10_000,
    };
    let conf = Json::encode(&(0..count as u64).map(at).collect::<Vec<_>>())?;
    let begun = Instant::now();
    let trigger = Trigger { conf: Some(conf), ..Trigger::default() };
    let mut run = engine.trigger(waiting::DEFINITION, trigger).await.unwrap();
    loop {
        let sent = asked(&engine).await.answers;
        if sent == count {
            break;
        }
        assert!(now() < some, "{sent} of {count} calls are sent: too slow for this bench");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{count} calls sent in {:.1} s", begun.elapsed().as_secs_f64());
    let sleep = |until: u64| tokio::time::sleep(Duration::from_millis(until.saturating_sub(now())));
    sleep(calm).await;
    let (before, cpu) = (asked(&engine).await, usage().2);
    sleep(some).await;
    let ((now_, peak, cpu_then), after) = (usage(), asked(&engine).await);
    let of_core = (cpu_then - cpu) / CALM.as_secs_f64() * 100.0;
    println!(
        "waiting, nothing comes: {now_} MiB (at most {peak} so far), {of_core:.1} % of a core, \
         {} HEAD and {} LIST in {} s",
        after.heads - before.heads,
        after.lists - before.lists,
        CALM.as_secs()
    );
    sleep(rest).await;
    let (cpu_some, asked_some) = (usage().2, asked(&engine).await);
    println!(
        "waiting, {few} come: {:.1} % of a core, {} HEAD and {} LIST in {} s",
        (cpu_some - cpu_then) / SOME.as_secs_f64() * 100.0,
        asked_some.heads - after.heads,
        asked_some.lists - after.lists,
        SOME.as_secs()
    );
    let state = run.ended().await.unwrap();
    assert_eq!(state, RunState::Success);
    let last = asked(&engine).await;
    println!(
        "the others, all within 10 s: read {:.1} s later, {} HEAD and {} LIST, at most {} MiB",
        (now() - rest) as f64 / 1000.0 - 10.0,
        last.heads - asked_some.heads,
        last.lists - asked_some.lists,
        usage().1
    );
    engine.drain().await.unwrap();
    drop(engine);

    // From the answer to the moment at which the wait goes on.
    let reader = Reader::open(&config.db).unwrap();
    let answered = reader.mapped_xcoms(run.run.number, "map_conf", "answered.read", "return_value").unwrap();
    let mut delays: Vec<Vec<u64>> = vec![vec![], vec![]];
    for task in reader.tasks(run.run.number).unwrap().iter().filter(|task| task.task_id == "answered.wait") {
        let at: u64 = answered[task.map_index as usize].as_ref().unwrap().decode()?;
        let noticed = task.end_date.unwrap().timestamp_millis() as u64;
        delays[usize::from(at >= rest)].push(noticed.saturating_sub(at));
    }
    for (delays, which) in delays.iter_mut().zip(["those that came one by one", "the others"]) {
        delays.sort_unstable();
        let Some(most) = delays.last() else { continue };
        let part = |part: usize| delays[(delays.len() - 1) * part / 100] as f64 / 1000.0;
        println!(
            "{which}: noticed after {:.2} s (median), {:.2} s (p99), {:.2} s (most)",
            part(50),
            part(99),
            *most as f64 / 1000.0
        );
    }
    Ok(())
}
