//! What an operator asks for: the same whether it comes from this process or from another one.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::core::Core;
use super::{EngineError, Refusal, Trigger};
use crate::run::{Mark, RunState};
use crate::store::Write;
use crate::value::{Json, Object};

/// What an engine is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Make a run.
    Trigger {
        /// Of this DAG.
        dag_id: String,
        /// Its conf.
        conf: Option<serde_json::Value>,
        /// The moment it stands for.
        logical_date: Option<DateTime<Utc>>,
        /// See [`Trigger::idempotency_key`].
        idempotency_key: Option<String>,
    },
    /// Start nothing of a DAG, or start again what there is.
    Pause {
        /// The DAG.
        dag_id: String,
        /// Which of the two.
        paused: bool,
    },
    /// End a run that has not ended: what runs is cut off, what has not begun does not.
    Cancel {
        /// The run.
        run: RunName,
    },
    /// Run tasks of a run again, and what comes after them.
    Retry {
        /// The run.
        run: RunName,
        /// From these tasks on: `send`, or `send[3]` for one instance; from those that have failed, where none are given.
        from: Vec<String>,
    },
    /// Say how a task has ended.
    Mark {
        /// The run.
        run: RunName,
        /// The task: `send`, or `send[3]` for one instance.
        task: String,
        /// How.
        state: Mark,
    },
    /// Run the ticks of a time that has passed.
    Backfill {
        /// The DAG.
        dag_id: String,
        /// The first moment, included.
        from: DateTime<Utc>,
        /// The last moment, included.
        to: DateTime<Utc>,
        /// Which runs that are there already are run again.
        reprocess: Reprocess,
        /// How many are under way at once.
        max_active_runs: u32,
        /// The conf of each.
        conf: Option<serde_json::Value>,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// End the backfill of a DAG: its runs that have not begun do not.
    CancelBackfill {
        /// The DAG.
        dag_id: String,
    },
    /// The answer of an asynchronous call may be there: look for it at once.
    Hint(Object),
    /// Say how the engine is.
    Status,
}

/// A run, by its id, and by its DAG where several have the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunName {
    /// The DAG.
    pub dag_id: Option<String>,
    /// The run id.
    pub run_id: String,
}

/// Which runs that are there already a backfill runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reprocess {
    /// None.
    None,
    /// Those that have failed.
    Failed,
    /// All that have ended.
    All,
}

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// There is this run, and it is in this state.
    Run {
        /// The DAG.
        dag_id: String,
        /// The run id.
        run_id: String,
        /// Where it stands.
        state: RunState,
        /// The task instances that were cleared.
        cleared: Vec<String>,
    },
    /// The DAG is paused, or is not any more.
    Paused {
        /// The DAG.
        dag_id: String,
        /// Which of the two.
        paused: bool,
        /// Whether it was so before.
        already: bool,
    },
    /// The runs of a backfill.
    Backfill {
        /// The DAG.
        dag_id: String,
        /// One for each tick.
        runs: Vec<BackfillRun>,
    },
    /// How the engine is.
    Status {
        /// Why it makes no progress, where it does not.
        trouble: Option<String>,
        /// How many attempts are under way.
        running: usize,
        /// How many runs are under way.
        runs: usize,
        /// How many answers of asynchronous calls are waited for, and what S3 was asked for them.
        waiting: Waiting,
        /// A sentence for each service whose calls wait for it.
        #[serde(default)]
        services: Vec<String>,
    },
}

/// How much is waited for, and what that has cost since the engine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Answers of asynchronous calls that are waited for.
    pub answers: usize,
    /// `HEAD` requests.
    pub heads: u64,
    /// `LIST` requests.
    pub lists: u64,
}

/// A tick of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillRun {
    /// The tick.
    pub logical_date: DateTime<Utc>,
    /// What is done with it: `new`, `again`, `skipped`.
    pub action: String,
    /// Why, where it is skipped.
    pub reason: Option<String>,
}

impl Core {
    pub(super) fn order(&mut self, order: Order) -> Result<Answer, EngineError> {
        match order {
            Order::Trigger { dag_id, conf, logical_date, idempotency_key } => {
                let dag = self.dag(&dag_id)?;
                let conf = conf.map(|conf| json(&conf)).transpose()?;
                let definition = self.dags[dag].definition;
                let handle = self.trigger(definition, Trigger { conf, logical_date, idempotency_key })?;
                let state = match self.runs.get(&handle.run.number) {
                    Some(live) => live.run.state(),
                    None => handle.ended.borrow().unwrap_or(RunState::Queued),
                };
                Ok(Answer::Run { dag_id, run_id: handle.run.run_id.to_string(), state, cleared: Vec::new() })
            }
            Order::Pause { dag_id, paused } => self.pause(dag_id, paused),
            Order::Backfill { dag_id, from, to, reprocess, max_active_runs, conf, dry_run } => {
                let conf = conf.map(|conf| json(&conf)).transpose()?;
                let wanted = super::backfill::Wanted { from, to, reprocess, max_active_runs, conf, dry_run };
                self.backfill(dag_id, wanted)
            }
            Order::CancelBackfill { dag_id } => self.cancel_backfill(dag_id),
            Order::Hint(object) => {
                self.hint(object);
                Ok(self.status())
            }
            Order::Status => Ok(self.status()),
            Order::Cancel { run } => self.cancel(run),
            Order::Retry { run, from } => self.retry(run, &from),
            Order::Mark { run, task, state } => self.mark(run, &task, state),
        }
    }

    pub(super) fn dag(&self, dag_id: &str) -> Result<usize, Refusal> {
        self.dags.place(dag_id).ok_or_else(|| Refusal::UnknownDag { dag_id: dag_id.to_owned() })
    }

    #[cfg(feature = "s3")]
    fn hint(&self, object: Object) {
        self.hands.look(super::waiter::Wanted::Hint(object));
    }

    /// Without S3 nobody waits for it.
    #[cfg(not(feature = "s3"))]
    fn hint(&self, _: Object) {}

    fn pause(&mut self, dag_id: String, paused: bool) -> Result<Answer, EngineError> {
        let dag = self.dag(&dag_id)?;
        let record = &mut self.dags[dag].record;
        let already = std::mem::replace(&mut record.paused, paused) == paused;
        if !already {
            self.writes.push(Write::Dag(record.clone()));
            self.slots.pause(dag, paused);
            self.stirred.insert(dag);
            self.look(dag, self.now());
            let what =
                if paused { "paused: what runs comes to its end, nothing new starts" } else { "goes on" };
            tracing::info!(target: "coworks_biz::engine", dag_id = %dag_id, "{what}");
        }
        Ok(Answer::Paused { dag_id, paused, already })
    }
}

fn json(value: &serde_json::Value) -> Result<Json, EngineError> {
    Json::encode(value).map_err(|e| Refusal::Nothing(e.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_written_as_the_guide_says() {
        let order = serde_json::from_str(r#"{"order": "hint", "bucket": "b", "key": "k"}"#).unwrap();
        let Order::Hint(object) = order else { panic!("{order:?}") };
        assert_eq!(object.to_string(), "s3://b/k");
    }
}
