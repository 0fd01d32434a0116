//! How a run is stopped from outside.

use super::{Command, Run, State};
use crate::dag::Role;

/// Why a run does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody has cancelled it: as in Airflow where a run is marked failed, what runs fails, what has not
    /// begun is skipped, and teardowns still do what is theirs.
    Cancelled,
    /// It has taken longer than `dagrun_timeout`: as in Airflow, whatever has not ended is skipped,
    /// teardowns included.
    TimedOut,
}

impl Run {
    pub(super) fn stop(&mut self, stop: Stop, commands: &mut Vec<Command>) {
        if self.state.is_final() {
            return;
        }
        self.stopped = Some(stop);
        let mut wave = Vec::new();
        for &task in self.dag.order {
            if stop == Stop::Cancelled && self.dag.tasks[task as usize].role == Role::Teardown {
                continue;
            }
            for (key, instance) in self.instances.keys(task).zip(self.instances.of(task)) {
                let end = match instance.state {
                    Some(state) if state.is_final() => continue,
                    Some(state) if state.is_under_way() => {
                        commands.push(Command::Cut { key });
                        if stop == Stop::Cancelled { State::Failed } else { State::Skipped }
                    }
                    _ => State::Skipped,
                };
                wave.push((key, end));
            }
        }
        // All at once: what they do to one another no longer counts.
        self.finish(wave, commands);
    }
}
