//! Backfills: the ticks of a time that has passed.

use chrono::{DateTime, Datelike, Utc};

use super::begin::Plan;
use super::core::{Core, exact};
use super::effects::Effect;
use super::orders::{Answer, BackfillRun, Reprocess, RunName};
use super::past::looks_back;
use super::{EngineError, Mode, Refusal};
use crate::run::RunState;
use crate::schedule::Timetable;
use crate::store::{BackfillRecord, PRUNED, RunRecord, RunType, StoreError, Which, Write};
use crate::value::Json;

/// More ticks than this are more than one backfill takes.
const MOST: usize = 100_000;

/// A backfill that is asked for.
pub(super) struct Wanted {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) reprocess: Reprocess,
    pub(super) max_active_runs: u32,
    pub(super) conf: Option<Json>,
    pub(super) dry_run: bool,
}

/// What is done with a tick.
enum Action {
    New,
    Again(Box<RunRecord>),
    Skip(String),
}

impl Core {
    pub(super) fn backfill(&mut self, dag_id: String, wanted: Wanted) -> Result<Answer, EngineError> {
        let dag = self.dag(&dag_id)?;
        let definition = self.dags[dag].definition;
        let refuse =
            |reason: &str| Refusal::Backfill { dag_id: definition.dag.dag_id, reason: reason.to_owned() };
        let (from, to) = (exact(wanted.from), exact(wanted.to));
        if to < from {
            return Err(refuse("its last moment is before its first").into());
        }
        if to > self.now() {
            return Err(refuse("its last moment is still to come, and its tick with it").into());
        }
        if from.year() < 1 {
            return Err(refuse("its first moment is before the year 1").into());
        }
        if wanted.max_active_runs == 0 {
            return Err(refuse("none of its runs could be under way: `--max-active` is from 1").into());
        }
        if let Some(other) = self.dags[dag].backfill() {
            let span = format!("{} to {}", other.from_date, other.to_date);
            return Err(
                refuse(&format!("a backfill of {span} is under way, and there is one at a time")).into()
            );
        }
        let timetable = Timetable::of(definition.dag).map_err(|e| refuse(&e.to_string()))?;
        let ticks: Vec<_> = timetable.between(from, to).take(MOST + 1).collect();
        if ticks.is_empty() {
            return Err(refuse("its schedule has no tick in this time").into());
        }
        if ticks.len() > MOST {
            return Err(
                refuse(&format!("these are more than {MOST} ticks: take a part of them at a time")).into()
            );
        }
        let conf = self.conf_of(definition, wanted.conf)?;
        self.refuse_missing(definition)?;
        let mut there =
            self.writer.runs(Which::Between(definition.dag.dag_id, from, to))?.into_iter().peekable();
        let uncommitted = self.made.get(&dag);
        let plan: Vec<_> = ticks
            .into_iter()
            .map(|tick| {
                while there.next_if(|run| run.logical_date < tick).is_some() {}
                let action = match there.next_if(|run| run.logical_date == tick) {
                    None if uncommitted.is_some_and(|made| made.contains_key(&tick)) => {
                        Action::Skip("it has just been made".to_owned())
                    }
                    None => Action::New,
                    Some(run) if self.runs.contains_key(&run.number) || run.version == PRUNED => {
                        Action::Skip(format!("run {} has not ended, or is being removed", run.run_id))
                    }
                    Some(run) => again(run, wanted.reprocess),
                };
                (tick, action)
            })
            .collect();
        let runs = plan.iter().map(|(tick, action)| {
            let (action, reason) = match action {
                Action::New => ("new", None),
                Action::Again(_) => ("again", None),
                Action::Skip(reason) => ("skipped", Some(reason.clone())),
            };
            BackfillRun { logical_date: *tick, action: action.to_owned(), reason }
        });
        let runs: Vec<_> = runs.collect();
        if wanted.dry_run || runs.iter().all(|run| run.action == "skipped") {
            return Ok(Answer::Backfill { dag_id, runs });
        }
        let record = BackfillRecord {
            id: self.next_backfill()?,
            dag_id: dag_id.clone(),
            from_date: from,
            to_date: to,
            reprocess: format!("{:?}", wanted.reprocess).to_lowercase(),
            max_active_runs: wanted.max_active_runs,
            created_at: self.now(),
            completed_at: None,
        };
        self.writes.push(Write::Backfill(record.clone()));
        let id = record.id;
        self.dags[dag].begin_backfill(record);
        for (tick, action) in plan {
            match action {
                Action::New => {
                    self.make(Plan {
                        dag,
                        run_type: RunType::Backfill,
                        conf: conf.clone(),
                        logical_date: tick,
                        data_interval: timetable.data_interval(tick),
                        idempotency_key: None,
                        backfill: Some(id),
                        at_once: false,
                        holds: false,
                    })?;
                }
                Action::Again(run) => {
                    let run = RunRecord { run_type: RunType::Backfill, backfill: Some(id), ..*run };
                    self.run_again(dag, run)?;
                }
                Action::Skip(_) => {}
            }
        }
        self.stirred.insert(dag);
        Ok(Answer::Backfill { dag_id, runs })
    }

    fn next_backfill(&self) -> Result<i64, StoreError> {
        let uncommitted = self.writes.iter().filter_map(|write| match write {
            Write::Backfill(backfill) => Some(backfill.id + 1),
            _ => None,
        });
        Ok(self.writer.next_backfill()?.max(uncommitted.max().unwrap_or(0)))
    }

    /// All of a run that has ended is to be run again, when its turn comes.
    fn run_again(&mut self, dag: usize, mut run: RunRecord) -> Result<(), StoreError> {
        let at = self.now();
        for mut task in self.writer.tasks(run.number)? {
            let (run, task_id) = (task.run, task.task_id.clone());
            // The items of a list are under its own name.
            let map_index = (task.map_index >= 0).then_some(task.map_index);
            self.writes.push(Write::Forget { run, task_id, map_index });
            task.clear();
            self.writes.push(Write::Task { record: task, at });
        }
        run.state = RunState::Queued;
        run.version = self.dags[dag].version.clone();
        self.remember_version(dag);
        (run.queued_at, run.start_date, run.end_date) = (at, None, None);
        (run.stopped, run.held) = (None, None);
        self.dags[dag].queue(&run);
        let detail = Some("by a backfill".to_owned());
        self.writes.push(Write::Run { record: Box::new(run), event: "cleared", detail, at });
        Ok(())
    }

    /// Where the last run of a backfill has ended, so has the backfill.
    pub(super) fn end_backfill(&mut self, dag: usize) {
        if let Some(record) = self.dags[dag].end_backfill() {
            tracing::info!(
                target: "coworks_biz::engine",
                dag_id = %record.dag_id, "the backfill of {} to {} is complete", record.from_date, record.to_date
            );
            self.writes.push(Write::Backfill(BackfillRecord { completed_at: Some(self.now()), ..record }));
        }
    }

    pub(super) fn cancel_backfill(&mut self, dag_id: String) -> Result<Answer, EngineError> {
        let dag = self.dag(&dag_id)?;
        let Some(backfill) = self.dags[dag].backfill().map(|record| record.id) else {
            return Err(Refusal::Nothing(format!("no backfill of biz `{dag_id}` is under way")).into());
        };
        let mut runs = Vec::new();
        let open = self.writer.runs(Which::Open)?;
        for mut run in open.into_iter().filter(|run| run.backfill == Some(backfill)) {
            // Those that are under way come to their end.
            if run.state != RunState::Queued || self.runs.contains_key(&run.number) {
                continue;
            }
            runs.push(BackfillRun {
                logical_date: run.logical_date,
                action: "cancelled".into(),
                reason: None,
            });
            // Those that look back at it have to see how its tasks stand.
            if looks_back(self.dags[dag].definition.dag) {
                self.cancel(RunName { dag_id: Some(run.dag_id), run_id: run.run_id })?;
                continue;
            }
            // It has never begun, and its tick is as it was.
            if run.start_date.is_none() && self.writer.tasks(run.number)?.is_empty() {
                self.dags[dag].forget(&run);
                self.writes.push(Write::RunUnmade { run: run.number });
                self.effects.push(Effect::Over { run: run.number, state: RunState::Failed });
                continue;
            }
            self.dags[dag].forget(&run);
            (run.state, run.end_date) = (RunState::Failed, Some(self.now()));
            run.stopped = Some("cancelled".to_owned());
            self.effects.push(Effect::Over { run: run.number, state: run.state });
            let detail = Some("its backfill was cancelled".to_owned());
            self.writes.push(Write::Run { record: Box::new(run), event: "failed", detail, at: self.now() });
        }
        match self.mode {
            // What was under way when its process went comes to its end without it.
            Mode::Orders => self.end_backfill(dag),
            Mode::OneRun | Mode::Serve => drop(self.stirred.insert(dag)),
        }
        Ok(Answer::Backfill { dag_id, runs })
    }
}

/// What a backfill does with a run that is there.
fn again(run: RunRecord, reprocess: Reprocess) -> Action {
    match (reprocess, run.state) {
        (_, RunState::Queued | RunState::Running) => {
            Action::Skip(format!("run {} has not ended", run.run_id))
        }
        (Reprocess::All, _) | (Reprocess::Failed, RunState::Failed) => Action::Again(Box::new(run)),
        (Reprocess::None | Reprocess::Failed, state) => {
            Action::Skip(format!("run {} is there: {state}", run.run_id))
        }
    }
}
