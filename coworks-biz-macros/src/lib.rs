//! The macros of `coworks-biz`: use them through that crate.
//!
//! `#[biz]` goes through four stages, each in a module of its own: `parse`
//! reads the user's tokens into plain data, `model` gives every name its
//! task, `check` looks at the graph, `expand` writes the code. A stage adds
//! what it finds wrong to `errors::Errors`, so that a body with many mistakes
//! gets all of its errors at once.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod check;
mod errors;
mod expand;
mod model;
mod parse;

use proc_macro::TokenStream;

/// Turns a function into a business service: a DAG of tasks that is checked when it is compiled.
///
/// The body is a plan. It is read by the compiler and never runs: `let` names a
/// task, `>>` orders tasks, a nested `#[task]` function is a task whose
/// parameters are outputs of other tasks by name.
///
/// ```
/// use coworks_biz::prelude::*;
///
/// /// Greets once a day.
/// #[biz(schedule = "@daily", start_date = "2023-01-01", retries = 1, retry_delay = "5m")]
/// fn greeting() {
///     let name: String = tech!(GET "/name", api_id = "xxxx", token = secret("API_TOKEN"));
///
///     #[task]
///     async fn greet(name: String, ctx: Context) -> Result<()> {
///         info!("hello {name}, in run {}", ctx.run_id);
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
///
/// # Options
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `schedule` | a preset (`"@daily"`), a cron expression of 5 or 6 fields, or an interval (`"15m"`) | none: triggered only |
/// | `timezone` | an IANA name | `"UTC"` |
/// | `start_date`, `end_date` | `"2023-01-01"` or `"2023-01-01T06:00:00"`, in that time zone | none |
/// | `catchup` | whether missed ticks are run; needs `start_date` | `false` |
/// | `tags` | a list of words | none |
/// | `owner` | a word | none |
/// | `dag_id` | the name it is triggered by | the function's name |
/// | `crate` | the path of `coworks-biz`, where it was renamed | `::coworks_biz` |
///
/// and every option of [`macro@task`] as the default of its tasks.
///
/// # Errors
///
/// All errors of a body are reported at once: cycles, names that are no task,
/// names given twice, options that do not exist, schedules and durations that
/// cannot be read. The type is still there in spite of them, so that nothing
/// else in the program breaks.
#[proc_macro_attribute]
pub fn biz(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::biz(options.into(), item.into()).into()
}

/// Makes a nested function of a `#[biz]` a task.
///
/// A parameter with the name of a task is that task's output; one called `conf`
/// is what the run was triggered with; any other is an extractor, such as
/// `Context`. It returns `Result<T>`; `T` passes on to the tasks that take it.
/// A function that is not `async` runs on a thread that may block.
///
/// # Options
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `retries` | how often it is tried again | `0` |
/// | `retry_delay` | the delay before that | `"5m"` |
/// | `retry_exponential_backoff` | whether the delay doubles with each try | `false` |
/// | `max_retry_delay` | the ceiling of the doubled delay | none |
/// | `execution_timeout` | how long one attempt may take | none |
/// | `trigger_rule` | which ends of its upstreams let it run, such as `all_done` | `all_success` |
/// | `email` | an address, or a list of them | none |
/// | `email_on_failure`, `email_on_retry` | whether they are told | `true` |
#[proc_macro_attribute]
pub fn task(_options: TokenStream, item: TokenStream) -> TokenStream {
    expand::misplaced(
        "`#[task]` marks a function inside a `#[biz]` function: only there does it know the tasks whose \
         outputs it takes",
        Some(item.into()),
    )
    .into()
}

/// Names a call of a technical microservice in a `#[biz]`.
///
/// `tech!(METHOD "/path", ..)` is one task that calls and takes the answer.
/// `tech!(async METHOD "/path", ..)` is a group: `x.call` sends, the service
/// leaves its answer in S3, `x.wait` waits for it without holding anything, and
/// `x.read` reads it.
///
/// # Options
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `api_id` | the id of the API in API Gateway | one of `api_id`, `url` |
/// | `stage` | its stage | `"dev"` |
/// | `region` | its AWS region | `"eu-west-1"` |
/// | `url` | the address of the service | one of `api_id`, `url` |
/// | `token` | `"a token"`, or `secret("NAME")` | one of `token`, `no_auth` |
/// | `no_auth` | a flag: no token is sent | |
/// | `accept` | the `Accept` header | `"application/json"` |
/// | `request_timeout` | how long one request may take | `"30s"` |
///
/// and of the asynchronous form:
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `timeout` | how long to wait for the answer | `"15m"` |
/// | `bucket` | the bucket of the answer | `COWORKS_BUCKET` |
/// | `keep` | a flag: the answer stays in S3 | |
#[proc_macro]
pub fn tech(_call: TokenStream) -> TokenStream {
    expand::misplaced("`tech!` names a task, and tasks are named in the body of a `#[biz]` function", None)
        .into()
}
