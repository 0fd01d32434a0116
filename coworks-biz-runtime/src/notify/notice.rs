//! What there is to tell, as plain data.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::run::{InstanceName, RunState, State};

/// Of a log, no more records than this are told,
const RECORDS: usize = 20;

/// and no more bytes of them.
const LONGEST: usize = 8 * 1024;

/// Something that people want to know: how a task or a run has ended.
///
/// As JSON it is what a [`Webhook`](super::Webhook) posts, and what can be stored until it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When it came about.
    pub at: DateTime<Utc>,
    /// The machine on which it did.
    pub host: String,
    /// The program, as it is called on the command line.
    pub program: String,
    /// The DAG.
    pub dag_id: String,
    /// The run.
    pub run_id: String,
    /// The run's name in the world.
    pub run_uuid: String,
    /// The moment the run stands for.
    pub logical_date: DateTime<Utc>,
    /// What has happened.
    #[serde(flatten)]
    pub subject: Subject,
}

/// What a notice is about; in JSON its name is the field `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A task instance has failed, and has no try left.
    Failure(TaskNotice),
    /// A task instance has failed, and is tried again.
    Retry(TaskNotice),
    /// A task instance has ended well.
    Success(TaskNotice),
    /// A run has failed.
    RunFailed(RunFailed),
}

/// How an attempt of a task has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNotice {
    /// The task.
    pub task_id: String,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// The state that it is in now.
    pub state: State,
    /// The try that has ended, from 1; 0 when it never had one.
    pub try_number: u32,
    /// How many tries it has in all.
    pub max_tries: u32,
    /// When it is tried again.
    pub next_try_at: Option<DateTime<Utc>>,
    /// Why it has failed.
    pub exception: Option<String>,
    /// The end of its log: see [`excerpt`].
    pub log_excerpt: String,
}

/// How a run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailed {
    /// The state that it is in now.
    pub state: RunState,
    /// The task instances that have failed, in the order of the DAG.
    pub failed_tasks: Vec<FailedTask>,
}

/// A task instance that has failed in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTask {
    /// The task.
    pub task_id: String,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// Why it has failed.
    pub exception: Option<String>,
}

impl Notice {
    /// The name of this notice: the same when it is sent again after a crash, and of no other notice.
    pub fn id(&self) -> String {
        let (kind, task) = match &self.subject {
            Subject::Failure(task) => ("failure", Some(task)),
            Subject::Retry(task) => ("retry", Some(task)),
            Subject::Success(task) => ("success", Some(task)),
            Subject::RunFailed(_) => ("run_failed", None),
        };
        let mut digest = Sha256::new();
        // Task ids are the only part of any length, and come last.
        digest.update(format!("{} {} {kind}", self.run_uuid, self.at.timestamp_micros()));
        if let Some(task) = task {
            digest.update(format!(" {} {} {}", task.try_number, task.map_index, task.task_id));
        }
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TaskNotice {
    /// The instance as it is shown: `send[3]`.
    pub fn name(&self) -> InstanceName<'_> {
        InstanceName(&self.task_id, self.map_index)
    }
}

impl FailedTask {
    /// The instance as it is shown: `send[3]`.
    pub fn name(&self) -> InstanceName<'_> {
        InstanceName(&self.task_id, self.map_index)
    }
}

/// The name of this machine; empty where it has none that can be read.
pub fn host() -> String {
    hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The end of a log for people: of its records, which are lines of JSON as they are stored, the last
/// twenty, and no more than 8 KiB of them.
pub fn excerpt(records: &str) -> String {
    let mut lines: VecDeque<String> = VecDeque::new();
    let mut length = 0;
    for record in records.lines().rev().take(RECORDS) {
        let mut line = readable(record);
        if length + line.len() > LONGEST {
            if !lines.is_empty() {
                break;
            }
            // One record alone is too long: its beginning tells most.
            line.truncate(line.floor_char_boundary(LONGEST));
            line.push('…');
        }
        length += line.len() + 1;
        lines.push_front(line);
    }
    lines.make_contiguous().join("\n")
}

fn readable(record: &str) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(record) else {
        return record.to_owned();
    };
    let field = |name: &str| fields.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    // To the second: `2026-01-31T06:00:00.123456Z`.
    let at = field("timestamp").get(11..19).unwrap_or_default();
    let mut line = format!("{at} {:<7} {}", field("level"), field("event"));
    let own = ["timestamp", "level", "event", "logger"];
    for (name, value) in fields.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        line.push_str(&format!(" {name}={value}"));
    }
    line
}
