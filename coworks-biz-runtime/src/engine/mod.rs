//! The embedded engine: runs DAGs in this process, and remembers every step.
//!
//! One thread owns the database and the live runs. It takes in what happened,
//! commits all of it with what follows from it, and only then lets that begin:
//! the end of an attempt, its output and the start of what it releases are one
//! transaction, and transactions of different runs are grouped by themselves
//! while the last one is being synced.

mod alarms;
mod attempts;
mod backfill;
mod begin;
mod carrier;
mod commands;
mod core;
mod dags;
mod effects;
mod gap;
mod gate;
mod hands;
mod host;
mod interventions;
mod lines;
mod live;
mod mailbox;
mod message;
mod orders;
mod outbox;
mod outlook;
mod outputs;
mod past;
mod refusal;
mod services;
#[cfg(all(test, feature = "s3"))]
mod simulation;
mod slots;
mod sweep;
#[cfg(test)]
mod tests;
mod tick;
mod versions;
#[cfg(feature = "s3")]
mod waiter;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use chrono::{DateTime, Utc};
use tokio::sync::{oneshot, watch};

use self::core::Core;
use self::hands::Tokio;
use self::host::Shared;
use self::mailbox::Post;
use self::message::Message;
pub use self::orders::{Answer, BackfillRun, Order, Reprocess, RunName, Waiting};
use self::outbox::Ways;
pub use self::refusal::Refusal;
use crate::config::Config;
use crate::dag::DEFAULT_POOL;
use crate::error::Error;
use crate::run::RunState;
use crate::store::{StoreError, Writer};
use crate::task::{DagRun, Definition};
use crate::tech::Client;
use crate::value::Json;

/// Maps of the engine's own numbers and names: nobody outside chooses them, so that they need no protection
/// from collisions; and the same in the same order each time.
type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;
type Set<K> = HashSet<K, foldhash::fast::FixedState>;

/// Why the engine does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What calls services cannot be made.
    #[error("{0}")]
    Client(Error),
    /// The engine has stopped, and says why.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
    /// The run is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What a run is made with.
#[derive(Debug, Clone, Default)]
pub struct Trigger {
    /// Its conf; JSON `null` when there is none.
    pub conf: Option<Json>,
    /// The moment it stands for; now when it is not given.
    pub logical_date: Option<DateTime<Utc>>,
    /// A second trigger with the same key makes no second run: it is answered with the first.
    pub idempotency_key: Option<String>,
}

/// What an engine does with the database it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Executes the runs that are triggered or resumed, at once, and nothing else.
    OneRun,
    /// Goes on with all that an earlier process has left, makes a run of every tick, and stays.
    Serve,
    /// Records what it is told, and executes nothing.
    Orders,
}

/// A run that is under way.
#[derive(Debug)]
pub struct RunHandle {
    /// The run.
    pub run: Arc<DagRun>,
    ended: watch::Receiver<Option<RunState>>,
    failure: Arc<OnceLock<String>>,
}

impl RunHandle {
    /// Waits until the run has ended and its end is recorded. May be asked again.
    pub async fn ended(&mut self) -> Result<RunState, EngineError> {
        let state = self.ended.wait_for(Option::is_some).await.map(|state| *state);
        state.ok().flatten().ok_or_else(|| stopped(&self.failure))
    }
}

/// The embedded engine. When it is dropped, attempts under way are cut off; what was
/// committed stays, and [`Engine::resume`] goes on from there.
#[derive(Debug)]
pub struct Engine {
    post: Post,
    failure: Arc<OnceLock<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Opens the database and starts the engine for these services. Must be
    /// called within a tokio runtime, on which the attempts run.
    pub fn start(
        config: &Config,
        definitions: &[&'static Definition],
        mode: Mode,
    ) -> Result<Self, EngineError> {
        let writer = Writer::open(&config.db, config.durability)?;
        let services = Client::new(config).map_err(EngineError::Client)?;
        let (post, mut mailbox) = mailbox::mailbox(&config.clock);
        let ways = Ways::new(config).map_err(EngineError::Client)?;
        let closed = post.clone();
        services.guard().on_close(move |service, until| {
            // Where the engine has stopped, nothing calls it any more.
            let _ = closed.send(Message::Closed { service: service.to_owned(), until });
        });
        let shared = Arc::new(Shared::new(config, services, ways, &writer, post.clone()));
        #[cfg(feature = "s3")]
        let hands = Box::new(Tokio::new(&shared));
        #[cfg(not(feature = "s3"))]
        let hands = Box::new(Tokio::new());
        let core = Core::new(mode, writer, definitions, shared, hands, config)?;
        let failure = Arc::new(OnceLock::new());
        let told = Arc::clone(&failure);
        let thread = std::thread::Builder::new()
            .name("biz-engine".into())
            .spawn(move || core.run(&mut mailbox, &told))
            .map_err(|e| EngineError::Stopped(format!("no thread for it: {e}")))?;
        Ok(Self { post, failure, thread: Some(thread) })
    }

    /// Begins a run. Once this returns, the run is on disk and survives a crash.
    pub async fn trigger(
        &self,
        definition: &'static Definition,
        trigger: Trigger,
    ) -> Result<RunHandle, EngineError> {
        self.ask(|reply| Message::Trigger { definition, trigger, reply }).await?
    }

    /// Goes on with a run that a stopped or killed process left behind.
    ///
    /// Runs of several DAGs may have the same run id; `dag_id` then says which is meant.
    pub async fn resume(&self, dag_id: Option<&str>, run_id: &str) -> Result<RunHandle, EngineError> {
        let (dag_id, run_id) = (dag_id.map(str::to_owned), run_id.to_owned());
        self.ask(|reply| Message::Resume { dag_id, run_id, reply }).await?
    }

    /// Does what an operator asks for. Once this returns, it is on disk, but with `relaxed` durability.
    pub async fn order(&self, order: Order) -> Result<Answer, EngineError> {
        self.ask(|reply| Message::Order { order, reply }).await?
    }

    /// Returns when the engine has stopped by itself, and why.
    pub async fn failed(&self) -> EngineError {
        match self.ask(|reply| Message::Stay { reply }).await {
            Err(error) => error,
            Ok(()) => unreachable!("nobody answers that"),
        }
    }

    /// Starts nothing more, and returns when what runs has ended and is recorded.
    pub async fn drain(&self) -> Result<(), EngineError> {
        self.ask(|reply| Message::Drain { reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.post.send(message(reply)).map_err(|_| stopped(&self.failure))?;
        answer.await.map_err(|_| stopped(&self.failure))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The thread is gone already when it failed; then there is nothing to tell it.
        let _ = self.post.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn stopped(failure: &OnceLock<String>) -> EngineError {
    EngineError::Stopped(failure.get().cloned().unwrap_or_else(|| "it was told to".into()))
}

/// A sentence for each pool that tasks of a DAG name and that there is not.
pub fn missing_pools(definition: &Definition, pools: &BTreeMap<String, usize>) -> Vec<String> {
    let mut missing: Vec<&str> = definition.dag.tasks.iter().map(|task| task.options.pool).collect();
    missing.sort_unstable();
    missing.dedup();
    missing.retain(|pool| *pool != DEFAULT_POOL && !pools.contains_key(*pool));
    let how = |pool| {
        format!("there is no pool `{pool}`: give it slots in coworks-biz.toml, below `[pools]`: {pool} = 5")
    };
    missing.into_iter().map(how).collect()
}
