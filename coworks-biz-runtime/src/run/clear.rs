//! What an operator takes back: clearing task instances, and saying how one ends.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::{Command, Event, Instance, Key, Misfit, Run, RunState, State};
use crate::dag::Kind;

/// How an operator says that a task instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Well. A branch that has not chosen has then chosen nothing, and a list without items has none.
    Success,
    /// Badly, whatever its retries.
    Failed,
}

impl Mark {
    pub(super) fn end(self) -> State {
        match self {
            Self::Success => State::Success,
            Self::Failed => State::Failed,
        }
    }
}

impl Run {
    /// Takes back how these task instances stand: they wait for their upstreams as in a new run, and go on
    /// counting their tries. A run that had ended or was stopped goes on.
    ///
    /// Nothing else is cleared, but for what is in a loop whose list is cleared: those instances are gone
    /// until the list has ended again. What the run does not have is passed over.
    pub fn clear(&mut self, keys: &[Key], commands: &mut Vec<Command>) {
        let before = commands.len();
        let recorded = self.recorded();
        self.take_back(recorded, keys, commands);
        if commands.len() > before {
            self.go_on(commands);
        }
    }

    /// All that is below these: downstream, behind gates, and in loops.
    pub(super) fn downstream(&self, keys: &[Key]) -> Vec<Key> {
        let tasks = self.dag.tasks;
        // A loop is followed item by item as long as it is not met as a whole.
        let mut whole = vec![false; tasks.len()];
        let mut single = HashSet::new();
        let mut open: Vec<(Key, bool)> = keys.iter().map(|&key| (key, false)).collect();
        while let Some((key, is_whole)) = open.pop() {
            let Some(node) = tasks.get(key.task as usize) else { continue };
            for next in node.downstream.iter().copied().chain(self.dag.members(key.task)) {
                let beside = tasks[next as usize].map == node.map && !is_whole;
                let key = if beside { key.beside(next) } else { Key::plain(next) };
                let is_whole = !beside;
                let new = !whole[next as usize] && (is_whole || single.insert(key));
                whole[next as usize] |= is_whole;
                if new {
                    open.push((key, is_whole));
                }
            }
        }
        let mut found: Vec<Key> = (0..tasks.len() as u32)
            .filter(|&task| whole[task as usize])
            .flat_map(|task| self.instances.keys(task))
            .chain(single.into_iter().filter(|key| !whole[key.task as usize]))
            .filter(|&key| self.has(key))
            .collect();
        found.sort_unstable();
        found
    }

    /// These and all that follows them: what is below, of each member of an asynchronous call the whole call, and
    /// what is below that.
    pub fn following(&self, keys: &[Key]) -> Vec<Key> {
        let mut all = self.whole_calls(keys);
        loop {
            let mut more = all.clone();
            more.extend(self.downstream(&all));
            let more = self.whole_calls(&more);
            if more.len() == all.len() {
                return all;
            }
            all = more;
        }
    }

    /// Those that have failed, or could not run for a failure above them.
    pub fn failed(&self) -> Vec<Key> {
        let all = 0..self.dag.tasks.len() as u32;
        all.flat_map(|task| self.instances.keys(task)).filter(|&key| self.is_failed(key)).collect()
    }

    /// Those that were skipped.
    pub fn skipped(&self) -> Vec<Key> {
        let all = 0..self.dag.tasks.len() as u32;
        let is_skipped = |key: &Key| {
            self.instances.get(*key).is_some_and(|instance| instance.state == Some(State::Skipped))
        };
        all.flat_map(|task| self.instances.keys(task)).filter(is_skipped).collect()
    }

    /// These, and of each member of an asynchronous call the whole call: one is not asked again
    /// without the others.
    pub(super) fn whole_calls(&self, keys: &[Key]) -> Vec<Key> {
        let tasks = self.dag.tasks;
        let call = |task: u32| {
            let node = tasks.get(task as usize)?;
            match node.kind {
                Kind::Submit => Some(task),
                Kind::Wait | Kind::Read => node.shares.first().copied(),
                _ => None,
            }
        };
        let mut members = vec![Vec::new(); tasks.len()];
        for task in 0..tasks.len() as u32 {
            if let Some(first) = call(task) {
                members[first as usize].push(task);
            }
        }
        let mut all: BTreeSet<Key> = keys.iter().copied().collect();
        for &key in keys {
            if let Some(first) = call(key.task) {
                all.extend(members[first as usize].iter().map(|&member| key.beside(member)));
            }
        }
        all.into_iter().collect()
    }

    /// Ends a task instance as an operator says, and clears what has failed below it.
    ///
    /// As in Airflow, a run that has ended goes on only where something is cleared by that.
    pub(super) fn mark(
        &mut self,
        event: Event,
        key: Key,
        mark: Mark,
        commands: &mut Vec<Command>,
    ) -> Result<(), Misfit> {
        let end = mark.end();
        let found =
            self.instances.get(key).copied().filter(|_| self.has(key) && !self.is_to_be_mapped(key.task));
        let Some(instance) = found.filter(|instance| instance.state != Some(end)) else {
            return Err(Misfit { event, state: found.and_then(|instance| instance.state) });
        };
        let mut below = self.downstream(&[key]);
        below.push(key);
        let mut failed = self.with_setups(&below);
        failed.retain(|&other| other != key && self.is_failed(other));

        if instance.state.is_some_and(State::is_under_way) {
            commands.push(Command::Cut { key });
        }
        self.set(key, end, commands);
        let recorded = self.recorded();
        self.take_back(recorded, &failed, commands);
        if !failed.is_empty() {
            self.go_on(commands);
        } else if !self.state.is_final() {
            self.consider_all(commands);
        }
        Ok(())
    }

    /// Whether there is such an instance: a task that is expanded has no unmapped one.
    pub(super) fn has(&self, key: Key) -> bool {
        self.instances.get(key).is_some() && (key.map_index >= 0) == (self.instances.mapped(key.task) > 0)
    }

    fn is_failed(&self, key: Key) -> bool {
        let state = self.instances.get(key).and_then(|instance| instance.state);
        self.has(key) && matches!(state, Some(State::Failed | State::UpstreamFailed))
    }

    /// Whether the instance of a task stands for those that its loop will have.
    pub(super) fn is_to_be_mapped(&self, task: u32) -> bool {
        let list = self.dag.tasks.get(task as usize).and_then(|node| node.map);
        let list = list.and_then(|list| self.instances.get(Key::plain(list)));
        list.is_some_and(|list| !list.state.is_some_and(State::is_final))
    }

    /// Takes the state of these away, and counts anew who waits for whom.
    fn take_back(&mut self, mut recorded: Vec<(Key, Instance)>, keys: &[Key], commands: &mut Vec<Command>) {
        let mut cleared: HashSet<Key> = keys.iter().copied().filter(|&key| self.has(key)).collect();
        let tasks: BTreeSet<u32> = cleared.iter().map(|key| key.task).collect();
        for list in tasks {
            if matches!(self.dag.tasks[list as usize].kind, Kind::Map { .. }) {
                let inside = self.looped(list);
                cleared.extend(inside.into_iter().flat_map(|task| self.instances.keys(task)));
            }
        }
        for (key, instance) in &mut recorded {
            let Some(state) = instance.state.filter(|_| cleared.contains(key)) else { continue };
            if state.is_under_way() {
                commands.push(Command::Cut { key: *key });
            }
            commands.push(Command::Clear { key: *key });
            *instance = Instance::after(instance.try_number);
        }
        self.rebuild(recorded);
    }

    /// Goes on after something was cleared.
    fn go_on(&mut self, commands: &mut Vec<Command>) {
        if self.state.is_final() || self.stopped.is_some() {
            self.state = RunState::Running;
            self.stopped = None;
            commands.push(Command::Reopen);
        }
        self.consider_all(commands);
    }
}
