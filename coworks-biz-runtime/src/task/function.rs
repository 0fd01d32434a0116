//! From a user's function to work that can be awaited.

use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Context;
use crate::error::{Error, Result};
use crate::value::{Json, TaskReturn};

/// Decodes the inputs and calls a user's function: what the macro emits for
/// each function task.
///
/// Deliberately a plain function with one shared generic tail ([`finish`]): a
/// closure or an async block of its own for every task makes a large biz
/// several times slower to compile.
pub type Runner = fn(&Context) -> Result<Work>;

/// A user's function, called.
pub struct Work {
    pub(super) future: BoxFuture<'static, Result<Option<Json>>>,
    /// Whether dropping the future stops the work. A thread goes on.
    pub(super) stops: bool,
}

/// The work of an `async fn`.
pub fn finish<F>(future: F) -> Work
where
    F: Future<Output: TaskReturn> + Send + 'static,
{
    let future = async move { Json::output(&future.await.into_result()?) };
    Work { future: future.boxed(), stops: true }
}

/// The work of a function that is not async: on a thread that may block.
pub fn finish_blocking<R: TaskReturn>(call: impl FnOnce() -> R + Send + 'static) -> Work {
    let span = tracing::Span::current();
    let future = async move {
        let call = move || span.in_scope(|| Json::output(&call().into_result()?));
        match tokio::task::spawn_blocking(call).await {
            Ok(output) => output,
            Err(e) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(e) => Err(Error::msg(format!("the thread was given up: {e}"))),
            },
        }
    };
    Work { future: future.boxed(), stops: false }
}

/// The same as [`finish`], of a function whose output is known to be `T`.
pub fn finish_as<T, F>(future: F) -> Work
where
    F: Future<Output: TaskReturn<Output = T>> + Send + 'static,
{
    finish(future)
}

/// The same as [`finish_blocking`], of a function whose output is known to be `T`.
pub fn finish_blocking_as<T, R>(call: impl FnOnce() -> R + Send + 'static) -> Work
where
    R: TaskReturn<Output = T>,
{
    finish_blocking(call)
}
