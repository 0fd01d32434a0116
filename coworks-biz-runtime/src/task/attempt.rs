//! What is attempted, and how it ends.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

use super::context::Pushed;
use super::output::{HEADERS, STATUS_CODE};
use super::{DagRun, Definition};
use crate::dag::Task;
use crate::error::{Result, Retry};
use crate::run::{Ending, Key};
use crate::tech::{Answer, Client, Service};
use crate::value::{Json, Object, RETURN_VALUE};

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
    /// How many of them were before it was last cleared: this one does nothing over that they did.
    pub tries_before: u32,
    /// Whether no other try would follow if this one failed now.
    pub last_try: bool,
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

    /// The try, from 1, of those since it was last cleared.
    pub fn nth(&self) -> u32 {
        self.try_number.saturating_sub(self.tries_before)
    }

    /// The task instance.
    pub fn key(&self) -> Key {
        Key { task: self.task, map_index: self.map_index }
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
    /// What has to come.
    pub what: Awaited,
    /// The moment, or the deadline; `None` where there is none, which only a run may have.
    pub until: Option<DateTime<Utc>>,
}

/// What may be waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// Only the moment.
    Moment,
    /// An object that has to appear.
    Object(Object),
    /// The end of the run with this number, which may have ended already.
    Run(i64),
}

/// How an attempt ended.
#[derive(Debug)]
pub struct End {
    /// What it means for the task.
    pub ending: Ending,
    /// Why it failed, where it did.
    pub error: Option<String>,
    /// The status of the answer that made it fail, where one did.
    pub answered: Option<u16>,
    /// What it pushed.
    pub xcoms: Vec<(Cow<'static, str>, Json)>,
    /// The items of its list, where it is that of a loop: each is the `return_value` at its map index.
    pub items: Vec<Json>,
    /// What it waits for, where it was deferred.
    pub wait: Option<Wait>,
    /// The objects that are not needed any more once this end is committed and the task is over.
    pub delete: Vec<Object>,
    /// Whether there is an answer that stays for who has to find out what is wrong with it.
    pub kept: bool,
    /// The rest of its log.
    pub log: String,
}

impl End {
    /// The end of an attempt that failed for a reason outside the task's code.
    pub fn failed(error: impl Into<String>) -> Self {
        Self {
            ending: Ending::Failed(Retry::AsConfigured),
            error: Some(error.into()),
            answered: None,
            xcoms: Vec::new(),
            items: Vec::new(),
            wait: None,
            delete: Vec::new(),
            kept: false,
            log: String::new(),
        }
    }
}

/// What a body comes to, where it does not fail.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) xcoms: Vec<(Cow<'static, str>, Json)>,
    pub(super) wait: Option<Wait>,
    pub(super) delete: Vec<Object>,
    /// The arm, where it is a branch.
    pub(super) chosen: Option<u32>,
    /// The items, where it is the list of a loop.
    pub(super) items: Option<Vec<Json>>,
}

impl Outcome {
    /// What it means for the task.
    pub(super) fn ending(&self) -> Ending {
        match (&self.wait, self.chosen, &self.items) {
            (Some(_), ..) => Ending::Deferred,
            (None, Some(arm), _) => Ending::Chosen(arm),
            (None, None, Some(items)) => Ending::Mapped(items.len() as u32),
            (None, None, None) => Ending::Success,
        }
    }

    /// Where a service wants to be left alone: to be called again when it may be, in the same try. Most
    /// calls do not even start before, and this is for those that had started.
    pub(super) fn later(services: &Client, service: &Service) -> Option<Self> {
        let until = services.left_alone(service)?;
        tracing::info!("`{}` asked to be left alone: it is called at {until}", service.name());
        let wait = Wait { what: Awaited::Moment, until: Some(until) };
        Some(Self { wait: Some(wait), ..Self::default() })
    }

    /// The XComs of an answer.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<()> {
        let Answer { status, value, headers } = answer;
        self.push(STATUS_CODE, Json::encode(&status)?);
        for (key, json) in [(RETURN_VALUE, value), (HEADERS, headers)] {
            if let Some(json) = json {
                self.push(key, json);
            }
        }
        Ok(())
    }

    pub(super) fn push(&mut self, key: &'static str, value: Json) {
        self.xcoms.push((key.into(), value));
    }
}

/// What an attempt leaves beside its result.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// What was pushed by name.
    pub(super) pushed: Pushed,
    /// Answers that were read and refused.
    pub(super) refused: Mutex<Vec<Object>>,
    /// Whether there is an answer that stays for who has to find out what is wrong with it.
    pub(super) kept: AtomicBool,
}
