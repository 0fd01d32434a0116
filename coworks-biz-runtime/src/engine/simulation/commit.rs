//! A commit: held against the ledger, against what was cut off, and against what is on the disk.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::drive::Simulation;
use super::ledger::Around;
use super::machine::Process;
use super::operator::Asked;
use super::power::{Unsynced, is_synced};
use crate::config::Durability;
use crate::engine::Mode;
use crate::store::{Stored, Write};
use crate::value::RETURN_VALUE;

impl Simulation {
    /// Takes in what is about to be committed. The runs that it is about; `None` where nothing is.
    pub(super) fn expect_commit(&mut self) -> Result<Option<BTreeSet<i64>>, String> {
        let Some(Process { core, drained, .. }) = &self.process else { return Ok(None) };
        if core.writes.is_empty() {
            return Ok(None);
        }
        let touched: BTreeSet<i64> = self
            .asked
            .iter()
            .filter_map(|asked| match asked {
                Asked::Order(touched, ..) => Some(touched),
                Asked::Trigger(..) => None,
            })
            .flatten()
            .copied()
            .collect();
        let around = Around {
            program: self.program,
            now: self.machine.clock().now(),
            clock_set: self.clock_set,
            starts_nothing: core.draining || self.mode == Mode::Orders,
            only_orders: self.mode == Mode::Orders,
            begins_nothing: *drained || self.mode == Mode::Orders,
            ended: &self.ended,
            delays: &self.delays,
            orders: &touched,
        };
        if self.tell {
            for write in &core.writes {
                println!("{:>10.3}   {}", self.world.elapsed.as_secs_f64(), brief(write));
            }
        }
        let mut hasher = DefaultHasher::new();
        (self.story.trace, self.world.elapsed, core.writes.len()).hash(&mut hasher);
        for write in &core.writes {
            brief(write).hash(&mut hasher);
        }
        self.story.trace = hasher.finish();
        for write in &core.writes {
            let stale = match write {
                Write::XCom { key, value: Stored::Inline(by), .. } if key == RETURN_VALUE => {
                    self.stale.contains(by.as_str())
                }
                Write::Task { record, .. } => {
                    let by = record.error.as_deref().and_then(|error| error.strip_prefix("drawn by "));
                    by.is_some_and(|by| self.stale.contains(by))
                }
                _ => false,
            };
            if stale {
                return Err(format!("what an attempt comes to that was cut off counts: {}", brief(write)));
            }
        }
        self.story.seen.take(&core.writes, &self.ledger);
        self.ledger.take(&core.writes, &around)?;
        for write in &core.writes {
            if let Write::Task { record, .. } = write {
                self.ended.remove(&(record.run, record.task_id.to_string(), record.map_index));
            }
        }
        self.unsynced.take(&core.writes);
        Ok(Some(core.writes.iter().filter_map(run_of).collect()))
    }

    /// It was committed.
    pub(super) fn committed(&mut self, runs: &BTreeSet<i64>) -> Result<(), String> {
        self.see("a commit");
        let Some(process) = &self.process else { return Ok(()) };
        let (database, durability) = (self.machine.database(), self.machine.durability());
        let synced = is_synced(database, process);
        if self.faults.power > 0 {
            self.power.committed(database, synced, &self.ledger);
        }
        if synced {
            self.unsynced = Unsynced::default();
        }
        if durability == Durability::Step && self.unsynced.commits > 0 {
            return Err("what is committed is not on the disk".to_owned());
        }
        self.check_rows(runs)
    }
}

fn run_of(write: &Write) -> Option<i64> {
    match write {
        Write::RunMade(run) => Some(run.number),
        Write::Run { record, .. } => Some(record.number),
        Write::Task { record, .. } => Some(record.run),
        _ => None,
    }
}

/// A change in few words.
fn brief(write: &Write) -> String {
    match write {
        Write::RunMade(run) => format!("run {} {} {} {}", run.number, run.run_id, run.state, run.uuid),
        Write::Run { record, event, .. } => format!("run {} {event} {}", record.number, record.state),
        Write::Task { record, .. } => format!(
            "run {} {}[{}] {:?} try {} of {} cut {} gen {} due {:?} for {:?}",
            record.run,
            record.task_id,
            record.map_index,
            record.state,
            record.try_number,
            record.tries_before,
            record.interruptions,
            record.generation,
            record.due_at,
            record.waits_for
        ),
        Write::XCom { run, task_id, map_index, key, value } => {
            format!("xcom {run} {task_id}[{map_index}] {key} {value:?}")
        }
        Write::Log { run, piece } => format!("log {run} {}", piece.task_id),
        other => format!("{other:?}"),
    }
}
