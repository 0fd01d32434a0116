//! A run that is under way: its state machine, and what is recorded of each task beside the state.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::host::Outputs;
use crate::dag::Task;
use crate::run::{Command, Event, Instance, Instances, Key, Misfit, Run, RunState, Standing, Start, State};
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
    notes: Instances<Notes>,
}

/// What is recorded of a task instance beside its state.
#[derive(Debug, Clone, Default)]
struct Notes {
    generation: u32,
    start_date: Option<DateTime<Utc>>,
    end_date: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    waits_for: Option<Box<Object>>,
    error: Option<Box<str>>,
}

impl Notes {
    const NONE: Self =
        Self { generation: 0, start_date: None, end_date: None, due_at: None, waits_for: None, error: None };
}

impl Live {
    pub(super) fn new(
        definition: &'static Definition,
        dag_run: Arc<DagRun>,
        ended: watch::Sender<Option<RunState>>,
    ) -> Self {
        Self {
            definition,
            run: Run::new(definition.dag, Start::default()),
            dag_run,
            outputs: Arc::default(),
            ended,
            notes: Instances::new(vec![Notes::default(); definition.dag.tasks.len()]),
        }
    }

    /// A run as it was recorded.
    pub(super) fn restore(
        definition: &'static Definition,
        dag_run: Arc<DagRun>,
        ended: watch::Sender<Option<RunState>>,
        records: &[(Key, TaskRecord)],
    ) -> Self {
        let mut live = Self::new(definition, dag_run, ended);
        let instances = records.iter().map(|(key, record)| {
            let TaskRecord { state, try_number, interruptions, outcome, .. } = *record;
            (*key, Instance::recorded(Some(state), try_number, 0, interruptions, outcome))
        });
        let standing = Standing { state: RunState::Running, stopped: None };
        live.run = Run::restore(definition.dag, Start::default(), standing, instances);
        for (key, record) in records {
            // What there cannot be was passed over.
            if live.run.instances().get(*key).is_none() {
                continue;
            }
            *live.notes_mut(*key) = Notes {
                generation: record.generation,
                start_date: record.start_date,
                end_date: record.end_date,
                due_at: record.due_at,
                waits_for: record.waits_for.clone().map(Box::new),
                error: record.error.as_deref().map(Into::into),
            };
        }
        live
    }

    fn notes(&self, key: Key) -> &Notes {
        static NONE: Notes = Notes::NONE;
        self.notes.get(key).unwrap_or(&NONE)
    }

    fn notes_mut(&mut self, key: Key) -> &mut Notes {
        let mapped = self.run.instances().mapped(key.task);
        if key.map_index >= self.notes.mapped(key.task) {
            self.notes.expand(key.task, mapped as usize, &Notes::NONE);
        }
        match self.notes.get_mut(key) {
            Some(notes) => notes,
            None => unreachable!("{key:?} is no instance of the run"),
        }
    }

    /// Where a task instance stands.
    pub(super) fn instance(&self, key: Key) -> Instance {
        self.run.instances().get(key).copied().unwrap_or_default()
    }

    pub(super) fn node(&self, key: Key) -> &'static Task {
        &self.definition.dag.tasks[key.task as usize]
    }

    pub(super) fn step(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Misfit> {
        self.run.step(event, commands)
    }

    /// Notes what a new state of a task says beside itself.
    pub(super) fn note(&mut self, key: Key, state: State, now: DateTime<Utc>) {
        let notes = self.notes_mut(key);
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

    pub(super) fn note_error(&mut self, key: Key, error: &str) {
        self.notes_mut(key).error = Some(error.into());
    }

    pub(super) fn note_due(&mut self, key: Key, at: DateTime<Utc>) {
        self.notes_mut(key).due_at = Some(at);
    }

    pub(super) fn note_wait(&mut self, key: Key, wait: &Wait) {
        let notes = self.notes_mut(key);
        notes.due_at = Some(wait.until);
        notes.waits_for = wait.object.clone().map(Box::new);
    }

    /// The object that a task waits for, and since when and until when.
    #[cfg(feature = "s3")]
    pub(super) fn wait(&self, key: Key) -> Option<(Object, DateTime<Utc>, DateTime<Utc>)> {
        let notes = self.notes(key);
        Some((notes.waits_for.as_deref()?.clone(), notes.start_date?, notes.due_at?))
    }

    /// Whether an attempt of the task had been deferred until an object is there.
    pub(super) fn was_deferred(&self, key: Key) -> bool {
        self.notes(key).waits_for.is_some()
    }

    pub(super) fn due_at(&self, key: Key) -> Option<DateTime<Utc>> {
        self.notes(key).due_at
    }

    pub(super) fn duration(&self, key: Key) -> Option<std::time::Duration> {
        let notes = self.notes(key);
        (notes.end_date? - notes.start_date?).to_std().ok()
    }

    /// All that is known of a task, as it is recorded.
    pub(super) fn record(&self, key: Key) -> TaskRecord {
        let (instance, notes) = (self.instance(key), self.notes(key));
        TaskRecord {
            run: self.dag_run.number,
            task_id: self.node(key).task_id.to_owned(),
            map_index: key.map_index,
            // A task is recorded when it gets its first state.
            state: instance.state.unwrap_or(State::Queued),
            try_number: instance.try_number,
            interruptions: instance.interruptions,
            generation: notes.generation,
            outcome: instance.outcome,
            start_date: notes.start_date,
            end_date: notes.end_date,
            due_at: notes.due_at,
            waits_for: notes.waits_for.as_deref().cloned(),
            error: notes.error.as_deref().map(str::to_owned),
        }
    }

    /// The attempt of a task that has just been started.
    pub(super) fn attempt(&self, key: Key, resume: Option<Resume>, now: DateTime<Utc>) -> Attempt {
        let notes = self.notes(key);
        Attempt {
            definition: self.definition,
            run: Arc::clone(&self.dag_run),
            task: key.task,
            map_index: key.map_index,
            try_number: self.instance(key).try_number,
            last_try: self.run.is_last_try(key),
            generation: notes.generation,
            started: notes.start_date.unwrap_or(now),
            resume,
        }
    }
}
