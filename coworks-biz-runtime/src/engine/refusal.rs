//! Why the engine refuses what it is asked for.

use chrono::{DateTime, Utc};

use crate::run::RunState;

/// Why a run is refused. Nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its conf is not what the DAG takes.
    #[error("the conf does not fit biz `{dag_id}`: {reason}")]
    Conf {
        /// The DAG.
        dag_id: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Secrets, variables or the directory, which its calls need, are not set.
    #[error("biz `{dag_id}` cannot run: {}", missing.join("; "))]
    Missing {
        /// The DAG.
        dag_id: &'static str,
        /// A sentence for each.
        missing: Vec<String>,
    },
    /// A run of the DAG stands for this moment already.
    #[error("biz `{dag_id}` already has a run with the logical date {date}")]
    LogicalDate {
        /// The DAG.
        dag_id: &'static str,
        /// The moment.
        date: DateTime<Utc>,
    },
    /// No run can stand for such a moment.
    #[error("a logical date is of the years 1 to 9999, and {date} is not")]
    Year {
        /// The moment.
        date: DateTime<Utc>,
    },
    /// There is no such run.
    #[error("there is no run `{run_id}` in the database")]
    NoRun {
        /// The run id.
        run_id: String,
    },
    /// Runs of several DAGs have this run id.
    #[error("run `{run_id}` is one of each of {}: say which biz", dag_ids.join(", "))]
    Ambiguous {
        /// The run id.
        run_id: String,
        /// The DAGs.
        dag_ids: Vec<String>,
    },
    /// The run is over.
    #[error("run `{run_id}` has ended already: {state}")]
    Ended {
        /// The run id.
        run_id: String,
        /// How it ended.
        state: RunState,
    },
    /// The run is under way in this engine.
    #[error("run `{run_id}` is under way already")]
    Live {
        /// The run id.
        run_id: String,
    },
    /// This program has no such DAG.
    #[error("run `{run_id}` is of biz `{dag_id}`, which this program does not have")]
    NoDag {
        /// The run id.
        run_id: String,
        /// The DAG.
        dag_id: String,
    },
    /// The DAG has changed since the run began.
    #[error(
        "biz `{dag_id}` has changed since run `{run_id}` began: {}; finish it with the program that began it, \
         or clear what has changed (`retry`), or cancel it", changes.join("; ")
    )]
    Changed {
        /// The run id.
        run_id: String,
        /// The DAG.
        dag_id: &'static str,
        /// A sentence for each.
        changes: Vec<String>,
    },
    /// This program has no DAG of this name.
    #[error("there is no biz `{dag_id}` in this program")]
    UnknownDag {
        /// The name.
        dag_id: String,
    },
    /// The key of a trigger was used before, with another conf.
    #[error("the idempotency key `{key}` has made run `{run_id}`, with another conf")]
    OtherConf {
        /// The key.
        key: String,
        /// The run.
        run_id: String,
    },
    /// The DAG or the run has no such task.
    #[error("run `{run_id}` has no task `{task}`{meant}")]
    NoTask {
        /// The run id.
        run_id: String,
        /// The task, as it was asked for.
        task: String,
        /// Perhaps what was meant.
        meant: String,
    },
    /// There is nothing to do.
    #[error("{0}")]
    Nothing(String),
    /// A backfill that cannot be.
    #[error("biz `{dag_id}` cannot be backfilled: {reason}")]
    Backfill {
        /// The DAG.
        dag_id: &'static str,
        /// Why.
        reason: String,
    },
    /// The engine takes nothing in at present.
    #[error("the engine takes nothing in at present: {0}")]
    Trouble(String),
}
