//! What is attempted, and how it ends.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{DagRun, Definition};
use crate::dag::Task;
use crate::error::{Result, Retry};
use crate::run::Ending;
use crate::tech::Answer;
use crate::value::Object;
use crate::value::{Json, RETURN_VALUE};

/// What is to be attempted.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The service.
    pub definition: &'static Definition,
    /// The run.
    pub run: Arc<DagRun>,
    /// The index of the task.
    pub task: u32,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// The try, from 1.
    pub try_number: u32,
    /// The generation of its call.
    pub generation: u32,
    /// When this try began; it began earlier than this attempt when it was deferred meanwhile.
    pub started: DateTime<Utc>,
    /// What became of what it waited for, where it did.
    pub resume: Option<Resume>,
}

impl Attempt {
    /// The task.
    pub fn node(&self) -> &'static Task {
        &self.definition.dag.tasks[self.task as usize]
    }
}

/// What became of what an attempt waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It is there.
    Arrived,
    /// Its deadline has passed. It may still have come at the last moment.
    Overdue,
    /// Nobody knows: the process died after the attempt had been deferred.
    Interrupted,
}

/// What an attempt waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The object that has to appear.
    pub object: Object,
    /// The deadline.
    pub until: DateTime<Utc>,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct End {
    /// What it means for the task.
    pub ending: Ending,
    /// Why it failed, where it did.
    pub error: Option<String>,
    /// What it pushed.
    pub xcoms: Vec<(String, Json)>,
    /// What it waits for, where it was deferred.
    pub wait: Option<Wait>,
    /// The objects that are not needed any more once this end is committed and the task is over.
    pub delete: Vec<Object>,
    /// The rest of its log.
    pub log: String,
}

impl End {
    /// The end of an attempt that failed for a reason outside the task's code.
    pub fn failed(error: impl Into<String>) -> Self {
        Self {
            ending: Ending::Failed(Retry::AsConfigured),
            error: Some(error.into()),
            xcoms: Vec::new(),
            wait: None,
            delete: Vec::new(),
            log: String::new(),
        }
    }
}

/// What a body comes to, where it does not fail.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) xcoms: Vec<(String, Json)>,
    pub(super) wait: Option<Wait>,
    pub(super) delete: Vec<Object>,
}

impl Outcome {
    /// The XComs of an answer.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<()> {
        self.push("status_code", Json::encode(&answer.status)?);
        if let Some(value) = answer.value {
            self.push(RETURN_VALUE, value);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, key: &str, value: Json) {
        self.xcoms.push((key.to_owned(), value));
    }
}
