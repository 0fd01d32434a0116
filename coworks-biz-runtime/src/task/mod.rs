//! One attempt of one task: its inputs, its context, its log, its limits.
//!
//! It knows only a [`Host`], so that the embedded engine and any other host
//! run the very same code.

mod attempt;
mod callback;
mod context;
mod function;
#[cfg(feature = "s3")]
mod group;
mod log;
mod needs;
mod output;
mod perform;
mod sensor;
mod shape;
#[cfg(test)]
mod tests;
mod thread;
mod trigger;
mod upstream;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use self::attempt::{Attempt, Awaited, End, Resume, Wait};
pub use self::callback::{Callback, CallbackEnd, CallbackFunction, Callbacks, callback, finish_callback};
pub use self::context::{Conf, Context, DagRun, DataInterval, FromContext};
pub use self::function::{Runner, Work, finish, finish_as, finish_blocking, finish_blocking_as};
pub use self::log::{Capture, log_line};
pub use self::needs::Missing;
pub use self::perform::attempt;
pub(crate) use self::perform::panicked;
pub use self::shape::{
    Callee, Choice, Items, Takes, item_of, items, list_of, maybe_of, output_of, takes, value, value_of,
};
pub use self::thread::Threads;
pub use self::trigger::{
    NeedsNoConf, TRIGGER_RUN_ID, TakesConf, TriggerCall, Triggered, conf_of, definition_of,
    definition_without_conf,
};
use crate::clock::Clock;
use crate::config::Secrets;
use crate::dag::Dag;
use crate::error::Result;
use crate::run::RunState;
use crate::tech::{Arguments, AsyncCall, Call, Client, SensorCall};
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
    /// What is called once an attempt has ended, in the order of [`Dag::tasks`]; empty where no task
    /// has any.
    pub callbacks: &'static [Callbacks],
    /// The type of its `conf`; `None` when it takes any.
    pub conf: Option<Type>,
    /// What a run gets that is triggered without a conf; `None` where it needs one.
    pub default_conf: Option<fn() -> Result<Json>>,
    /// What the arguments of its calls name; without them it cannot run.
    pub required: Names,
    /// What its functions name; they may do without.
    pub asked: Names,
}

impl Definition {
    /// No tasks.
    pub const EMPTY: Self = Self {
        dag: &Dag::EMPTY,
        bodies: &[],
        callbacks: &[],
        conf: None,
        default_conf: None,
        required: Names::NONE,
        asked: Names::NONE,
    };
}

/// The names that `secret("..")` and `var("..")` have as literals in a biz.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Of secrets.
    pub secrets: &'static [&'static str],
    /// Of variables.
    pub variables: &'static [&'static str],
}

impl Names {
    /// None.
    pub const NONE: Self = Self { secrets: &[], variables: &[] };
}

/// What a biz can be triggered with by its schedule, which brings nothing along.
#[diagnostic::on_unimplemented(
    message = "a scheduled run brings no conf, so `{Self}` must be `Default`",
    label = "not `Default`",
    note = "add `#[derive(Default)]` to `{Self}`, or take `Option<{Self}>`"
)]
pub trait ScheduledConf: Default + serde::Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Default + serde::Serialize> ScheduledConf for T {}

/// The conf of a run that is triggered without one.
pub fn default_conf<T: ScheduledConf>() -> Result<Json> {
    Json::encode(&T::default())
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
    /// Calls a service until it succeeds.
    Sensor {
        /// The call.
        call: &'static SensorCall,
        /// What it takes from values.
        arguments: Option<fn(&Context) -> Result<Arguments>>,
    },
    /// Triggers another business service, and may wait for its run.
    Trigger {
        /// What is triggered, and how it is waited for.
        call: &'static TriggerCall,
        /// What it is triggered with; `None` where with nothing.
        conf: Option<fn(&Context) -> Result<Json>>,
    },
    /// Chooses an arm.
    Branch(fn(&Context) -> Result<Choice>),
    /// Evaluates the list of a loop.
    Map(fn(&Context) -> Result<Items>),
    /// Hands on the output of the arm that was chosen.
    Join {
        /// The index of the branch.
        branch: u32,
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

    /// What the instances of a mapped task have pushed under `key`, in the order of their map
    /// indexes: `None` for each that has pushed nothing. `list` is the task whose items it is
    /// mapped over; where that has given none, they are none.
    fn mapped_xcoms<'a>(
        &'a self,
        run: &'a DagRun,
        list: &'a str,
        task_id: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Option<Json>>>>;

    /// Triggers a run of the business service of this name. The same key gives the same run again,
    /// whatever `conf` is then. One that this program does not list is a [fatal](crate::error::Error::fatal)
    /// error; so is a conf that it does not take.
    fn trigger<'a>(
        &'a self,
        dag_id: &'a str,
        conf: Option<Json>,
        idempotency_key: String,
    ) -> BoxFuture<'a, Result<Triggered>>;

    /// Where the run with this number stands; `None` when there is none.
    fn run_state<'a>(&'a self, number: i64) -> BoxFuture<'a, Result<Option<RunState>>>;

    /// Takes a piece of the log of an attempt that is still under way.
    fn log(&self, attempt: &Attempt, records: String);

    /// What time it is.
    fn clock(&self) -> &Clock;

    /// What calls services.
    fn services(&self) -> &Client;

    /// Where secrets and variables come from.
    fn secrets(&self) -> &Arc<Secrets>;

    /// The threads that go on after their attempts.
    fn threads(&self) -> &Arc<Threads>;

    /// The name of this engine in the keys of asynchronous results.
    fn engine_id(&self) -> &str;
}
