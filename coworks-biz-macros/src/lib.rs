//! The macros of `coworks-biz`: use them through that crate.
//!
//! `#[biz]` goes through four stages, each in a module of its own: `parse`
//! reads the user's tokens into plain data, `model` gives every name its
//! task, `check` looks at the graph, `expand` writes the code. A stage adds
//! what it finds wrong to `errors::Errors`, so that a body with many mistakes
//! gets all of its errors at once.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
#[path = "../../coworks-biz-runtime/src/abuse.rs"]
mod abuse;
mod check;
mod errors;
mod expand;
mod model;
mod parse;

use proc_macro::TokenStream;

/// Turns a function into a business service: a DAG of tasks that is checked when it is compiled.
///
/// The body is a plan. It is read by the compiler and never runs: `let` and calls name tasks, `>>`
/// orders them, `match`, `if` and `for` over their outputs give the graph its shape. What runs is in
/// functions.
///
/// ```
/// use coworks_biz::prelude::*;
///
/// /// Greets the contacts of a customer.
/// #[biz(schedule = "0 8 * * 1-5", timezone = "Europe/Paris", retries = 2, retry_delay = "1m")]
/// fn greeting() {
///     let name: String = tech!(GET "/name", api_id = "xxxx", token = secret("API_TOKEN"));
///     let contacts: Vec<String> = tech!(GET "/contacts", api_id = "xxxx", token = secret("API_TOKEN"));
///
///     if contacts.is_empty() {
///         complain(name);
///     } else {
///         for contact in contacts {
///             send(contact, format!("Good morning, {name}!"));
///         }
///     }
///
///     #[task(trigger_rule = all_done)]
///     async fn clean_up(ctx: Context) -> Result<()> {
///         info!("run {} is over", ctx.run_id);
///         Ok(())
///     }
///
///     [complain, send] >> clean_up;
/// }
///
/// async fn send(contact: String, text: String) -> Result<()> {
///     info!("to {contact}: {text}");
///     Ok(())
/// }
///
/// async fn complain(name: String) -> Result<()> {
///     warn!("nobody to greet at {name}");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// The function takes `conf: T`, what its runs are triggered with, and `ctx: Context`, or neither. It
/// becomes a type of its name, for `coworks_biz::main![greeting]`; its doc comment is the description.
///
/// # The plan
///
/// | Form | Meaning |
/// |---|---|
/// | `let x: T = tech!(..);`, `sensor!(..)` | a call of a service: the task `x`, whose output is the answer; see [`tech!`] and [`sensor!`] |
/// | `let run = trigger!(other, ..);` | another biz is triggered: the task `run`, whose output is the id of its run; see [`trigger!`] |
/// | `let y = f(x, 3);`, `f(x, 3);` | the task `y`, or `f`, runs `async fn f` with these arguments |
/// | `#[task] async fn f(x: T, ..) -> Result<U>` | the task `f`, which takes outputs by their names; see [`macro@task`] |
/// | `a >> b`, `b << a`, `[a, b] >> c`, `a >> "label" >> b` | order; operands are tasks, groups, branches, loops, and members such as `x.call` |
/// | `match x { .. }`, `if x.ok { .. } else { .. }` | a branch: the task `match_x` or `if_x` chooses an arm, the others are skipped |
/// | `let d = match x { .. };` | the same, and the task `d` hands on what the arm gives |
/// | `for item in x.items { .. }` | a loop: the tasks in it once for each item, and behind it a `Vec` of their outputs |
/// | `let prep = { .. };` | a group: tasks with the ids `prep.a`, `prep.b` |
///
/// # Options
///
/// | Option | Value | Default | Refused |
/// |---|---|---|---|
/// | `schedule` | a preset (`"@daily"`), a cron expression of 5 or 6 fields, or an interval (`"15m"`) | none | what cannot be read, or never comes |
/// | `timezone` | an IANA name | `"UTC"` | a name that there is not |
/// | `start_date`, `end_date` | `"2023-01-01"` or `"2023-01-01T06:00:00"`, in that time zone | none | a moment that was skipped there; an end before the start |
/// | `catchup` | whether missed ticks are run | `false` | `true` without `start_date` |
/// | `max_active_runs` | how many of its runs are under way at once; with `"@continuous"` it is 1 | the engine's | none; more than one with `"@continuous"` |
/// | `max_active_tasks` | how many tasks of one run are under way at once | all that have a slot | none |
/// | `dagrun_timeout` | how long a run may take before it fails | none | no time at all |
/// | `depends_on_past` | whether a task waits for the same task of the run before | `false` | |
/// | `tags` | a word, or a list of them | none | |
/// | `owner` | a word | none | |
/// | `dag_id` | the name it is run by | the function's name | other than letters, digits, `.`, `_` and `-` |
/// | `crate` | the path of `coworks-biz`, where it was renamed | `::coworks_biz` | what is no path |
///
/// and every option of [`macro@task`] but `id`, `setup` and `teardown`, as the default of its tasks.
/// The type of `conf` is `Serialize + Deserialize`, and `Default` where there is a schedule.
///
/// # Errors
///
/// All errors of a body are reported at once, each under the user's own words: cycles, names that are no
/// task, names given twice, tasks that would never run, options that do not exist, schedules and
/// durations that cannot be read. The type is still there in spite of them, so that nothing else in the
/// program breaks.
///
/// ```compile_fail
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn round() {
///     async fn step() {}
///     let simple = step();
///     let print = step();
///     simple >> print;
///     print >> simple; // this closes a cycle: simple >> print >> simple
/// }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn biz(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::biz(options.into(), item.into()).into()
}

/// Makes a nested function of a `#[biz]` a task, and gives tasks their options.
///
/// A parameter of the function with the name of a task is that task's output; one called `conf` is what
/// the run was triggered with; any other is an extractor, such as `Context` or `Conf<T>`. It returns
/// `Result<T>`, or nothing; `T` passes on to the tasks that take it. A function that is not `async` runs
/// on a thread that may block.
///
/// In front of a statement it says how the task that is named there is run.
///
/// ```
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn counting(conf: String) {
///     #[task(retries = 5, retry_delay = "10s", execution_timeout = "1m")]
///     let text: String = tech!(GET "/texts/{conf}", api_id = "xxxx", no_auth);
///
///     #[task]
///     async fn words(text: String) -> Result<usize> {
///         Ok(text.split_whitespace().count())
///     }
///
///     /// Blocks, and may.
///     #[task(trigger_rule = all_done)]
///     fn print(words: Option<usize>, ctx: Context) -> Result<()> {
///         info!("{words:?} words, in run {}", ctx.run_id);
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
///
/// A function with `#[task]` that is called in the plan is no task by itself; its options are the
/// defaults of those that call it.
///
/// # Options
///
/// | Option | Value | Default | Refused |
/// |---|---|---|---|
/// | `id` | the id of the task | its name | one that is there already; other than letters, digits, `.`, `_` and `-` |
/// | `retries` | how often it is tried again | `0` | what is no whole number |
/// | `retry_delay` | the delay before that: `"30s"`, `"1h 30m"` | `"5m"` | what is no duration |
/// | `retry_exponential_backoff` | whether the delay doubles with each try | `false` | |
/// | `max_retry_delay` | the ceiling of the delay | none | what is no duration |
/// | `execution_timeout` | how long one attempt may take | none | no time at all |
/// | `trigger_rule` | which ends of its upstreams let it run, such as `all_done` | `all_success` | a rule that there is not |
/// | `pool` | the pool whose slots it takes | `"default_pool"` | other than letters, digits, `.`, `_` and `-` |
/// | `priority_weight` | the higher goes first where slots are short; may be negative | `1` | what is no whole number |
/// | `max_active_tis_per_dag` | how many of its instances are under way at once, over all runs | all that have a slot | none |
/// | `wait_for_downstream` | whether it waits for the same task of the run before, and for what directly follows that one | `false` | |
/// | `setup` | a flag: it sets something up | | a value |
/// | `teardown` | the setup that it takes down, or a list of them; its rule is `all_done_setup_success` | | what is no task |
/// | `email` | who is told of failures: an address, or a list of them | none | what is no address |
/// | `email_on_failure`, `email_on_retry` | whether they are told | `true` | |
/// | `on_failure_callback`, `on_retry_callback`, `on_success_callback` | the name of an `async fn alert(ctx: Context) -> Result<()>` that is called once an attempt has failed for good, will be retried, or has succeeded | none | a function of another form |
///
/// All but `id`, `setup` and `teardown` may be given to [`macro@biz`], for all of its tasks.
///
/// # Errors
///
/// Under every trigger rule but `all_success` a task may run without an output: whoever takes it then
/// takes an `Option`. Parameters are owned, for each task decodes its own copy: `&str` is refused.
///
/// ```compile_fail
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn late() {
///     let text: String = tech!(GET "/", api_id = "xxxx", no_auth);
///
///     // task `print` may run without an output of `text`: take `Option<String>`
///     #[task(trigger_rule = all_done)]
///     async fn print(text: String) -> Result<()> {
///         info!("{text}");
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
///
/// On a function outside of a `#[biz]` it is an error: only there does it know the tasks whose outputs
/// it takes.
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
/// ```
/// use coworks_biz::prelude::*;
///
/// #[biz(retries = 2)]
/// fn invoicing(conf: u32) {
///     let customer: Value = tech!(GET "/customers/{conf}", cws_name = "directory");
///     let invoice: Reply<Value> = tech!(POST "/invoice", cws_name = "billing",
///         json = json!({ "customer": customer["id"] }), headers = [("X-Key", secret("BILLING_KEY"))]);
///
///     match invoice {
///         Reply::Success(invoice) => {
///             let document: Value = tech!(async POST "/render", api_id = "xxxx", token = secret("PDF_TOKEN"),
///                 transformer = layout(customer, invoice), timeout = "1h");
///         }
///         Reply::NoContent => {}
///         Reply::Failure(failure) => complain(failure),
///     }
/// }
///
/// async fn layout(customer: Value, invoice: Value) -> Result<Value> {
///     Ok(json!({ "title": customer["name"], "total": invoice["total"] }))
/// }
///
/// async fn complain(failure: Failure) -> Result<()> {
///     warn!("billing {failure}");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// The method is one of GET, POST, PUT, PATCH, DELETE, HEAD and OPTIONS. The path begins with `/`; what
/// is in braces is an expression that is `Display`, and goes in percent-encoded, as a part of one
/// segment; `{{` and `}}` stand for themselves.
///
/// With `let x: T` a status of 400 and above fails the task; one that may pass by itself (408, 425, 429,
/// 500 and above, or no answer) is retried as `retries` say. With `let x: Reply<T>` it is a value. Where
/// nobody takes the answer, neither the type nor the `let` is needed.
///
/// # Options
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `api_id` | the id of the API in API Gateway | one of the four services |
/// | `stage` | its stage, with `api_id` or `cws_name` | `"dev"`, or as the directory says |
/// | `region` | its AWS region, with `api_id` | `"eu-west-1"` |
/// | `cws_name` | the name that the directory knows | one of the four services |
/// | `url` | an address | one of the four services |
/// | `service` | a value whose type is `TechService` | one of the four services |
/// | `token` | `"a token"`, `secret("NAME")`, or an expression | one of `token`, `no_auth`; with `cws_name` and `service` theirs |
/// | `no_auth` | a flag: no token is sent | |
/// | `query` | an object, or a list of pairs; lists repeat their key, null is left out | none |
/// | `json` | the body: anything that is `Serialize` | none |
/// | `data` | the body: a text, bytes, or a `Form` | none |
/// | `headers` | a list of pairs: `[("X-Tenant", conf.tenant)]` | none |
/// | `accept` | the `Accept` header | `"application/json"` |
/// | `request_timeout` | how long one request may take | `"30s"` |
/// | `log_response` | a flag: the log tells each answer, its status and the beginning of its body | |
///
/// and of the asynchronous form:
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `timeout` | how long to wait for the answer | `"15m"` |
/// | `transformer` | a call of a function: the task `x.transformer`, whose output is the query of a GET and the JSON of any other method | none |
/// | `bucket` | the bucket of the answer | `COWORKS_BUCKET` |
/// | `keep` | a flag: the answer stays in S3 | |
///
/// The path, `query`, `json`, `data`, the values of `headers` and `token` may use outputs and `conf`. They
/// are evaluated when the call is sent.
///
/// # Errors
///
/// No service or two of them, no token and no `no_auth`, a body with GET, two bodies, a `transformer`
/// beside what it makes, a path without `/` or with `?`, an option of the other form, and the output of a
/// call that is taken and has no type: each has its own sentence, under the word that is wrong.
///
/// ```compile_fail
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn calls(conf: String) {
///     // a GET has no body: give `query`, or call with POST
///     tech!(GET "/texts", api_id = "xxxx", no_auth, json = conf);
/// }
/// # fn main() {}
/// ```
#[proc_macro]
pub fn tech(_call: TokenStream) -> TokenStream {
    expand::misplaced("`tech!` names a task, and tasks are named in the body of a `#[biz]` function", None)
        .into()
}

/// Names a call of a technical microservice that is repeated until it succeeds, in a `#[biz]`.
///
/// Its output is the answer that it was waiting for. Between two calls it holds nothing.
///
/// ```
/// use coworks_biz::prelude::*;
///
/// fn done(job: &Value) -> bool {
///     job["state"] == "done"
/// }
///
/// #[biz]
/// fn exporting(conf: u32) {
///     let job: Value = sensor!(GET "/jobs/{conf}", cws_name = "exports",
///         until = done, poke_interval = "30s", timeout = "2h");
///     report(job);
/// }
///
/// async fn report(job: Value) -> Result<()> {
///     info!("{job}");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// An error answer, or none, is "not yet"; 401 and 403 fail the task at once, and so does an answer of
/// another type. When the time is over the task has failed, whatever its `retries`.
///
/// # Options
///
/// Those of the synchronous [`tech!`], and:
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `poke_interval` | the time from one call to the next | `"60s"` |
/// | `timeout` | how long it may take in all | 7 days |
/// | `until` | the name of a function `fn(&T) -> bool` that looks at the answer | any status below 400 |
///
/// # Errors
///
/// As of [`tech!`]; `async`, the options of asynchronous calls, a duration of no time, and an `until`
/// that is no name are refused.
///
/// ```compile_fail
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn exporting() {
///     // `until` is the name of a function that looks at the answer: `fn done(reply: &T) -> bool`
///     let job: Value = sensor!(GET "/jobs/7", cws_name = "exports", until = |job| true);
/// }
/// # fn main() {}
/// ```
#[proc_macro]
pub fn sensor(_call: TokenStream) -> TokenStream {
    expand::misplaced("`sensor!` names a task, and tasks are named in the body of a `#[biz]` function", None)
        .into()
}

/// Names a task that triggers another biz, in a `#[biz]`.
///
/// It begins with the biz, as `coworks_biz::main![..]` lists it. Its output is the id of the run, a
/// `String`. Without a `let` the task is `trigger_invoicing`.
///
/// ```
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn invoicing(conf: u32) {
///     tech!(POST "/invoices/{conf}", cws_name = "billing");
/// }
///
/// #[biz(schedule = "@hourly")]
/// fn collecting() {
///     let orders: Vec<u32> = tech!(GET "/orders/new", cws_name = "shop");
///     for order in orders {
///         let run = trigger!(invoicing, conf = order, wait_for_completion, timeout = "1h");
///         report(run);
///     }
/// }
///
/// async fn report(run: String) -> Result<()> {
///     info!("invoiced by {run}");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// A try triggers once: where an earlier try of the task has triggered a run already, it finds that
/// run. Clearing the task has it trigger a new one. Two bizes may trigger each other.
///
/// # Options
///
/// | Option | Value | Default |
/// |---|---|---|
/// | `conf` | what the run is triggered with, of the type of the other's `conf`; any JSON where that has none. It may use outputs and `conf`, and is evaluated when the task runs | none, where the other needs none |
/// | `wait_for_completion` | a flag: the task ends when that run does, and fails when that fails. Meanwhile it holds nothing | |
/// | `timeout` | how long it waits | as long as it takes |
///
/// # Errors
///
/// A type that is no biz, a conf of another type, no conf where the other needs one, and a `timeout`
/// without `wait_for_completion` are errors. So is, when it runs, a biz that the program's `main![..]`
/// does not list.
///
/// ```compile_fail
/// use coworks_biz::prelude::*;
///
/// #[biz]
/// fn invoicing(conf: u32) {}
///
/// #[biz]
/// fn collecting() {
///     trigger!(invoicing); // `invoicing` needs a conf: what is it triggered with?
/// }
/// # fn main() {}
/// ```
#[proc_macro]
pub fn trigger(_call: TokenStream) -> TokenStream {
    expand::misplaced("`trigger!` names a task, and tasks are named in the body of a `#[biz]` function", None)
        .into()
}
