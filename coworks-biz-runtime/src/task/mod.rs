//! One attempt of one task: its inputs, its context, its log, its limits.
//!
//! It knows only a [`Host`], so that the embedded engine and any other host
//! run the very same code.

mod attempt;
mod context;
mod function;
#[cfg(feature = "s3")]
mod group;
mod log;
mod perform;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use self::attempt::{Attempt, End, Resume, Wait};
pub use self::context::{Conf, Context, DagRun, DataInterval, FromContext};
pub use self::function::{Runner, Work, finish, finish_blocking};
pub use self::log::Capture;
pub use self::perform::{LARGEST_OUTPUT, attempt};
use crate::config::Secrets;
use crate::dag::{Dag, Task};
use crate::error::Result;
use crate::tech::{Arguments, AsyncCall, Call, Client, Token};
use crate::value::{Json, Type};

/// A business service, as `#[biz]` leaves it: a type that names its [`Definition`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no business service",
    note = "write `#[biz]` on a function; `main![..]` lists such functions by name"
)]
pub trait Biz {
    /// The graph and what its tasks do.
    const DEFINITION: &'static Definition;
}

/// The graph of a business service, and what each of its tasks does.
#[derive(Debug)]
pub struct Definition {
    /// The graph.
    pub dag: &'static Dag,
    /// What the tasks do, in the order of [`Dag::tasks`].
    pub bodies: &'static [Body],
    /// The type of its `conf`; `None` when it takes any.
    pub conf: Option<Type>,
}

impl Definition {
    /// The names of the secrets that its calls are known to need.
    pub fn secrets(&self) -> impl Iterator<Item = &'static str> {
        self.calls().filter_map(|(_, call)| match call.token {
            Token::Secret(name) => Some(name),
            Token::None | Token::Literal(_) => None,
        })
    }

    /// Its calls, each once, with the task that sends it.
    pub fn calls(&self) -> impl Iterator<Item = (&'static Task, &'static Call)> {
        self.dag.tasks.iter().zip(self.bodies).filter_map(|(task, body)| match body {
            Body::Call { call, .. } => Some((task, *call)),
            Body::Group { member: Member::Submit, call, .. } => Some((task, &call.call)),
            Body::Function(_) | Body::Group { .. } => None,
        })
    }
}

/// What a task does.
#[derive(Debug)]
pub enum Body {
    /// Runs a function.
    Function(Runner),
    /// Calls a service and takes its answer.
    Call {
        /// The call.
        call: &'static Call,
        /// What it takes from values.
        arguments: Option<fn(&Context) -> Result<Arguments>>,
    },
    /// Member of the group of an asynchronous call.
    Group {
        /// Which member.
        member: Member,
        /// The call.
        call: &'static AsyncCall,
        /// What it takes from values.
        arguments: Option<fn(&Context) -> Result<Arguments>>,
        /// The index of the group's `call`.
        submit: u32,
    },
}

/// A member of the group of an asynchronous call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// Sends the call.
    Submit,
    /// Waits for its answer.
    Wait,
    /// Reads its answer.
    Read,
}

/// Everything outside an attempt.
pub trait Host: Send + Sync + 'static {
    /// An XCom of this run; `None` when nothing was pushed there.
    fn xcom<'a>(
        &'a self,
        run: &'a DagRun,
        task_id: &'a str,
        map_index: i32,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Json>>>;

    /// Takes a piece of the log of an attempt that is still under way.
    fn log(&self, attempt: &Attempt, records: String);

    /// What calls services.
    fn services(&self) -> &Client;

    /// Where secrets come from.
    fn secrets(&self) -> &Arc<Secrets>;

    /// The name of this engine in the keys of asynchronous results.
    fn engine_id(&self) -> &str;
}
