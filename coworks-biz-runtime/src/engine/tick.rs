//! The schedule: every tick makes one run.

use chrono::{DateTime, Utc};

use super::begin::Plan;
use super::core::{BATCH, Core};
use crate::dag::Schedule;
use crate::schedule::{Known, Tick, Timetable};
use crate::store::{RunType, StoreError, Which, Write};
use crate::value::Json;

/// So many runs of one DAG are made at a time, so that catching up on years holds up nobody.
const AT_ONCE: usize = 100;

impl Core {
    /// Takes in the schedules as this program has them, and looks at all of them.
    pub(super) fn look_at_all(&mut self) -> Result<(), StoreError> {
        for dag in 0..self.dags.len() {
            let of = self.dags[dag].definition.dag;
            if of.schedule.is_none() {
                continue;
            }
            let timetable = match Timetable::of(of) {
                Ok(timetable) => timetable,
                Err(error) => {
                    tracing::error!(target: "coworks_biz::engine", dag_id = of.dag_id, "never runs by itself: {error}");
                    continue;
                }
            };
            let now = self.now();
            let record = &mut self.dags[dag].record;
            if record.schedule.as_deref() != Some(timetable.text()) {
                // Before its first schedule there was none that could have changed.
                record.schedule_since = record.schedule.is_some().then_some(now);
                record.schedule = Some(timetable.text().to_owned());
                self.writes.push(Write::Dag(record.clone()));
            }
            // Nobody else asks, and there may be ten thousand of them.
            self.dags[dag].has_ticked = of.schedule == Some(Schedule::Once)
                && !self.writer.runs(Which::LastTick(of.dag_id))?.is_empty();
            self.dags[dag].timetable = Some(timetable);
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
        let now = self.now();
        if self.latest.is_some_and(|before| now < before) {
            // The clock was put back: what was not due yet may be further away, or come anew.
            tracing::warn!(target: "coworks_biz::engine", "the clock was put back: all schedules are looked at again");
            for dag in 0..self.dags.len() {
                self.look(dag, now);
            }
        }
        self.latest = Some(now);
        // Each once: what is left of them, and of the others, comes behind the commit of these.
        let due: Vec<_> = self.looks.range(..=(now, usize::MAX)).copied().collect();
        for (at, dag) in due {
            if self.writes.len() >= BATCH {
                break;
            }
            self.looks.remove(&(at, dag));
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
                schedule_since: state.record.schedule_since,
                ran: state.has_ticked,
                active: state.is_scheduled_busy(),
                // The database knows them, and is asked before each run is made.
                ..Known::default()
            };
            let due = timetable.due(&known, now);
            if let Some(ticked) = due.ticked {
                let record = &mut self.dags[dag].record;
                (record.ticked, record.schedule_since) = (Some(ticked), None);
                self.writes.push(Write::Dag(record.clone()));
            }
            let Some(tick) = due.run else {
                if let Some(next) = due.look {
                    self.look(dag, next);
                }
                return Ok(());
            };
            self.make_tick(dag, tick)?;
        }
        // There is more to catch up on, behind what else is to be done.
        self.look(dag, now);
        Ok(())
    }

    fn make_tick(&mut self, dag: usize, tick: Tick) -> Result<(), StoreError> {
        let definition = self.dags[dag].definition;
        self.dags[dag].has_ticked = true;
        // There is a run for this very moment: the clock was put back, or somebody was ahead of it.
        if self.has_logical_date(dag, tick.logical_date)? {
            return Ok(());
        }
        let ready = self.conf_of(definition, None).and_then(|conf| {
            self.refuse_missing(definition)?;
            Ok(conf)
        });
        let (conf, lacks) = match ready {
            Ok(conf) => (conf, None),
            Err(error) => (Json::from_stored("null"), Some(error.to_string())),
        };
        let plan = Plan {
            dag,
            run_type: RunType::Scheduled,
            conf,
            logical_date: tick.logical_date,
            data_interval: tick.data_interval,
            idempotency_key: None,
            backfill: None,
            at_once: false,
            holds: lacks.is_some(),
        };
        let record = self.make(plan)?;
        if let Some(why) = lacks {
            self.hold(record, why);
        }
        Ok(())
    }

    /// What a DAG does next by itself may hang on the end of its last run.
    pub(super) fn look_after_end(&mut self, dag: usize) {
        if self.dags[dag].definition.dag.schedule == Some(Schedule::Continuous) {
            self.look(dag, self.now());
        }
    }
}
