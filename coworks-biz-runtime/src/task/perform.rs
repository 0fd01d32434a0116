//! An attempt from its start to its end, whatever the code in it does.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tracing::Instrument;

use super::attempt::{Attempt, End, Outcome};
use super::context::Input;
use super::log::Log;
use super::{Body, Context, Host};
use crate::config::Secrets;
use crate::error::{Error, Result};
use crate::run::Ending;
use crate::value::{Json, Object, RETURN_VALUE};

/// The largest output of a task, in bytes of JSON.
pub const LARGEST_OUTPUT: usize = 64 * 1024 * 1024;

/// How long records of a long attempt stay in memory before the host gets them.
const LOG_DELAY: Duration = Duration::from_secs(1);

/// Runs an attempt. It always ends: with an output, an error, a panic caught,
/// the execution timeout, or deferred until something outside is there.
pub async fn attempt(host: Arc<dyn Host>, attempt: Attempt) -> End {
    let secrets = Arc::clone(host.secrets());
    let log = Log::new(Arc::clone(&secrets));
    let node = attempt.node();
    let span = tracing::error_span!(target: "coworks_biz::task", "task", task_id = node.task_id);
    log.attach(&span);
    let side = Side::default();
    let work = perform(&host, &attempt, &side).instrument(span.clone());
    let mut work = std::pin::pin!(AssertUnwindSafe(work).catch_unwind());
    let result = loop {
        match tokio::time::timeout(LOG_DELAY, &mut work).await {
            Ok(result) => break result,
            Err(_) => {
                let records = log.take();
                if !records.is_empty() {
                    host.log(&attempt, records);
                }
            }
        }
    };
    let result = result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    let result = result.and_then(|mut outcome| {
        outcome.xcoms.append(&mut side.pushed.lock().unwrap_or_else(|e| e.into_inner()));
        outcome.xcoms.iter().try_for_each(|(key, value)| storable(&secrets, key, value))?;
        Ok(outcome)
    });
    let (ending, error, outcome) = match result {
        Ok(outcome) if outcome.wait.is_some() => (Ending::Deferred, None, outcome),
        Ok(outcome) => (Ending::Success, None, outcome),
        Err(error) => {
            let text = secrets.scrub(&error.to_string()).into_owned();
            span.in_scope(|| tracing::error!("{text}"));
            let delete = std::mem::take(&mut *side.refused.lock().unwrap_or_else(|e| e.into_inner()));
            (Ending::Failed(error.retry()), Some(text), Outcome { delete, ..Outcome::default() })
        }
    };
    let Outcome { xcoms, wait, delete } = outcome;
    End { ending, error, xcoms, wait, delete, log: log.take_all() }
}

/// What an attempt leaves beside its result.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// What was pushed by name.
    pushed: Arc<Mutex<Vec<(String, Json)>>>,
    /// Answers that were read and refused.
    pub(super) refused: Mutex<Vec<Object>>,
}

async fn perform(host: &Arc<dyn Host>, attempt: &Attempt, side: &Side) -> Result<Outcome> {
    let limit = attempt.node().options.execution_timeout;
    let context = context(host, attempt, &side.pushed).await?;
    match &attempt.definition.bodies[attempt.task as usize] {
        Body::Function(runner) => {
            let work = runner(&context)?;
            let output = within(limit, work.stops, work.future).await?;
            let mut outcome = Outcome::default();
            if let Some(output) = output {
                outcome.push(RETURN_VALUE, output);
            }
            Ok(outcome)
        }
        Body::Call { call, arguments } => {
            let arguments = arguments.map(|make| make(&context)).transpose()?.unwrap_or_default();
            let who = attempt.run.identity(context.task_id, attempt.map_index, attempt.generation);
            let answer = within(limit, true, host.services().call(call, &arguments, &who)).await?;
            let mut outcome = Outcome::default();
            outcome.push("cws_name", Json::encode(call.service.name())?);
            outcome.answer(answer)?;
            Ok(outcome)
        }
        #[cfg(feature = "s3")]
        Body::Group { member, call, arguments, submit } => {
            let (arguments, submit) = (*arguments, *submit);
            let group = super::group::Group { call, arguments, submit, attempt, context, side };
            within(limit, true, group.perform(*member)).await
        }
        #[cfg(not(feature = "s3"))]
        Body::Group { .. } => Err(Error::fatal(
            "asynchronous calls need S3, and this program was built without the feature `s3` of coworks-biz",
        )),
    }
}

/// Awaits work up to its limit. What cannot be stopped is awaited to its end
/// all the same, so that the next try does not run beside it.
async fn within<T>(limit: Option<Duration>, stops: bool, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = limit else { return work.await };
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(limit, &mut work).await {
        Ok(result) => result,
        Err(_) => {
            if !stops {
                // Whatever it ends with comes too late.
                let _ = work.await;
            }
            let limit = humantime::format_duration(limit);
            Err(Error::msg(format!("took longer than its execution_timeout of {limit}")))
        }
    }
}

/// The context, with the inputs fetched, so that functions can decode them without waiting.
async fn context(
    host: &Arc<dyn Host>,
    attempt: &Attempt,
    pushed: &Arc<Mutex<Vec<(String, Json)>>>,
) -> Result<Context> {
    let node = attempt.node();
    let run = &attempt.run;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for &upstream in node.inputs {
        let task_id = attempt.definition.dag.tasks[upstream as usize].task_id;
        let value = host.xcom(run, task_id, -1, RETURN_VALUE).await?;
        inputs.push(Input { task_id, value });
    }
    Ok(Context {
        dag_id: run.dag_id,
        run_id: Arc::clone(&run.run_id),
        task_id: node.task_id,
        map_index: attempt.map_index,
        try_number: attempt.try_number,
        logical_date: run.logical_date,
        data_interval: run.data_interval,
        dag_run: Arc::clone(run),
        inputs: inputs.into(),
        pushed: Arc::clone(pushed),
        host: Arc::clone(host),
    })
}

/// Refuses what must not be stored: a secret, or more than a database should hold.
fn storable(secrets: &Secrets, key: &str, value: &Json) -> Result<()> {
    if value.as_str().len() > LARGEST_OUTPUT {
        let size = value.as_str().len() >> 20;
        return Err(Error::fatal(format!(
            "`{key}` has {size} MiB, and a task may pass on {} MiB: store it elsewhere and pass on where",
            LARGEST_OUTPUT >> 20
        )));
    }
    match secrets.find_in(value) {
        Some(path) => Err(Error::fatal(format!("`{key}` holds a secret at {path}, and would be stored"))),
        None => Ok(()),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Error::msg(format!("panicked: {}", message.as_deref().unwrap_or("with a value that is no text")))
}
