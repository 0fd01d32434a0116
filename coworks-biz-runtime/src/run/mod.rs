//! What next: the state machine of one run.
//!
//! Pure: an [`Event`] goes in, the state changes, [`Command`]s come out. It
//! knows no clock, no database and no thread, so that it can be simulated by
//! the million; whoever drives it records every [`Command::Set`], runs what is
//! queued, and comes back with what happened.

mod cascade;
mod clear;
mod instance;
mod past;
mod restore;
mod retry;
mod rule;
mod scope;
mod state;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::clear::Mark;
pub use self::instance::{Instance, InstanceName, Instances, Key};
use self::scope::Scopes;
pub use self::state::{RunState, State, UnknownState};
pub use self::stop::Stop;
use crate::dag::{Dag, Role};
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
    seed: u64,
    state: RunState,
    stopped: Option<Stop>,
    /// The unmapped one of a task that is expanded has no state. It tallies
    /// the upstreams outside the loop, which are those of every instance.
    instances: Instances<Instance>,
    /// How many instances have not ended.
    open: usize,
    /// How many tries had those that are gone since the list of their loop was cleared.
    former: HashMap<Key, u32>,
    /// Who still waits for the run before.
    held: Vec<bool>,
    scopes: Arc<Scopes>,
}

/// What a run begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// What the delays of its retries are drawn by. Another number for each run.
    pub seed: u64,
    /// Whether there is an earlier run of the DAG: then tasks that depend on their past wait
    /// for [`Event::Past`].
    pub after: bool,
}

/// Where a run stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether and how it has ended.
    pub state: RunState,
    /// Why it does not go on, where it was stopped.
    pub stopped: Option<Stop>,
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
    /// The run before lets this task begin, see [`Run::past_allows`].
    Past(u32),
    /// An operator says how a task instance ends. Does not fit one that has ended so, nor one
    /// that stands for the items of a loop before they are known.
    Mark(Key, Mark),
    /// The run is to end. One that has ended stays as it is.
    Stop(Stop),
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
    /// The attempt is no longer wanted: stop it, or what it waits for outside, and do not tell how it ended.
    Cut {
        /// The task instance.
        key: Key,
    },
    /// Record that a task instance has no state again, its tries so far are those before it was cleared,
    /// and its interruptions and outcome are gone. It may be one of a loop that has no items for now.
    Clear {
        /// The task instance.
        key: Key,
    },
    /// The run goes on: it had ended, or was stopped.
    Reopen,
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
    pub fn new(dag: &'static Dag, start: Start) -> Self {
        let mut run = Self {
            dag,
            seed: start.seed,
            state: RunState::Running,
            stopped: None,
            instances: Instances::default(),
            open: 0,
            former: HashMap::new(),
            held: if start.after { past::held(dag) } else { Vec::new() },
            scopes: Arc::new(Scopes::new(dag)),
        };
        run.begin_anew();
        run
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
        let tries = |key| self.instances.get(key).map_or(0, Instance::tries);
        let spent: u32 = node.shares.iter().map(|&other| tries(key.beside(other)).saturating_sub(1)).sum();
        tries(key) + spent > node.options.retries
    }

    /// Takes one event in and appends what to do about it.
    ///
    /// The cost is that of the instances it touches, never that of the whole DAG;
    /// only [`Event::Begin`], [`Event::Mark`] and [`Event::Stop`] look at every instance once.
    pub fn step(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Misfit> {
        match event {
            Event::Begin => self.consider_all(commands),
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
                        self.finish(vec![(key, State::Success)], commands);
                    }
                    Ending::Skipped => self.finish(vec![(key, State::Skipped)], commands),
                    Ending::Deferred => self.set(key, State::UpForReschedule, commands),
                    Ending::Failed(retry) => self.fail(key, retry, commands),
                }
            }
            Event::Interrupted(key) => {
                let instance = self.expect(event, key, &[State::Running])?;
                instance.interruptions += 1;
                if instance.interruptions >= MAX_INTERRUPTIONS {
                    self.finish(vec![(key, State::Failed)], commands);
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
            Event::Past(task) => self.past(event, task, commands)?,
            Event::Mark(key, mark) => self.mark(event, key, mark, commands)?,
            Event::Stop(stop) => self.stop(stop, commands),
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
        let node = &self.dag.tasks[key.task as usize];
        let instance = self.instances.get(key).copied().unwrap_or_default();
        let delay = match retry {
            Retry::Never => None,
            _ if self.is_last_try(key) => None,
            Retry::After(delay) => Some(delay),
            Retry::AsConfigured => {
                let draw = retry::draw(self.seed, node.task_id, key.map_index, instance.try_number);
                Some(retry::delay(node.options, instance.tries(), draw))
            }
        };
        match delay {
            Some(after) => {
                self.set(key, State::UpForRetry, commands);
                commands.push(Command::Wake { key, after });
            }
            None => self.finish(vec![(key, State::Failed)], commands),
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
        self.state = if failed || self.stopped.is_some() { RunState::Failed } else { RunState::Success };
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
