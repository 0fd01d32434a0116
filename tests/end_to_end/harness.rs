//! What the tests have in common: the binaries, the servers, the gates.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coworks_biz::local::axum::Router;
use coworks_biz::local::axum::body::{Body, Bytes, to_bytes};
use coworks_biz::local::axum::extract::Request;
use coworks_biz::local::axum::http::{HeaderMap, Method, Uri};
use coworks_biz::local::axum::middleware::{self, Next};
use coworks_biz::local::{Local, Service, Services};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;

pub const TOKEN: &str = "a-very-secret-token";

/// For so long a test waits for what is to come in no time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An example's binary: cargo builds the examples along with the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

/// A request that a service got.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The verb, the path and the query.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Holds requests until the test lets them go.
#[derive(Debug, Clone)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// In the service: tells that a request is there, and waits.
    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    /// In the service: tells that a request is there.
    pub fn tell(&self) {
        self.arrived.add_permits(1);
    }

    /// In the test: waits until a request is there.
    pub async fn arrival(&self) {
        let arrived = tokio::time::timeout(PATIENCE, self.arrived.acquire());
        arrived.await.expect("no request has come").unwrap().forget();
    }

    /// In the test: lets one request go.
    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

/// A folder with a database, servers beside it, and the program of the tests.
pub struct World {
    pub dir: TempDir,
    pub local: Local,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl World {
    /// With a service `test` of these entries.
    pub async fn new(entries: Router) -> Self {
        Self::with(entries, |test| test).await
    }

    /// The same, with more said of the service.
    pub async fn with(entries: Router, more: impl FnOnce(Service) -> Service) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let record = Arc::clone(&seen);
        let entries = entries.layer(middleware::from_fn(move |request: Request, next: Next| {
            let record = Arc::clone(&record);
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                record.lock().unwrap().push(Seen {
                    method: parts.method.clone(),
                    uri: parts.uri.clone(),
                    headers: parts.headers.clone(),
                    body: body.clone(),
                });
                next.run(Request::from_parts(parts, Body::from(body))).await
            }
        }));
        let services = Services::new().with(more(Service::new("test").entries(entries)));
        let local = services.start(&dir.path().join("s3"), "coworks-airflow").await.unwrap();
        Self { dir, local, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The program with these arguments, in this world.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(example("program"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("COWORKS_GATEWAY_URL", self.local.gateway_url())
            .env("AWS_ENDPOINT_URL_S3", &self.local.s3().endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.local.s3().access_key)
            .env("AWS_SECRET_ACCESS_KEY", self.local.s3().secret_key.expose())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("COWORKS_SECRET_API_TOKEN", TOKEN)
            .env("COWORKS_VAR_REGION", "eu");
        if let Some(directory) = self.local.directory() {
            command.env("COWORKS_DIRECTORY_URL", &directory.url);
            for (_, token) in &directory.headers {
                command.env("COWORKS_DIRECTORY_TOKEN", token.expose());
            }
        }
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || Ended::from(command.output().unwrap())).await.unwrap()
    }

    /// Runs a biz with this conf and gives the JSON of the run.
    pub async fn run_with(&self, biz: &str, conf: Value) -> (Ended, Run) {
        self.run_json(&[biz, "--conf", &conf.to_string()]).await
    }

    /// Runs a biz and gives the JSON of the run.
    pub async fn run_json(&self, arguments: &[&str]) -> (Ended, Run) {
        let ended = self.run(&[&["run", "--output", "json"], arguments].concat()).await;
        let run = ended.json();
        (ended, Run(run))
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::spawn(&mut command)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn last_run_id(&self) -> String {
        let shown = self.run(&["show", "--output", "json"]).await;
        shown.json()["run_id"].as_str().unwrap().to_owned()
    }

    /// The objects in the bucket.
    pub fn objects(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = vec![];
        walk(&self.dir.path().join("s3/coworks-airflow"), &mut found);
        found
    }
}

/// Looks again and again until it holds, and tells what has not where that takes too long.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "after {PATIENCE:?} it does not hold that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Triggers a run in a process of its own, and gives its id.
pub async fn trigger(world: &World, arguments: &[&str]) -> String {
    let ended = world.run(&[&["trigger"], arguments, &["--output", "json"]].concat()).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.json()["run_id"].as_str().unwrap().to_owned()
}

/// A run as it stands.
pub async fn show(world: &World, run_id: &str) -> Run {
    Run(world.run(&["show", run_id, "--output", "json"]).await.json())
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The one sentence on stderr.
    pub fn error(&self) -> &str {
        let line = self.stderr.trim();
        let sentence = line.strip_prefix("error: ").unwrap_or_else(|| panic!("no sentence: {self:?}"));
        assert_eq!(line.lines().count(), 1, "{self:?}");
        sentence
    }
}

/// A process under way; killed when the test ends without it.
pub struct Running(Option<Child>);

impl Running {
    pub fn spawn(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// `kill -9`; how it has ended, which may have been by itself.
    pub async fn kill(&mut self) -> ExitStatus {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap()
    }

    /// How it has ended, where it has.
    pub fn over(&mut self) -> Option<ExitStatus> {
        self.0.as_mut().unwrap().try_wait().unwrap()
    }

    /// Waits for its end, and kills it where that does not come.
    pub async fn ends(&mut self, what: &str) -> ExitStatus {
        until(what, || self.over().is_some()).await;
        self.over().unwrap()
    }

    pub async fn ended(&mut self) -> Ended {
        let child = self.0.take().unwrap();
        tokio::task::spawn_blocking(move || Ended::from(child.wait_with_output().unwrap())).await.unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Reads stderr until a line with this text.
    pub async fn says(&mut self, text: &str) {
        use std::io::{BufRead, BufReader};
        let stderr = self.0.as_mut().unwrap().stderr.take().unwrap();
        let text = text.to_owned();
        let stderr = tokio::task::spawn_blocking(move || {
            let mut reader = BufReader::with_capacity(1, stderr);
            let mut all = String::new();
            while !all.contains(&text) {
                let read = reader.read_line(&mut all).unwrap();
                assert!(read > 0, "never said {text:?}, but:\n{all}");
            }
            reader.into_inner()
        });
        let stderr = stderr.await.unwrap();
        self.0.as_mut().unwrap().stderr = Some(stderr);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The JSON of a run.
#[derive(Debug)]
pub struct Run(pub Value);

impl Run {
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap()
    }

    pub fn task(&self, id: &str) -> &Value {
        let tasks = self.0["tasks"].as_array().unwrap();
        tasks.iter().find(|task| task["task_id"] == id).unwrap_or_else(|| panic!("no {id} in {tasks:?}"))
    }

    pub fn states(&self) -> Vec<(&str, &str)> {
        let word = |value: &'_ Value| value.as_str().map(str::to_owned).unwrap_or_default().leak() as &str;
        self.0["tasks"].as_array().unwrap().iter().map(|t| (word(&t["task_id"]), word(&t["state"]))).collect()
    }

    /// The state of a task that has one instance.
    pub fn state_of(&self, id: &str) -> &str {
        let all = self.instances(id);
        assert_eq!(all.len(), 1, "{id} has several instances");
        all[0]["state"].as_str().unwrap_or_default()
    }

    /// The ids of the tasks in this state, by name.
    pub fn ids(&self, state: &str) -> Vec<&str> {
        let tasks = self.0["tasks"].as_array().unwrap().iter();
        let mut ids: Vec<_> =
            tasks.filter(|t| t["state"] == state).map(|t| t["task_id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The instances of a task, in the order in which they are printed.
    pub fn instances(&self, id: &str) -> Vec<&Value> {
        self.0["tasks"].as_array().unwrap().iter().filter(|task| task["task_id"] == id).collect()
    }

    /// The states of the instances of a task, which are at the map indexes from 0.
    pub fn mapped(&self, id: &str) -> Vec<&str> {
        let all = self.instances(id);
        let indexes: Vec<_> = all.iter().map(|task| task["map_index"].as_i64().unwrap()).collect();
        assert_eq!(indexes, (0..all.len() as i64).collect::<Vec<_>>(), "{id}");
        all.iter().map(|task| task["state"].as_str().unwrap_or_default()).collect()
    }

    /// The outputs of the instances of a task.
    pub fn values(&self, id: &str) -> Vec<&Value> {
        self.instances(id).into_iter().map(|task| &task["xcom"]["return_value"]).collect()
    }

    pub fn value(&self, id: &str) -> &Value {
        &self.task(id)["xcom"]["return_value"]
    }

    pub fn error(&self, id: &str) -> &str {
        self.task(id)["error"].as_str().unwrap_or_else(|| panic!("no error: {:?}", self.task(id)))
    }
}
