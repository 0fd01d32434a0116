//! What the run before decides for the next: `depends_on_past` and `wait_for_downstream`.

use super::core::Core;
use super::live::Live;
use crate::dag::Dag;
use crate::run::{Event, Key};
use crate::store::{RunRecord, RunType, StoreError, Which};

/// Whether any task of the DAG looks at the run before.
pub(super) fn looks_back(dag: &Dag) -> bool {
    dag.depends_on_past || dag.tasks.iter().any(|task| task.options.wait_for_downstream)
}

impl Core {
    /// The run before this one: of those that nobody triggered where its DAG catches up, as in Airflow.
    pub(super) fn run_before(&self, dag: usize, run: &RunRecord) -> Result<Option<RunRecord>, StoreError> {
        let definition = self.dags[dag].definition.dag;
        if !looks_back(definition) {
            return Ok(None);
        }
        let which = Which::Before(definition.dag_id, run.logical_date, definition.catchup);
        let committed = self.writer.runs(which)?.pop();
        // Made in this very batch.
        let made = self.made.get(&dag).into_iter().flat_map(|made| made.range(..run.logical_date));
        let counts = |made: &&RunRecord| !definition.catchup || made.run_type != RunType::Manual;
        let new = made.map(|(_, made)| made).rev().find(counts);
        Ok(match (committed, new) {
            (Some(committed), Some(new)) if new.logical_date > committed.logical_date => Some(new.clone()),
            (None, Some(new)) => Some(new.clone()),
            (committed, _) => committed,
        })
    }

    /// Lets a run look at the one before it, now and whenever that comes further.
    pub(super) fn follow(&mut self, run: i64, before: &RunRecord) -> Result<(), StoreError> {
        let Some(live) = self.runs.get_mut(&run) else { return Ok(()) };
        live.follows = Some(before.number);
        self.followers.entry(before.number).or_default().push(run);
        let (dag, definition) = (live.dag, live.definition);
        let tasks = 0..definition.dag.tasks.len() as u32;
        let allowed: Vec<u32> = match self.runs.get(&before.number) {
            Some(before) => tasks.filter(|&task| before.run.past_allows(task)).collect(),
            // One that was cancelled while it waited has skipped its tasks, and never began.
            None if before.start_date.is_none() && !before.state.is_final() => Vec::new(),
            None => {
                let recorded = self.writer.tasks(before.number)?;
                let records = keyed(definition.dag, recorded);
                let before = Live::restore(definition, dag, before.clone(), false, &records);
                tasks.filter(|&task| before.run.past_allows(task)).collect()
            }
        };
        self.let_pass(run, allowed);
        Ok(())
    }

    /// A task of a run has ended: those that follow the run may go on.
    pub(super) fn tell_followers(&mut self, run: i64, task: u32) {
        let Some(followers) = self.followers.get(&run).cloned() else { return };
        let Some(live) = self.runs.get(&run) else { return };
        // What waits for the downstream of a task looks at that too; a branch and a list at their members.
        let node = &live.definition.dag.tasks[task as usize];
        let above = node.upstream.iter().copied().chain(node.gate.map(|gate| gate.task));
        let allowed: Vec<u32> = above.chain([task]).filter(|&task| live.run.past_allows(task)).collect();
        for follower in followers {
            self.passes.push((follower, allowed.clone()));
        }
    }

    /// Lets tasks pass that were waiting for the run before.
    pub(super) fn let_pass(&mut self, run: i64, tasks: Vec<u32>) {
        for task in tasks {
            if self.runs.get(&run).is_some_and(|live| live.run.waits_for_past(task)) {
                self.step(run, Event::Past(task), None);
            }
        }
    }
}

/// Task records with their keys; those of tasks that the DAG does not have are left out.
pub(super) fn keyed(
    dag: &Dag,
    records: Vec<crate::store::TaskRecord>,
) -> Vec<(Key, crate::store::TaskRecord)> {
    let index: std::collections::HashMap<_, _> =
        (0..).zip(dag.tasks).map(|(n, task)| (task.task_id, n)).collect();
    let keyed = records.into_iter().filter_map(|record| {
        let task = *index.get(&*record.task_id)?;
        Some((Key { task, map_index: record.map_index }, record))
    });
    keyed.collect()
}
