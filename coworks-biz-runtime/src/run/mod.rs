//! What next: the state machine of one run.
//!
//! Pure: an [`Event`] goes in, the state changes, [`Command`]s come out. It
//! knows no clock, no database and no thread, so that it can be simulated by
//! the million; whoever drives it records every [`Command::Set`], runs what is
//! queued, and comes back with what happened.

mod rule;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::rule::{Decision, Tally, decide};
pub use self::state::{RunState, State, UnknownState};
use crate::dag::{Dag, Options};
use crate::error::Retry;

/// How often an attempt may be cut off by a dying process before its task fails.
pub const MAX_INTERRUPTIONS: u32 = 5;

/// From this many interruptions on, an attempt runs alone.
pub const ALONE_AFTER: u32 = 2;

/// A run of a DAG: where each of its tasks stands.
#[derive(Debug)]
pub struct Run {
    dag: &'static Dag,
    state: RunState,
    tasks: Vec<Instance>,
    /// How many tasks have not ended.
    open: usize,
}

/// Where one task stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instance {
    /// `None` while it waits for its upstreams.
    pub state: Option<State>,
    /// The current try, from 1; 0 before the first.
    pub try_number: u32,
    /// How often a dying process cut an attempt of it off.
    pub interruptions: u32,
    tally: Tally,
}

impl Instance {
    /// A task that stands as it was recorded.
    pub fn recorded(state: State, try_number: u32, interruptions: u32) -> Self {
        Self { state: Some(state), try_number, interruptions, tally: Tally::default() }
    }
}

/// What happened. A task is named by its index in [`Dag::tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The run begins, or goes on after it was restored.
    Begin,
    /// A queued task got its slot.
    Started(u32),
    /// The attempt has ended.
    Ended(u32, Ending),
    /// The process died during the attempt.
    Interrupted(u32),
    /// The delay of a retry is over, or what a task waited for is there or overdue.
    Due(u32),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Well.
    Success,
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
    /// Record that a task is in a new state. One that is `queued` wants a slot.
    Set {
        /// The task.
        task: u32,
        /// Its new state.
        state: State,
        /// Its current try; 0 when it never had one.
        try_number: u32,
    },
    /// Come back with [`Event::Due`] after this delay.
    Wake {
        /// The task.
        task: u32,
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
        Self::restore(dag, [])
    }

    /// A run as it was recorded. Tasks that are not given have no state yet.
    pub fn restore(dag: &'static Dag, recorded: impl IntoIterator<Item = (u32, Instance)>) -> Self {
        let mut tasks = vec![Instance::default(); dag.tasks.len()];
        let mut open = tasks.len();
        for (task, instance) in recorded {
            let tally = tasks[task as usize].tally;
            tasks[task as usize] = Instance { tally, ..instance };
            if let Some(end) = instance.state.filter(|state| state.is_final()) {
                open -= 1;
                for &next in dag.tasks[task as usize].downstream {
                    tasks[next as usize].tally.count(end);
                }
            }
        }
        Self { dag, state: RunState::Running, tasks, open }
    }

    /// The DAG it is a run of.
    pub fn dag(&self) -> &'static Dag {
        self.dag
    }

    /// Whether and how it has ended.
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Where a task stands.
    pub fn task(&self, task: u32) -> &Instance {
        &self.tasks[task as usize]
    }

    /// Takes one event in and appends what to do about it.
    ///
    /// The cost is that of the tasks it touches, never that of the whole DAG;
    /// only [`Event::Begin`] looks at every task once.
    pub fn step(&mut self, event: Event, commands: &mut Vec<Command>) -> Result<(), Misfit> {
        match event {
            Event::Begin => {
                for &task in self.dag.order {
                    self.consider(task, commands);
                }
                self.end_if_done(commands);
            }
            Event::Started(task) => {
                self.expect(event, task, &[State::Queued])?;
                self.set(task, State::Running, commands);
            }
            Event::Ended(task, ending) => {
                self.expect(event, task, &[State::Running])?;
                match ending {
                    Ending::Success => self.finish(task, State::Success, commands),
                    Ending::Skipped => self.finish(task, State::Skipped, commands),
                    Ending::Deferred => self.set(task, State::UpForReschedule, commands),
                    Ending::Failed(retry) => self.fail(task, retry, commands),
                }
            }
            Event::Interrupted(task) => {
                self.expect(event, task, &[State::Running])?;
                let instance = &mut self.tasks[task as usize];
                instance.interruptions += 1;
                if instance.interruptions >= MAX_INTERRUPTIONS {
                    self.finish(task, State::Failed, commands);
                } else {
                    self.set(task, State::Queued, commands);
                }
            }
            Event::Due(task) => {
                self.expect(event, task, &[State::UpForRetry, State::UpForReschedule])?;
                let instance = &mut self.tasks[task as usize];
                if instance.state == Some(State::UpForRetry) {
                    instance.try_number += 1;
                }
                self.set(task, State::Queued, commands);
            }
        }
        Ok(())
    }

    fn expect(&self, event: Event, task: u32, states: &[State]) -> Result<(), Misfit> {
        let state = self.tasks.get(task as usize).and_then(|instance| instance.state);
        match state {
            Some(state) if states.contains(&state) => Ok(()),
            _ => Err(Misfit { event, state }),
        }
    }

    fn set(&mut self, task: u32, state: State, commands: &mut Vec<Command>) {
        let instance = &mut self.tasks[task as usize];
        instance.state = Some(state);
        commands.push(Command::Set { task, state, try_number: instance.try_number });
    }

    fn fail(&mut self, task: u32, retry: Retry, commands: &mut Vec<Command>) {
        let node = &self.dag.tasks[task as usize];
        let options = node.options;
        let try_number = self.tasks[task as usize].try_number;
        let spent: u32 =
            node.shares.iter().map(|&other| self.tasks[other as usize].try_number.saturating_sub(1)).sum();
        let delay = match retry {
            Retry::Never => None,
            _ if try_number + spent > options.retries => None,
            Retry::After(delay) => Some(delay),
            Retry::AsConfigured => Some(retry_delay(options, try_number)),
        };
        match delay {
            Some(after) => {
                self.set(task, State::UpForRetry, commands);
                commands.push(Command::Wake { task, after });
            }
            None => self.finish(task, State::Failed, commands),
        }
    }

    /// Ends a task, and with it whatever that decides below.
    fn finish(&mut self, task: u32, end: State, commands: &mut Vec<Command>) {
        // A list, not recursion: a failure at the top of a long chain ends all of it.
        let mut ended = vec![(task, end)];
        while let Some((task, end)) = ended.pop() {
            self.set(task, end, commands);
            self.open -= 1;
            for &next in self.dag.tasks[task as usize].downstream {
                self.tasks[next as usize].tally.count(end);
                if let Some(end) = self.ready(next, commands) {
                    // Claimed at once, so that a second upstream in the list cannot end it again.
                    self.tasks[next as usize].state = Some(end);
                    ended.push((next, end));
                }
            }
        }
        self.end_if_done(commands);
    }

    fn consider(&mut self, task: u32, commands: &mut Vec<Command>) {
        if let Some(end) = self.ready(task, commands) {
            self.finish(task, end, commands);
        }
    }

    /// Queues a task whose rule lets it run; answers with its end where the rule ends it.
    fn ready(&mut self, task: u32, commands: &mut Vec<Command>) -> Option<State> {
        let node = &self.dag.tasks[task as usize];
        let instance = &mut self.tasks[task as usize];
        if instance.state.is_some() {
            return None;
        }
        match decide(node.options.trigger_rule, instance.tally, node.upstream.len() as u32) {
            Decision::Wait => None,
            Decision::End(end) => Some(end),
            Decision::Run => {
                instance.try_number = 1;
                self.set(task, State::Queued, commands);
                None
            }
        }
    }

    fn end_if_done(&mut self, commands: &mut Vec<Command>) {
        if self.open > 0 || self.state != RunState::Running {
            return;
        }
        let leaves = self.dag.tasks.iter().zip(&self.tasks).filter(|(node, _)| node.downstream.is_empty());
        let failed = leaves
            .into_iter()
            .any(|(_, leaf)| matches!(leaf.state, Some(State::Failed | State::UpstreamFailed)));
        self.state = if failed { RunState::Failed } else { RunState::Success };
        commands.push(Command::End(self.state));
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
