//! A run as it was recorded.

use super::{Instance, Key, Run};
use crate::dag::{Dag, Kind};

impl Run {
    /// A run as it was recorded. Instances that are not given have no state yet.
    pub fn restore(dag: &'static Dag, recorded: impl IntoIterator<Item = (Key, Instance)>) -> Self {
        let mut run = Self::new(dag);
        let is_list = |key: Key| {
            dag.tasks.get(key.task as usize).is_some_and(|task| matches!(task.kind, Kind::Map { .. }))
        };
        // The lists first: they say which instances there are.
        let (mut lists, mut others): (Vec<_>, Vec<_>) =
            recorded.into_iter().partition(|(key, _)| is_list(*key));
        lists.retain(|&(list, instance)| {
            let placed = run.place(list, instance);
            run.expand(list.task);
            placed
        });
        others.retain(|&(key, instance)| run.place(key, instance));
        for (key, Instance { state, .. }) in lists.into_iter().chain(others) {
            let Some(end) = state.filter(|state| state.is_final()) else { continue };
            run.open -= 1;
            let node = &dag.tasks[key.task as usize];
            for &next in node.downstream {
                run.tally(key, end, next);
            }
        }
        run
    }

    /// Takes what was recorded of an instance; not of one that there cannot be.
    fn place(&mut self, key: Key, recorded: Instance) -> bool {
        let expanded = self.instances.mapped(key.task) > 0;
        match self.instances.get_mut(key) {
            Some(instance) if expanded == (key.map_index >= 0) => {
                *instance = Instance { tally: instance.tally, ..recorded };
                true
            }
            _ => false,
        }
    }
}
