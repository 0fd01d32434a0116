//! A business service, its technical ones and a clock of its own, for a test.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tempfile::TempDir;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use super::script::Script;
use super::{Fault, Finished, Local, Received, Services};
use crate::clock::Clock;
use crate::config::{Config, Durability, Environment, Flags};
use crate::dag::DEFAULT_POOL;
use crate::engine::{Engine, EngineError, Mode, Trigger};
use crate::error::{Error, Result};
use crate::store::{Reader, RunRecord};
use crate::task::{Biz, Capture, Definition};
use crate::value::Json;

/// Libraries that say much in the log of a task that calls something.
const NOISY: [&str; 11] = [
    "aws_config",
    "aws_credential",
    "aws_runtime",
    "aws_sdk_",
    "aws_sigv4",
    "aws_smithy",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
];

/// Where time begins, unless a test says otherwise.
const BEGINNING: &str = "2026-01-01T00:00:00Z";

/// A world for a test: business services run in it by the real engine, against the services of this machine.
///
/// Time is its own: while nothing is under way it leaps to what is waited for, so that a retry in an hour, an
/// answer after ten minutes and a month of schedules take milliseconds. What a function itself sleeps, an
/// `execution_timeout` and a `request_timeout` are in the machine's time.
///
/// ```
/// # use coworks_biz_runtime as coworks_biz;
/// use std::time::Duration;
///
/// use coworks_biz::local::axum::Json;
/// use coworks_biz::local::{Fault, Sandbox, Service, Services};
///
/// # async fn test() -> coworks_biz::error::Result<()> {
/// let stock = Service::new("stock-api").named("shop-stock").get("/stock/mask", || async { Json(7) });
/// let sandbox = Sandbox::new(Services::new().with(stock)).await?.secret("API_TOKEN", "a-token");
///
/// sandbox.fault("shop-stock", Fault::status(503).retry_after(Duration::from_secs(30)));
/// // let run = sandbox.run::<stocktaking>(()).await?;
/// // assert!(run.is_success(), "{run}");
/// // assert_eq!(run.output::<u32>("stock")?, 7);
/// // assert_eq!(sandbox.calls("shop-stock").len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sandbox {
    config: Config,
    given: Arc<Mutex<HashMap<String, String>>>,
    script: Arc<Script>,
    served: Vec<&'static Definition>,
    /// Of the services.
    names: Vec<String>,
    /// One engine at a time has the database.
    turn: tokio::sync::Mutex<()>,
    local: Local,
    dir: TempDir,
}

impl Sandbox {
    /// With these services, at the beginning of 2026.
    pub async fn new(services: Services) -> Result<Self> {
        Self::at(services, BEGINNING).await
    }

    /// With these services, at this moment: `2026-03-29T01:30:00+01:00`.
    pub async fn at(services: Services, moment: &str) -> Result<Self> {
        let moment = DateTime::parse_from_rfc3339(moment)
            .map_err(|e| Error::msg(format!("`{moment}` is no moment such as `{BEGINNING}`: {e}")))?;
        // What tasks log is kept, unless the test has something else in mind with it.
        let said =
            Targets::new().with_default(Level::DEBUG).with_targets(NOISY.map(|name| (name, Level::WARN)));
        let subscriber = tracing_subscriber::registry().with(Capture.with_filter(said));
        let _ = tracing::subscriber::set_global_default(subscriber);
        let dir = tempfile::tempdir()?;
        let given: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let env = {
            let given = Arc::clone(&given);
            Environment::from(move |name| given.lock().unwrap_or_else(|e| e.into_inner()).get(name).cloned())
        };
        let flags = Flags { db: Some(dir.path().join("biz.db")), parallelism: None };
        let mut config = Config::from(flags, &env, &dir.path().join("none.toml"))?;
        config.durability = Durability::Relaxed;
        config.retention = None;
        config.hermetic = true;
        config.clock = Clock::skipping(moment.to_utc());
        let names =
            services.0.iter().flat_map(|service| [Some(service.api_id.clone()), service.cws_name.clone()]);
        let names = names.flatten().collect();
        let script: Arc<Script> = Arc::default();
        let (clock, with_script) = (config.clock.clone(), Some(Arc::clone(&script)));
        let local = services.start_by(&dir.path().join("s3"), &config.bucket, clock, with_script).await?;
        local.configure(&mut config);
        let turn = tokio::sync::Mutex::default();
        Ok(Self { config, given, script, served: Vec::new(), names, turn, local, dir })
    }

    /// Gives a secret.
    #[must_use]
    pub fn secret(self, name: &str, value: &str) -> Self {
        self.give("SECRET", name, value)
    }

    /// Gives a variable.
    #[must_use]
    pub fn var(self, name: &str, value: &str) -> Self {
        self.give("VAR", name, value)
    }

    fn give(self, kind: &str, name: &str, value: &str) -> Self {
        let mut given = self.given.lock().unwrap_or_else(|e| e.into_inner());
        given.insert(format!("COWORKS_{kind}_{name}"), value.to_owned());
        drop(given);
        self
    }

    /// Limits how many tasks of a pool run at once; otherwise any pool is large.
    #[must_use]
    pub fn pool(mut self, name: &str, slots: usize) -> Self {
        self.config.pools.insert(name.to_owned(), slots);
        self
    }

    /// Has this business service scheduled while time [passes](Self::pass).
    #[must_use]
    pub fn with<B: Biz>(mut self) -> Self {
        self.served.push(B::DEFINITION);
        self
    }

    /// Lets something go wrong with the next call of a service, by its API id or its name. A second
    /// fault is for the call after that.
    ///
    /// # Panics
    ///
    /// If there is no such service: a slip in the test.
    #[track_caller]
    pub fn fault(&self, service: &str, fault: Fault) {
        self.faults(service, [fault]);
    }

    /// The same for so many calls.
    #[track_caller]
    pub fn faults(&self, service: &str, faults: impl IntoIterator<Item = Fault>) {
        self.known(service);
        self.script.add(service, faults);
    }

    /// How many faults of a service have not come about.
    #[track_caller]
    pub fn faults_left(&self, service: &str) -> usize {
        self.known(service);
        self.script.left(service)
    }

    #[track_caller]
    fn known(&self, service: &str) {
        let names = &self.names;
        let there = || names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        assert!(
            names.iter().any(|name| name == service),
            "no service `{service}` in this sandbox: {}",
            there()
        );
    }

    /// The calls of a service, by its API id or its name, in the order they came. Those that the gateway itself
    /// has refused are not among them; those that went wrong by script are.
    #[track_caller]
    pub fn calls(&self, service: &str) -> Vec<Received> {
        self.known(service);
        self.script.received(service)
    }

    /// The keys of the answers that are in S3.
    pub fn answers(&self) -> Result<Vec<String>> {
        let root = self.dir.path().join("s3").join(&self.config.bucket);
        let mut keys = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path: PathBuf = entry?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        keys.extend(path.strip_prefix(&root).ok().map(|key| key.to_string_lossy().into()))
                    }
                }
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// What time it is.
    pub fn now(&self) -> DateTime<Utc> {
        self.config.clock.now()
    }

    /// The stand-ins, for what else a test calls them by.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Runs a business service with this conf, `()` for none, to its end.
    pub async fn run<B: Biz>(&self, conf: impl Serialize) -> Result<Finished> {
        let conf = Json::encode(&conf)?;
        let conf = (conf.as_str() != "null").then_some(conf);
        let _turn = self.turn.lock().await;
        let definition = B::DEFINITION;
        let engine = self.start(&[definition], Mode::OneRun)?;
        let trigger = Trigger { conf, ..Trigger::default() };
        let mut handle = engine.trigger(definition, trigger).await.map_err(failure)?;
        handle.ended().await.map_err(failure)?;
        let number = handle.run.number;
        // What was read is deleted.
        engine.drain().await.map_err(failure)?;
        drop(engine);
        Finished::read(&self.reader()?, number, definition)
    }

    /// Lets time pass, with all [scheduled](Self::with) business services, and tells the runs that have begun or
    /// ended meanwhile, in the order they were made. A run that is under way at the end goes on when time
    /// does.
    pub async fn pass(&self, time: Duration) -> Result<Vec<Finished>> {
        let _turn = self.turn.lock().await;
        let clock = &self.config.clock;
        let begun = clock.now();
        let time = TimeDelta::from_std(time).map_err(Error::msg)?;
        let until = begun.checked_add_signed(time).ok_or_else(|| Error::msg("no clock goes so far"))?;
        clock.stop_at(Some(until));
        let engine = self.start(&self.served, Mode::Serve)?;
        let passed = async {
            // Nobody tells that nothing happens any more.
            while clock.now() < until || !clock.is_idle() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let stopped = tokio::select! {
            () = passed => None,
            error = engine.failed() => Some(error),
        };
        drop(engine);
        clock.stop_at(None);
        if let Some(error) = stopped {
            return Err(failure(error));
        }
        let reader = self.reader()?;
        let mut runs = reader.runs(None, u32::MAX).map_err(Error::msg)?;
        runs.retain(|run| run.end_date.is_none_or(|end| end >= begun) && run.start_date.is_some());
        runs.sort_by_key(|run| run.number);
        let of = |run: &RunRecord| {
            let definitions = reachable(&self.served);
            definitions.into_iter().find(|definition| definition.dag.dag_id == run.dag_id)
        };
        runs.iter().filter_map(|run| Some(Finished::read(&reader, run.number, of(run)?))).collect()
    }

    fn start(&self, definitions: &[&'static Definition], mode: Mode) -> Result<Engine> {
        let definitions = reachable(definitions);
        let mut config = self.config.clone();
        config.pools = pools(&definitions, &self.config.pools);
        Engine::start(&config, &definitions, mode).map_err(failure)
    }

    fn reader(&self) -> Result<Reader> {
        Reader::open(&self.config.db).map_err(Error::msg)
    }
}

fn failure(error: EngineError) -> Error {
    Error::fatal(error)
}

/// These, and those that they trigger.
fn reachable(definitions: &[&'static Definition]) -> Vec<&'static Definition> {
    let mut all: Vec<&'static Definition> = Vec::new();
    let mut found = definitions.to_vec();
    while let Some(definition) = found.pop() {
        if all.iter().all(|known| known.dag.dag_id != definition.dag.dag_id) {
            all.push(definition);
            found.extend(definition.triggers().map(|(_, triggered)| triggered));
        }
    }
    all
}

/// A slot for every task of a pool of which nothing is said.
fn pools(definitions: &[&'static Definition], said: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let mut pools = said.clone();
    for task in definitions.iter().flat_map(|definition| definition.dag.tasks) {
        if task.options.pool != DEFAULT_POOL {
            pools.entry(task.options.pool.to_owned()).or_insert(usize::MAX);
        }
    }
    pools
}
