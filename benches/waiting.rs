//! A hundred thousand answers that are waited for, in one process.
//!
//! `cargo bench --bench waiting`: a run sends as many asynchronous calls to a service of another process, which leaves
//! its answers in a real S3 server. First nothing comes for a while, and what waiting costs is measured; then answers
//! come one by one, and how late each is noticed; in the end all the others. `-- 1000` waits for fewer. The server is
//! SeaweedFS where `WEED` names its binary, else the one of `--local`, which is slow with many objects.

#[path = "scale/calls.rs"]
mod calls;
#[path = "engine/measure.rs"]
#[allow(dead_code, reason = "only memory is measured here")]
mod measure;

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coworks_biz::__runtime::tech::Results;
use coworks_biz::config::{Config, Durability, Environment, Flags, S3, S3Server, Secret};
use coworks_biz::engine::{Answer, Engine, Mode, Order, Trigger, Waiting};
use coworks_biz::local::axum::http::HeaderMap;
use coworks_biz::local::axum::routing::get;
use coworks_biz::local::axum::{self, Router, extract};
use coworks_biz::local::{RunState, Services};
use coworks_biz::prelude::*;
use coworks_biz::store::Reader;
use coworks_biz::value::{Json, Object};
use coworks_biz::{Biz, Error};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::calls::waiting;

const BUCKET: &str = "answers";

/// For so long nothing comes.
const CALM: Duration = Duration::from_secs(60);

/// For so long some come, and then all the others.
const SOME: Duration = Duration::from_secs(60);

/// How many of the others come in a second.
const A_SECOND: u64 = 500;

/// Milliseconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.first().map(String::as_str) {
        Some("s3") => runtime.block_on(s3(Path::new(&arguments[1]))),
        Some("gateway") => {
            let [_, endpoint, access_key, secret_key] = &arguments[..] else { panic!("{arguments:?}") };
            let (endpoint, access_key) = (endpoint.clone(), access_key.clone());
            let server = S3Server { endpoint, access_key, secret_key: Secret::new(secret_key) };
            runtime.block_on(gateway(S3 { server: Some(server), path_style: true }));
        }
        count => runtime.block_on(wait(count.map_or(100_000, |count| count.parse().unwrap()))).unwrap(),
    }
}

/// Another process: an S3 server.
async fn s3(dir: &Path) {
    let local = Services::new().start(dir, BUCKET).await.unwrap();
    let s3 = local.s3();
    println!("{} {} {}", s3.endpoint, s3.access_key, s3.secret_key.expose());
    std::future::pending::<()>().await;
}

/// Another process: a gateway and its service, which answers at the moment that it is told with that moment.
async fn gateway(s3: S3) {
    let results = Arc::new(Results::connect(&s3).await);
    let few = Arc::new(Semaphore::new(64));
    let accept = move |extract::Path((_, _, at)): extract::Path<(String, String, u64)>,
                       headers: HeaderMap| {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let object = Object { bucket: header("X-CWS-S3Bucket"), key: header("X-CWS-S3Key") };
        let (results, few) = (Arc::clone(&results), Arc::clone(&few));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(at.saturating_sub(now()))).await;
            let _one = few.acquire().await.unwrap();
            let answer = json!({ "statusCode": 200, "headers": {}, "body": now(), "isBase64Encoded": false });
            results.write(&object, answer.to_string().into_bytes()).await.unwrap();
        });
        std::future::ready(())
    };
    let app = Router::new().route("/{api}/{stage}/at/{at}", get(accept));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    println!("http://{}/{{api_id}}", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program once more, and gives what it says first.
fn server(arguments: &[&str]) -> (Server, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (Server(child), line.trim().to_owned())
}

/// Starts SeaweedFS with a bucket.
async fn weed(binary: &str, dir: &Path) -> (Server, S3Server) {
    let sockets: Vec<_> = (0..8).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
    drop(sockets);
    let config = dir.join("s3.json");
    let (access_key, secret_key) = ("bench", "bench-secret");
    let credentials = json!([{ "accessKey": access_key, "secretKey": secret_key }]);
    let identity = json!({ "name": "bench", "actions": ["Admin"], "credentials": credentials });
    std::fs::write(&config, json!({ "identities": [identity] }).to_string()).unwrap();
    let flags = [
        "master",
        "master.port.grpc",
        "volume",
        "volume.port.grpc",
        "filer",
        "filer.port.grpc",
        "s3",
        "s3.port.grpc",
    ];
    let flags = flags.iter().zip(&ports).map(|(flag, port)| match flag.contains('.') {
        true => format!("-{flag}={port}"),
        false => format!("-{flag}.port={port}"),
    });
    let child = Command::new(binary)
        .args([
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-volume.max=100",
            "-master.volumeSizeLimitMB=64",
        ])
        .args(["-s3", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-dir={}", dir.display()))
        .arg(format!("-s3.config={}", config.display()))
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let endpoint = format!("http://127.0.0.1:{}", ports[6]);
    let server = S3Server { endpoint, access_key: access_key.into(), secret_key: Secret::new(secret_key) };
    let results = Results::connect(&S3 { server: Some(server.clone()), path_style: true }).await;
    // The first object makes the bucket, once the server is there.
    let first = Object { bucket: BUCKET.into(), key: "first".into() };
    while results.write(&first, Vec::new()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    (Server(child), server)
}

/// Resident memory now and at most in MiB, and CPU seconds since the start.
fn usage() -> (u64, u64, f64) {
    let (now, peak) = measure::memory();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (now as u64, peak as u64, ticks / 100.0)
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
    // The service here has no limit, and so there is none to be protected from.
    let env = Environment::from(|name| (name == "COWORKS_BIZ_SERVICE_CONCURRENCY").then(|| "none".into()));
    let mut config = Config::from(flags, &env, Path::new("none.toml"))?;
    config.bucket = BUCKET.into();
    config.proxy = false;
    config.durability = Durability::Step;
    let folder = dir.path().join("s3");
    std::fs::create_dir(&folder)?;
    let (_s3, found) = match std::env::var("WEED") {
        Ok(binary) => weed(&binary, &folder).await,
        Err(_) => {
            let (server, line) = server(&["s3", folder.to_str().unwrap()]);
            let [endpoint, access_key, secret_key] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let secret_key = Secret::new(secret_key);
            (server, S3Server { endpoint: endpoint.into(), access_key: access_key.into(), secret_key })
        }
    };
    let (_gateway, url) = server(&["gateway", &found.endpoint, &found.access_key, found.secret_key.expose()]);
    config.gateway_url = Some(url);
    config.s3 = S3 { server: Some(found), path_style: true };
    println!("with nothing to wait for: {} MiB", usage().0);

    let engine = Engine::start(&config, &[waiting::DEFINITION], Mode::OneRun).unwrap();
    // Time to send them all: measured, and generous.
    let sending = Duration::from_millis(count as u64 * 2) + Duration::from_secs(10);
    let calm = now() + sending.as_millis() as u64;
    let some = calm + CALM.as_millis() as u64;
    let rest = some + SOME.as_millis() as u64;
    let few = (count / 50).max(1) as u64;
    // One in fifty comes while some do; the others afterwards, as fast as the server writes them.
    let at = |n: u64| match n % 50 {
        0 => some + (rest - some) * (n / 50) / few,
        _ => rest + n * 1000 / A_SECOND,
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
        let over = tokio::time::timeout(Duration::from_millis(100), run.ended()).await;
        assert!(over.is_err(), "the run has ended: {over:?}");
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
        "the others, {A_SECOND} a second: all read {:.1} s after the last, {} HEAD and {} LIST, at most {} MiB",
        (now() as f64 - (rest + count as u64 * 1000 / A_SECOND) as f64) / 1000.0,
        last.heads - asked_some.heads,
        last.lists - asked_some.lists,
        usage().1
    );
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
