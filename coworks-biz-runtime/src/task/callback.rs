//! What is called once an attempt has ended: `on_failure_callback` and its like.
//!
//! A callback tells somebody, and changes nothing: the attempt it is about is committed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::function::finish;
use super::log::Log;
use super::perform::{context, panicked, span};
use super::{Attempt, Context, Definition, Host, Runner, Work};
use crate::dag::Options;
use crate::error::{Error, Result};
use crate::value::TaskReturn;

/// How long a callback may take where its task has no `execution_timeout`.
const LIMIT: Duration = Duration::from_secs(300);

/// What a task calls once an attempt of it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Callbacks {
    /// When it has failed, and is not tried again.
    pub on_failure: Option<Runner>,
    /// When it has failed, and is tried again.
    pub on_retry: Option<Runner>,
    /// When it has succeeded.
    pub on_success: Option<Runner>,
}

/// Which callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Callback {
    /// `on_failure_callback`
    Failure,
    /// `on_retry_callback`
    Retry,
    /// `on_success_callback`
    Success,
}

impl Callback {
    /// The option that names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "on_failure_callback",
            Self::Retry => "on_retry_callback",
            Self::Success => "on_success_callback",
        }
    }
}

/// How a callback ended.
#[derive(Debug, Default)]
pub struct CallbackEnd {
    /// What it has logged, its error included.
    pub log: String,
    /// Why it failed, where it did.
    pub error: Option<String>,
}

impl Definition {
    /// What a task calls then; `None` where it calls nothing.
    pub fn callback(&self, task: u32, which: Callback) -> Option<Runner> {
        let callbacks = self.callbacks.get(task as usize)?;
        match which {
            Callback::Failure => callbacks.on_failure,
            Callback::Retry => callbacks.on_retry,
            Callback::Success => callbacks.on_success,
        }
    }
}

/// Runs a callback of an attempt that has ended; `exception` is why it failed, where it did.
///
/// It always ends: with an error, a panic caught, or the `execution_timeout` of the task, which is
/// 5 minutes where it has none. Where the task calls nothing then, it ends at once.
pub async fn callback(
    host: Arc<dyn Host>,
    attempt: Attempt,
    which: Callback,
    exception: Option<String>,
) -> CallbackEnd {
    let Some(runner) = attempt.definition.callback(attempt.task, which) else {
        return CallbackEnd::default();
    };
    let secrets = Arc::clone(host.secrets());
    let log = Log::new(Arc::clone(&secrets));
    let span = span(&attempt, &log);
    let limit = limit(attempt.node().options);
    let work = async {
        let exception = exception.map(Into::into);
        let context = Context { exception, ..context(&host, &attempt, Arc::default(), None) };
        match tokio::time::timeout(limit, runner(&context)?.future).await {
            Ok(ended) => ended.map(drop),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                Err(Error::msg(format!("took longer than the {limit} that it may take")))
            }
        }
    };
    let ended = AssertUnwindSafe(work.instrument(span.clone())).catch_unwind().await;
    let ended: Result<()> = ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    let error = ended.err().map(|error| {
        let text = secrets.scrub(&error.to_string()).into_owned();
        span.in_scope(|| tracing::error!("{}: {text}", which.as_str()));
        text
    });
    CallbackEnd { log: log.take_all(), error }
}

/// How long a callback may take.
pub(super) fn limit(options: &Options) -> Duration {
    options.execution_timeout.unwrap_or(LIMIT)
}

/// A function that can be a callback.
///
/// Implemented for every `async fn` that takes a [`Context`] and returns `Result<()>`, or nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no callback",
    label = "a callback is an `async fn` that takes a `Context` and returns `Result<()>`",
    note = "write `async fn alert(ctx: Context) -> Result<()>`"
)]
pub trait CallbackFunction {
    #[doc(hidden)]
    fn work(self, context: Context) -> Work;
}

#[diagnostic::do_not_recommend]
impl<F, R> CallbackFunction for F
where
    F: FnOnce(Context) -> R,
    R: Future<Output: TaskReturn<Output = ()>> + Send + 'static,
{
    fn work(self, context: Context) -> Work {
        finish(self(context))
    }
}

/// The work of a callback.
pub fn finish_callback<F: CallbackFunction>(function: F, context: &Context) -> Work {
    function.work(context.clone())
}
