//! What the database holds, as plain data.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Stored;
use crate::run::{RunState, State};
use crate::value::Object;

/// A run as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run number: counts up over all DAGs of the file.
    pub number: i64,
    /// Its DAG.
    pub dag_id: String,
    /// Its name, unique in its DAG.
    pub run_id: String,
    /// Its name in the world (version 7).
    pub uuid: String,
    /// What made it.
    pub run_type: RunType,
    /// Where it stands.
    pub state: RunState,
    /// The fingerprint of the DAG it goes on with.
    pub version: String,
    /// What it was triggered with, as JSON.
    pub conf: String,
    /// The moment it stands for.
    pub logical_date: DateTime<Utc>,
    /// The start of the data interval, included.
    pub data_interval_start: DateTime<Utc>,
    /// The end of the data interval, excluded.
    pub data_interval_end: DateTime<Utc>,
    /// When it was made, or cleared.
    pub queued_at: DateTime<Utc>,
    /// When it began; `None` until it does.
    pub start_date: Option<DateTime<Utc>>,
    /// When it ended.
    pub end_date: Option<DateTime<Utc>>,
    /// The key of its trigger: a second trigger with the same one is answered with this run.
    pub idempotency_key: Option<String>,
    /// The backfill it is part of.
    pub backfill: Option<i64>,
    /// Why it ends failed whatever its tasks do.
    pub stopped: Option<String>,
    /// Why it does not go on, until somebody decides.
    pub held: Option<String>,
}

/// What makes a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunType {
    /// Somebody, or another run.
    Manual,
    /// The schedule.
    Scheduled,
    /// A backfill.
    Backfill,
}

impl RunType {
    /// Airflow's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
            Self::Backfill => "backfill",
        }
    }

    pub(super) fn read(word: &str) -> Option<Self> {
        [Self::Manual, Self::Scheduled, Self::Backfill].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A task instance as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// The run number.
    pub run: i64,
    /// The task.
    pub task_id: Cow<'static, str>,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// Where it stands; `None` when it was cleared and waits again.
    pub state: Option<State>,
    /// The current try, from 1; 0 when it never had one.
    pub try_number: u32,
    /// How many tries it had had when it was last cleared.
    pub tries_before: u32,
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
    pub waits_for: Option<WaitsFor>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl TaskRecord {
    /// It runs again: with a new effect, and after the tries it has had.
    pub fn clear(&mut self) {
        self.state = None;
        self.tries_before = self.try_number;
        self.interruptions = 0;
        self.generation += 1;
        self.outcome = None;
        (self.start_date, self.end_date, self.due_at) = (None, None, None);
        (self.waits_for, self.error) = (None, None);
    }
}

/// What a deferred task waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WaitsFor {
    /// An object in S3.
    Object(Object),
    /// The end of a run of this engine.
    Run {
        /// Its number.
        run: i64,
    },
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => write!(f, "{object}"),
            Self::Run { run } => write!(f, "the end of run number {run}"),
        }
    }
}

/// What is remembered of a DAG beside its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagRecord {
    /// The DAG.
    pub dag_id: String,
    /// Whether nothing of it starts.
    pub paused: bool,
    /// Its schedule as the program last had it, with its time zone; `None` without one.
    pub schedule: Option<String>,
    /// Since when its schedule is so, where it was another before and ticks are not accounted for since.
    pub schedule_since: Option<DateTime<Utc>>,
    /// Until when its ticks are accounted for.
    pub ticked: Option<DateTime<Utc>>,
}

/// A backfill as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillRecord {
    /// Its number.
    pub id: i64,
    /// The DAG.
    pub dag_id: String,
    /// The first moment, included.
    pub from_date: DateTime<Utc>,
    /// The last moment, included.
    pub to_date: DateTime<Utc>,
    /// Which runs that are there already are run again.
    pub reprocess: String,
    /// How many of its runs are under way at once.
    pub max_active_runs: u32,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its last run ended.
    pub completed_at: Option<DateTime<Utc>>,
}

/// Something that somebody is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRecord {
    /// Its number.
    pub id: i64,
    /// The run it is about.
    pub run: i64,
    /// How: `email`, `webhook`, `callback`.
    pub way: String,
    /// What, as JSON.
    pub notice: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub due_at: DateTime<Utc>,
}

/// An object that is to be deleted from S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The object.
    pub object: Object,
    /// When it is deleted, for the first time or again.
    pub due_at: DateTime<Utc>,
    /// When it is deleted for the last time: until then it may be written once more.
    pub until: DateTime<Utc>,
}

/// A piece of the log of an attempt.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// The task.
    pub task_id: Cow<'static, str>,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// The try.
    pub try_number: u32,
    /// Lines of JSON.
    pub records: String,
}

/// A transition as it was recorded.
#[derive(Debug, Clone)]
pub struct EventRecord {
    /// When.
    pub at: DateTime<Utc>,
    /// The task; `None` for the run itself.
    pub task_id: Option<String>,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// The try, from 1.
    pub try_number: u32,
    /// The state it came to, or what was done to it.
    pub state: String,
    /// Why.
    pub detail: Option<String>,
}

/// One change. A list of them is committed whole or not at all.
#[derive(Debug, Clone)]
pub enum Write {
    /// A run is there.
    RunMade(RunRecord),
    /// A run that has never begun is taken back.
    RunUnmade {
        /// The run number.
        run: i64,
    },
    /// A run is in a new state, or something else of it has changed; appends the event.
    Run {
        /// All that is now known of it.
        record: Box<RunRecord>,
        /// What came about; its state, where that is what did.
        event: &'static str,
        /// Why.
        detail: Option<String>,
        /// When this came about.
        at: DateTime<Utc>,
    },
    /// A task instance is in a new state; also appends the event.
    Task {
        /// All that is now known of it.
        record: TaskRecord,
        /// When this came about.
        at: DateTime<Utc>,
    },
    /// What a task instance pushed is gone: it runs again.
    Forget {
        /// The run number.
        run: i64,
        /// The task.
        task_id: Cow<'static, str>,
        /// The index in a mapping, -1 when the task is not mapped; `None` is all of them.
        map_index: Option<i32>,
    },
    /// A task pushed a value; replaces an earlier one under the same key.
    XCom {
        /// The run number.
        run: i64,
        /// The task.
        task_id: Cow<'static, str>,
        /// The index in a mapping; -1 when the task is not mapped.
        map_index: i32,
        /// The key.
        key: Cow<'static, str>,
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
    /// An object is to be deleted from S3. What was said of it before is not made shorter.
    Delete(Deletion),
    /// An object is not to be deleted from S3 any more.
    Spare(Object),
    /// An object has been deleted from S3, or could not be.
    Deleted {
        /// What was to be done. Where something else is to be done by now, that stays.
        deletion: Deletion,
        /// When it is deleted again; `None` where this was the last time.
        again: Option<DateTime<Utc>>,
    },
    /// What is remembered of a DAG.
    Dag(DagRecord),
    /// The structure that runs of a DAG begin with.
    Version {
        /// The DAG.
        dag_id: String,
        /// Its fingerprint.
        version: String,
        /// What it is, as JSON.
        structure: String,
    },
    /// A backfill was asked for, or is complete.
    Backfill(BackfillRecord),
    /// Somebody is to be told, or to be told later.
    Notice(NoticeRecord),
    /// Somebody has been told, or will not be.
    Told {
        /// The number of the notice.
        id: i64,
    },
}
