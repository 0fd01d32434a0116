//! A run that is under way: its state machine, and what is recorded of each task beside the state.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::host::Outputs;
use crate::run::{Command, Event, Instance, Misfit, Run, RunState, State};
use crate::store::TaskRecord;
use crate::task::{Attempt, DagRun, Definition, Resume, Wait};
use crate::value::Object;

#[derive(Debug)]
pub(super) struct Live {
    pub(super) definition: &'static Definition,
    pub(super) run: Run,
    pub(super) dag_run: Arc<DagRun>,
    pub(super) outputs: Arc<Outputs>,
    pub(super) ended: watch::Sender<Option<RunState>>,
    notes: Vec<Notes>,
}

/// What is recorded of a task beside its state.
#[derive(Debug, Clone, Default)]
struct Notes {
    generation: u32,
    start_date: Option<DateTime<Utc>>,
    end_date: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    waits_for: Option<Box<Object>>,
    error: Option<Box<str>>,
}

impl Live {
    pub(super) fn new(
        definition: &'static Definition,
        dag_run: Arc<DagRun>,
        ended: watch::Sender<Option<RunState>>,
    ) -> Self {
        Self {
            definition,
            run: Run::new(definition.dag),
            dag_run,
            outputs: Arc::default(),
            ended,
            notes: vec![Notes::default(); definition.dag.tasks.len()],
        }
    }

    /// A run as it was recorded.
    pub(super) fn restore(
        definition: &'static Definition,
        dag_run: Arc<DagRun>,
        ended: watch::Sender<Option<RunState>>,
        records: &[TaskRecord],
    ) -> Self {
        let mut live = Self::new(definition, dag_run, ended);
        let known = |record: &&TaskRecord| definition.dag.task(&record.task_id).is_some();
        let instances = records.iter().filter(known).filter_map(|record| {
            let task = definition.dag.task(&record.task_id)?;
            live.notes[task as usize] = Notes {
                generation: record.generation,
                start_date: record.start_date,
                end_date: record.end_date,
                due_at: record.due_at,
                waits_for: record.waits_for.clone().map(Box::new),
                error: record.error.as_deref().map(Into::into),
            };
            Some((task, Instance::recorded(record.state, record.try_number, record.interruptions)))
        });
        let instances: Vec<_> = instances.collect();
        live.run = Run::restore(definition.dag, instances);
        live
    }

    pub(super) fn step(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Misfit> {
        self.run.step(event, commands)
    }

    /// Notes what a new state of a task says beside itself.
    pub(super) fn note(&mut self, task: u32, state: State, now: DateTime<Utc>) {
        let notes = &mut self.notes[task as usize];
        match state {
            State::Queued => {
                // A retry begins anew; one that goes on keeps its start and what it waits for.
                if notes.waits_for.is_none() && notes.end_date.is_some() {
                    notes.start_date = None;
                }
                notes.due_at = None;
            }
            State::Running => {
                notes.start_date.get_or_insert(now);
                notes.end_date = None;
                notes.error = None;
            }
            State::UpForReschedule => {}
            State::UpForRetry => {
                notes.end_date = Some(now);
                notes.waits_for = None;
            }
            State::Success | State::Failed | State::Skipped | State::UpstreamFailed | State::Removed => {
                notes.end_date = Some(now);
                notes.due_at = None;
                notes.waits_for = None;
            }
        }
    }

    pub(super) fn note_error(&mut self, task: u32, error: &str) {
        self.notes[task as usize].error = Some(error.into());
    }

    pub(super) fn note_due(&mut self, task: u32, at: DateTime<Utc>) {
        self.notes[task as usize].due_at = Some(at);
    }

    pub(super) fn note_wait(&mut self, task: u32, wait: &Wait) {
        let notes = &mut self.notes[task as usize];
        notes.due_at = Some(wait.until);
        notes.waits_for = Some(Box::new(wait.object.clone()));
    }

    #[cfg(feature = "s3")]
    /// What a task waits for, and since when and until when.
    pub(super) fn wait(&self, task: u32) -> Option<(DateTime<Utc>, Wait)> {
        let notes = &self.notes[task as usize];
        let object = notes.waits_for.as_deref()?.clone();
        Some((notes.start_date?, Wait { object, until: notes.due_at? }))
    }

    /// Whether an attempt of the task had been deferred.
    pub(super) fn was_deferred(&self, task: u32) -> bool {
        self.notes[task as usize].waits_for.is_some()
    }

    pub(super) fn due_at(&self, task: u32) -> Option<DateTime<Utc>> {
        self.notes[task as usize].due_at
    }

    pub(super) fn duration(&self, task: u32) -> Option<std::time::Duration> {
        let notes = &self.notes[task as usize];
        (notes.end_date? - notes.start_date?).to_std().ok()
    }

    /// All that is known of a task, as it is recorded.
    pub(super) fn record(&self, task: u32) -> TaskRecord {
        let (instance, notes) = (self.run.task(task), &self.notes[task as usize]);
        TaskRecord {
            run: self.dag_run.number,
            task_id: self.definition.dag.tasks[task as usize].task_id.to_owned(),
            map_index: -1,
            // A task is recorded when it gets its first state.
            state: instance.state.unwrap_or(State::Queued),
            try_number: instance.try_number,
            interruptions: instance.interruptions,
            generation: notes.generation,
            start_date: notes.start_date,
            end_date: notes.end_date,
            due_at: notes.due_at,
            waits_for: notes.waits_for.as_deref().cloned(),
            error: notes.error.as_deref().map(str::to_owned),
        }
    }

    /// The attempt of a task that has just been started.
    pub(super) fn attempt(&self, task: u32, resume: Option<Resume>, now: DateTime<Utc>) -> Attempt {
        let notes = &self.notes[task as usize];
        Attempt {
            definition: self.definition,
            run: Arc::clone(&self.dag_run),
            task,
            map_index: -1,
            try_number: self.run.task(task).try_number,
            generation: notes.generation,
            started: notes.start_date.unwrap_or(now),
            resume,
        }
    }
}
