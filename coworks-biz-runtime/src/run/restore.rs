//! A run as it was recorded, and as it stands after some of it was taken back.

use super::rule::Tally;
use super::{Instance, Instances, Key, Run, Standing, Start, State};
use crate::dag::{Dag, Kind};

impl Run {
    /// A run as it was recorded. Instances that are not given have no state yet.
    ///
    /// Of a list that was cleared, the instances that it had go on counting their tries: they are given
    /// too, without a state.
    pub fn restore(
        dag: &'static Dag,
        start: Start,
        standing: Standing,
        recorded: impl IntoIterator<Item = (Key, Instance)>,
    ) -> Self {
        let mut run = Self::new(dag, start);
        let recorded: Vec<_> = recorded.into_iter().collect();
        for (key, instance) in &recorded {
            // Whoever has had a try was let go by the run before.
            if instance.try_number > 0 {
                run.let_go(key.task);
            }
        }
        if standing.state.is_final() {
            run.state = standing.state;
        }
        run.stopped = standing.stopped;
        run.rebuild(recorded);
        run
    }

    /// Whether and how it has ended, and whether it was stopped, as it is to be recorded.
    pub fn standing(&self) -> Standing {
        Standing { state: self.state, stopped: self.stopped }
    }

    /// How many tries an instance had had when it was last cleared; also one that is gone since the list of
    /// its loop was cleared.
    pub fn tries_of(&self, key: Key) -> u32 {
        let there = self.instances.get(key).map(|instance| instance.tries_before);
        there.or_else(|| self.former.get(&key).copied()).unwrap_or(0)
    }

    /// All that is to be known of its instances to restore it.
    pub(super) fn recorded(&self) -> Vec<(Key, Instance)> {
        let all = 0..self.dag.tasks.len() as u32;
        let keys = all.flat_map(|task| self.instances.keys(task));
        let instances = keys.filter_map(|key| Some((key, *self.instances.get(key)?)));
        let former = self.former.iter().map(|(&key, &tries)| (key, Instance::after(tries)));
        instances.chain(former).collect()
    }

    /// Counts anew who waits for whom, where these instances stand so.
    pub(super) fn rebuild(&mut self, recorded: Vec<(Key, Instance)>) {
        let dag = self.dag;
        self.begin_anew();
        let is_list = |key: Key| {
            dag.tasks.get(key.task as usize).is_some_and(|task| matches!(task.kind, Kind::Map { .. }))
        };
        // The lists first: they say which instances there are.
        let (mut lists, mut others): (Vec<_>, Vec<_>) =
            recorded.into_iter().partition(|(key, _)| is_list(*key));
        lists.retain(|&(list, instance)| {
            let placed = self.place(list, instance);
            // One that has not ended has no items, whatever is recorded.
            if placed && instance.state.is_some_and(State::is_final) {
                self.expand(list.task);
            }
            placed
        });
        others.retain(|&(key, instance)| self.place(key, instance));
        for (key, Instance { state, .. }) in lists.into_iter().chain(others) {
            let Some(end) = state.filter(|state| state.is_final()) else { continue };
            self.open -= 1;
            self.tell(key, end, |_, _| {});
        }
    }

    pub(super) fn begin_anew(&mut self) {
        let scopes = &self.scopes;
        let new = |task: u32| Instance {
            tally: Tally::of(self.dag.tasks[task as usize].upstream.len()),
            bound: Tally::of(scopes.above(task).len()),
            ..Instance::default()
        };
        let plain: Vec<_> = (0..self.dag.tasks.len() as u32).map(new).collect();
        self.open = plain.len();
        self.instances = Instances::new(plain);
        self.former.clear();
    }

    /// Takes what was recorded of an instance; not of one that there cannot be.
    fn place(&mut self, key: Key, recorded: Instance) -> bool {
        let expanded = self.instances.mapped(key.task) > 0;
        if recorded.state.is_some() && self.is_to_be_mapped(key.task) {
            // Of items that are not known, nothing has come to anything yet.
            return false;
        }
        match self.instances.get_mut(key) {
            Some(instance) if expanded == (key.map_index >= 0) => {
                *instance = Instance { tally: instance.tally, bound: instance.bound, ..recorded };
                true
            }
            _ => {
                let looped = self.dag.tasks.get(key.task as usize).is_some_and(|task| task.map.is_some());
                if looped && key.map_index >= 0 && recorded.try_number > 0 {
                    self.former.insert(key, recorded.try_number);
                }
                false
            }
        }
    }
}
