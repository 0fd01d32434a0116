//! Why a run is where it is: what an operator asks first.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::show::{brief, command};
use crate::config::Config;
use crate::control;
use crate::dag::{DEFAULT_POOL, Dag, Kind};
use crate::engine::{Answer, Order};
use crate::run::{InstanceName, RunState, State};
use crate::store::{DagRecord, Reader, RunRecord, StoreError, TaskRecord, WaitsFor, owner_lives};
use crate::value::excerpt;

/// What is known of the world around the runs.
pub(super) struct World<'c> {
    config: &'c Config,
    /// What the process that serves says of itself; `None` where none does.
    serves: Option<Answer>,
    /// Whether a process has the database at all: one that executes one run does not answer.
    is_owned: bool,
    dags: Vec<DagRecord>,
    runs: HashMap<i64, String>,
}

impl<'c> World<'c> {
    pub(super) fn look(config: &'c Config, dags: Vec<DagRecord>) -> Self {
        // A process that does not answer is as good as none for what is told here.
        let serves = control::ask(&config.db, &Order::Status).ok().flatten();
        Self { config, serves, is_owned: owner_lives(&config.db), dags, runs: HashMap::new() }
    }

    /// Learns the names of the runs that these wait for.
    pub(super) fn learn(&mut self, reader: &Reader, tasks: &[TaskRecord]) -> Result<(), StoreError> {
        for task in tasks {
            if let Some(WaitsFor::Run { run }) = task.waits_for
                && let Some(record) = reader.run(run)?
            {
                self.runs.insert(run, format!("run {} of {}", record.run_id, record.dag_id));
            }
        }
        Ok(())
    }

    /// Why nothing goes on at all, where that is so.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.serves {
            Some(Answer::Status { trouble, .. }) => trouble.as_deref(),
            _ => None,
        }
    }

    /// What is told of services whose calls wait for them.
    pub(super) fn services(&self) -> &[String] {
        match &self.serves {
            Some(Answer::Status { services, .. }) => services,
            _ => &[],
        }
    }

    pub(super) fn is_served(&self) -> bool {
        self.serves.is_some()
    }

    fn command(&self, what: &str) -> String {
        command(self.config, what)
    }

    fn is_paused(&self, dag_id: &str) -> bool {
        self.dags.iter().any(|dag| dag.dag_id == dag_id && dag.paused)
    }

    /// Why a run is in its state, in a few words; empty where nothing is to be said.
    pub(super) fn why(&self, run: &RunRecord, tasks: &[TaskRecord], dag: Option<&Dag>) -> String {
        if let Some(held) = &run.held {
            let retry = self.command(&format!("retry '{}' --from TASK", run.run_id));
            let cancel = self.command(&format!("cancel '{}'", run.run_id));
            let how = format!("{retry}, or {cancel}");
            return format!("held: {held} ({how})");
        }
        let first = |state: State| tasks.iter().find(|task| task.state == Some(state));
        match run.state {
            RunState::Success => String::new(),
            RunState::Failed => match (&run.stopped, first(State::Failed)) {
                (Some(stopped), _) => stopped.replace('_', " "),
                (None, Some(task)) => {
                    let error = task.error.as_deref().unwrap_or("failed");
                    format!("{}: {}", name(task), excerpt(error.lines().next().unwrap_or_default(), 80))
                }
                (None, None) => String::new(),
            },
            RunState::Queued if self.is_paused(&run.dag_id) => {
                let unpause = self.command(&format!("unpause {}", run.dag_id));
                format!("waits until its biz is unpaused: {unpause}")
            }
            RunState::Queued if self.serves.is_none() => {
                format!("waits for a process that serves: {}", self.command("serve"))
            }
            RunState::Queued => match (run.backfill, dag.and_then(|dag| dag.max_active_runs)) {
                (Some(_), _) => "waits until another run of its backfill has ended".to_owned(),
                (None, Some(limit)) => format!("waits until fewer than {limit} of its biz are under way"),
                (None, None) => "waits until others of its biz have ended".to_owned(),
            },
            RunState::Running if self.serves.is_none() && !self.is_owned => {
                format!("waits for a process that serves: {}", self.command("serve"))
            }
            RunState::Running if self.is_paused(&run.dag_id) => {
                format!("its biz is paused: {}", self.command(&format!("unpause {}", run.dag_id)))
            }
            RunState::Running => {
                let order = [State::Running, State::UpForReschedule, State::UpForRetry, State::Queued];
                let task = order.into_iter().find_map(first);
                task.and_then(|task| self.what(run, task, dag).map(|what| format!("{}: {what}", name(task))))
                    .unwrap_or_default()
            }
        }
    }

    /// What a task instance does or waits for.
    pub(super) fn what(&self, run: &RunRecord, task: &TaskRecord, dag: Option<&Dag>) -> Option<String> {
        let at = |at: Option<DateTime<Utc>>| at.map(brief).unwrap_or_default();
        match (&task.waits_for, task.state?) {
            (_, State::Running) if run.held.is_some() => Some("was cut off".to_owned()),
            (_, State::Running) => Some(format!("runs since {}", at(task.start_date))),
            (Some(what), State::UpForReschedule) => {
                let until = task.due_at.map(|until| format!(", until {} at the latest", brief(until)));
                let what = match what {
                    WaitsFor::Run { run } => self.runs.get(run).cloned().unwrap_or_else(|| what.to_string()),
                    WaitsFor::Object(_) => what.to_string(),
                };
                Some(format!("waits for {what}{}", until.unwrap_or_default()))
            }
            (_, State::UpForReschedule) => Some(format!("asks again at {}", at(task.due_at))),
            (_, State::UpForRetry) => {
                let next = task.try_number + 1 - task.tries_before;
                let of = dag.and_then(|dag| dag.tasks.get(dag.task(&task.task_id)? as usize));
                let of = of.map(|of| format!(" of {}", of.options.retries + 1)).unwrap_or_default();
                Some(format!("tried again at {}, try {next}{of}", at(task.due_at)))
            }
            // By somebody else than itself, who gives no reason.
            (_, State::Failed) if task.error.is_none() => match &run.stopped {
                Some(why) => Some(format!("ended with its run: {}", why.replace('_', " "))),
                None => Some("marked so by an operator".to_owned()),
            },
            (_, State::Failed) => {
                let of = dag.and_then(|dag| dag.tasks.get(dag.task(&task.task_id)? as usize))?;
                let (tries, all) = (task.try_number.checked_sub(task.tries_before)?, of.options.retries + 1);
                match tries {
                    // It has not been tried, or the members of its call have shared its tries.
                    0 => None,
                    _ if all == 1 || (tries < all && !of.shares.is_empty()) => None,
                    _ if tries < all => {
                        Some(format!("try {tries} of {all}, and no other: it would be the same next time"))
                    }
                    _ => Some(format!("try {tries} of {all}, and no other")),
                }
            }
            (_, State::Queued) => {
                let of = dag.and_then(|dag| dag.tasks.get(dag.task(&task.task_id)? as usize));
                let pool = of.map_or(DEFAULT_POOL, |of| of.options.pool);
                Some(match pool {
                    // Which of them, the note above tells.
                    DEFAULT_POOL if !self.services().is_empty() && of.is_some_and(|of| calls(of.kind)) => {
                        "waits for its service, or for a slot".to_owned()
                    }
                    DEFAULT_POOL => "waits for a slot".to_owned(),
                    pool => format!("waits for a slot of pool `{pool}`"),
                })
            }
            _ => None,
        }
    }
}

/// What a task that has not been reached waits for: its upstreams that have not ended.
pub(super) fn waits_for(dag: &Dag, task_id: &str, tasks: &[TaskRecord]) -> Option<String> {
    let task = &dag.tasks[dag.task(task_id)? as usize];
    let gate = task.gate.map(|gate| gate.task);
    let above = task.upstream.iter().copied().chain(gate).map(|above| dag.tasks[above as usize].task_id);
    let ended = |task_id: &str| {
        let mut instances = tasks.iter().filter(|task| task.task_id == task_id).peekable();
        instances.peek().is_some() && instances.all(|task| task.state.is_some_and(State::is_final))
    };
    let mut open: Vec<_> = above.filter(|above| !ended(above)).collect();
    open.dedup();
    match open.len() {
        0 => None,
        1..=4 => Some(format!("waits for {}", open.join(", "))),
        n => Some(format!("waits for {} and {} others", open[..3].join(", "), n - 3)),
    }
}

fn name(task: &TaskRecord) -> InstanceName<'_> {
    InstanceName(&task.task_id, task.map_index)
}

/// Whether a task of this kind begins a call.
fn calls(kind: Kind) -> bool {
    matches!(kind, Kind::Call | Kind::Submit | Kind::Sensor)
}
