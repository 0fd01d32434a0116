//! The shapes of work and the kill test, on Restate: a service in this process, and its server beside it.
//!
//! `measure run SHAPE DIR` prints the steps and the seconds they took, with a server of its own in DIR;
//! `serve ADDRESS SERVER` is the service of the kill test, whose effects go to SERVER.

#[path = "../../effect.rs"]
mod effect;
#[path = "../../server.rs"]
mod server;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use restate_sdk::prelude::*;
use tokio::net::TcpListener;

static STEPS: AtomicU64 = AtomicU64::new(0);

async fn step(value: u64) -> HandlerResult<u64> {
    STEPS.fetch_add(1, Ordering::Relaxed);
    Ok(value)
}

struct Steps;

#[restate_sdk::service]
impl Steps {
    /// One step, for those who call it.
    #[handler]
    async fn one(&self, ctx: Context<'_>, value: u64) -> HandlerResult<u64> {
        Ok(ctx.run(|| step(value)).await?)
    }
}

struct Chain;

#[restate_sdk::workflow]
impl Chain {
    #[handler]
    async fn run(&self, ctx: WorkflowContext<'_>, length: u64) -> HandlerResult<u64> {
        let mut value = 0;
        for _ in 0..length {
            value = ctx.run(|| step(value + 1)).await?;
        }
        Ok(value)
    }
}

struct Fan;

/// Its 998 are calls of a service that are under way at once: the SDK wants each `ctx.run` to be awaited at once.
#[restate_sdk::workflow]
impl Fan {
    #[handler]
    async fn run(&self, ctx: WorkflowContext<'_>, _length: u64) -> HandlerResult<u64> {
        let first = ctx.run(|| step(1)).await?;
        let mut middle = DurableFuturesUnordered::new();
        for _ in 0..998 {
            middle.push(ctx.service_client::<StepsClient>().one(first).call());
        }
        let mut sum = 0;
        while let Some((_, value)) = middle.next().await? {
            sum += value?;
        }
        Ok(ctx.run(|| step(sum)).await?)
    }
}

struct Effects(String);

#[restate_sdk::workflow]
impl Effects {
    #[handler]
    async fn run(&self, ctx: WorkflowContext<'_>, id: String) -> HandlerResult<u64> {
        for number in 1..=5 {
            let key = format!("{id}/{number}");
            ctx.run(|| async move {
                effect::effect(&self.0, &key).await.map_err(std::io::Error::other)?;
                Ok(number)
            })
            .await?;
        }
        Ok(5)
    }

    /// One step that may be tried twice.
    #[handler]
    async fn tries(&self, ctx: SharedWorkflowContext<'_>) -> HandlerResult<u64> {
        let policy = RunRetryPolicy::new().initial_delay(Duration::from_millis(100)).max_attempts(2);
        let run = ctx.run(|| async move {
            effect::effect(&self.0, "tries").await.map_err(std::io::Error::other)?;
            Ok(1)
        });
        Ok(run.retry_policy(policy).await?)
    }
}

fn endpoint(server: &str) -> Endpoint {
    Endpoint::builder().bind(Steps).bind(Chain).bind(Fan).bind(Effects(server.to_owned())).build()
}

/// Ends it with the process.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Registers the service once the server can be asked.
async fn register(admin: u16, service: SocketAddr) {
    let body = serde_json::json!({ "uri": format!("http://{service}") }).to_string();
    for _ in 0..300 {
        let answer = effect::request(&format!("127.0.0.1:{admin}"), "POST", "/deployments", &body).await;
        if matches!(answer, Ok((200 | 201, _))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the server does not take the service");
}

static RUNS: AtomicU64 = AtomicU64::new(0);

/// Does the shape once; the number of steps.
async fn work(client: &reqwest::Client, ingress: u16, shape: &str) -> u64 {
    let (name, input, runs, steps, result) = match shape {
        "fan" => ("Fan", 0, 1, 1_000, 998),
        "chain" => ("Chain", 1_000, 1, 1_000, 1_000),
        _ => ("Chain", 5, 1_000, 5_000, 5),
    };
    let before = STEPS.load(Ordering::Relaxed);
    let runs = (0..runs).map(|_| async {
        let key = RUNS.fetch_add(1, Ordering::Relaxed);
        let url = format!("http://127.0.0.1:{ingress}/{name}/{key}/run");
        let answer = client.post(url).json(&input).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json::<u64>().await.expect("a number")
    });
    for value in join_all(runs).await {
        assert_eq!(value, result, "the result of a run");
    }
    assert_eq!(STEPS.load(Ordering::Relaxed) - before, steps, "steps that were done");
    steps
}

async fn measure(dir: &Path, shape: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(HttpServer::new(endpoint("")).serve(listener));
    let [ingress, admin, node] = server::ports();
    let _running = Running(server::start(dir, [ingress, admin, node]).expect("a server"));
    register(admin, address).await;
    let client = reqwest::Client::new();
    // The ingress may be up later than what registers.
    let begin = Instant::now();
    while client.get(format!("http://127.0.0.1:{ingress}/restate/health")).send().await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the server does not come up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    work(&client, ingress, shape).await;
    let begin = Instant::now();
    let mut steps = 0;
    while steps == 0 || begin.elapsed() < Duration::from_millis(500) {
        steps += work(&client, ingress, shape).await;
    }
    println!("{steps} {}", begin.elapsed().as_secs_f64());
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["measure", _, shape, dir] => measure(Path::new(dir), shape).await,
        ["serve", address, effects] => {
            let address: SocketAddr = address.parse().expect("an address");
            HttpServer::new(endpoint(effects)).listen_and_serve(address).await;
        }
        _ => panic!("measure run SHAPE DIR, or serve ADDRESS SERVER"),
    }
}
