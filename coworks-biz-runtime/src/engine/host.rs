//! What the tasks of the embedded engine ask for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::mailbox::Post;
use super::message::Message;
use super::outbox::Ways;
use super::outputs::Outputs;
use super::{EngineError, Refusal};
use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::error::{Error, Result};
use crate::run::RunState;
use crate::store::{Blobs, IN_FLIGHT, LogRecord, Reader, StoreError, Writer};
use crate::task::{Attempt, DagRun, Host, Threads, Triggered};
use crate::tech::Client;
use crate::value::Json;

/// How long a task waits before it tries again to read what it takes.
const PAUSE: Duration = Duration::from_secs(1);

/// What all runs of an engine share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) services: Client,
    pub(super) clock: Clock,
    pub(super) ways: Ways,
    pub(super) post: Post,
    pub(super) blobs: Blobs,
    threads: Arc<Threads>,
    /// When the disk was full last.
    full: Mutex<Option<Instant>>,
    /// How many `HEAD`s a second S3 is asked at most for what is waited for.
    #[cfg(feature = "s3")]
    pub(super) s3_rate: u32,
    /// How much is waited for.
    #[cfg(feature = "s3")]
    pub(super) waiting: Mutex<super::Waiting>,
    /// What was last said of S3 being out of reach.
    #[cfg(feature = "s3")]
    pub(super) outage: Mutex<Option<String>>,
    engine_id: String,
    secrets: Arc<Secrets>,
    database: PathBuf,
    /// Read-only connections that nobody uses at the moment.
    readers: Mutex<Vec<Reader>>,
}

impl Shared {
    pub(super) fn new(config: &Config, services: Client, ways: Ways, writer: &Writer, post: Post) -> Self {
        Self {
            services,
            clock: config.clock.clone(),
            ways,
            post,
            blobs: writer.blobs(),
            threads: Arc::default(),
            full: Mutex::default(),
            #[cfg(feature = "s3")]
            s3_rate: config.s3_rate,
            #[cfg(feature = "s3")]
            outage: Mutex::default(),
            #[cfg(feature = "s3")]
            waiting: Mutex::default(),
            engine_id: writer.engine_id().to_owned(),
            secrets: Arc::clone(&config.secrets),
            database: writer.location().to_owned(),
            readers: Mutex::default(),
        }
    }

    /// Tells the engine. Where it has stopped, there is nobody left to tell, and nothing is lost
    /// that a resumed run would not do again.
    pub(super) fn tell(&self, message: Message) {
        let _ = self.post.send(message);
    }

    pub(super) fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// The disk is full.
    pub(super) fn is_full(&self) {
        *self.full.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
    }

    /// Whether the disk was full a while ago: what is stored may be named a while later.
    pub(super) fn was_full(&self) -> bool {
        let full = *self.full.lock().unwrap_or_else(|e| e.into_inner());
        full.is_some_and(|at| at.elapsed() < IN_FLIGHT)
    }

    /// The name of this engine in the keys of answers.
    pub(super) fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// Closes the connections that nobody uses.
    pub(super) fn close_readers(&self) {
        self.readers.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    /// Reads on a thread that may block. What the database is in the way of is no failure of a task, and no try of
    /// it: where its files are gone the engine stops, and else it is waited until they can be read.
    async fn reading<T: Send + 'static>(
        self: Arc<Self>,
        read: impl Fn(&Reader) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T> {
        let (read, mut told) = (Arc::new(read), false);
        loop {
            let (shared, reads) = (Arc::clone(&self), Arc::clone(&read));
            let error = match tokio::task::spawn_blocking(move || shared.read(|reader| reads(reader))).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(error) => return Err(Error::msg(format!("reading was cut off: {error}"))),
            };
            let (reply, stays) = oneshot::channel();
            self.tell(Message::Look { reply });
            if stays.await.is_err() {
                return std::future::pending().await;
            }
            if !error.may_pass() {
                return Err(error.into());
            }
            if !std::mem::replace(&mut told, true) {
                tracing::error!(target: "coworks_biz::engine", "a task waits until it can read what it takes: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => Reader::beside_the_writer(&self.database)?,
        };
        let value = read(&reader)?;
        self.readers.lock().unwrap_or_else(|e| e.into_inner()).push(reader);
        Ok(value)
    }
}

/// The host of the tasks of one run.
#[derive(Debug)]
pub(super) struct RunHost {
    pub(super) shared: Arc<Shared>,
    pub(super) outputs: Arc<Outputs>,
}

impl Host for RunHost {
    fn xcom<'a>(
        &'a self,
        run: &'a DagRun,
        task_id: &'a str,
        map_index: i32,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Json>>> {
        if let Some(json) = self.outputs.get(task_id, map_index, key) {
            return std::future::ready(Ok(Some(json))).boxed();
        }
        let (shared, number) = (Arc::clone(&self.shared), run.number);
        let (task_id, key) = (task_id.to_owned(), key.to_owned());
        shared.reading(move |reader| reader.xcom(number, &task_id, map_index, &key)).boxed()
    }

    fn mapped_xcoms<'a>(
        &'a self,
        run: &'a DagRun,
        list: &'a str,
        task_id: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Option<Json>>>> {
        let (shared, number) = (Arc::clone(&self.shared), run.number);
        let (list, task_id, key) = (list.to_owned(), task_id.to_owned(), key.to_owned());
        shared.reading(move |reader| reader.mapped_xcoms(number, &list, &task_id, &key)).boxed()
    }

    fn trigger<'a>(
        &'a self,
        dag_id: &'a str,
        conf: Option<Json>,
        idempotency_key: String,
    ) -> BoxFuture<'a, Result<Triggered>> {
        let (reply, answer) = oneshot::channel();
        let (dag_id, key) = (dag_id.to_owned(), idempotency_key);
        self.shared.tell(Message::Start { dag_id, conf, key, reply });
        async move {
            match answer.await {
                Ok(Ok(handle)) => {
                    Ok(Triggered { run_id: handle.run.run_id.to_string(), number: handle.run.number })
                }
                // The same would be refused again.
                Ok(Err(EngineError::Refused(refusal))) if !matches!(refusal, Refusal::Trouble(_)) => {
                    Err(Error::fatal(refusal))
                }
                Ok(Err(error)) => Err(Error::msg(error)),
                Err(_) => Err(Error::msg("the engine has stopped")),
            }
        }
        .boxed()
    }

    fn run_state<'a>(&'a self, number: i64) -> BoxFuture<'a, Result<Option<RunState>>> {
        let shared = Arc::clone(&self.shared);
        shared.reading(move |reader| Ok(reader.run(number)?.map(|run| run.state))).boxed()
    }

    fn log(&self, attempt: &Attempt, records: String) {
        let piece = LogRecord {
            task_id: attempt.node().task_id.into(),
            map_index: attempt.map_index,
            try_number: attempt.try_number,
            records,
        };
        self.shared.tell(Message::Log { run: attempt.run.number, piece });
    }

    fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    fn services(&self) -> &Client {
        &self.shared.services
    }

    fn secrets(&self) -> &Arc<Secrets> {
        &self.shared.secrets
    }

    fn threads(&self) -> &Arc<Threads> {
        &self.shared.threads
    }

    fn engine_id(&self) -> &str {
        &self.shared.engine_id
    }
}
