//! The schedule: every tick makes one run.

use chrono::{DateTime, Utc};

use super::begin::Plan;
use super::core::{Core, now};
use crate::dag::{Dag, Schedule};
use crate::run::RunState;
use crate::schedule::{Known, Timetable};
use crate::store::{RunType, StoreError, Which, Write};

/// So many runs of one DAG are made at a time, so that catching up on years holds up nobody.
const AT_ONCE: usize = 100;

impl Core {
    /// Takes in the schedules as this program has them, and looks at all of them.
    pub(super) fn look_at_all(&mut self) -> Result<(), StoreError> {
        for dag in 0..self.dags.len() {
            let of = self.dags[dag].definition.dag;
            let schedule = described(of);
            let now = now();
            let record = &mut self.dags[dag].record;
            let seen = record.schedule.is_some();
            if record.schedule != schedule {
                record.schedule = schedule;
                record.schedule_since = now;
                self.writes.push(Write::Dag(record.clone()));
            }
            if of.schedule.is_none() {
                continue;
            }
            match Timetable::of(of) {
                Ok(timetable) => self.dags[dag].timetable = Some(timetable),
                Err(error) => {
                    tracing::error!(target: "coworks_biz::engine", dag_id = of.dag_id, "never runs by itself: {error}");
                    continue;
                }
            }
            let last = self.writer.runs(Which::LastTick(of.dag_id))?.pop();
            self.dags[dag].last_end = last.as_ref().and_then(|run| run.end_date);
            (self.dags[dag].seen, self.dags[dag].has_ticked) = (seen, last.is_some());
            self.look(dag, now);
        }
        Ok(())
    }

    /// Has the ticks of a DAG looked at, at this moment.
    pub(super) fn look(&mut self, dag: usize, at: DateTime<Utc>) {
        if let Some(before) = self.dags[dag].look.take() {
            self.looks.remove(&(before, dag));
        }
        if !self.draining && self.dags[dag].timetable.is_some() && !self.dags[dag].record.paused {
            self.dags[dag].look = Some(at);
            self.looks.insert((at, dag));
        }
    }

    /// Makes the runs of the ticks that are due.
    pub(super) fn tick(&mut self) -> Result<(), StoreError> {
        let now = now();
        while let Some(&(at, dag)) = self.looks.first()
            && at <= now
        {
            self.looks.pop_first();
            self.dags[dag].look = None;
            self.tick_of(dag, now)?;
        }
        Ok(())
    }

    fn tick_of(&mut self, dag: usize, now: DateTime<Utc>) -> Result<(), StoreError> {
        for _ in 0..AT_ONCE {
            let state = &self.dags[dag];
            let Some(timetable) = &state.timetable else { return Ok(()) };
            let known = Known {
                ticked: state.record.ticked,
                since: state.record.schedule_since,
                first: !state.seen,
                has_ticked: state.has_ticked,
                busy: state.is_scheduled_busy(),
                last_end: state.last_end,
            };
            let due = timetable.due(&known, now);
            self.dags[dag].seen = true;
            let Some(tick) = due.tick else {
                if let Some(next) = due.look {
                    self.look(dag, next);
                }
                return Ok(());
            };
            self.make_tick(dag, tick, due.data_interval)?;
        }
        // There is more to catch up on, behind what else is to be done.
        self.look(dag, now);
        self.stirred.insert(dag);
        Ok(())
    }

    fn make_tick(
        &mut self,
        dag: usize,
        tick: DateTime<Utc>,
        data_interval: Option<(DateTime<Utc>, DateTime<Utc>)>,
    ) -> Result<(), StoreError> {
        let definition = self.dags[dag].definition;
        let state = &mut self.dags[dag];
        state.record.ticked = Some(state.record.ticked.map_or(tick, |ticked| ticked.max(tick)));
        state.has_ticked = true;
        let own = |timetable: &Timetable| timetable.data_interval(tick);
        let data_interval =
            data_interval.or_else(|| state.timetable.as_ref().map(own)).unwrap_or((tick, tick));
        self.writes.push(Write::Dag(self.dags[dag].record.clone()));
        // Somebody has triggered a run for this very moment.
        if self.has_logical_date(definition.dag.dag_id, tick)? {
            return Ok(());
        }
        let ready = self.conf_of(definition, None).and_then(|conf| {
            self.refuse_missing(definition)?;
            Ok(conf)
        });
        let (conf, lacks) = match ready {
            Ok(conf) => (conf, None),
            Err(error) => (crate::value::Json::from_stored("null"), Some(error.to_string())),
        };
        let plan = Plan {
            dag,
            run_type: RunType::Scheduled,
            conf,
            logical_date: tick,
            data_interval,
            idempotency_key: None,
            backfill: None,
            at_once: false,
            holds: lacks.is_some(),
        };
        let record = self.make(plan);
        if let Some(why) = lacks {
            self.hold(record, why);
        }
        Ok(())
    }

    /// What a DAG does next by itself hangs on how its last run went.
    pub(super) fn look_after_end(&mut self, dag: usize, state: RunState) {
        if state.is_final() && self.dags[dag].definition.dag.schedule == Some(Schedule::Continuous) {
            self.dags[dag].last_end = Some(now());
            self.look(dag, now());
        }
    }
}

/// A schedule as it is compared and shown: with its time zone, where that says anything.
fn described(dag: &Dag) -> Option<String> {
    let schedule = dag.schedule?;
    Some(match schedule {
        Schedule::Cron(_) => format!("{schedule} in {}", dag.timezone),
        Schedule::Every(_) | Schedule::Once | Schedule::Continuous => schedule.to_string(),
    })
}
