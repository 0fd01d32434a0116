//! What the database holds, as plain data.

use chrono::{DateTime, Utc};

use super::Stored;
use crate::run::{RunState, State};
use crate::value::Object;

/// A run as it is recorded.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The run number: counts up over all DAGs of the file.
    pub number: i64,
    /// Its DAG.
    pub dag_id: String,
    /// Its name, unique in its DAG.
    pub run_id: String,
    /// Its name in the world (version 7).
    pub uuid: String,
    /// What made it: `manual` or `scheduled`.
    pub run_type: String,
    /// Where it stands.
    pub state: RunState,
    /// The fingerprint of the DAG it began with.
    pub version: String,
    /// What it was triggered with, as JSON.
    pub conf: String,
    /// The moment it stands for.
    pub logical_date: DateTime<Utc>,
    /// The start of the data interval, included.
    pub data_interval_start: DateTime<Utc>,
    /// The end of the data interval, excluded.
    pub data_interval_end: DateTime<Utc>,
    /// When it began.
    pub start_date: DateTime<Utc>,
    /// When it ended.
    pub end_date: Option<DateTime<Utc>>,
}

/// A task instance as it is recorded.
#[derive(Debug, Clone)]
pub struct TaskRecord {
    /// The run number.
    pub run: i64,
    /// The task.
    pub task_id: String,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// Where it stands.
    pub state: State,
    /// The current try, from 1; 0 when it never had one.
    pub try_number: u32,
    /// How often a dying process cut an attempt of it off.
    pub interruptions: u32,
    /// The generation of its call.
    pub generation: u32,
    /// What its success means beyond itself: the arm of a branch, the number of items of a list.
    pub outcome: Option<u32>,
    /// When the current try began.
    pub start_date: Option<DateTime<Utc>>,
    /// When the last attempt ended.
    pub end_date: Option<DateTime<Utc>>,
    /// When it is called again.
    pub due_at: Option<DateTime<Utc>>,
    /// What it waits for.
    pub waits_for: Option<Object>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// A piece of the log of an attempt.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// The task.
    pub task_id: String,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// The try.
    pub try_number: u32,
    /// Lines of JSON.
    pub records: String,
}

/// One change. A list of them is committed whole or not at all.
#[derive(Debug, Clone)]
pub enum Write {
    /// A run is there.
    RunBegan(RunRecord),
    /// A run has ended.
    RunEnded {
        /// The run number.
        run: i64,
        /// How.
        state: RunState,
        /// When.
        at: DateTime<Utc>,
    },
    /// A task instance is in a new state; also appends the event.
    Task {
        /// All that is now known of it.
        record: TaskRecord,
        /// When this came about.
        at: DateTime<Utc>,
    },
    /// A task pushed a value; replaces an earlier one under the same key.
    XCom {
        /// The run number.
        run: i64,
        /// The task.
        task_id: String,
        /// The index in a mapping; -1 when the task is not mapped.
        map_index: i32,
        /// The key.
        key: String,
        /// The value.
        value: Stored,
    },
    /// More of the log of an attempt.
    Log {
        /// The run number.
        run: i64,
        /// The piece.
        piece: LogRecord,
    },
    /// An object is to be deleted from S3.
    Delete(Object),
    /// An object has been deleted from S3.
    Deleted(Object),
}
