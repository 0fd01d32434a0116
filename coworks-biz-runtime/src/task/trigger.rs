//! Triggering another business service, and waiting for its run.

use std::time::Duration;

use super::attempt::{Attempt, Awaited, Outcome, Resume, Wait};
use super::{Biz, Context, Definition};
use crate::error::{Error, Result};
use crate::run::RunState;
use crate::value::{Json, Output, RETURN_VALUE};

/// The XCom key of the name of the run that a task has triggered; Airflow's. It is there before
/// the task has ended.
pub const TRIGGER_RUN_ID: &str = "trigger_run_id";

/// The XCom key of the number of that run.
const TRIGGER_RUN_NUMBER: &str = "trigger_run_number";

/// What a task triggers: what `trigger!` becomes.
#[derive(Debug)]
pub struct TriggerCall {
    /// The business service. A function: two may trigger each other.
    pub definition: fn() -> &'static Definition,
    /// Whether the task ends when that run does, and not before.
    pub wait_for_completion: bool,
    /// How long it waits for that; `None` for as long as it takes.
    pub timeout: Option<Duration>,
}

/// A run that was triggered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// Its name, unique in its DAG.
    pub run_id: String,
    /// Its number.
    pub number: i64,
}

/// A business service that is triggered with a `T`: with the type of its `conf`, or with anything
/// where it has none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not triggered with `{T}`",
    label = "not the type of its `conf`",
    note = "`fn {Self}(conf: T)` says what it is triggered with"
)]
pub trait TakesConf<T> {}

/// A business service that can be triggered without a conf: it has none, or a default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` needs a conf: what is it triggered with?",
    label = "give it: `conf = ..`"
)]
pub trait NeedsNoConf {}

/// The definition of a business service that is triggered with a conf.
pub fn definition_of<B: Biz>() -> &'static Definition {
    B::DEFINITION
}

/// The definition of a business service that is triggered without a conf.
pub fn definition_without_conf<B: Biz + NeedsNoConf>() -> &'static Definition {
    B::DEFINITION
}

/// What a business service is triggered with.
pub fn conf_of<B: TakesConf<T>, T: Output>(conf: T) -> Result<Json> {
    Json::encode(&conf).map_err(|e| e.context("the conf"))
}

pub(super) struct Triggering<'a> {
    pub(super) call: &'static TriggerCall,
    pub(super) conf: Option<fn(&Context) -> Result<Json>>,
    pub(super) attempt: &'a Attempt,
    pub(super) context: Context,
}

impl Triggering<'_> {
    pub(super) async fn perform(&self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let run = match self.attempt.resume {
            None => {
                let run = self.trigger().await?;
                outcome.push(TRIGGER_RUN_ID, Json::encode(&run.run_id)?);
                outcome.push(TRIGGER_RUN_NUMBER, Json::encode(&run.number)?);
                run
            }
            // Of the attempt that triggered it and was deferred.
            Some(_) => Triggered {
                run_id: self.context.xcom_pull_key(self.context.task_id, TRIGGER_RUN_ID).await?,
                number: self.context.xcom_pull_key(self.context.task_id, TRIGGER_RUN_NUMBER).await?,
            },
        };
        if self.call.wait_for_completion && !self.has_ended(&run).await? {
            let (what, until) = (Awaited::Run(run.number), self.deadline());
            tracing::info!("waits for the run `{}` of `{}`", run.run_id, self.dag_id());
            outcome.wait = Some(Wait { what, until });
            return Ok(outcome);
        }
        outcome.push(RETURN_VALUE, Json::encode(&run.run_id)?);
        Ok(outcome)
    }

    async fn trigger(&self) -> Result<Triggered> {
        let conf = self.conf.map(|make| make(&self.context)).transpose()?;
        let secrets = self.context.host.secrets();
        if let Some(path) = conf.as_ref().and_then(|conf| secrets.find_in(conf)) {
            return Err(Error::fatal(format!("the conf holds a secret at {path}, and would be stored")));
        }
        // The same over its tries: another try finds the run that an earlier one has triggered.
        let Attempt { run, map_index, generation, .. } = self.attempt;
        let key = run.call_name(self.context.task_id, *map_index, *generation);
        let triggered = self.context.host.trigger(self.dag_id(), conf, key).await?;
        tracing::info!("the run `{}` of `{}`", triggered.run_id, self.dag_id());
        Ok(triggered)
    }

    /// Whether the run has ended well. Where it has failed, so has this task: another try would
    /// find the same run.
    async fn has_ended(&self, run: &Triggered) -> Result<bool> {
        let what = || format!("the run `{}` of `{}`", run.run_id, self.dag_id());
        match self.context.host.run_state(run.number).await? {
            Some(RunState::Success) => Ok(true),
            Some(RunState::Failed) => Err(Error::fatal(format!("{} has failed", what()))),
            None => {
                Err(Error::fatal(format!("{} is not there any more, and how it ended is not known", what())))
            }
            Some(RunState::Queued | RunState::Running) => match (self.attempt.resume, self.call.timeout) {
                (Some(Resume::Overdue), Some(timeout)) => {
                    let timeout = humantime::format_duration(timeout);
                    Err(Error::msg(format!("{} has not ended within the timeout of {timeout}", what())))
                }
                _ => Ok(false),
            },
        }
    }

    fn deadline(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        let timeout = chrono::TimeDelta::from_std(self.call.timeout?).ok()?;
        self.attempt.started.checked_add_signed(timeout)
    }

    fn dag_id(&self) -> &'static str {
        (self.call.definition)().dag.dag_id
    }
}
