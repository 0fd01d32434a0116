//! What next: the state machine of one run.
//!
//! Pure: an [`Event`] goes in, the state changes, [`Command`]s come out. It
//! knows no clock, no database and no thread, so that it can be simulated by
//! the million; whoever drives it records every [`Command::Set`], runs what is
//! queued, and comes back with what happened.

mod cascade;
mod instance;
mod restore;
mod rule;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::instance::{Instance, InstanceName, Instances, Key};
use self::rule::Tally;
pub use self::state::{RunState, State, UnknownState};
use crate::dag::{Dag, Options, Role};
use crate::error::Retry;

/// How often an attempt may be cut off by a dying process before its task fails.
pub const MAX_INTERRUPTIONS: u32 = 5;

/// From this many interruptions on, an attempt runs alone.
pub const ALONE_AFTER: u32 = 2;

/// A run of a DAG: where each of its task instances stands.
///
/// A task in a loop has one instance, which is not mapped, until the list of its loop has
/// ended. Where the list has items, it then has one for each of them instead; where it has
/// none, that one instance ends.
#[derive(Debug)]
pub struct Run {
    dag: &'static Dag,
    state: RunState,
    /// The unmapped one of a task that is expanded has no state. It tallies
    /// the upstreams outside the loop, which are those of every instance.
    instances: Instances<Instance>,
    /// How many instances have not ended.
    open: usize,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The run begins, or goes on after it was restored.
    Begin,
    /// A queued task got its slot.
    Started(Key),
    /// The attempt has ended.
    Ended(Key, Ending),
    /// The process died during the attempt.
    Interrupted(Key),
    /// The delay of a retry is over, or what a task waited for is there or overdue.
    Due(Key),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Well.
    Success,
    /// Well, and a branch has chosen this arm.
    Chosen(u32),
    /// Well, and a list has so many items.
    Mapped(u32),
    /// Badly; another try may or may not help.
    Failed(Retry),
    /// Not needed.
    Skipped,
    /// It waits for something outside and is called again when that is due.
    Deferred,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Record that a task instance is in a new state. One that is `queued` wants a slot.
    Set {
        /// The task instance.
        key: Key,
        /// Its new state.
        state: State,
        /// Its current try; 0 when it never had one.
        try_number: u32,
    },
    /// Come back with [`Event::Due`] after this delay.
    Wake {
        /// The task instance.
        key: Key,
        /// The delay from now.
        after: Duration,
    },
    /// The run has ended.
    End(RunState),
}

/// An event that does not fit the state of its task, such as the end of an
/// attempt that nobody started. The run is unchanged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not fit: the task is {}", state.map_or("waiting for its upstreams", State::as_str))]
pub struct Misfit {
    /// What was said to have happened.
    pub event: Event,
    /// The state it met.
    pub state: Option<State>,
}

impl Run {
    /// A run that has not begun.
    pub fn new(dag: &'static Dag) -> Self {
        let new = |upstreams: usize| Instance { tally: Tally::of(upstreams as u32), ..Instance::default() };
        let plain: Vec<_> = dag.tasks.iter().map(|task| new(task.upstream.len())).collect();
        Self { dag, state: RunState::Running, open: plain.len(), instances: Instances::new(plain) }
    }

    /// The DAG it is a run of.
    pub fn dag(&self) -> &'static Dag {
        self.dag
    }

    /// Whether and how it has ended.
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Where its task instances stand.
    pub fn instances(&self) -> &Instances<Instance> {
        &self.instances
    }

    /// Whether no other try would follow if this one failed now.
    pub fn is_last_try(&self, key: Key) -> bool {
        let node = &self.dag.tasks[key.task as usize];
        let tries = |key| self.instances.get(key).map_or(0, |instance| instance.try_number);
        let spent: u32 = node.shares.iter().map(|&other| tries(key.beside(other)).saturating_sub(1)).sum();
        tries(key) + spent > node.options.retries
    }

    /// Takes one event in and appends what to do about it.
    ///
    /// The cost is that of the instances it touches, never that of the whole DAG;
    /// only [`Event::Begin`] looks at every instance once.
    pub fn step(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Misfit> {
        match event {
            Event::Begin => {
                for &task in self.dag.order {
                    for key in self.instances.keys(task) {
                        self.consider(key, commands);
                    }
                }
                self.end_if_done(commands);
            }
            Event::Started(key) => {
                self.expect(event, key, &[State::Queued])?;
                self.set(key, State::Running, commands);
            }
            Event::Ended(key, ending) => {
                let instance = self.expect(event, key, &[State::Running])?;
                match ending {
                    Ending::Chosen(outcome) | Ending::Mapped(outcome) => instance.outcome = Some(outcome),
                    _ => {}
                }
                match ending {
                    Ending::Success | Ending::Chosen(_) | Ending::Mapped(_) => {
                        self.finish(key, State::Success, commands);
                    }
                    Ending::Skipped => self.finish(key, State::Skipped, commands),
                    Ending::Deferred => self.set(key, State::UpForReschedule, commands),
                    Ending::Failed(retry) => self.fail(key, retry, commands),
                }
            }
            Event::Interrupted(key) => {
                let instance = self.expect(event, key, &[State::Running])?;
                instance.interruptions += 1;
                if instance.interruptions >= MAX_INTERRUPTIONS {
                    self.finish(key, State::Failed, commands);
                } else {
                    self.set(key, State::Queued, commands);
                }
            }
            Event::Due(key) => {
                let instance = self.expect(event, key, &[State::UpForRetry, State::UpForReschedule])?;
                if instance.state == Some(State::UpForRetry) {
                    instance.try_number += 1;
                }
                self.set(key, State::Queued, commands);
            }
        }
        Ok(())
    }

    fn expect(&mut self, event: Event, key: Key, states: &[State]) -> Result<&mut Instance, Misfit> {
        match self.instances.get_mut(key) {
            Some(instance) if instance.state.is_some_and(|state| states.contains(&state)) => Ok(instance),
            other => Err(Misfit { event, state: other.and_then(|instance| instance.state) }),
        }
    }

    fn set(&mut self, key: Key, state: State, commands: &mut Vec<Command>) {
        if let Some(instance) = self.instances.get_mut(key) {
            instance.state = Some(state);
            commands.push(Command::Set { key, state, try_number: instance.try_number });
        }
    }

    fn fail(&mut self, key: Key, retry: Retry, commands: &mut Vec<Command>) {
        let options = self.dag.tasks[key.task as usize].options;
        let try_number = self.instances.get(key).map_or(0, |instance| instance.try_number);
        let delay = match retry {
            Retry::Never => None,
            _ if self.is_last_try(key) => None,
            Retry::After(delay) => Some(delay),
            Retry::AsConfigured => Some(retry_delay(options, try_number)),
        };
        match delay {
            Some(after) => {
                self.set(key, State::UpForRetry, commands);
                commands.push(Command::Wake { key, after });
            }
            None => self.finish(key, State::Failed, commands),
        }
    }

    fn end_if_done(&mut self, commands: &mut Vec<Command>) {
        if self.open > 0 || self.state != RunState::Running {
            return;
        }
        let all = 0..self.dag.tasks.len() as u32;
        let mut leaves: Vec<u32> = all.clone().filter(|&task| self.is_leaf(task)).collect();
        if leaves.is_empty() {
            // Teardowns and nothing else.
            leaves = all.filter(|&task| self.dag.tasks[task as usize].downstream.is_empty()).collect();
        }
        let failed = leaves
            .iter()
            .flat_map(|&leaf| self.instances.of(leaf))
            .any(|instance| matches!(instance.state, Some(State::Failed | State::UpstreamFailed)));
        self.state = if failed { RunState::Failed } else { RunState::Success };
        commands.push(Command::End(self.state));
    }

    /// Whether the end of this task counts for that of the run. As in Airflow, one that nothing but
    /// teardowns wait for, and that is none itself; the members of a branch or a loop wait for it.
    fn is_leaf(&self, task: u32) -> bool {
        let role = |task: u32| self.dag.tasks[task as usize].role;
        let downstream = self.dag.tasks[task as usize].downstream.iter().copied();
        role(task) != Role::Teardown
            && downstream.chain(self.dag.members(task)).all(|next| role(next) == Role::Teardown)
    }
}

fn retry_delay(options: &Options, try_number: u32) -> Duration {
    let mut delay = options.retry_delay;
    if options.retry_exponential_backoff {
        delay = delay.saturating_mul(2u32.saturating_pow(try_number.saturating_sub(1)));
    }
    match options.max_retry_delay {
        Some(ceiling) => delay.min(ceiling),
        None => delay,
    }
}
