//! What became of a run.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::dag::Dag;
use crate::error::{Error, Result};
use crate::run::{InstanceName, RunState, State};
use crate::store::{LogRecord, Reader, RunRecord, StoreError, TaskRecord};
use crate::task::Definition;
use crate::value::{self, Json, Output, RETURN_VALUE};

/// A run of a [`Sandbox`](super::Sandbox), as it was left.
///
/// A task is named as in [`show`](fmt::Display) and in Airflow, `x[3]` where an instance of a loop is meant; `x` is
/// also the last member of the group of an asynchronous call `x`. A name that is none of the plan's is a slip in the
/// test, and panics.
#[derive(Debug)]
pub struct Finished {
    dag: &'static Dag,
    run: RunRecord,
    tasks: Vec<TaskRecord>,
    xcoms: Vec<(String, i32, String, Json)>,
    logs: Vec<LogRecord>,
}

impl Finished {
    pub(super) fn read(reader: &Reader, number: i64, definition: &'static Definition) -> Result<Self> {
        let read = || -> Result<Option<Self>, StoreError> {
            let Some(run) = reader.run(number)? else { return Ok(None) };
            let (mut tasks, xcoms) = (reader.tasks(number)?, reader.xcoms(number)?);
            let place = |task: &TaskRecord| {
                let place = definition.dag.task(&task.task_id)?;
                definition.dag.order.iter().position(|&at| at == place)
            };
            tasks.sort_by_key(|task| (place(task), task.map_index));
            Ok(Some(Self { dag: definition.dag, run, tasks, xcoms, logs: reader.logs(number, None)? }))
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
    #[track_caller]
    pub fn state_of(&self, task: &str) -> Option<State> {
        self.instances(task).next()?.state
    }

    /// How the instances of a task in a loop have ended, in the order of the items.
    #[track_caller]
    pub fn states_of(&self, task: &str) -> Vec<Option<State>> {
        self.instances(task).map(|instance| instance.state).collect()
    }

    /// How many tries a task has had.
    #[track_caller]
    pub fn tries_of(&self, task: &str) -> u32 {
        self.instances(task).next().map_or(0, |instance| instance.try_number)
    }

    /// Why a task has failed: the error of its last try that did.
    #[track_caller]
    pub fn error_of(&self, task: &str) -> Option<&str> {
        self.instances(task).find_map(|instance| instance.error.as_deref())
    }

    /// The output of a task. `Reply<T>` is put together from what was pushed, as it is for other tasks.
    #[track_caller]
    pub fn output<T: Output>(&self, task: &str) -> Result<T> {
        let instance = self.instances(task).next().ok_or_else(|| self.unknown(task))?;
        self.output_of(instance)
    }

    /// The outputs of the instances of a task in a loop, in the order of the items.
    #[track_caller]
    pub fn outputs<T: Output>(&self, task: &str) -> Result<Vec<T>> {
        self.instances(task).map(|instance| self.output_of(instance)).collect()
    }

    /// What a task, or its first instance, pushed under a key.
    #[track_caller]
    pub fn xcom<T: Output>(&self, task: &str, key: &str) -> Result<T> {
        let instance = self.instances(task).next().ok_or_else(|| self.unknown(task))?;
        let value = self.pushed(instance, key);
        value.ok_or_else(|| Error::msg(format!("`{task}` has pushed no `{key}`:\n{self}")))?.decode()
    }

    /// What a task has logged, line by line, over all tries and instances, and with all members of the group of
    /// an asynchronous call. Nothing where the test program has a subscriber of `tracing` of its own without
    /// [`Capture`](crate::task::Capture).
    #[track_caller]
    pub fn log(&self, task: &str) -> Vec<String> {
        // For its panic.
        drop(self.instances(task));
        let (task, index) = InstanceName::read(task);
        let group = format!("{task}.");
        let of_it = |piece: &&LogRecord| {
            (piece.task_id == task || piece.task_id.starts_with(&group))
                && index.is_none_or(|index| piece.map_index == index)
        };
        let lines = self.logs.iter().filter(of_it).flat_map(|piece| piece.records.lines());
        lines
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["event"].as_str()?.to_owned()))
            .collect()
    }

    /// The instances of a task, or the one that `x[3]` names.
    #[track_caller]
    fn instances<'a>(&'a self, task: &str) -> impl Iterator<Item = &'a TaskRecord> + use<'a> {
        let (task, index) = InstanceName::read(task);
        let name =
            [format!("{task}.read"), task.to_owned()].into_iter().find(|name| self.dag.task(name).is_some());
        let Some(name) = name else {
            let there: Vec<_> = self.dag.tasks.iter().map(|task| task.task_id).collect();
            panic!("no task `{task}` in `{}`: there is {}", self.dag.dag_id, there.join(", "));
        };
        let named = move |instance: &&TaskRecord| {
            instance.task_id == name && index.is_none_or(|index| instance.map_index == index)
        };
        self.tasks.iter().filter(named)
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
