//! How runs begin: triggered, taken from the queue, or gone on with after a process has died.

use std::sync::Arc;

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Utc};
use tokio::sync::watch;

use super::core::{BATCH, Core, exact};
use super::effects::Effect;
use super::live::Live;
use super::message::Message;
use super::past::keyed;
use super::{EngineError, Mode, Refusal, RunHandle, Trigger, versions};
use crate::clock::LAST;
use crate::run::{Event, Key, RunState, State};
use crate::store::{RunRecord, RunType, StoreError, TaskRecord, WaitsFor, Which, Write};
use crate::task::{Definition, Resume};
use crate::tech::Token;
use crate::value::{Json, LARGEST, short};

/// What a run is made of.
pub(super) struct Plan {
    pub(super) dag: usize,
    pub(super) run_type: RunType,
    pub(super) conf: Json,
    pub(super) logical_date: DateTime<Utc>,
    pub(super) data_interval: (DateTime<Utc>, DateTime<Utc>),
    pub(super) idempotency_key: Option<String>,
    pub(super) backfill: Option<i64>,
    /// Whether it begins whatever limits there are.
    pub(super) at_once: bool,
    /// Whether it cannot begin as things are, and is held.
    pub(super) holds: bool,
}

impl Core {
    pub(super) fn trigger(
        &mut self,
        definition: &'static Definition,
        trigger: Trigger,
    ) -> Result<RunHandle, EngineError> {
        let dag_id = definition.dag.dag_id;
        let dag = self.dags.place(dag_id).ok_or_else(|| Refusal::UnknownDag { dag_id: dag_id.to_owned() })?;
        if let Some(run) = self.triggered_before(dag, &trigger)? {
            return Ok(self.handle_of(&run));
        }
        let conf = self.conf_of(definition, trigger.conf)?;
        self.refuse_missing(definition)?;
        let logical_date = match trigger.logical_date.map(exact) {
            Some(date) if self.has_logical_date(dag, date)? => {
                return Err(Refusal::LogicalDate { dag_id, date }.into());
            }
            Some(date) if !(1..=LAST.year()).contains(&date.year()) => {
                return Err(Refusal::Year { date }.into());
            }
            Some(date) => date,
            None => self.free_moment(dag)?,
        };
        let record = self.make(Plan {
            dag,
            run_type: RunType::Manual,
            conf,
            logical_date,
            data_interval: (logical_date, logical_date),
            idempotency_key: trigger.idempotency_key,
            backfill: None,
            at_once: self.mode == Mode::OneRun,
            holds: false,
        })?;
        Ok(self.handle_of(&record))
    }

    /// What a task triggers: the same key gives the same run, whatever its conf is now.
    pub(super) fn start_for_task(
        &mut self,
        dag_id: &str,
        conf: Option<Json>,
        key: String,
    ) -> Result<RunHandle, EngineError> {
        let dag = self.dag(dag_id)?;
        let definition = self.dags[dag].definition;
        let trigger = Trigger { conf: None, logical_date: None, idempotency_key: Some(key) };
        match self.triggered_before(dag, &trigger)? {
            Some(run) => Ok(self.handle_of(&run)),
            None => self.trigger(definition, Trigger { conf, ..trigger }),
        }
    }

    /// Has a task instance called again when a run has ended, or at its deadline.
    pub(super) fn await_run(&mut self, run: i64, key: Key, awaited: i64, until: Option<DateTime<Utc>>) {
        let ended = match self.runs.get(&awaited) {
            Some(live) => live.run.state().is_final(),
            // A run that cannot be read is looked at by the task itself.
            None => match self.writer.runs(Which::Number(awaited)) {
                Ok(runs) => runs.first().is_none_or(|run| run.state.is_final()),
                Err(_) => true,
            },
        };
        if ended {
            // Behind the commit of what it waits for.
            let of = WaitsFor::Run { run: awaited };
            return self.shared.tell(Message::Due { run, key, of, resume: Resume::Arrived });
        }
        self.awaited.entry(awaited).or_default().push((run, key));
        self.take_along(awaited);
        if let Some(until) = until {
            self.wake(run, key, until);
        }
    }

    /// Who executes one run also goes on with those that it waits for, and that an earlier process has left.
    fn take_along(&mut self, awaited: i64) {
        if self.mode != Mode::OneRun || self.draining || self.runs.contains_key(&awaited) {
            return;
        }
        let Ok(Some(record)) = self.writer.runs(Which::Number(awaited)).map(|mut runs| runs.pop()) else {
            return;
        };
        if let Err(error) = self.resume(Some(&record.dag_id), record.run_id.clone()) {
            tracing::warn!(target: "coworks_biz::engine", run_id = %record.run_id, "waited for, and left: {error}");
        }
    }

    /// Records a new run. It begins at once where it may, and else waits for its turn.
    pub(super) fn make(&mut self, plan: Plan) -> Result<RunRecord, StoreError> {
        let Plan { dag, run_type, logical_date, .. } = plan;
        let may = plan.at_once || self.dags[dag].may_begin(run_type, plan.backfill);
        let begins = self.mode != Mode::Orders && may && !plan.holds && !self.draining;
        let (now, definition) = (self.now(), self.dags[dag].definition);
        let seconds = match logical_date.timestamp_subsec_micros() {
            0 => SecondsFormat::Secs,
            _ => SecondsFormat::Micros,
        };
        let moment = logical_date.to_rfc3339_opts(seconds, false);
        let record = RunRecord {
            number: self.next_run,
            dag_id: definition.dag.dag_id.to_owned(),
            run_id: format!("{}__{moment}", run_type.as_str()),
            uuid: self.hands.name_run().to_string(),
            run_type,
            state: if begins { RunState::Running } else { RunState::Queued },
            version: self.dags[dag].version.clone(),
            conf: plan.conf.as_str().to_owned(),
            logical_date,
            data_interval_start: plan.data_interval.0,
            data_interval_end: plan.data_interval.1,
            queued_at: now,
            start_date: begins.then_some(now),
            end_date: None,
            idempotency_key: plan.idempotency_key,
            backfill: plan.backfill,
            stopped: None,
            held: None,
        };
        self.next_run += 1;
        self.remember_version(dag);
        self.writes.push(Write::RunMade(record.clone()));
        self.made.entry(dag).or_default().insert(logical_date, record.clone());
        match begins {
            true => {
                let before = self.run_before(dag, &record)?;
                let live = Live::new(definition, dag, record.clone(), before.is_some());
                self.enter(live, Vec::new(), before, false)?;
            }
            false if plan.holds => {}
            false => self.dags[dag].queue(&record),
        }
        Ok(record)
    }

    /// The structure of the DAG as it is now, so that a later program can tell what it has changed.
    pub(super) fn remember_version(&mut self, dag: usize) {
        let state = &mut self.dags[dag];
        if !std::mem::replace(&mut state.known, true) {
            self.writes.push(Write::Version {
                dag_id: state.record.dag_id.clone(),
                version: state.version.clone(),
                structure: versions::Structure::of(state.definition.dag).to_json(),
            });
        }
    }

    /// Tells how the run ends.
    pub(super) fn handle_of(&mut self, record: &RunRecord) -> RunHandle {
        let run = match self.runs.get(&record.number) {
            Some(live) => Arc::clone(&live.dag_run),
            None => match self.dags.place(&record.dag_id) {
                Some(dag) => Arc::new(super::live::dag_run(self.dags[dag].definition, record)),
                None => unreachable!("a run of a DAG of this program"),
            },
        };
        let ended = match record.state.is_final() {
            true => watch::channel(Some(record.state)).1,
            false => self.ends.entry(record.number).or_insert_with(|| watch::channel(None).0).subscribe(),
        };
        RunHandle { run, ended, failure: Arc::clone(&self.failure) }
    }

    /// The run that an earlier trigger with the same key has made.
    fn triggered_before(&self, dag: usize, trigger: &Trigger) -> Result<Option<RunRecord>, EngineError> {
        let Some(key) = &trigger.idempotency_key else { return Ok(None) };
        let dag_id = self.dags[dag].definition.dag.dag_id;
        self.learn_secrets(self.dags[dag].definition);
        if self.shared.secrets().scrub(key) != *key {
            let reason = "the idempotency key holds a secret, and would be stored".to_owned();
            return Err(Refusal::Conf { dag_id, reason }.into());
        }
        let made = self.made.get(&dag).into_iter().flat_map(|made| made.values());
        let uncommitted = made.rev().find(|run| run.idempotency_key.as_ref() == Some(key)).cloned();
        let run = match uncommitted {
            Some(run) => run,
            None => match self.writer.runs(Which::Trigger(dag_id, key))?.pop() {
                Some(run) => self.as_it_is(run),
                None => return Ok(None),
            },
        };
        let same = |conf: &Json| serde_json::from_str::<serde_json::Value>(conf.as_str()).ok();
        if let Some(conf) = &trigger.conf
            && same(conf) != same(&Json::from_stored(run.conf.as_str()))
        {
            return Err(Refusal::OtherConf { key: key.clone(), run_id: run.run_id }.into());
        }
        Ok(Some(run))
    }

    /// A recorded run, with what has come about and is not committed.
    fn as_it_is(&self, run: RunRecord) -> RunRecord {
        let changed = self.writes.iter().rev().find_map(|write| match write {
            Write::Run { record, .. } if record.number == run.number => Some((**record).clone()),
            _ => None,
        });
        changed.unwrap_or(run)
    }

    /// The conf of a new run, where the DAG can take it.
    pub(super) fn conf_of(
        &self,
        definition: &'static Definition,
        given: Option<Json>,
    ) -> Result<Json, EngineError> {
        let dag_id = definition.dag.dag_id;
        let is_given = given.is_some();
        let conf = match (given, definition.default_conf) {
            (Some(conf), _) => conf,
            (None, Some(default)) => default().map_err(|e| {
                let reason = self.shared.secrets().scrub(&e.to_string()).into_owned();
                Refusal::Conf { dag_id, reason }
            })?,
            (None, None) => Json::from_stored("null"),
        };
        if conf.as_str().len() > LARGEST {
            let size = conf.as_str().len().div_ceil(1 << 20);
            let reason = format!(
                "it has {size} MiB, and a run may have {} MiB: store it elsewhere, such as in S3, and give where",
                LARGEST >> 20
            );
            return Err(Refusal::Conf { dag_id, reason }.into());
        }
        self.learn_secrets(definition);
        if let Some(path) = self.shared.secrets().find_in(&conf) {
            let reason = format!("it holds a secret at {path}, and would be stored");
            return Err(Refusal::Conf { dag_id, reason }.into());
        }
        if let Some(of) = &definition.conf {
            of.check(&conf).map_err(|e| {
                let reason = match is_given {
                    true => self.shared.secrets().scrub(&e.to_string()).into_owned(),
                    false => format!("none is given, and it takes a `{}`", short(of.name())),
                };
                Refusal::Conf { dag_id, reason }
            })?;
        }
        Ok(conf)
    }

    /// Refuses a DAG that lacks what it needs, before anything is recorded.
    pub(super) fn refuse_missing(&self, definition: &'static Definition) -> Result<(), EngineError> {
        let missing = definition.missing(self.shared.secrets(), self.shared.services.has_directory());
        let missing: Vec<_> = missing.into_iter().map(|missing| missing.text).collect();
        let missing = [missing, self.missing_pools(definition)].concat();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Refusal::Missing { dag_id: definition.dag.dag_id, missing }.into()),
        }
    }

    /// What is looked for in what is given: the secrets that a DAG names, and its tokens. Who lacks one is refused later.
    fn learn_secrets(&self, definition: &'static Definition) {
        let _ = definition.missing(self.shared.secrets(), self.shared.services.has_directory());
        self.hide_tokens(definition);
    }

    /// Tokens that stand in the source are kept out of what is written, also in a
    /// process that only reads what an earlier one has asked for.
    pub(super) fn hide_tokens(&self, definition: &Definition) {
        for (_, call) in definition.calls() {
            if let Token::Literal(token) = call.token {
                self.shared.secrets().hide(token);
            }
        }
    }

    pub(super) fn has_logical_date(&self, dag: usize, date: DateTime<Utc>) -> Result<bool, StoreError> {
        let uncommitted = self.made.get(&dag).is_some_and(|made| made.contains_key(&date));
        Ok(uncommitted || self.writer.has_logical_date(self.dags[dag].definition.dag.dag_id, date)?)
    }

    /// Now; two triggers in one microsecond stand for two moments all the same.
    fn free_moment(&self, dag: usize) -> Result<DateTime<Utc>, StoreError> {
        let mut date = self.now();
        while self.has_logical_date(dag, date)? {
            date += TimeDelta::microseconds(1);
        }
        Ok(date)
    }

    /// Goes on with a run that a stopped or killed process has left.
    pub(super) fn resume(&mut self, dag_id: Option<&str>, run_id: String) -> Result<RunHandle, EngineError> {
        let mut record = self.recorded(dag_id, run_id)?;
        let run_id = record.run_id.clone();
        if self.runs.contains_key(&record.number) {
            return Err(Refusal::Live { run_id }.into());
        }
        if record.state.is_final() {
            return Err(Refusal::Ended { run_id, state: record.state }.into());
        }
        let Some(dag) = self.dags.place(&record.dag_id) else {
            return Err(Refusal::NoDag { run_id, dag_id: record.dag_id }.into());
        };
        let definition = self.dags[dag].definition;
        let tasks = self.writer.tasks(record.number)?;
        if let Err(changes) = self.fit(dag, &mut record, &tasks)? {
            return Err(Refusal::Changed { run_id, dag_id: definition.dag.dag_id, changes }.into());
        }
        self.refuse_missing(definition)?;
        let number = record.number;
        self.go_on(dag, record, tasks)?;
        match self.runs.get(&number).map(|live| live.record.clone()) {
            Some(record) => Ok(self.handle_of(&record)),
            None => unreachable!("it has just been taken in"),
        }
    }

    /// The record of the run of this id; of the one that has not ended, where there are several.
    pub(super) fn recorded(&self, dag_id: Option<&str>, run_id: String) -> Result<RunRecord, EngineError> {
        let all = self.writer.named(dag_id, &run_id)?;
        let (open, mut ended): (Vec<_>, Vec<_>) = all.into_iter().partition(|run| !run.state.is_final());
        let dag_ids = |runs: &[RunRecord]| runs.iter().map(|run| run.dag_id.clone()).collect();
        match (<[RunRecord; 1]>::try_from(open), ended.as_slice()) {
            (Ok([record]), _) => Ok(record),
            (Err(open), []) if open.is_empty() => Err(Refusal::NoRun { run_id }.into()),
            (Err(open), [_]) if open.is_empty() => Ok(ended.remove(0)),
            (Err(open), ended) => {
                let dag_ids = if open.is_empty() { dag_ids(ended) } else { dag_ids(&open) };
                Err(Refusal::Ambiguous { run_id, dag_ids }.into())
            }
        }
    }

    /// Takes over every run that an earlier process has left.
    pub(super) fn take_over(&mut self) -> Result<(), StoreError> {
        for mut record in self.writer.runs(Which::Open)? {
            let Some(dag) = self.dags.place(&record.dag_id) else {
                tracing::warn!(
                    target: "coworks_biz::engine",
                    run_id = %record.run_id, "of biz `{}`, which this program does not have: it stays as it is", record.dag_id
                );
                continue;
            };
            self.hide_tokens(self.dags[dag].definition);
            if record.state == RunState::Queued {
                self.dags[dag].queue(&record);
                self.stirred.insert(dag);
                continue;
            }
            let tasks = self.writer.tasks(record.number)?;
            let lacks = self.refuse_missing(self.dags[dag].definition).err().map(|error| error.to_string());
            let changed = self.fit(dag, &mut record, &tasks)?.err();
            match changed.map(|changes| changes.join("; ")).or(lacks) {
                Some(why) => self.hold(record, why),
                None => self.go_on(dag, record, tasks)?,
            }
        }
        Ok(())
    }

    /// Leaves a run as it is until somebody decides, and says why.
    pub(super) fn hold(&mut self, mut record: RunRecord, why: String) {
        tracing::error!(
            target: "coworks_biz::engine",
            dag_id = record.dag_id, run_id = %record.run_id, "held: {why}"
        );
        if let Some(dag) = self.dags.place(&record.dag_id) {
            self.dags[dag].hold(&record);
        }
        if record.held.as_ref() != Some(&why) {
            record.held = Some(why.clone());
            let record = Box::new(record);
            self.writes.push(Write::Run { record, event: "held", detail: Some(why), at: self.now() });
        }
    }

    /// Begins what may begin now and could not before.
    pub(super) fn begin_stirred(&mut self) -> Result<(), StoreError> {
        if self.mode == Mode::Orders || self.draining {
            self.stirred.clear();
        }
        for dag in std::mem::take(&mut self.stirred) {
            while let Some(number) = self.dags[dag].next() {
                // The others come behind the commit of these.
                if self.writes.len() >= BATCH {
                    self.stirred.insert(dag);
                    break;
                }
                match self.writer.runs(Which::Number(number))?.pop() {
                    // It is under way by an order of somebody.
                    Some(record) if self.runs.contains_key(&number) => self.dags[dag].forget(&record),
                    Some(record) => self.begin_queued(dag, record)?,
                    // Somebody else has changed the database.
                    None => {
                        tracing::error!(target: "coworks_biz::engine", "run number {number} is queued, and not in the database");
                        break;
                    }
                }
            }
            // A process of one run does not know the others.
            if self.mode == Mode::Serve {
                self.end_backfill(dag);
            }
        }
        Ok(())
    }

    fn begin_queued(&mut self, dag: usize, mut record: RunRecord) -> Result<(), StoreError> {
        let tasks = self.writer.tasks(record.number)?;
        let lacks = self.refuse_missing(self.dags[dag].definition).err().map(|error| error.to_string());
        let changed = self.fit(dag, &mut record, &tasks)?.err();
        if let Some(why) = changed.map(|changes| changes.join("; ")).or(lacks) {
            self.hold(record, why);
            return Ok(());
        }
        self.go_on(dag, record, tasks)
    }

    fn go_on(&mut self, dag: usize, mut record: RunRecord, tasks: Vec<TaskRecord>) -> Result<(), StoreError> {
        let definition = self.dags[dag].definition;
        let resumed = record.state == RunState::Running;
        if !resumed || record.held.is_some() {
            record.state = RunState::Running;
            // What it may take does not count while it was held.
            record.start_date = record.start_date.filter(|_| record.held.is_none()).or(Some(self.now()));
            record.held = None;
            let copy = Box::new(record.clone());
            self.writes.push(Write::Run { record: copy, event: "running", detail: None, at: self.now() });
        }
        let before = self.run_before(dag, &record)?;
        let records = keyed(definition.dag, tasks);
        let live = Live::restore(definition, dag, record, before.is_some(), &records);
        self.enter(live, records, before, resumed)
    }

    /// Takes a run among the live ones and brings it to where its events put it.
    fn enter(
        &mut self,
        live: Live,
        records: Vec<(Key, TaskRecord)>,
        before: Option<RunRecord>,
        resumed: bool,
    ) -> Result<(), StoreError> {
        let (number, dag) = (live.record.number, live.dag);
        self.dags[dag].began(&live.record);
        self.runs.insert(number, live);
        self.effects.push(Effect::Begun { run: number, resumed });
        self.revive(number, records, before)
    }

    /// Takes up what was recorded of the tasks of a run that is now among the live ones.
    pub(super) fn revive(
        &mut self,
        number: i64,
        records: Vec<(Key, TaskRecord)>,
        before: Option<RunRecord>,
    ) -> Result<(), StoreError> {
        self.limit_run(number);
        // Before anything is ready, so that what is under way is counted, and has its place.
        self.settle_all(number, records.iter().map(|(key, _)| *key));
        for (key, record) in records {
            let is = self.runs.get(&number).and_then(|live| live.instance(key).state);
            // What there cannot be was passed over.
            if is != record.state {
                continue;
            }
            match record.state {
                Some(State::Running) => {
                    self.step(number, Event::Interrupted(key), None);
                    // Counted before any body runs, however long the queue is. An end is recorded as such.
                    if self
                        .runs
                        .get(&number)
                        .is_some_and(|live| live.instance(key).state == Some(State::Queued))
                    {
                        self.count(number, key);
                    }
                    self.announce(number, key, "");
                }
                Some(State::Queued) => self.enqueue(number, key, None),
                Some(State::UpForRetry) => self.wake(number, key, record.due_at.unwrap_or_default()),
                Some(State::UpForReschedule) => self.wait_on(number, key, &record),
                _ => {}
            }
        }
        self.step(number, Event::Begin, None);
        match before {
            Some(before) => self.follow(number, &before),
            None => Ok(()),
        }
    }

    /// Goes on waiting for what a task was deferred for.
    fn wait_on(&mut self, run: i64, key: Key, record: &TaskRecord) {
        match record.waits_for {
            Some(WaitsFor::Object(_)) => self.effects.push(Effect::Watch { run, key }),
            // It may have ended meanwhile: the task itself looks.
            Some(WaitsFor::Run { .. }) => {
                self.step(run, Event::Due(key), Some(Resume::Interrupted));
                return;
            }
            None => self.wake(run, key, record.due_at.unwrap_or_default()),
        }
        self.effects.push(Effect::Say { run, key, state: State::UpForReschedule });
    }
}
