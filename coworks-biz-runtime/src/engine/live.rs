//! A run that is under way: its state machine, and what is recorded of each task beside the state.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::outputs::Outputs;
use crate::dag::Task;
use crate::run::{Command, Event, Instance, Instances, Key, Misfit, Run, Standing, Start, State, Stop};
use crate::store::{RunRecord, TaskRecord, WaitsFor};
use crate::task::{Attempt, Awaited, Body, DagRun, DataInterval, Definition, Resume, Wait};
use crate::value::Json;
#[cfg(feature = "s3")]
use crate::value::Object;

#[derive(Debug)]
pub(super) struct Live {
    pub(super) definition: &'static Definition,
    /// The DAG, by its place in the program.
    pub(super) dag: usize,
    pub(super) run: Run,
    /// What is recorded of the run itself.
    pub(super) record: RunRecord,
    pub(super) dag_run: Arc<DagRun>,
    pub(super) outputs: Arc<Outputs>,
    /// The run before, where its tasks look at that.
    pub(super) follows: Option<i64>,
    notes: Instances<Notes>,
}

/// What is recorded of a task instance beside its state.
#[derive(Debug, Clone, Default)]
struct Notes {
    generation: u32,
    start_date: Option<DateTime<Utc>>,
    end_date: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    waits_for: Option<Box<WaitsFor>>,
    error: Option<Box<str>>,
}

impl Notes {
    const NONE: Self =
        Self { generation: 0, start_date: None, end_date: None, due_at: None, waits_for: None, error: None };
}

impl Live {
    /// A run that has not begun; `after` says that there is an earlier one of its DAG.
    pub(super) fn new(definition: &'static Definition, dag: usize, record: RunRecord, after: bool) -> Self {
        Self {
            definition,
            dag,
            run: Run::new(definition.dag, start(&record, after)),
            dag_run: Arc::new(dag_run(definition, &record)),
            record,
            outputs: Arc::default(),
            follows: None,
            notes: Instances::new(vec![Notes::default(); definition.dag.tasks.len()]),
        }
    }

    /// A run as it was recorded.
    pub(super) fn restore(
        definition: &'static Definition,
        dag: usize,
        record: RunRecord,
        after: bool,
        records: &[(Key, TaskRecord)],
    ) -> Self {
        let mut live = Self::new(definition, dag, record, after);
        let instances = records.iter().map(|(key, record)| {
            let TaskRecord { state, try_number, tries_before, interruptions, outcome, .. } = *record;
            (*key, Instance::recorded(state, try_number, tries_before, interruptions, outcome))
        });
        let (start, standing) = (start(&live.record, after), standing(&live.record));
        live.run = Run::restore(definition.dag, start, standing, instances);
        for (key, record) in records {
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

    /// Also of an instance that is gone since its list was cleared: its next one is a new generation.
    fn notes_mut(&mut self, key: Key) -> &mut Notes {
        if key.map_index >= self.notes.mapped(key.task) {
            let mapped = self.run.instances().mapped(key.task).max(key.map_index + 1);
            self.notes.expand(key.task, mapped as usize, &Notes::NONE);
        }
        match self.notes.get_mut(key) {
            Some(notes) => notes,
            None => unreachable!("{key:?} is no instance of the run"),
        }
    }

    /// When it has taken as long as it may.
    pub(super) fn times_out(&self) -> Option<DateTime<Utc>> {
        let limit = chrono::TimeDelta::from_std(self.definition.dag.dagrun_timeout?).ok()?;
        self.record.start_date?.checked_add_signed(limit)
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

    /// Notes that it runs again, for a new effect.
    pub(super) fn note_cleared(&mut self, key: Key) {
        let notes = self.notes_mut(key);
        *notes = Notes { generation: notes.generation + 1, ..Notes::NONE };
    }

    pub(super) fn note_error(&mut self, key: Key, error: &str) {
        self.notes_mut(key).error = Some(error.into());
    }

    /// Why its last attempt has failed.
    pub(super) fn error(&self, key: Key) -> Option<&str> {
        self.notes(key).error.as_deref()
    }

    pub(super) fn note_due(&mut self, key: Key, at: DateTime<Utc>) {
        self.notes_mut(key).due_at = Some(at);
    }

    pub(super) fn note_wait(&mut self, key: Key, wait: &Wait) {
        let notes = self.notes_mut(key);
        notes.due_at = wait.until;
        notes.waits_for = match &wait.what {
            Awaited::Moment => None,
            Awaited::Object(object) => Some(Box::new(WaitsFor::Object(object.clone()))),
            Awaited::Run(run) => Some(Box::new(WaitsFor::Run { run: *run })),
        };
    }

    /// The object that a task waits for, and since when and until when.
    #[cfg(feature = "s3")]
    pub(super) fn wait(&self, key: Key) -> Option<(Object, DateTime<Utc>, DateTime<Utc>)> {
        let notes = self.notes(key);
        match notes.waits_for.as_deref()? {
            WaitsFor::Object(object) => Some((object.clone(), notes.start_date?, notes.due_at?)),
            WaitsFor::Run { .. } => None,
        }
    }

    /// What an attempt of the task had been deferred for.
    pub(super) fn waits_for(&self, key: Key) -> Option<&WaitsFor> {
        self.notes(key).waits_for.as_deref()
    }

    /// Which of the calls of a task is the one that counts: of a member of a group, that of its `call`.
    pub(super) fn generation(&self, key: Key) -> u32 {
        let called = match self.definition.bodies.get(key.task as usize) {
            Some(Body::Group { submit, .. }) => key.beside(*submit),
            _ => key,
        };
        self.notes(called).generation
    }

    pub(super) fn due_at(&self, key: Key) -> Option<DateTime<Utc>> {
        self.notes(key).due_at
    }

    /// When its last attempt ended.
    pub(super) fn ended(&self, key: Key) -> Option<DateTime<Utc>> {
        self.notes(key).end_date
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
            task_id: self.node(key).task_id.into(),
            map_index: key.map_index,
            state: instance.state,
            try_number: instance.try_number,
            tries_before: instance.tries_before,
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

    /// What is recorded of a task instance that was cleared; of one that is gone with its loop, too.
    pub(super) fn record_of_cleared(&self, key: Key) -> TaskRecord {
        let tries = self.run.tries_of(key);
        TaskRecord { state: None, try_number: tries, tries_before: tries, ..self.record(key) }
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
            tries_before: self.instance(key).tries_before,
            last_try: self.run.is_last_try(key),
            generation: self.generation(key),
            started: notes.start_date.unwrap_or(now),
            resume,
        }
    }
}

fn start(record: &RunRecord, after: bool) -> Start {
    // The last bytes of a version 7 are random.
    let uuid = uuid::Uuid::try_parse(&record.uuid).map(|uuid| uuid.as_u64_pair().1);
    Start { seed: uuid.unwrap_or(record.number as u64), after }
}

fn standing(record: &RunRecord) -> Standing {
    Standing { state: record.state, stopped: record.stopped.as_deref().and_then(stop_of) }
}

/// The word for why a run was stopped, as it is recorded.
pub(super) fn word_of(stop: Stop) -> &'static str {
    match stop {
        Stop::Cancelled => "cancelled",
        Stop::TimedOut => "timed_out",
    }
}

fn stop_of(word: &str) -> Option<Stop> {
    [Stop::Cancelled, Stop::TimedOut].into_iter().find(|&stop| word_of(stop) == word)
}

/// A run as its tasks see it.
pub(super) fn dag_run(definition: &'static Definition, record: &RunRecord) -> DagRun {
    DagRun {
        dag_id: definition.dag.dag_id,
        run_id: record.run_id.as_str().into(),
        uuid: record.uuid.clone(),
        number: record.number,
        run_type: record.run_type.as_str().to_owned(),
        logical_date: record.logical_date,
        data_interval: DataInterval { start: record.data_interval_start, end: record.data_interval_end },
        start_date: record.start_date.unwrap_or(record.queued_at),
        conf: Json::from_stored(record.conf.as_str()),
    }
}
