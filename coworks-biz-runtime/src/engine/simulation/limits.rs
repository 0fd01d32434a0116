//! What may be under way at once: runs of a DAG, task instances, and calls of a service.

use std::collections::BTreeMap;

use super::ledger::{Around, Held, Ledger, must};
use crate::dag::DEFAULT_POOL;
use crate::run::{ALONE_AFTER, RunState, State};
use crate::store::{RunRecord, RunType};
use crate::task::{Body, Member};
use crate::tech::Service;

impl Ledger {
    /// Whether one more run of its DAG may be under way.
    pub(super) fn may_begin(&self, run: &RunRecord, around: &Around) -> Held {
        must!(!around.begins_nothing, "run {} begins, and nothing may", run.number);
        must!(!self.is_paused(&run.dag_id), "run {} begins while `{}` is paused", run.number, run.dag_id);
        let of_dag =
            self.runs.values().filter(|other| other.dag_id == run.dag_id && other.number != run.number);
        let of_dag: Vec<_> = of_dag.collect();
        // A run of a backfill that is over counts as any other.
        let backfill = |run: &RunRecord| {
            let of = run.backfill.filter(|_| run.run_type == RunType::Backfill);
            of.filter(|id| self.backfills.get(id).is_some_and(|of| of.completed_at.is_none()))
        };
        let active = of_dag.iter().filter(|other| other.state == RunState::Running && other.held.is_none());
        let active = active.filter(|other| backfill(other) == backfill(run)).count();
        let limit = match backfill(run) {
            Some(id) => Some(self.backfills[&id].max_active_runs),
            None => Self::dag(around, run).max_active_runs,
        };
        must!(
            limit.is_none_or(|limit| active < limit as usize),
            "run {} begins beyond max_active_runs of {limit:?}",
            run.number
        );
        Ok(())
    }

    /// What holds after every commit: the limits.
    pub(super) fn check_limits(&self, around: &Around) -> Held {
        let running: Vec<_> = self.tasks.values().filter(|task| task.state == Some(State::Running)).collect();
        if !self.cut_off.is_empty() || running.is_empty() {
            return Ok(());
        }
        must!(running.len() <= around.program.parallelism, "{} run at once", running.len());
        let alone = running.iter().any(|task| task.interruptions >= ALONE_AFTER);
        must!(!alone || running.len() == 1, "one was interrupted twice, and does not run alone");
        let mut pools: BTreeMap<&str, usize> = BTreeMap::new();
        let mut runs: BTreeMap<i64, usize> = BTreeMap::new();
        let mut tasks: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for task in running {
            let dag = Self::dag(around, &self.runs[&task.run]);
            let Some(index) = dag.task(&task.task_id) else { continue };
            let options = dag.tasks[index as usize].options;
            let count = |count: &mut usize| {
                *count += 1;
                *count
            };
            let in_pool = count(pools.entry(options.pool).or_default());
            let size = around.program.pools.get(options.pool).copied();
            must!(
                options.pool == DEFAULT_POOL || size.is_some_and(|size| in_pool <= size),
                "{in_pool} run in the pool `{}`",
                options.pool
            );
            let in_run = count(runs.entry(task.run).or_default());
            must!(
                dag.max_active_tasks.is_none_or(|limit| in_run <= limit as usize),
                "{in_run} of run {} run at once",
                task.run
            );
            let of_task = count(tasks.entry((dag.dag_id, &*task.task_id)).or_default());
            must!(
                options.max_active_tis_per_dag.is_none_or(|limit| of_task <= limit as usize),
                "{of_task} of `{}` run at once",
                task.task_id
            );
        }
        self.check_services(around)
    }

    /// No more calls of a service are under way than may be: those that run, and asynchronous ones from when
    /// they are sent until nobody waits for the answer. One that is asked for again is not counted here.
    fn check_services(&self, around: &Around) -> Held {
        let Some(concurrency) = around.program.concurrency else { return Ok(()) };
        let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
        for ((run, _, map_index), task) in &self.tasks {
            let Some(run) = self.runs.get(run).filter(|run| !run.state.is_final()) else { continue };
            // What somebody says of a call counts as a call.
            if self.marked.contains(&run.number) {
                continue;
            }
            let Some(definition) = Self::definition(around, run) else { continue };
            let Some(index) = definition.dag.task(&task.task_id) else { continue };
            let (call, under_way) = match &definition.bodies[index as usize] {
                Body::Call { call, .. } => (*call, task.state == Some(State::Running)),
                Body::Sensor { call, .. } => (&call.call, task.state == Some(State::Running)),
                Body::Group { member: Member::Submit, call, .. } => {
                    let wait = definition.dag.tasks[index as usize + 1].task_id.to_owned();
                    let wait = self.tasks.get(&(run.number, wait, *map_index)).and_then(|wait| wait.state);
                    let waits = wait.is_none_or(|wait| !wait.is_final());
                    let under_way = match task.state {
                        Some(State::Running | State::UpForRetry) => true,
                        Some(State::Success) => waits,
                        _ => false,
                    };
                    (&call.call, under_way)
                }
                _ => continue,
            };
            if let (Service::Api { api_id, .. }, true) = (call.service, under_way) {
                let count = calls.entry(api_id).or_default();
                *count += 1;
                must!(*count <= concurrency, "{count} calls of `{api_id}` are under way");
            }
        }
        Ok(())
    }
}
