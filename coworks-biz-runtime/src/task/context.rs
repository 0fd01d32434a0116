//! What a task knows of its run.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Host;
use super::attempt::Attempt;
use super::shape::variable;
use super::upstream::{self, Input};
use crate::config::Secret;
use crate::dag::Dag;
use crate::error::{Error, Result};
use crate::run::Key;
use crate::tech::Identity;
use crate::value::{self, Json, Output, RETURN_VALUE};

/// A run, as its tasks see it.
#[derive(Debug)]
pub struct DagRun {
    /// The DAG.
    pub dag_id: &'static str,
    /// The name of the run, unique in its DAG.
    pub run_id: Arc<str>,
    /// The name of the run in the world.
    pub uuid: String,
    /// The number of the run; counts up over all DAGs of an engine.
    pub number: i64,
    /// What made it: `manual` or `scheduled`.
    pub run_type: String,
    /// The moment it stands for.
    pub logical_date: DateTime<Utc>,
    /// The span of time it stands for.
    pub data_interval: DataInterval,
    /// When it began.
    pub start_date: DateTime<Utc>,
    /// What it was triggered with; JSON `null` when with nothing.
    pub conf: Json,
}

impl DagRun {
    /// The `x-amzn-trace-id` of all calls of this run.
    pub fn trace_id(&self) -> String {
        let number: String = format!("cws{:09}", self.number).bytes().map(|b| format!("{b:02x}")).collect();
        format!("Root=1-{:x}-{number}", self.start_date.timestamp())
    }

    /// The name of one call of one task: the same over its tries, new in each generation.
    pub(crate) fn call_name(&self, task_id: &str, map_index: i32, generation: u32) -> String {
        format!("{}/{task_id}.{map_index}.{generation}", self.uuid)
    }

    /// Who calls: the call of a task, made by an attempt of it or of another one.
    pub(super) fn identity(&self, task_id: &str, attempt: &Attempt) -> Identity {
        let (map_index, generation) = (attempt.map_index, attempt.generation);
        Identity {
            trace_id: self.trace_id(),
            idempotency_key: self.call_name(task_id, map_index, generation),
            run: self.uuid.clone(),
            attempt: format!("{}.{map_index}.{generation}.{}", attempt.node().task_id, attempt.try_number),
        }
    }
}

/// A span of time: from `start`, included, to `end`, excluded.
///
/// That of a scheduled run reaches from the tick before it to its own; that of
/// a manual run is empty, at its logical date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataInterval {
    /// Included.
    pub start: DateTime<Utc>,
    /// Excluded.
    pub end: DateTime<Utc>,
}

/// What a task pushes by name, until its attempt ends.
pub(super) type Pushed = Arc<Mutex<Vec<(Cow<'static, str>, Json)>>>;

/// The context of an attempt: what it is, and the ways to values by name.
///
/// ```
/// # use coworks_biz_runtime::{error::Result, task::Context};
/// async fn report(ctx: Context) -> Result<()> {
///     let answer: String = ctx.xcom_pull("simple.read").await?;
///     ctx.xcom_push("length", &answer.len()).await?;
///     tracing::info!("try {} of run {}", ctx.try_number, ctx.run_id);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Context {
    /// The DAG.
    pub dag_id: &'static str,
    /// The name of the run.
    pub run_id: Arc<str>,
    /// The task.
    pub task_id: &'static str,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
    /// The try, from 1.
    pub try_number: u32,
    /// The moment the run stands for.
    pub logical_date: DateTime<Utc>,
    /// The span of time the run stands for.
    pub data_interval: DataInterval,
    /// The run.
    pub dag_run: Arc<DagRun>,
    pub(super) dag: &'static Dag,
    pub(super) key: Key,
    /// Why the attempt failed, in a callback.
    pub(super) exception: Option<Arc<str>>,
    pub(super) inputs: Arc<[Input]>,
    /// What is pushed by name; `None` in a callback.
    pub(super) pushed: Option<Pushed>,
    pub(super) host: Arc<dyn Host>,
}

impl Context {
    /// What the run was triggered with.
    pub fn conf<T: DeserializeOwned>(&self) -> Result<T> {
        self.dag_run.conf.decode().map_err(|e| e.context("the conf of this run"))
    }

    /// The output of a task of this run, by its id.
    ///
    /// The task must have ended: order it before this one with `>>`. One that
    /// pushed nothing is an error, unless `T` takes JSON `null`, as `Option` does.
    ///
    /// In a loop, that of a task of the same loop is that of the same item, and that of its list
    /// is the item. Elsewhere the output of a task in a loop is the list of all that there are:
    /// in the order of the items, with `null` for those that pushed nothing.
    pub async fn xcom_pull<T: DeserializeOwned>(&self, task_id: &str) -> Result<T> {
        let Some(task) = self.dag.task(task_id).filter(|_| value::has_replies::<T>()) else {
            return self.xcom_pull_key(task_id, RETURN_VALUE).await;
        };
        let value = upstream::output(&*self.host, self.dag, &self.dag_run, self.key, task, true).await?;
        take(value.as_ref(), task_id, RETURN_VALUE)
    }

    /// What a task of this run pushed under `key`.
    pub async fn xcom_pull_key<T: DeserializeOwned>(&self, task_id: &str, key: &str) -> Result<T> {
        let value = match self.dag.task(task_id) {
            Some(task) => self.upstream(task, key).await?,
            None => self.host.xcom(&self.dag_run, task_id, -1, key).await?,
        };
        take(value.as_ref(), task_id, key)
    }

    pub(super) async fn upstream(&self, task: u32, key: &str) -> Result<Option<Json>> {
        upstream::xcom(&*self.host, self.dag, &self.dag_run, self.key, task, key).await
    }

    /// Why the attempt failed, in an `on_failure_callback` or `on_retry_callback`; `None` elsewhere.
    pub fn exception(&self) -> Option<&str> {
        self.exception.as_deref()
    }

    /// Pushes a value under `key`. It is stored with the output of this
    /// attempt: if the attempt fails, nothing was pushed. In a callback there is nothing to store it
    /// with, and it is an error.
    pub async fn xcom_push<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        if key == RETURN_VALUE {
            return Err(Error::fatal("`return_value` is what the task returns; push under another key"));
        }
        let Some(pushed) = &self.pushed else {
            return Err(Error::fatal("a callback pushes nothing: the attempt that it is about has ended"));
        };
        let json = Json::encode(value)?;
        let mut pushed = pushed.lock().unwrap_or_else(|e| e.into_inner());
        pushed.retain(|(earlier, _)| earlier != key);
        pushed.push((key.to_owned().into(), json));
        Ok(())
    }

    /// A secret by its name, from `COWORKS_SECRET_<NAME>` or `AIRFLOW_VAR_<NAME>`.
    pub async fn secret(&self, name: &str) -> Result<Secret> {
        self.host.secrets().get(name).map_err(|e| Error::fatal(e.to_string()))
    }

    /// A variable by its name, from `COWORKS_VAR_<NAME>` or `AIRFLOW_VAR_<NAME>`.
    pub async fn var(&self, name: &str) -> Result<String> {
        self.host.secrets().variable(name).map_err(|e| Error::fatal(e.to_string()))
    }

    /// For the code of `#[biz]`: the input at this place of the task's list.
    #[doc(hidden)]
    pub fn input<T: Output>(&self, place: usize) -> Result<T> {
        let input = self.inputs.get(place).ok_or_else(|| {
            Error::fatal(format!("`{}` has no input {place}: this is an error of coworks-biz", self.task_id))
        })?;
        take(input.value.as_ref(), input.task_id, RETURN_VALUE)
    }

    /// For the code of `#[biz]`: the same, of the type that `witness` has.
    #[doc(hidden)]
    pub fn input_as<T: Output>(&self, place: usize, _witness: Option<T>) -> Result<T> {
        self.input(place)
    }

    /// For the code of `#[biz]`: a variable of the pattern of the arm that was chosen; the input
    /// at this place is that of the branch.
    #[doc(hidden)]
    pub fn binding<T: Output>(&self, place: usize, name: &str, _witness: Option<T>) -> Result<T> {
        let variables = self.inputs.get(place).and_then(|input| input.value.as_ref());
        let variables =
            variables.ok_or_else(|| Error::fatal(format!("`{name}` is of an arm that was not chosen")))?;
        variable(variables, name)
    }
}

fn take<T: DeserializeOwned>(value: Option<&Json>, task_id: &str, key: &str) -> Result<T> {
    match value {
        Some(json) => json.decode().map_err(|e| e.context(format!("`{key}` of `{task_id}`"))),
        None => serde_json::from_str("null")
            .map_err(|_| Error::fatal(format!("`{task_id}` has pushed nothing under `{key}` in this run"))),
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("dag_id", &self.dag_id)
            .field("run_id", &self.run_id)
            .field("task_id", &self.task_id)
            .field("map_index", &self.map_index)
            .field("try_number", &self.try_number)
            .finish_non_exhaustive()
    }
}

/// A parameter of a task that comes from its context: an extractor.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither the output of a task nor an extractor",
    label = "no task has this parameter's name, and `{Self}` is not `FromContext`",
    note = "name the parameter after the task whose output it takes, or take `Context` or `Conf<T>`"
)]
pub trait FromContext: Sized {
    /// The value for this attempt. An error fails the attempt.
    fn from_context(context: &Context) -> Result<Self>;
}

impl FromContext for Context {
    fn from_context(context: &Context) -> Result<Self> {
        Ok(context.clone())
    }
}

/// Extracts what the run was triggered with.
///
/// ```
/// # use coworks_biz_runtime::{error::Result, task::Conf};
/// # #[derive(serde::Deserialize)] struct Order { customer: u32 }
/// async fn bill(Conf(order): Conf<Order>) -> Result<u32> {
///     Ok(order.customer)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf<T>(pub T);

impl<T: DeserializeOwned> FromContext for Conf<T> {
    fn from_context(context: &Context) -> Result<Self> {
        context.conf().map(Conf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_the_start_and_the_number_of_the_run() {
        let at = DateTime::from_timestamp(0x6592_0080, 0).unwrap();
        let run = DagRun {
            dag_id: "first",
            run_id: "r".into(),
            uuid: "0193".into(),
            number: 1,
            run_type: "manual".into(),
            logical_date: at,
            data_interval: DataInterval { start: at, end: at },
            start_date: at,
            conf: Json::encode(&()).unwrap(),
        };
        assert_eq!(run.trace_id(), "Root=1-65920080-637773303030303030303031");
        assert_eq!(run.call_name("x.call", -1, 0), "0193/x.call.-1.0");
    }

    #[test]
    fn what_was_not_pushed_is_null_for_those_who_take_it() {
        assert_eq!(take::<Option<u8>>(None, "a", "k").unwrap(), None);
        take::<()>(None, "a", "k").unwrap();
        let error = take::<u8>(None, "a", "k").unwrap_err();
        assert_eq!(error.to_string(), "`a` has pushed nothing under `k` in this run");
    }
}
