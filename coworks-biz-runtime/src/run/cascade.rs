//! What follows from the end of a task instance: its downstream is counted on,
//! arms and loops are let in or left out, and what ends by that ends others in turn.

use super::rule::{Decision, Tally, decide};
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

/// Which instances of a task wait for the end of one upstream.
pub(super) enum Waiting {
    /// This one.
    One(Key),
    /// All of them.
    All,
    /// No rule asks for more of what there has been already.
    Indifferent,
}

impl Run {
    /// Ends a task instance, and with it whatever that decides below.
    pub(super) fn finish(&mut self, key: Key, end: State, commands: &mut Vec<Command>) {
        // A list, not recursion: a failure at the top of a long chain ends all of it.
        let mut ended = vec![(key, end)];
        while let Some((key, end)) = ended.pop() {
            self.set(key, end, commands);
            self.open -= 1;
            let dag = self.dag;
            let node = &dag.tasks[key.task as usize];
            // Before anything else looks at the loop: it has instances, or it has none.
            let expanded = match node.kind {
                Kind::Map { .. } => self.expand(key.task),
                _ => Vec::new(),
            };
            for &next in node.downstream {
                self.count(key, end, next, &mut ended, commands);
            }
            if expanded.is_empty() {
                for member in dag.members(key.task) {
                    // The unmapped one of the list is that of its members.
                    self.touch(key.beside(member), &mut ended, commands);
                }
            }
            for task in expanded {
                for key in self.instances.keys(task) {
                    self.touch(key, &mut ended, commands);
                }
            }
        }
        self.end_if_done(commands);
    }

    pub(super) fn consider(&mut self, key: Key, commands: &mut Vec<Command>) {
        if let Some(end) = self.ready(key, commands) {
            self.finish(key, end, commands);
        }
    }

    /// Considers an instance while others are being ended; where it ends, it joins them.
    fn touch(&mut self, key: Key, ended: &mut Vec<(Key, State)>, commands: &mut Vec<Command>) {
        if let Some(end) = self.ready(key, commands) {
            // Claimed at once, so that whatever comes next in the list cannot end it again.
            if let Some(instance) = self.instances.get_mut(key) {
                instance.state = Some(end);
            }
            ended.push((key, end));
        }
    }

    /// Counts an end on a task downstream.
    fn count(
        &mut self,
        from: Key,
        end: State,
        next: u32,
        ended: &mut Vec<(Key, State)>,
        commands: &mut Vec<Command>,
    ) {
        match self.tally(from, end, next) {
            Waiting::One(key) => self.touch(key, ended, commands),
            Waiting::All => {
                for key in self.instances.keys(next) {
                    self.touch(key, ended, commands);
                }
            }
            Waiting::Indifferent => {}
        }
    }

    /// Takes an end into the tally of a task downstream, and answers whose concern it is.
    pub(super) fn tally(&mut self, from: Key, end: State, next: u32) -> Waiting {
        let (node, waiting) = (&self.dag.tasks[from.task as usize], &self.dag.tasks[next as usize]);
        // In one loop, and outside of all, each waits for the one beside it.
        let one = node.map == waiting.map;
        let key = if one { from.beside(next) } else { Key::plain(next) };
        let matters = self.instances.get_mut(key).is_some_and(|waits| waits.tally.count(end, node.role));
        match one {
            // No rule asks how many ends there are, so that whoever waits is looked at
            // a few times, however many it is that they wait for.
            _ if !matters => Waiting::Indifferent,
            true => Waiting::One(key),
            false => Waiting::All,
        }
    }

    /// Queues an instance whose gate and rule let it run; answers with its end where they end it.
    fn ready(&mut self, key: Key, commands: &mut Vec<Command>) -> Option<State> {
        let node = &self.dag.tasks[key.task as usize];
        let instance = self.instances.get(key)?;
        if instance.state.is_some() {
            return None;
        }
        let mut tally = instance.tally;
        if key.map_index >= 0 {
            let of_all = self.instances.get(Key::plain(key.task))?;
            tally = tally.with(of_all.tally);
        }
        let pass = node.gate.map_or(Pass::Open, |gate| self.pass(key, gate));
        let decision = match pass {
            Pass::Open => decide(node.options.trigger_rule, tally),
            Pass::Wait => Decision::Wait,
            Pass::End(end) => Decision::End(end),
        };
        match decision {
            Decision::Wait => None,
            Decision::End(end) => Some(end),
            Decision::Run => {
                self.instances.get_mut(key)?.try_number = 1;
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
        let items = match self.instances.get(Key::plain(list)) {
            Some(Instance { state: Some(State::Success), outcome: Some(items), .. }) => *items,
            _ => 0,
        };
        if items == 0 {
            return Vec::new();
        }
        let mut tasks: Vec<u32> = dag.members(list).collect();
        let mut next = 0;
        // With those in the branches of the loop.
        while let Some(&task) = tasks.get(next) {
            tasks.extend(dag.members(task));
            next += 1;
        }
        for &task in &tasks {
            let node = &dag.tasks[task as usize];
            let inside = |other: &&u32| dag.tasks[**other as usize].map == Some(list);
            let own = node.upstream.iter().filter(inside).count() as u32;
            if let Some(of_all) = self.instances.get_mut(Key::plain(task)) {
                of_all.tally.left -= own;
            }
            let new = Instance { tally: Tally::of(own), ..Instance::default() };
            self.instances.expand(task, items as usize, &new);
            self.open += items as usize - 1;
            for &outside in node.downstream.iter().filter(|next| !inside(next)) {
                if let Some(waiting) = self.instances.get_mut(Key::plain(outside)) {
                    waiting.tally.left += items - 1;
                }
            }
        }
        tasks
    }
}
