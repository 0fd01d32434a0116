//! What the tests have in common: the binaries, the servers, the gates.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use coworks_biz::local::axum::Router;
use coworks_biz::local::axum::extract::Request;
use coworks_biz::local::axum::http::{HeaderMap, Method, Uri};
use coworks_biz::local::axum::middleware::{self, Next};
use coworks_biz::local::{Local, Service, Services};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;

pub const TOKEN: &str = "a-very-secret-token";

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
}

impl Seen {
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

    /// In the test: waits until a request is there.
    pub async fn arrival(&self) {
        self.arrived.acquire().await.unwrap().forget();
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
        let dir = tempfile::tempdir().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let record = Arc::clone(&seen);
        let entries = entries.layer(middleware::from_fn(move |request: Request, next: Next| {
            let (method, uri, headers) =
                (request.method().clone(), request.uri().clone(), request.headers().clone());
            record.lock().unwrap().push(Seen { method, uri, headers });
            next.run(request)
        }));
        let services = Services::new().with(Service::new("test").entries(entries));
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
            .env("COWORKS_SECRET_API_TOKEN", TOKEN);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || Ended::from(command.output().unwrap())).await.unwrap()
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
        Running(Some(command.spawn().unwrap()))
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
    pub fn signal(&self, signal: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub async fn kill(&mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
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

    pub fn value(&self, id: &str) -> &Value {
        &self.task(id)["xcom"]["return_value"]
    }
}
