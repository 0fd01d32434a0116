//! How runs begin: triggered, or gone on with after a process has died.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::sync::watch;

use super::core::{Core, Effect, exact, now};
use super::host::Shared;
use super::live::Live;
use super::message::Reply;
use super::{EngineError, Refusal, RunHandle, Trigger};
use crate::run::{Event, Key, RunState, State};
use crate::store::{RunRecord, StoreError, TaskRecord, Write};
use crate::task::{DagRun, DataInterval, Definition};
use crate::tech::Token;
use crate::value::Json;

impl Core {
    pub(super) fn trigger(
        &mut self,
        definition: &'static Definition,
        trigger: Trigger,
        reply: Reply,
    ) -> Result<(), (Reply, EngineError)> {
        let (conf, logical_date) = match self.admit(definition, trigger) {
            Ok(admitted) => admitted,
            Err(error) => return Err((reply, error)),
        };
        let now = now();
        let record = RunRecord {
            number: self.next_run,
            dag_id: definition.dag.dag_id.to_owned(),
            run_id: format!("manual__{}", logical_date.to_rfc3339_opts(SecondsFormat::Micros, false)),
            uuid: uuid::Uuid::now_v7().to_string(),
            run_type: "manual".to_owned(),
            state: RunState::Running,
            version: definition.dag.version(),
            conf: conf.as_str().to_owned(),
            logical_date,
            data_interval_start: logical_date,
            data_interval_end: logical_date,
            start_date: now,
            end_date: None,
        };
        self.next_run += 1;
        let (sender, ended) = watch::channel(None);
        let live = Live::new(definition, Arc::new(dag_run(definition, &record)), sender);
        self.writes.push(Write::RunBegan(record));
        self.begin(live, ended, reply, Vec::new());
        Ok(())
    }

    /// Refuses a trigger that could not run, before anything is recorded.
    fn admit(
        &mut self,
        definition: &'static Definition,
        trigger: Trigger,
    ) -> Result<(Json, DateTime<Utc>), EngineError> {
        let dag_id = definition.dag.dag_id;
        let given = trigger.conf.is_some();
        let conf = match (trigger.conf, definition.default_conf) {
            (Some(conf), _) => conf,
            (None, Some(default)) => {
                default().map_err(|e| Refusal::Conf { dag_id, reason: e.to_string() })?
            }
            (None, None) => Json::from_stored("null"),
        };
        self.hide_tokens(definition);
        if let Some(path) = self.shared.secrets().find_in(&conf) {
            let reason = format!("it holds a secret at {path}, and would be stored");
            return Err(Refusal::Conf { dag_id, reason }.into());
        }
        if let Some(of) = &definition.conf {
            of.check(&conf).map_err(|e| {
                let reason = match given {
                    true => self.shared.secrets().scrub(&e.to_string()).into_owned(),
                    false => format!("none is given, and it takes a `{}`", of.name()),
                };
                Refusal::Conf { dag_id, reason }
            })?;
        }
        let missing = missing(definition, &self.shared);
        if !missing.is_empty() {
            return Err(Refusal::Missing { dag_id, missing }.into());
        }
        if let Some(date) = trigger.logical_date {
            let date = exact(date);
            if self.has_logical_date(dag_id, date)? {
                return Err(Refusal::LogicalDate { dag_id, date }.into());
            }
            return Ok((conf, date));
        }
        // Two triggers in one microsecond stand for two moments all the same.
        let mut date = now();
        while self.has_logical_date(dag_id, date)? {
            date += chrono::TimeDelta::microseconds(1);
        }
        Ok((conf, date))
    }

    /// Tokens that stand in the source are kept out of what is written, also in a
    /// process that only reads what an earlier one has asked for.
    fn hide_tokens(&self, definition: &Definition) {
        for (_, call) in definition.calls() {
            if let Token::Literal(token) = call.token {
                self.shared.secrets().hide(token);
            }
        }
    }

    fn has_logical_date(&self, dag_id: &str, date: DateTime<Utc>) -> Result<bool, StoreError> {
        let uncommitted = self.writes.iter().any(
            |write| matches!(write, Write::RunBegan(run) if run.dag_id == dag_id && run.logical_date == date),
        );
        Ok(uncommitted || self.writer.has_logical_date(dag_id, date)?)
    }

    /// The record of a run that can be gone on with, and what it is a run of.
    pub(super) fn recorded(
        &self,
        dag_id: Option<&str>,
        run_id: String,
    ) -> Result<(RunRecord, &'static Definition), EngineError> {
        let all = self.writer.named(dag_id, &run_id)?;
        let (open, ended): (Vec<_>, Vec<_>) = all.into_iter().partition(|run| !run.state.is_final());
        let record = match <[RunRecord; 1]>::try_from(open) {
            Ok([record]) => record,
            Err(open) if open.is_empty() => {
                return Err(match ended.last() {
                    Some(run) => Refusal::Ended { run_id, state: run.state }.into(),
                    None => Refusal::NoRun { run_id }.into(),
                });
            }
            Err(open) => {
                let dag_ids = open.into_iter().map(|run| run.dag_id).collect();
                return Err(Refusal::Ambiguous { run_id, dag_ids }.into());
            }
        };
        if self.runs.contains_key(&record.number) {
            return Err(Refusal::Live { run_id }.into());
        }
        let definition = self.definitions.iter().copied().find(|d| d.dag.dag_id == record.dag_id);
        let Some(definition) = definition else {
            return Err(Refusal::NoDag { run_id, dag_id: record.dag_id }.into());
        };
        let is = definition.dag.version();
        if is != record.version {
            let dag_id = definition.dag.dag_id;
            return Err(Refusal::Changed { run_id, dag_id, was: record.version, is }.into());
        }
        self.hide_tokens(definition);
        let missing = missing(definition, &self.shared);
        if !missing.is_empty() {
            return Err(Refusal::Missing { dag_id: definition.dag.dag_id, missing }.into());
        }
        Ok((record, definition))
    }

    pub(super) fn resume(
        &mut self,
        record: RunRecord,
        definition: &'static Definition,
        reply: Reply,
    ) -> Result<(), StoreError> {
        let index: HashMap<_, _> =
            (0..).zip(definition.dag.tasks).map(|(n, task)| (task.task_id, n)).collect();
        let records = self.writer.tasks(record.number)?.into_iter().filter_map(|record| {
            let task = *index.get(record.task_id.as_str())?;
            Some((Key { task, map_index: record.map_index }, record))
        });
        let records: Vec<_> = records.collect();
        let (sender, ended) = watch::channel(None);
        let dag_run = Arc::new(dag_run(definition, &record));
        let live = Live::restore(definition, dag_run, sender, &records);
        self.begin(live, ended, reply, records);
        Ok(())
    }

    /// Takes a run among the live ones and brings it to where its events put it.
    fn begin(
        &mut self,
        live: Live,
        ended: watch::Receiver<Option<RunState>>,
        reply: Reply,
        records: Vec<(Key, TaskRecord)>,
    ) {
        let number = live.dag_run.number;
        let handle = RunHandle { run: Arc::clone(&live.dag_run), ended, failure: Arc::clone(&self.failure) };
        self.runs.insert(number, live);
        let resumed = !matches!(self.writes.last(), Some(Write::RunBegan(run)) if run.number == number);
        self.effects.push(Effect::Begun { reply, handle, resumed });
        for (key, record) in records {
            let is = self.runs.get(&number).and_then(|live| live.instance(key).state);
            // What there cannot be was passed over.
            if is != Some(record.state) {
                continue;
            }
            match record.state {
                State::Running => {
                    self.step(number, Event::Interrupted(key), None);
                    // Counted before any body runs, however long the queue is.
                    self.count(number, key);
                }
                State::Queued => self.enqueue(number, key, None),
                State::UpForRetry => self.wake(number, key, record.due_at.unwrap_or_default()),
                State::UpForReschedule => {
                    match record.waits_for {
                        Some(_) => self.effects.push(Effect::Watch { run: number, key }),
                        None => self.wake(number, key, record.due_at.unwrap_or_default()),
                    }
                    self.effects.push(Effect::Say { run: number, key, state: record.state });
                }
                State::Success | State::Failed | State::Skipped | State::UpstreamFailed | State::Removed => {}
            }
        }
        self.step(number, Event::Begin, None);
    }
}

fn missing(definition: &Definition, shared: &Shared) -> Vec<String> {
    let missing = definition.missing(shared.secrets(), shared.services.has_directory());
    missing.into_iter().map(|missing| missing.text).collect()
}

fn dag_run(definition: &'static Definition, record: &RunRecord) -> DagRun {
    DagRun {
        dag_id: definition.dag.dag_id,
        run_id: record.run_id.as_str().into(),
        uuid: record.uuid.clone(),
        number: record.number,
        run_type: record.run_type.clone(),
        logical_date: record.logical_date,
        data_interval: DataInterval { start: record.data_interval_start, end: record.data_interval_end },
        start_date: record.start_date,
        conf: Json::from_stored(record.conf.as_str()),
    }
}
