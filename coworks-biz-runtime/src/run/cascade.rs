//! What follows from the end of a task instance: its downstream is counted on,
//! arms and loops are let in or left out, and what ends by that ends others in turn.

use std::sync::Arc;

use super::rule::{Decision, Tally, decide_bound};
use super::{Command, Instance, Key, Run, State};
use crate::dag::{Gate, Kind};

/// What its gate says to a task instance.
enum Pass {
    /// Its trigger rule may decide.
    Open,
    /// Not yet known.
    Wait,
    /// It ends without running.
    End(State),
}

/// Who is to be looked at after an end was told.
pub(super) enum Waiting {
    /// This instance.
    One(Key),
    /// All instances of this task.
    All(u32),
}

/// How one task waits for another.
#[derive(Clone, Copy)]
enum Edge {
    /// It is its upstream.
    Upstream,
    /// It is bound to it beside its upstreams.
    Bound,
}

impl Run {
    /// Ends these task instances, and with them whatever that decides below.
    ///
    /// As in Airflow, that goes in waves: who ends by one wave is decided by all of it, and itself
    /// decides in the next one. So it does not matter in which order the ends of a wave are told.
    pub(super) fn finish(&mut self, mut wave: Vec<(Key, State)>, commands: &mut Vec<Command>) {
        let mut touched = Vec::new();
        while !wave.is_empty() {
            for (key, end) in wave.drain(..) {
                self.set(key, end, commands);
                self.open -= 1;
                // Before anything else looks at the loop: it has instances, or it has none.
                let expanded = match self.dag.tasks[key.task as usize].kind {
                    Kind::Map { .. } => self.expand(key.task),
                    _ => Vec::new(),
                };
                self.tell(key, end, |run, waiting| match waiting {
                    Waiting::One(key) => touched.push(key),
                    Waiting::All(task) => touched.extend(run.instances.keys(task)),
                });
                if expanded.is_empty() {
                    // The unmapped one of the list is that of its members.
                    touched.extend(self.dag.members(key.task).map(|member| key.beside(member)));
                }
                touched.extend(expanded.into_iter().flat_map(|task| self.instances.keys(task)));
            }
            touched.sort_unstable();
            touched.dedup();
            for key in touched.drain(..) {
                wave.extend(self.ready(key, commands).map(|end| (key, end)));
            }
        }
        self.end_if_done(commands);
    }

    /// Lets these run or end that may.
    pub(super) fn consider(&mut self, keys: impl IntoIterator<Item = Key>, commands: &mut Vec<Command>) {
        let ends = |key| self.ready(key, commands).map(|end| (key, end));
        let wave = keys.into_iter().filter_map(ends).collect();
        self.finish(wave, commands);
    }

    /// Lets all run or end that may, where the run has not ended.
    pub(super) fn consider_all(&mut self, commands: &mut Vec<Command>) {
        if !self.state.is_final() {
            let all = self.dag.order.iter().flat_map(|&task| self.instances.keys(task));
            let all: Vec<Key> = all.collect();
            self.consider(all, commands);
        }
    }

    /// Tells an end to all who wait for it, and the caller which of them are to be looked at.
    pub(super) fn tell(&mut self, from: Key, end: State, mut touch: impl FnMut(&Self, Waiting)) {
        let scopes = Arc::clone(&self.scopes);
        let downstream = self.dag.tasks[from.task as usize].downstream.iter();
        let upstream = downstream.map(|&next| (next, Edge::Upstream));
        let bound = scopes.below(from.task).iter().map(|&next| (next, Edge::Bound));
        for (next, edge) in upstream.chain(bound) {
            if let Some(waiting) = self.tally(from, end, next, edge) {
                touch(self, waiting);
            }
        }
    }

    /// Takes an end into the tally of a task that waits for it, and answers whose concern it is: of
    /// nobody where no rule asks for more of what there has been already. No rule asks how many ends
    /// there are, so that whoever waits is looked at a few times, however many it is that they wait for.
    fn tally(&mut self, from: Key, end: State, next: u32, edge: Edge) -> Option<Waiting> {
        let (node, waiting) = (&self.dag.tasks[from.task as usize], &self.dag.tasks[next as usize]);
        // In one loop, and outside of all, each waits for the one beside it.
        let one = node.map == waiting.map;
        let key = if one { from.beside(next) } else { Key::plain(next) };
        let instance = self.instances.get_mut(key)?;
        let matters = match edge {
            Edge::Upstream => instance.tally.count(end, node.role),
            Edge::Bound => instance.bound.count(end, node.role),
        };
        matters.then_some(if one { Waiting::One(key) } else { Waiting::All(next) })
    }

    /// Queues an instance whose gate, rule and past let it run; answers with its end where they end it.
    fn ready(&mut self, key: Key, commands: &mut Vec<Command>) -> Option<State> {
        let node = &self.dag.tasks[key.task as usize];
        let instance = self.instances.get(key)?;
        if instance.state.is_some() || !self.has(key) {
            return None;
        }
        let (mut tally, mut bound) = (instance.tally, instance.bound);
        if key.map_index >= 0 {
            let of_all = self.instances.get(Key::plain(key.task))?;
            (tally, bound) = (tally.with(of_all.tally), bound.with(of_all.bound));
        }
        let pass = node.gate.map_or(Pass::Open, |gate| self.pass(key, gate));
        let decision = match pass {
            Pass::Open => decide_bound(node.options.trigger_rule, node.role, tally, bound),
            Pass::Wait => Decision::Wait,
            Pass::End(end) => Decision::End(end),
        };
        match decision {
            Decision::Wait => None,
            Decision::End(end) => Some(end),
            // The past only holds back what would run.
            Decision::Run if self.waits_for_past(key.task) => None,
            Decision::Run => {
                let instance = self.instances.get_mut(key)?;
                instance.try_number = instance.tries_before + 1;
                self.set(key, State::Queued, commands);
                None
            }
        }
    }

    fn pass(&self, key: Key, gate: Gate) -> Pass {
        let (node, by) = (&self.dag.tasks[key.task as usize], &self.dag.tasks[gate.task as usize]);
        let by_key = if by.map == node.map { key.beside(gate.task) } else { Key::plain(gate.task) };
        let Some(instance) = self.instances.get(by_key) else { return Pass::Wait };
        match (instance.state, by.kind) {
            (Some(State::Success), Kind::Map { .. }) if key.map_index >= 0 => Pass::Open,
            (Some(State::Success), Kind::Branch { .. }) if instance.outcome == Some(gate.arm) => Pass::Open,
            (Some(State::Success | State::Skipped), _) => Pass::End(State::Skipped),
            (Some(State::Failed | State::UpstreamFailed | State::Removed), _) => {
                Pass::End(State::UpstreamFailed)
            }
            _ => Pass::Wait,
        }
    }

    /// Gives the tasks of a loop one instance for each item of its list, and answers
    /// which they are; none where the list has no items.
    pub(super) fn expand(&mut self, list: u32) -> Vec<u32> {
        let dag = self.dag;
        let scopes = Arc::clone(&self.scopes);
        let items = self.instances.get(Key::plain(list)).and_then(|list| list.outcome).unwrap_or(0);
        if items == 0 {
            return Vec::new();
        }
        let tasks = self.looped(list);
        let inside = |task: &&u32| dag.tasks[**task as usize].map == Some(list);
        let outside = |task: &&u32| !inside(task);
        for &task in &tasks {
            let node = &dag.tasks[task as usize];
            let own = node.upstream.iter().filter(inside).count();
            let bound = scopes.above(task).iter().filter(inside).count();
            if let Some(of_all) = self.instances.get_mut(Key::plain(task)) {
                of_all.tally.left -= own as u32;
                of_all.bound.left -= bound as u32;
            }
            let new = Instance { tally: Tally::of(own), bound: Tally::of(bound), ..Instance::default() };
            self.instances.expand(task, items as usize, &new);
            self.open += items as usize - 1;
            for &next in node.downstream.iter().filter(outside) {
                if let Some(waiting) = self.instances.get_mut(Key::plain(next)) {
                    waiting.tally.left += items - 1;
                }
            }
            for &next in scopes.below(task).iter().filter(outside) {
                if let Some(waiting) = self.instances.get_mut(Key::plain(next)) {
                    waiting.bound.left += items - 1;
                }
            }
            if !self.former.is_empty() {
                for key in self.instances.keys(task) {
                    let tries = self.former.remove(&key);
                    if let (Some(tries), Some(instance)) = (tries, self.instances.get_mut(key)) {
                        *instance = Instance { tally: new.tally, bound: new.bound, ..Instance::after(tries) };
                    }
                }
            }
        }
        tasks
    }

    /// The tasks in a loop, with those in its branches.
    pub(super) fn looped(&self, list: u32) -> Vec<u32> {
        let mut tasks: Vec<u32> = self.dag.members(list).collect();
        let mut next = 0;
        while let Some(&task) = tasks.get(next) {
            tasks.extend(self.dag.members(task));
            next += 1;
        }
        tasks
    }
}
