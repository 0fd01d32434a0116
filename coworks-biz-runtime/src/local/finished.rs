//! What became of a run.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::run::{RunState, State};
use crate::store::{LogRecord, Reader, RunRecord, StoreError, TaskRecord};
use crate::value::{self, Json, Output, RETURN_VALUE};

/// A run of a [`Sandbox`](super::Sandbox), as it was left.
///
/// A task is named as in [`show`](fmt::Display) and in Airflow; `x` is also the last member of the group of an
/// asynchronous call `x`.
#[derive(Debug)]
pub struct Finished {
    run: RunRecord,
    tasks: Vec<TaskRecord>,
    xcoms: Vec<(String, i32, String, Json)>,
    logs: Vec<LogRecord>,
}

impl Finished {
    pub(super) fn read(reader: &Reader, number: i64) -> Result<Self> {
        let read = || -> Result<Option<Self>, StoreError> {
            let Some(run) = reader.run(number)? else { return Ok(None) };
            let (tasks, xcoms) = (reader.tasks(number)?, reader.xcoms(number)?);
            Ok(Some(Self { run, tasks, xcoms, logs: reader.logs(number, None)? }))
        };
        read().map_err(Error::msg)?.ok_or_else(|| Error::msg(format!("there is no run {number}")))
    }

    /// The DAG.
    pub fn dag_id(&self) -> &str {
        &self.run.dag_id
    }

    /// How the run ended; running, where time stopped before its end.
    pub fn state(&self) -> RunState {
        self.run.state
    }

    /// Whether it has succeeded.
    pub fn is_success(&self) -> bool {
        self.run.state == RunState::Success
    }

    /// The moment it stands for.
    pub fn logical_date(&self) -> DateTime<Utc> {
        self.run.logical_date
    }

    /// How a task has ended, `None` where it never came to that. Of a task in a loop, how its first instance has.
    pub fn state_of(&self, task: &str) -> Option<State> {
        self.instances(task).next()?.state
    }

    /// How the instances of a task in a loop have ended, in the order of the items.
    pub fn states_of(&self, task: &str) -> Vec<Option<State>> {
        self.instances(task).map(|instance| instance.state).collect()
    }

    /// How many tries a task has had.
    pub fn tries_of(&self, task: &str) -> u32 {
        self.instances(task).next().map_or(0, |instance| instance.try_number)
    }

    /// Why a task has failed: the error of its last try that did.
    pub fn error_of(&self, task: &str) -> Option<&str> {
        self.instances(task).find_map(|instance| instance.error.as_deref())
    }

    /// The output of a task. `Reply<T>` is put together from what was pushed, as it is for other tasks.
    pub fn output<T: Output>(&self, task: &str) -> Result<T> {
        let instance = self.instances(task).next().ok_or_else(|| self.unknown(task))?;
        self.output_of(instance)
    }

    /// The outputs of the instances of a task in a loop, in the order of the items.
    pub fn outputs<T: Output>(&self, task: &str) -> Result<Vec<T>> {
        self.instances(task).map(|instance| self.output_of(instance)).collect()
    }

    /// What a task, or its first instance, pushed under a key.
    pub fn xcom<T: Output>(&self, task: &str, key: &str) -> Result<T> {
        let instance = self.instances(task).next().ok_or_else(|| self.unknown(task))?;
        let value = self.pushed(instance, key);
        value.ok_or_else(|| Error::msg(format!("`{task}` has pushed no `{key}`:\n{self}")))?.decode()
    }

    /// What a task has logged, line by line, over all tries and instances. Nothing where the test has a
    /// subscriber of `tracing` of its own.
    pub fn log(&self, task: &str) -> Vec<String> {
        let names = [task.to_owned(), format!("{task}.read")];
        let pieces = self.logs.iter().filter(|piece| names.contains(&piece.task_id));
        let lines = pieces.flat_map(|piece| piece.records.lines());
        lines
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["event"].as_str()?.to_owned()))
            .collect()
    }

    fn instances<'a>(&'a self, task: &str) -> impl Iterator<Item = &'a TaskRecord> + use<'a> {
        let read = format!("{task}.read");
        let name = match self.tasks.iter().any(|instance| instance.task_id == read) {
            true => read,
            false => task.to_owned(),
        };
        self.tasks.iter().filter(move |instance| instance.task_id == name)
    }

    fn output_of<T: Output>(&self, instance: &TaskRecord) -> Result<T> {
        let pushed = self.pushed(instance, RETURN_VALUE);
        let status = match value::has_replies::<T>() {
            true => self.pushed(instance, "status_code").map(|status| status.decode::<u16>()).transpose()?,
            false => None,
        };
        let assembled = status.map(|status| {
            value::assemble(status, pushed.as_ref(), self.pushed(instance, "headers").as_ref())
        });
        let none = || Json::from_stored("null");
        let json = assembled.or(pushed).unwrap_or_else(none);
        json.decode().map_err(|e| {
            let state = instance.state.map_or("not begun", State::as_str);
            let error = instance.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            e.context(format!("the output of `{}`, which is {state}{error}", instance.task_id))
        })
    }

    fn pushed(&self, instance: &TaskRecord, key: &str) -> Option<Json> {
        let of_it = |(task, map_index, name, _): &&(String, i32, String, Json)| {
            *task == instance.task_id && *map_index == instance.map_index && name == key
        };
        self.xcoms.iter().find(of_it).map(|(.., json)| json.clone())
    }

    fn unknown(&self, task: &str) -> Error {
        Error::msg(format!("no task `{task}` has come to anything in this run:\n{self}"))
    }
}

/// One line for each task instance: for the message of an assertion.
impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunRecord { dag_id, run_id, state, .. } = &self.run;
        writeln!(f, "{dag_id} {run_id}: {state}")?;
        for task in &self.tasks {
            let index = if task.map_index < 0 { String::new() } else { format!("[{}]", task.map_index) };
            let state = task.state.map_or("none", State::as_str);
            write!(f, "  {}{index}: {state}, try {}", task.task_id, task.try_number)?;
            match &task.error {
                Some(error) => writeln!(f, ": {error}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
