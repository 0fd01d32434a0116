//! What the engine is told, from whichever thread.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{Answer, EngineError, Order, RunHandle, Trigger};
use crate::error::Error;
use crate::run::Key;
use crate::store::{Deletion, LogRecord, StoreError, Stored, WaitsFor};
use crate::task::{Definition, End, Resume};
use crate::value::Json;

/// A message to the thread that owns the live runs.
#[derive(Debug)]
pub(super) enum Message {
    Trigger {
        definition: &'static Definition,
        trigger: Trigger,
        reply: Reply,
    },
    /// A task triggers another DAG; the same key gives the same run again.
    Start {
        dag_id: String,
        conf: Option<Json>,
        key: String,
        reply: Reply,
    },
    Resume {
        dag_id: Option<String>,
        run_id: String,
        reply: Reply,
    },
    Order {
        order: Order,
        reply: oneshot::Sender<Result<Answer, EngineError>>,
    },
    /// An attempt has ended; its large values are on disk.
    Ended(Ended),
    /// More of the log of an attempt.
    Log {
        run: i64,
        piece: LogRecord,
    },
    /// What a task waited for is there, or overdue.
    Due {
        run: i64,
        key: Key,
        /// What that was: the task may have been cleared, and wait for something else.
        of: WaitsFor,
        resume: Resume,
    },
    /// A task could not read what it takes: the database may be gone. Answered where it is there.
    Look {
        reply: oneshot::Sender<()>,
    },
    /// What a task has put out cannot be stored.
    Broken(StoreError),
    /// A service wants to be left alone.
    Closed {
        service: String,
        until: DateTime<Utc>,
    },
    /// Objects were deleted from S3, or why not.
    Swept {
        done: Vec<(Deletion, Result<(), String>)>,
    },
    /// Somebody has been told of something, or could not be.
    Told {
        id: i64,
        /// The addresses that the server may take later.
        later: Vec<String>,
        error: Option<Error>,
    },
    /// From now on the database has so many pages, and no more: its disk is full.
    #[cfg(test)]
    Pages(u32),
    /// Never answered: whoever asks learns when the engine goes.
    Stay {
        reply: oneshot::Sender<()>,
    },
    Drain {
        reply: oneshot::Sender<()>,
    },
    Stop,
}

/// The end of an attempt, as the database takes it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) run: i64,
    pub(super) key: Key,
    /// The number of the attempt.
    pub(super) number: u64,
    /// Without its values.
    pub(super) end: Box<End>,
    pub(super) xcoms: Vec<(Cow<'static, str>, Stored)>,
    /// The items of a list.
    pub(super) items: Vec<Stored>,
}

/// Where the answer to a trigger goes.
pub(super) type Reply = oneshot::Sender<Result<RunHandle, EngineError>>;
