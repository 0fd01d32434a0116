//! An attempt from its start to its end, whatever the code in it does.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::{Instrument, Span};

use super::attempt::{Attempt, End, Outcome, Side};
use super::context::Pushed;
use super::log::Log;
use super::trigger::Triggering;
use super::upstream::{Input, inputs};
use super::{Body, Choice, Context, Host, Items, sensor};
use crate::config::Secrets;
use crate::dag::Kind;
use crate::error::{Error, Result};
use crate::run::Ending;
use crate::value::{Json, LARGEST, RETURN_VALUE};

/// Who is that much behind its limit was not just looked at late.
const LATE: Duration = Duration::from_millis(500);

/// How long records of a long attempt stay in memory before the host gets them.
const LOG_DELAY: Duration = Duration::from_secs(1);

/// Runs an attempt. It always ends: with an output, an error, a panic caught,
/// the execution timeout, or deferred until something outside is there.
pub async fn attempt(host: Arc<dyn Host>, attempt: Attempt) -> End {
    let secrets = Arc::clone(host.secrets());
    let log = Log::new(Arc::clone(&secrets));
    let span = span(&attempt, &log);
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
        for (key, value) in &outcome.xcoms {
            // The others are names of this crate's own.
            if let Cow::Owned(key) = key
                && secrets.scrub(key) != *key
            {
                let text = "the name of what it has pushed holds a secret, and would be stored";
                return Err(Error::fatal(text));
            }
            storable(&secrets, key, value)?;
        }
        for (index, item) in outcome.items.iter().flatten().enumerate() {
            storable(&secrets, format_args!("item {index}"), item)?;
        }
        Ok(outcome)
    });
    let answered = result.as_ref().err().and_then(Error::status);
    let kept = side.kept.load(std::sync::atomic::Ordering::Relaxed);
    let (ending, error, outcome) = match result {
        Ok(outcome) => (outcome.ending(), None, outcome),
        Err(error) => {
            let text = secrets.scrub(&error.to_string()).into_owned();
            span.in_scope(|| tracing::error!("{text}"));
            let delete = std::mem::take(&mut *side.refused.lock().unwrap_or_else(|e| e.into_inner()));
            (Ending::Failed(error.retry()), Some(text), Outcome { delete, ..Outcome::default() })
        }
    };
    let Outcome { xcoms, wait, delete, items, .. } = outcome;
    End {
        ending,
        error,
        answered,
        xcoms,
        items: items.unwrap_or_default(),
        wait,
        delete,
        kept,
        log: log.take_all(),
    }
}

async fn perform(host: &Arc<dyn Host>, attempt: &Attempt, side: &Side) -> Result<Outcome> {
    let limit = attempt.node().options.execution_timeout;
    let inputs = inputs(host, attempt, attempt.task).await?;
    let context = context(host, attempt, inputs, Some(Arc::clone(&side.pushed)));
    let mut outcome = Outcome::default();
    match &attempt.definition.bodies[attempt.task as usize] {
        Body::Function(runner) => {
            let work = runner(&context)?;
            let output = match work.stops {
                true => yielding(limit, work.future).await?,
                false => {
                    let (id, threads) = ((attempt.run.number, attempt.key()), Arc::clone(host.threads()));
                    let limit = limit.filter(|_| !threads.are_many());
                    if limit.is_none() && attempt.node().options.execution_timeout.is_some() {
                        tracing::error!(
                            "has no execution_timeout for now: too many threads of others have not ended behind theirs"
                        );
                    }
                    within(limit, async move { threads.run(id, work.future).await }.boxed()).await?
                }
            };
            if let Some(output) = output {
                outcome.push(RETURN_VALUE, output);
            }
            Ok(outcome)
        }
        Body::Call { call, arguments } => {
            let arguments = arguments.map(|make| make(&context)).transpose()?.unwrap_or_default();
            if let Some(later) = Outcome::later(host.services(), &call.service) {
                return Ok(later);
            }
            let who = attempt.run.identity(context.task_id, attempt);
            let call_it = host.services().call(call, &arguments, &who, attempt.last_try);
            let answer = within(limit, call_it.boxed()).await?;
            outcome.push("cws_name", Json::encode(&call.service.name())?);
            outcome.answer(answer)?;
            Ok(outcome)
        }
        #[cfg(feature = "s3")]
        Body::Group { member, call, arguments, submit } => {
            let (arguments, submit) = (*arguments, *submit);
            let group = super::group::Group { call, arguments, submit, attempt, context, side };
            within(limit, group.perform(*member).boxed()).await
        }
        Body::Sensor { call, arguments } => {
            let arguments = arguments.map(|make| make(&context)).transpose()?.unwrap_or_default();
            let poke = sensor::poke(call, &arguments, attempt, host.services(), host.clock());
            within(limit, poke.boxed()).await
        }
        Body::Trigger { call, conf } => {
            let triggering = Triggering { call, conf: *conf, attempt, context };
            within(limit, triggering.perform().boxed()).await
        }
        Body::Branch(choose) => {
            let choice = choose(&context)?;
            let Choice { arm, .. } = choice;
            let label = match attempt.node().kind {
                Kind::Branch { arms } => arms.get(arm as usize).map(|arm| arm.label),
                _ => None,
            };
            let label = label.ok_or_else(|| {
                Error::fatal(format!(
                    "`{}` has no arm {arm}: this is an error of coworks-biz",
                    context.task_id
                ))
            })?;
            tracing::info!("chooses {label}");
            outcome.push(RETURN_VALUE, Json::encode(label)?);
            outcome.push("arm", Json::encode(&arm)?);
            outcome.push("bindings", choice.variables()?);
            outcome.chosen = Some(arm);
            Ok(outcome)
        }
        Body::Map(list) => {
            let Items(items) = list(&context)?;
            if i32::try_from(items.len()).is_err() {
                return Err(Error::fatal(format!("{} items are more than a loop can have", items.len())));
            }
            tracing::info!("{} items", items.len());
            outcome.items = Some(items);
            Ok(outcome)
        }
        Body::Join { branch } => {
            let arm = context.upstream(*branch, "arm").await?;
            let arm = arm.map(|arm| arm.decode::<usize>()).transpose()?;
            if let Some(output) = arm.and_then(|arm| context.inputs.get(arm)?.value.clone()) {
                outcome.push(RETURN_VALUE, output);
            }
            Ok(outcome)
        }
        #[cfg(not(feature = "s3"))]
        Body::Group { .. } => Err(Error::fatal(
            "asynchronous calls need S3, and this program was built without the feature `s3` of coworks-biz",
        )),
    }
}

/// Awaits work up to its limit.
///
/// The work is boxed: else every attempt would have room for the largest, and be moved with it.
async fn within<T>(limit: Option<Duration>, work: BoxFuture<'_, Result<T>>) -> Result<T> {
    let Some(limit) = limit else { return work.await };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Error::msg(format!("took longer than its execution_timeout of {limit}")))
    })
}

/// The same of an async function, which is cut off at an `await`: one that has none is warned of.
async fn yielding<T>(limit: Option<Duration>, work: BoxFuture<'_, Result<T>>) -> Result<T> {
    let begin = limit.map(|limit| (Instant::now(), limit));
    let result = within(limit, work).await;
    if let Some((begin, limit)) = begin
        && result.is_ok()
        && begin.elapsed() > limit + LATE
    {
        tracing::warn!(
            "took {:.1?}, and its execution_timeout of {} could not stop it: it does not await anything meanwhile; \
             a function that is not async has a thread of its own",
            begin.elapsed(),
            humantime::format_duration(limit)
        );
    }
    result
}

/// The span of what runs for an attempt, whose records this log takes.
pub(super) fn span(attempt: &Attempt, log: &Log) -> Span {
    let (task_id, map_index) = (attempt.node().task_id, attempt.map_index);
    let (dag_id, number) = (attempt.run.dag_id, attempt.run.number);
    let span = tracing::error_span!(target: "coworks_biz::task", "task", dag_id, number, task_id, map_index);
    log.attach(&span);
    span
}

/// The context of what runs for an attempt. The inputs are fetched before, so that functions can
/// decode them without waiting.
pub(super) fn context(
    host: &Arc<dyn Host>,
    attempt: &Attempt,
    inputs: Arc<[Input]>,
    pushed: Option<Pushed>,
) -> Context {
    let node = attempt.node();
    let run = &attempt.run;
    Context {
        dag_id: run.dag_id,
        run_id: Arc::clone(&run.run_id),
        task_id: node.task_id,
        map_index: attempt.map_index,
        try_number: attempt.try_number,
        logical_date: run.logical_date,
        data_interval: run.data_interval,
        dag_run: Arc::clone(run),
        dag: attempt.definition.dag,
        key: attempt.key(),
        exception: None,
        inputs,
        pushed,
        host: Arc::clone(host),
    }
}

/// Refuses what must not be stored: a secret, or more than a database should hold.
fn storable(secrets: &Secrets, key: impl Display, value: &Json) -> Result<()> {
    if value.as_str().len() > LARGEST {
        let size = value.as_str().len().div_ceil(1 << 20);
        return Err(Error::fatal(format!(
            "`{key}` has {size} MiB, and a task may pass on {} MiB: store it elsewhere, such as in S3, and pass on where",
            LARGEST >> 20
        )));
    }
    match secrets.find_in(value) {
        Some(path) => Err(Error::fatal(format!("`{key}` holds a secret at {path}, and would be stored"))),
        None => Ok(()),
    }
}

pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Error::msg(format!("panicked: {}", message.as_deref().unwrap_or("with a value that is no text")))
}
