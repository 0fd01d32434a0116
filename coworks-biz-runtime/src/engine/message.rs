//! What the engine is told, from whichever thread.

use tokio::sync::oneshot;

use super::{EngineError, RunHandle, Trigger};
use crate::store::{LogRecord, Stored};
use crate::task::{Definition, End, Resume};
#[cfg(feature = "s3")]
use crate::value::Object;

/// A message to the thread that owns the live runs.
#[derive(Debug)]
pub(super) enum Message {
    Trigger {
        definition: &'static Definition,
        trigger: Trigger,
        reply: Reply,
    },
    Resume {
        dag_id: Option<String>,
        run_id: String,
        reply: Reply,
    },
    /// An attempt has ended; its large values are on disk.
    Ended {
        run: i64,
        task: u32,
        end: Box<End>,
        xcoms: Vec<(String, Stored)>,
    },
    /// More of the log of an attempt.
    Log {
        run: i64,
        piece: LogRecord,
    },
    /// What a task waited for is there, or overdue.
    Due {
        run: i64,
        task: u32,
        resume: Resume,
    },
    #[cfg(feature = "s3")]
    /// An object has been deleted, or will be at the next start.
    Deleted {
        object: Object,
        done: bool,
    },
    Drain {
        reply: oneshot::Sender<()>,
    },
    Stop,
}

/// Where the answer to a trigger goes.
pub(super) type Reply = oneshot::Sender<Result<RunHandle, EngineError>>;
