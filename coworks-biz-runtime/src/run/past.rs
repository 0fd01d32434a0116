//! What the run before decides: `depends_on_past` and `wait_for_downstream`.

use super::{Command, Event, Key, Misfit, Run, State};
use crate::dag::Dag;

/// By task: whether it waits for the run before. Empty where nothing does.
pub(super) fn held(dag: &Dag) -> Vec<bool> {
    let waits = dag.tasks.iter().map(|task| dag.depends_on_past || task.options.wait_for_downstream);
    let held: Vec<bool> = waits.collect();
    if held.contains(&true) { held } else { Vec::new() }
}

impl Run {
    /// Whether the past of the next run lets this task begin there: it has succeeded here or was skipped, all
    /// of it, and with `wait_for_downstream` so has everything directly behind it.
    pub fn past_allows(&self, task: u32) -> bool {
        let Some(node) = self.dag.tasks.get(task as usize) else { return false };
        let well = |task: u32| {
            let of = self.instances.of(task).iter();
            of.map(|instance| instance.state)
                .all(|state| matches!(state, Some(State::Success | State::Skipped)))
        };
        let mut behind = node.downstream.iter().copied().chain(self.dag.members(task));
        well(task) && (!node.options.wait_for_downstream || behind.all(well))
    }

    /// Whether a task still waits for the run before.
    pub fn waits_for_past(&self, task: u32) -> bool {
        self.held.get(task as usize).copied().unwrap_or(false)
    }

    pub(super) fn past(
        &mut self,
        event: Event,
        task: u32,
        commands: &mut Vec<Command>,
    ) -> Result<(), Misfit> {
        if task as usize >= self.dag.tasks.len() {
            return Err(Misfit { event, state: None });
        }
        self.let_go(task);
        let all: Vec<Key> = self.instances.keys(task).collect();
        self.consider(all, commands);
        Ok(())
    }

    pub(super) fn let_go(&mut self, task: u32) {
        if let Some(held) = self.held.get_mut(task as usize) {
            *held = false;
        }
    }
}
