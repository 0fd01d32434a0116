//! What the macro emits: the static description of a DAG. Plain data.
//!
//! Nothing here is built at run time: the topological order and the adjacency
//! of a [`Dag`] are literals, computed and checked by the compiler.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A business service as a graph of tasks, with its schedule and its defaults.
#[derive(Debug)]
pub struct Dag {
    /// The name it is triggered and listed by.
    pub dag_id: &'static str,
    /// The doc comment of the function; empty when it has none.
    pub description: &'static str,
    /// Where it is written.
    pub source: Source,
    /// When it runs by itself; `None` when it is only triggered.
    pub schedule: Option<Schedule>,
    /// The IANA time zone the schedule is read in.
    pub timezone: &'static str,
    /// The first moment a scheduled run may have, in seconds since the epoch (UTC).
    pub start_date: Option<i64>,
    /// The last moment a scheduled run may have, in seconds since the epoch (UTC).
    pub end_date: Option<i64>,
    /// Whether the ticks missed since `start_date` are run.
    pub catchup: bool,
    /// Words to find it by.
    pub tags: &'static [&'static str],
    /// Who answers for it.
    pub owner: &'static str,
    /// Its tasks, in the order they are written.
    pub tasks: &'static [Task],
    /// Every index of `tasks` once, each after all its upstreams.
    pub order: &'static [u32],
}

/// A place in the user's source.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The file, as the compiler names it.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
}

/// When a DAG runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// At the times of this cron expression (5 or 6 fields), in the time zone of the DAG.
    Cron(&'static str),
    /// Every so often, counted from `start_date`, or from the epoch.
    Every(Duration),
    /// Once.
    Once,
    /// Again as soon as the last run has ended.
    Continuous,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(expression) => f.write_str(expression),
            Self::Every(interval) => write!(f, "every {}", humantime::format_duration(*interval)),
            Self::Once => f.write_str("@once"),
            Self::Continuous => f.write_str("@continuous"),
        }
    }
}

/// A node of the graph.
#[derive(Debug)]
pub struct Task {
    /// Its name, unique in the DAG; members of a group are `group.member`.
    pub task_id: &'static str,
    /// What it does.
    pub kind: Kind,
    /// The tasks it waits for, as indexes of [`Dag::tasks`].
    pub upstream: &'static [u32],
    /// The tasks that wait for it.
    pub downstream: &'static [u32],
    /// The upstreams whose output it takes, in the order it takes them.
    pub inputs: &'static [u32],
    /// The tasks whose tries count against its own `retries`: the earlier members of
    /// an asynchronous call, which is one call that is tried so often, not three.
    pub shares: &'static [u32],
    /// The type of its output as it is written; empty when it has none.
    pub output: &'static str,
    /// How it is run.
    pub options: &'static Options,
    /// The line it is written on.
    pub line: u32,
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs a function of the user's.
    Function,
    /// Calls a technical microservice and takes its answer.
    Call,
    /// Calls a technical microservice that will store its answer.
    Submit,
    /// Waits for a stored answer.
    Wait,
    /// Reads a stored answer.
    Read,
}

/// How a task is run; the options of `#[task]` and `#[biz]`, with Airflow's names.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// The delay before a retry.
    pub retry_delay: Duration,
    /// Whether that delay doubles with every try.
    pub retry_exponential_backoff: bool,
    /// The ceiling of the doubled delay.
    pub max_retry_delay: Option<Duration>,
    /// How long one attempt may take.
    pub execution_timeout: Option<Duration>,
    /// Which ends of its upstreams let it run.
    pub trigger_rule: TriggerRule,
    /// Who is told by e-mail.
    pub email: &'static [&'static str],
    /// Whether they are told of a failure.
    pub email_on_failure: bool,
    /// Whether they are told of a retry.
    pub email_on_retry: bool,
}

impl Options {
    /// Airflow's defaults.
    pub const DEFAULT: Self = Self {
        retries: 0,
        retry_delay: Duration::from_secs(300),
        retry_exponential_backoff: false,
        max_retry_delay: None,
        execution_timeout: None,
        trigger_rule: TriggerRule::AllSuccess,
        email: &[],
        email_on_failure: true,
        email_on_retry: true,
    };
}

/// Which ends of its upstreams let a task run. Airflow's rules, with Airflow's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerRule {
    /// All have succeeded.
    AllSuccess,
    /// All have failed, or could not run for a failure above them.
    AllFailed,
    /// All have ended, however.
    AllDone,
    /// All have ended, none was skipped, and at least one has succeeded.
    AllDoneMinOneSuccess,
    /// All were skipped.
    AllSkipped,
    /// At least one has succeeded; does not wait for the others.
    OneSuccess,
    /// At least one has failed; does not wait for the others.
    OneFailed,
    /// At least one has succeeded or failed; does not wait for the others.
    OneDone,
    /// All have ended, and none has failed.
    NoneFailed,
    /// All have ended, none has failed, and at least one has succeeded.
    NoneFailedMinOneSuccess,
    /// All have ended, and none was skipped.
    NoneSkipped,
    /// At once, whatever its upstreams do.
    Always,
}

impl Dag {
    /// The index of the task with this id.
    pub fn task(&self, task_id: &str) -> Option<u32> {
        self.tasks.iter().position(|task| task.task_id == task_id).map(|index| index as u32)
    }

    /// A fingerprint of the structure: ids, edges, inputs and output types.
    ///
    /// A run remembers it, so that a binary whose graph has changed since
    /// never goes on with that run by guesswork.
    pub fn version(&self) -> String {
        let mut hash = Sha256::new();
        for task in self.tasks {
            hash.update(format!("{}\n{:?}\n{}\n", task.task_id, task.kind, task.output));
            for (mark, list) in [("<", task.upstream), ("=", task.inputs)] {
                for &other in list {
                    hash.update(format!("{mark}{}\n", self.tasks[other as usize].task_id));
                }
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
