//! What ties tasks to setups further above, and teardowns to the work between.
//!
//! As in Airflow: a task that stands between a setup and its teardown runs only after the setup has
//! succeeded, whatever its own trigger rule says; a teardown waits for all that stands between.

use super::{Key, Run};
use crate::dag::{Dag, Role, TriggerRule};

/// The setups of a DAG, and who is bound to whom beside the edges. Empty where there are no setups.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    scopes: Vec<Scope>,
    /// By task: who waits for its end although it is no upstream of theirs.
    below: Vec<Vec<u32>>,
    /// The same the other way round.
    above: Vec<Vec<u32>>,
}

/// A setup, the teardowns that come directly behind it, and what is in between.
#[derive(Debug)]
struct Scope {
    setup: u32,
    teardowns: Vec<u32>,
    /// By task: whether it needs what is set up here.
    within: Vec<bool>,
}

impl Scopes {
    pub(super) fn new(dag: &Dag) -> Self {
        let role = |task: u32| dag.tasks[task as usize].role;
        let all = 0..dag.tasks.len() as u32;
        let mut this = Self::default();
        for setup in all.clone().filter(|&task| role(task) == Role::Setup) {
            let direct = dag.tasks[setup as usize].downstream;
            let teardowns: Vec<u32> = direct.iter().copied().filter(|&t| role(t) == Role::Teardown).collect();
            let mut within = reached(dag, &[setup], below);
            if !teardowns.is_empty() {
                let needed = reached(dag, &teardowns, above);
                within.iter_mut().zip(needed).for_each(|(within, needed)| *within &= needed);
            }
            this.scopes.push(Scope { setup, teardowns, within });
        }
        if this.scopes.is_empty() {
            return this;
        }
        this.below.resize(dag.tasks.len(), Vec::new());
        this.above.resize(dag.tasks.len(), Vec::new());
        for task in all.clone() {
            let node = &dag.tasks[task as usize];
            // Who waits for an answer, or reads it, does so where it was asked for: the call is bound itself.
            let asks = node.shares.is_empty();
            if node.options.trigger_rule == TriggerRule::Always || !asks {
                continue;
            }
            let mut bound: Vec<u32> = match node.role {
                Role::Teardown => {
                    let own = || this.scopes.iter().filter(|scope| scope.teardowns.contains(&task));
                    let needed = reached(dag, &[task], above);
                    let between = |other: usize| needed[other] && own().any(|scope| scope.within[other]);
                    all.clone().filter(|&other| between(other as usize)).collect()
                }
                Role::Work | Role::Setup => {
                    let needed = this.scopes.iter().filter(|scope| scope.within[task as usize]);
                    needed.map(|scope| scope.setup).collect()
                }
            };
            bound.retain(|other| !node.upstream.contains(other));
            for &other in &bound {
                this.below[other as usize].push(task);
            }
            this.above[task as usize] = bound;
        }
        this
    }

    /// Who is bound to the end of this task beside its downstream.
    pub(super) fn below(&self, task: u32) -> &[u32] {
        self.below.get(task as usize).map_or(&[], Vec::as_slice)
    }

    /// To whose ends this task is bound beside its upstreams.
    pub(super) fn above(&self, task: u32) -> &[u32] {
        self.above.get(task as usize).map_or(&[], Vec::as_slice)
    }
}

/// By task: whether one of these is above it, or below, as `next` has it; gates are edges here.
fn reached(dag: &Dag, from: &[u32], next: fn(&Dag, u32, &mut Vec<u32>)) -> Vec<bool> {
    let mut reached = vec![false; dag.tasks.len()];
    let mut open = Vec::new();
    from.iter().for_each(|&task| next(dag, task, &mut open));
    while let Some(task) = open.pop() {
        if !std::mem::replace(&mut reached[task as usize], true) {
            next(dag, task, &mut open);
        }
    }
    reached
}

fn below(dag: &Dag, task: u32, to: &mut Vec<u32>) {
    to.extend(dag.tasks[task as usize].downstream);
    to.extend(dag.members(task));
}

fn above(dag: &Dag, task: u32, to: &mut Vec<u32>) {
    let node = &dag.tasks[task as usize];
    to.extend(node.upstream);
    to.extend(node.gate.map(|gate| gate.task));
}

impl Run {
    /// These, and for each task that needs a setup the setup with its teardowns; for a setup its
    /// teardowns. Whoever does work again needs what it works on again, and clears them together.
    pub fn with_setups(&self, keys: &[Key]) -> Vec<Key> {
        let tasks = self.dag.tasks;
        let mut all = keys.to_vec();
        for &key in keys {
            let node = &tasks[key.task as usize];
            for scope in &self.scopes.scopes {
                let setup = match node.role {
                    Role::Work if scope.within[key.task as usize] => Some(scope.setup),
                    Role::Setup if scope.setup == key.task => None,
                    _ => continue,
                };
                for &task in setup.iter().chain(&scope.teardowns) {
                    match tasks[task as usize].map == node.map {
                        true => all.push(key.beside(task)),
                        false => all.extend(self.instances.keys(task)),
                    }
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}
