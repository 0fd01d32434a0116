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
    /// How many of its runs are under way at once; `None` leaves it to the engine.
    pub max_active_runs: Option<u32>,
    /// How many tasks of one run are under way at once; `None` where only pools and slots limit them.
    pub max_active_tasks: Option<u32>,
    /// How long a run may take before it fails.
    pub dagrun_timeout: Option<Duration>,
    /// Whether a task waits for the same task of the run before.
    pub depends_on_past: bool,
    /// Words to find it by.
    pub tags: &'static [&'static str],
    /// Who answers for it.
    pub owner: &'static str,
    /// Its tasks, in the order they are written.
    pub tasks: &'static [Task],
    /// Every index of `tasks` once, each after all its upstreams, its gate and its inputs.
    pub order: &'static [u32],
    /// What is written on edges: from, to, and the text.
    pub labels: &'static [(u32, u32, &'static str)],
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
    /// What lets it run apart from its trigger rule; `None` outside arms and loops.
    pub gate: Option<Gate>,
    /// The list of the loop it is in: it has an instance for each item.
    pub map: Option<u32>,
    /// What it is for the resources of others.
    pub role: Role,
    /// How it is run.
    pub options: &'static Options,
    /// The line it is written on.
    pub line: u32,
}

/// What lets a task inside an arm or a loop run at all, apart from its trigger rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// The branch, or the list of the loop. Its `map` is that of the task, or `None` where it
    /// is the list of the task's own loop.
    pub task: u32,
    /// The arm of the branch; 0 for a loop.
    pub arm: u32,
}

/// One way of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arm {
    /// The pattern or condition as it is written.
    pub label: &'static str,
    /// The tasks whose gate is this arm.
    pub members: &'static [u32],
}

/// What a task is for the resources of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing special.
    Work,
    /// It sets something up.
    Setup,
    /// It takes down what setups have set up; its failure does not fail the run.
    Teardown,
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
    /// Chooses one of its arms, once: `match`, `if`.
    Branch {
        /// Its arms, in the order they are written.
        arms: &'static [Arm],
    },
    /// Evaluates the list of a loop, once: `for`.
    Map {
        /// The tasks whose gate it is; each gets one instance for every item.
        members: &'static [u32],
    },
    /// Hands on the output of the arm that was chosen. Its inputs are one for each arm.
    Join,
    /// Calls a technical microservice until it succeeds.
    Sensor,
    /// Triggers another business service, and may wait for its run.
    Trigger,
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
    /// The pool whose slots its attempts take.
    pub pool: &'static str,
    /// The higher goes first where slots are short.
    pub priority_weight: i32,
    /// How many of its instances are under way at once, over all runs.
    pub max_active_tis_per_dag: Option<u32>,
    /// Whether it waits for the same task of the run before, and for what directly follows that one.
    pub wait_for_downstream: bool,
    /// Who is told by e-mail.
    pub email: &'static [&'static str],
    /// Whether they are told of a failure.
    pub email_on_failure: bool,
    /// Whether they are told of a retry.
    pub email_on_retry: bool,
}

/// The pool of a task that names none.
pub const DEFAULT_POOL: &str = "default_pool";

impl Options {
    /// Whether somebody is told of some end by e-mail.
    pub fn wants_mail(&self) -> bool {
        !self.email.is_empty() && (self.email_on_failure || self.email_on_retry)
    }

    /// Airflow's defaults.
    pub const DEFAULT: Self = Self {
        retries: 0,
        retry_delay: Duration::from_secs(300),
        retry_exponential_backoff: false,
        max_retry_delay: None,
        execution_timeout: None,
        trigger_rule: TriggerRule::AllSuccess,
        pool: DEFAULT_POOL,
        priority_weight: 1,
        max_active_tis_per_dag: None,
        wait_for_downstream: false,
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
    /// All have ended, and of those that are setups at least one has succeeded.
    AllDoneSetupSuccess,
    /// At once, whatever its upstreams do.
    Always,
}

impl Task {
    /// A function without neighbours: what a task written by hand begins with.
    pub const FUNCTION: Self = Self {
        task_id: "",
        kind: Kind::Function,
        upstream: &[],
        downstream: &[],
        inputs: &[],
        shares: &[],
        output: "",
        gate: None,
        map: None,
        role: Role::Work,
        options: &Options::DEFAULT,
        line: 1,
    };
}

impl Dag {
    /// No tasks, no schedule: what a DAG written by hand begins with.
    pub const EMPTY: Self = Self {
        dag_id: "",
        description: "",
        source: Source { file: "", line: 1 },
        schedule: None,
        timezone: "UTC",
        start_date: None,
        end_date: None,
        catchup: false,
        max_active_runs: None,
        max_active_tasks: None,
        dagrun_timeout: None,
        depends_on_past: false,
        tags: &[],
        owner: "",
        tasks: &[],
        order: &[],
        labels: &[],
    };

    /// The index of the task with this id.
    pub fn task(&self, task_id: &str) -> Option<u32> {
        self.tasks.iter().position(|task| task.task_id == task_id).map(|index| index as u32)
    }

    /// The tasks whose gate is this one: the members of a branch or of a loop.
    pub fn members(&self, task: u32) -> impl Iterator<Item = u32> + use<> {
        let (arms, members): (&[Arm], &[u32]) = match self.tasks[task as usize].kind {
            Kind::Branch { arms } => (arms, &[]),
            Kind::Map { members } => (&[], members),
            _ => (&[], &[]),
        };
        arms.iter().flat_map(|arm| arm.members).chain(members).copied()
    }

    /// A fingerprint of the structure: ids, edges, inputs, output types, and the
    /// branches and loops around them.
    ///
    /// A run remembers it, so that a binary whose graph has changed since
    /// never goes on with that run by guesswork.
    pub fn version(&self) -> String {
        let mut hash = Sha256::new();
        let id = |task: u32| self.tasks[task as usize].task_id;
        for task in self.tasks {
            hash.update(format!("{}\n{}\n{}\n", task.task_id, task.kind.word(), task.output));
            for (mark, list) in [("<", task.upstream), ("=", task.inputs)] {
                for &other in list {
                    hash.update(format!("{mark}{}\n", id(other)));
                }
            }
            if let Some(Gate { task, arm }) = task.gate {
                hash.update(format!("?{} {arm}\n", id(task)));
            }
            if let Some(list) = task.map {
                hash.update(format!("*{}\n", id(list)));
            }
            if task.role != Role::Work {
                hash.update(format!("!{:?}\n", task.role));
            }
            if let Kind::Branch { arms } = task.kind {
                for arm in arms {
                    hash.update(format!("|{}\n", arm.label));
                }
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Function => "Function",
            Self::Call => "Call",
            Self::Submit => "Submit",
            Self::Wait => "Wait",
            Self::Read => "Read",
            Self::Branch { .. } => "Branch",
            Self::Map { .. } => "Map",
            Self::Join => "Join",
            Self::Sensor => "Sensor",
            Self::Trigger => "Trigger",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_all_that_decides_what_runs() {
        const ARMS: [Arm; 2] = [Arm { label: "true", members: &[1] }, Arm { label: "false", members: &[] }];
        let gated = |arm| Task { task_id: "b", gate: Some(Gate { task: 0, arm }), ..Task::FUNCTION };
        let dag = |arms, b| {
            let branch = Task { task_id: "a", kind: Kind::Branch { arms }, ..Task::FUNCTION };
            Dag { tasks: Vec::leak(vec![branch, b]), ..Dag::EMPTY }.version()
        };
        let versions = [
            dag(&ARMS, gated(0)),
            dag(&ARMS, gated(1)),
            dag(&ARMS[..1], gated(0)),
            dag(&ARMS, Task { map: Some(0), ..gated(0) }),
            dag(&ARMS, Task { role: Role::Teardown, ..gated(0) }),
            dag(&ARMS, Task { gate: None, ..gated(0) }),
        ];
        let different: std::collections::HashSet<_> = versions.iter().collect();
        assert_eq!(different.len(), versions.len());
        assert_eq!(dag(&ARMS, gated(0)), versions[0]);
    }
}
