//! What has happened in how many worlds: a promise that is never put to the test holds by itself.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use crate::run::{ALONE_AFTER, MAX_INTERRUPTIONS, State};
use crate::store::Write;

/// How often what has happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Coverage(pub(super) BTreeMap<&'static str, u64>);

/// What a thousand worlds come to at least: about half of what they do.
pub(super) const LEAST: &[(&str, u64)] = &[
    ("S3 does not answer", 80),
    ("S3 does not delete", 110),
    ("a backfill", 20),
    ("a death before it decides", 800),
    ("a death before a commit", 800),
    ("a death behind a commit", 800),
    ("a death while it releases", 800),
    ("a death behind a release", 800),
    ("a death that leaves a log", 1_500),
    ("a drain", 180),
    ("a process that only takes orders", 450),
    ("a loss of power", 500),
    ("a loss of power that takes commits with it", 150),
    ("an attempt is interrupted", 7_000),
    ("one is to run alone", 1_900),
    ("a fifth interruption", 160),
    ("an attempt of a later generation is interrupted", 450),
    ("a later generation begins", 1_000),
    ("an attempt that was cut off comes to its end", 400),
    ("a run is cancelled", 700),
    ("a run is cleared", 10),
    ("a run is marked in", 450),
    ("a run is out of time", 300),
    ("a run is taken back", 1),
    ("a run triggers another", 800),
    ("a run fails", 1_600),
    ("a run succeeds", 3_300),
    ("an end is told", 800),
    ("a trigger with a key is repeated", 130),
    ("a task is cleared", 1_500),
    ("a task is tried again", 1_000),
    ("a task is skipped", 15_000),
    ("a task is left out for a failure", 2_000),
    ("a task waits", 3_800),
    ("a wait for an answer", 2_800),
    ("an answer arrives that cannot be read", 75),
    ("an answer arrives twice", 70),
    ("an answer is overdue", 400),
    ("an answer is spared", 14),
    ("an answer is to be deleted", 1_800),
    ("an answer is to be deleted again", 3_400),
    ("an answer is deleted for good", 1_700),
    ("a service wants to be left alone", 120),
    ("somebody is to be told", 300),
    ("somebody is to be told again", 50),
    ("the clock is set back", 35),
    ("the clock is set forward", 110),
];

impl Coverage {
    pub(super) fn see(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// What there is too little of.
    pub(super) fn lacks(&self) -> Vec<String> {
        let count = |what| self.0.get(what).copied().unwrap_or(0);
        let lacks = LEAST.iter().filter(|(what, least)| count(what) < *least);
        lacks.map(|(what, least)| format!("{what}: {} of {least}", count(what))).collect()
    }

    /// What is about to be committed. The ledger is as it was before.
    pub(super) fn take(&mut self, writes: &[Write], ledger: &Ledger) {
        for write in writes {
            match write {
                Write::Run { event, .. } => self.see(match *event {
                    "cancelled" => "a run is cancelled",
                    "timed_out" => "a run is out of time",
                    "cleared" => "a run is cleared",
                    "marked" => "a run is marked in",
                    "success" => "a run succeeds",
                    "failed" => "a run fails",
                    _ => "a run goes on",
                }),
                Write::Task { record, .. } => {
                    let name = (record.run, record.task_id.to_string(), record.map_index);
                    let old = ledger.tasks.get(&name);
                    if record.interruptions > old.map_or(0, |old| old.interruptions) {
                        self.see("an attempt is interrupted");
                        if record.interruptions == ALONE_AFTER {
                            self.see("one is to run alone");
                        }
                        if record.interruptions == MAX_INTERRUPTIONS {
                            self.see("a fifth interruption");
                        }
                        if record.generation > 0 {
                            self.see("an attempt of a later generation is interrupted");
                        }
                    }
                    self.see(match record.state {
                        None => "a task is cleared",
                        Some(State::UpForRetry) => "a task is tried again",
                        Some(State::UpForReschedule) => "a task waits",
                        Some(State::Skipped) => "a task is skipped",
                        Some(State::UpstreamFailed) => "a task is left out for a failure",
                        Some(State::Failed) => "a task fails",
                        Some(State::Success) => "a task succeeds",
                        Some(State::Running) if record.generation > 0 => "a later generation begins",
                        Some(_) => continue,
                    });
                }
                Write::RunUnmade { .. } => self.see("a run is taken back"),
                Write::Forget { .. } => self.see("an output is forgotten"),
                Write::Delete(_) => self.see("an answer is to be deleted"),
                Write::Spare(_) => self.see("an answer is spared"),
                Write::Deleted { again: Some(_), .. } => self.see("an answer is to be deleted again"),
                Write::Deleted { .. } => self.see("an answer is deleted for good"),
                Write::Backfill(backfill) if backfill.completed_at.is_none() => self.see("a backfill"),
                Write::Notice(notice) if notice.tries > 0 => self.see("somebody is to be told again"),
                Write::Notice(_) => self.see("somebody is to be told"),
                Write::Log { .. } => self.see("a log"),
                _ => {}
            }
        }
    }
}
