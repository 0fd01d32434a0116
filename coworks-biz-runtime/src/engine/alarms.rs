//! What is to be done at a moment.

use std::cmp::Reverse;

use chrono::{DateTime, TimeDelta, Utc};

use super::core::{BATCH, Core};
use super::live::Live;
use crate::clock::far_future;
use crate::run::{Event, Key, State};
use crate::store::{StoreError, WaitsFor};
use crate::task::Resume;

/// How often it is looked for runs that are older than the retention, and how far the pieces of
/// what is found are apart.
const PRUNE_EVERY: TimeDelta = TimeDelta::hours(1);
const PRUNE_PIECES: TimeDelta = TimeDelta::milliseconds(50);

/// How often it is looked whether the files of the database are still where they were.
const STAYS_EVERY: TimeDelta = TimeDelta::minutes(1);

/// So many alarms may be of what nobody waits for any more; few in tests, where worlds are small.
const ALARMS: usize = if cfg!(test) { 8 } else { 10_000 };

/// What is to be done at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A task instance is called again, if this is still when.
    Task(i64, Key, DateTime<Utc>),
    /// A run has had its time, if this is still when.
    Run(i64, DateTime<Utc>),
    /// A service may let more begin, by its place.
    Service(usize, DateTime<Utc>),
    /// Somebody is told of something, again.
    Notice(i64),
    /// Runs that ended long ago are removed.
    Prune,
    /// Answers in S3 are deleted.
    Sweep,
    /// The files of the database are looked for.
    Stays,
}

impl Core {
    pub(super) fn due(&mut self, run: i64, key: Key, resume: Option<Resume>) {
        // A run that has ended meanwhile waits for nothing, and neither does a task that was cut off.
        let waits = |live: &Live| {
            matches!(live.instance(key).state, Some(State::UpForRetry | State::UpForReschedule))
        };
        if self.runs.get(&run).is_some_and(waits) {
            self.step(run, Event::Due(key), resume);
        }
    }

    /// What a task waited for is there, or overdue; unless it waits for something else by now.
    pub(super) fn arrived(&mut self, run: i64, key: Key, of: &WaitsFor, resume: Resume) {
        if self.runs.get(&run).is_some_and(|live| live.waits_for(key) == Some(of)) {
            self.due(run, key, Some(resume));
        }
    }

    /// Has a task instance called again at this moment.
    pub(super) fn wake(&mut self, run: i64, key: Key, at: DateTime<Utc>) {
        self.alarm(at, Alarm::Task(run, key, at));
    }

    /// Has a run stopped when it has taken as long as it may.
    pub(super) fn limit_run(&mut self, run: i64) {
        if let Some(until) = self.runs.get(&run).and_then(Live::times_out) {
            self.alarm(until, Alarm::Run(run, until));
        }
    }

    /// Has something done at this moment.
    pub(super) fn alarm(&mut self, at: DateTime<Utc>, what: Alarm) {
        let after = (at - self.now()).to_std().unwrap_or_default();
        let at = self.clock.instant().checked_add(after).unwrap_or_else(far_future);
        self.alarms.push(Reverse((at, what)));
        // Of runs that have ended, most of whom would have had hours.
        if self.alarms.len() > ALARMS && self.alarms.len() > 4 * self.awake {
            let mut alarms = std::mem::take(&mut self.alarms);
            alarms.retain(|Reverse((_, alarm))| match alarm {
                Alarm::Run(run, until) => self.runs.get(run).and_then(Live::times_out) == Some(*until),
                Alarm::Task(run, key, due) => {
                    self.runs.get(run).and_then(|live| live.due_at(*key)) == Some(*due)
                }
                _ => true,
            });
            self.awake = alarms.len();
            self.alarms = alarms;
        }
    }

    pub(super) fn fire(&mut self) -> Result<(), StoreError> {
        let now = self.clock.instant();
        while let Some(&Reverse((at, alarm))) = self.alarms.peek() {
            if at > now {
                break;
            }
            self.alarms.pop();
            match alarm {
                Alarm::Task(run, key, due) => {
                    let Some(live) = self.runs.get(&run) else { continue };
                    // It was cleared meanwhile, and waits for something else.
                    if live.due_at(key) != Some(due) {
                        continue;
                    }
                    let overdue = matches!(live.waits_for(key), Some(WaitsFor::Run { .. }));
                    self.due(run, key, overdue.then_some(Resume::Overdue));
                }
                Alarm::Run(run, until) => {
                    if self.runs.get(&run).and_then(Live::times_out) == Some(until) {
                        self.out_of_time(run);
                    }
                }
                Alarm::Service(service, at) => self.slots.look(service, at),
                Alarm::Notice(id) => self.tell(id),
                Alarm::Prune => self.prune_due = true,
                Alarm::Sweep => self.sweep_now(),
                Alarm::Stays => {
                    self.writer.stays()?;
                    self.alarm(self.now() + STAYS_EVERY, Alarm::Stays);
                }
            }
        }
        Ok(())
    }

    /// Removes a piece of what is older than the retention; the next one soon, or what is then old in a while.
    ///
    /// And the files of large values that nobody names any more, once there are no such runs. Where the disk was
    /// full, values may wait for longer than such a file is left alone.
    pub(super) fn prune(&mut self) -> Result<(), StoreError> {
        let pause = match self.shared.was_full() {
            true => PRUNE_EVERY,
            false => match self.prune_piece() {
                Ok(true) => PRUNE_PIECES,
                Ok(false) => PRUNE_EVERY,
                // What was removed may not be gone from the disk: nothing may follow it.
                Err(error) if error.is_of_disk() => return Err(error),
                Err(error) => {
                    tracing::warn!(target: "coworks_biz::engine", "old runs stay for now: {error}");
                    PRUNE_EVERY
                }
            },
        };
        self.alarm(self.now() + pause, Alarm::Prune);
        Ok(())
    }

    /// Whether there is more to remove.
    fn prune_piece(&mut self) -> Result<bool, StoreError> {
        let before = self.retention.and_then(|retention| self.now().checked_sub_signed(retention));
        if let Some(before) = before
            && self.writer.prune(before, BATCH)?.more
        {
            return Ok(true);
        }
        self.writer.sweep_idle(BATCH)
    }
}
