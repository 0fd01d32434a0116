//! Triggers and callbacks, against a host that is a few lists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use futures_util::FutureExt;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::config::{Config, Environment, Flags};
use crate::dag::{Kind, Options, Task};
use crate::error::Error;
use crate::run::Ending;
use crate::value::RETURN_VALUE;

/// What was asked of it, and what it answers.
struct Fake {
    config: Config,
    services: Client,
    xcoms: Mutex<HashMap<String, Json>>,
    /// By their keys, in the order they came; the number of a run is its place.
    triggered: Mutex<Vec<(String, String, Option<Json>)>>,
    state: Mutex<Option<RunState>>,
    threads: Arc<Threads>,
}

impl Fake {
    fn new() -> Arc<Self> {
        let env = Environment::from(|name| (name == "COWORKS_SECRET_KEY").then(|| "very-secret".into()));
        let config = Config::from(Flags::default(), &env, "none.toml".as_ref()).unwrap();
        config.secrets.get("KEY").unwrap();
        Arc::new(Self {
            services: Client::new(&config).unwrap(),
            config,
            xcoms: Mutex::default(),
            triggered: Mutex::default(),
            state: Mutex::new(Some(RunState::Running)),
            threads: Arc::default(),
        })
    }

    /// An attempt, whose XComs are kept as a host keeps them.
    async fn attempt(self: &Arc<Self>, what: &Attempt) -> End {
        let end = super::attempt(self.clone(), what.clone()).await;
        self.xcoms
            .lock()
            .unwrap()
            .extend(end.xcoms.iter().map(|(key, json)| (key.to_string(), json.clone())));
        end
    }

    fn run_is(&self, state: impl Into<Option<RunState>>) {
        *self.state.lock().unwrap() = state.into();
    }
}

impl Host for Fake {
    fn xcom<'a>(
        &'a self,
        _: &'a DagRun,
        _: &'a str,
        _: i32,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Json>>> {
        let value = self.xcoms.lock().unwrap().get(key).cloned();
        async move { Ok(value) }.boxed()
    }

    fn mapped_xcoms<'a>(
        &'a self,
        _: &'a DagRun,
        _: &'a str,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Option<Json>>>> {
        async { Ok(vec![]) }.boxed()
    }

    fn trigger<'a>(
        &'a self,
        dag_id: &'a str,
        conf: Option<Json>,
        idempotency_key: String,
    ) -> BoxFuture<'a, Result<Triggered>> {
        let mut triggered = self.triggered.lock().unwrap();
        let known = triggered.iter().position(|(key, ..)| *key == idempotency_key);
        let number = known.unwrap_or_else(|| {
            triggered.push((idempotency_key, dag_id.to_owned(), conf));
            triggered.len() - 1
        });
        async move { Ok(Triggered { run_id: format!("run {number}"), number: number as i64 }) }.boxed()
    }

    fn run_state<'a>(&'a self, number: i64) -> BoxFuture<'a, Result<Option<RunState>>> {
        let known = (number as usize) < self.triggered.lock().unwrap().len();
        let state = self.state.lock().unwrap().filter(|_| known);
        async move { Ok(state) }.boxed()
    }

    fn log(&self, _: &Attempt, _: String) {}

    fn clock(&self) -> &Clock {
        &self.config.clock
    }

    fn services(&self) -> &Client {
        &self.services
    }

    fn secrets(&self) -> &Arc<Secrets> {
        &self.config.secrets
    }

    fn threads(&self) -> &Arc<Threads> {
        &self.threads
    }

    fn engine_id(&self) -> &str {
        "test"
    }
}

/// The first attempt of a DAG of one task.
fn first(task: Task, body: Body, callbacks: &'static [Callbacks]) -> Attempt {
    let dag = Box::leak(Box::new(Dag { dag_id: "own", tasks: vec![task].leak(), order: &[0], ..Dag::EMPTY }));
    let definition = Definition { dag, bodies: vec![body].leak(), callbacks, ..Definition::EMPTY };
    let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let run = DagRun {
        dag_id: "own",
        run_id: "manual__1".into(),
        uuid: "0193".into(),
        number: 1,
        run_type: "manual".into(),
        logical_date: at,
        data_interval: DataInterval { start: at, end: at },
        start_date: at,
        conf: Json::from_stored("null"),
    };
    Attempt {
        definition: Box::leak(Box::new(definition)),
        run: Arc::new(run),
        task: 0,
        map_index: -1,
        try_number: 1,
        tries_before: 0,
        last_try: false,
        generation: 0,
        started: at,
        resume: None,
    }
}

fn other() -> &'static Definition {
    static OTHER: Dag = Dag { dag_id: "other", ..Dag::EMPTY };
    static DEFINITION: Definition = Definition { dag: &OTHER, ..Definition::EMPTY };
    &DEFINITION
}

fn seven(_: &Context) -> Result<Json> {
    Json::encode(&7)
}

fn trigger(wait_for_completion: bool, timeout: Option<Duration>) -> Attempt {
    let call = TriggerCall { definition: other, wait_for_completion, timeout };
    let body = Body::Trigger { call: Box::leak(Box::new(call)), conf: Some(seven) };
    first(Task { task_id: "go", kind: Kind::Trigger, ..Task::FUNCTION }, body, &[])
}

fn output(end: &End) -> Option<&str> {
    end.xcoms.iter().find(|(key, _)| key == RETURN_VALUE).map(|(_, json)| json.as_str())
}

fn waits(end: &End) -> Option<&Wait> {
    assert_eq!(end.ending == Ending::Deferred, end.wait.is_some(), "{end:?}");
    end.wait.as_ref()
}

#[tokio::test]
async fn each_try_finds_the_run_that_was_triggered_and_a_new_generation_another() {
    let host = Fake::new();
    let attempt = trigger(false, None);
    let end = host.attempt(&attempt).await;
    assert_eq!((end.ending, output(&end)), (Ending::Success, Some("\"run 0\"")));
    let end = host.attempt(&Attempt { try_number: 2, ..attempt.clone() }).await;
    assert_eq!(output(&end), Some("\"run 0\""));
    let end = host.attempt(&Attempt { generation: 1, ..attempt }).await;
    assert_eq!(output(&end), Some("\"run 1\""));
    let expected = ["0193/go.-1.0", "0193/go.-1.1"]
        .map(|key| (key.to_owned(), "other".to_owned(), Some(Json::from_stored("7"))));
    assert_eq!(*host.triggered.lock().unwrap(), expected);
}

#[tokio::test]
async fn it_waits_until_the_run_has_ended_and_fails_for_good_where_that_has() {
    let host = Fake::new();
    let attempt = trigger(true, Some(Duration::from_secs(60)));
    let resumed = |resume| Attempt { resume: Some(resume), ..attempt.clone() };
    let wait = Wait { what: Awaited::Run(0), until: Some(attempt.started + TimeDelta::seconds(60)) };
    let end = host.attempt(&attempt).await;
    assert_eq!((waits(&end), output(&end)), (Some(&wait), None));
    // Nobody knows whether it has ended meanwhile: it looks, and waits again.
    let end = host.attempt(&resumed(Resume::Interrupted)).await;
    assert_eq!(waits(&end), Some(&wait));
    let end = host.attempt(&resumed(Resume::Overdue)).await;
    assert_eq!(end.ending, Ending::Failed(crate::error::Retry::AsConfigured));
    let text = end.error.unwrap();
    assert_eq!(text, "the run `run 0` of `other` has not ended within the timeout of 1m");

    // It may have ended at the last moment.
    host.run_is(RunState::Success);
    for resume in [Resume::Arrived, Resume::Overdue, Resume::Interrupted] {
        let end = host.attempt(&resumed(resume)).await;
        assert_eq!((end.ending, output(&end)), (Ending::Success, Some("\"run 0\"")));
    }
    for (state, text) in [
        (Some(RunState::Failed), "the run `run 0` of `other` has failed"),
        (None, "the run `run 0` of `other` is not there any more, and how it ended is not known"),
    ] {
        host.run_is(state);
        let end = host.attempt(&resumed(Resume::Arrived)).await;
        assert_eq!(end.ending, Ending::Failed(crate::error::Retry::Never));
        assert_eq!(end.error.as_deref(), Some(text));
    }
    assert_eq!(host.triggered.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_timeout_there_is_no_deadline_and_a_run_that_is_over_is_not_waited_for() {
    let host = Fake::new();
    let attempt = trigger(true, None);
    let end = host.attempt(&attempt).await;
    assert_eq!(waits(&end), Some(&Wait { what: Awaited::Run(0), until: None }));
    host.run_is(RunState::Success);
    assert_eq!(host.attempt(&Attempt { try_number: 2, ..attempt }).await.ending, Ending::Success);
}

#[tokio::test]
async fn a_conf_with_a_secret_triggers_nothing() {
    let host = Fake::new();
    static CALL: TriggerCall = TriggerCall { definition: other, wait_for_completion: false, timeout: None };
    let conf: fn(&Context) -> Result<Json> = |_| Json::encode(&["a very-secret word"]);
    let task = Task { task_id: "go", kind: Kind::Trigger, ..Task::FUNCTION };
    let end = host.attempt(&first(task, Body::Trigger { call: &CALL, conf: Some(conf) }, &[])).await;
    assert_eq!(end.error.as_deref(), Some("the conf holds a secret at $[0], and would be stored"));
    assert!(host.triggered.lock().unwrap().is_empty());
}

async fn tells(ctx: Context) -> Result<()> {
    tracing::warn!("{} failed: {}", ctx.task_id, ctx.exception().unwrap_or("not at all"));
    let pushed = ctx.xcom_push("key", &1).await.unwrap_err();
    tracing::warn!("{pushed}");
    Ok(())
}

async fn fails(_: Context) -> Result<()> {
    Err(Error::msg("no post for very-secret"))
}

async fn panics(_: Context) {
    panic!("no post at all")
}

async fn hangs(_: Context) {
    std::future::pending::<()>().await;
}

macro_rules! runner {
    ($function:expr) => {
        Some((|context| Ok(finish_callback($function, context))) as Runner)
    };
}

/// A task that calls these, on failure, on retry and on success.
fn calling(callbacks: [Option<Runner>; 3], execution_timeout: Option<Duration>) -> Attempt {
    let [on_failure, on_retry, on_success] = callbacks;
    let callbacks = vec![Callbacks { on_failure, on_retry, on_success }].leak();
    let options = Box::leak(Box::new(Options { execution_timeout, ..Options::DEFAULT }));
    let body = Body::Function(|_| Ok(finish(async {})));
    first(Task { task_id: "work", options, ..Task::FUNCTION }, body, callbacks)
}

/// Collects the log where a subscriber is needed for it, as the program installs one.
async fn called(attempt: &Attempt, which: Callback, exception: Option<&str>) -> CallbackEnd {
    let subscriber = tracing_subscriber::registry().with(Capture);
    let _guard = tracing::subscriber::set_default(subscriber);
    callback(Fake::new(), attempt.clone(), which, exception.map(str::to_owned)).await
}

#[tokio::test]
async fn a_callback_knows_why_and_what_it_logs_is_kept() {
    let attempt = calling([runner!(tells), None, runner!(tells)], None);
    let end = called(&attempt, Callback::Failure, Some("boom")).await;
    assert_eq!(end.error, None);
    assert!(end.log.contains("work failed: boom"), "{}", end.log);
    assert!(end.log.contains("a callback pushes nothing"), "{}", end.log);
    let end = called(&attempt, Callback::Success, None).await;
    assert!(end.log.contains("work failed: not at all"), "{}", end.log);
    let end = called(&attempt, Callback::Retry, Some("boom")).await;
    assert_eq!((end.log.as_str(), end.error), ("", None));
}

#[tokio::test]
async fn what_goes_wrong_in_a_callback_stays_in_it() {
    let attempt = calling([runner!(fails), runner!(panics), None], None);
    let end = called(&attempt, Callback::Failure, None).await;
    assert_eq!(end.error.as_deref(), Some("no post for ***"));
    assert!(end.log.contains("on_failure_callback: no post for ***"), "{}", end.log);
    let end = called(&attempt, Callback::Retry, None).await;
    assert_eq!(end.error.as_deref(), Some("panicked: no post at all"));
}

#[tokio::test]
async fn a_callback_has_an_end() {
    let limited = calling([runner!(hangs), None, None], Some(Duration::from_millis(1)));
    let end = called(&limited, Callback::Failure, None).await;
    assert_eq!(end.error.as_deref(), Some("took longer than the 1ms that it may take"));
    assert_eq!(super::callback::limit(&Options::DEFAULT), Duration::from_secs(300));
}

#[tokio::test]
async fn a_definition_knows_what_it_triggers() {
    let attempt = trigger(false, None);
    let triggers = attempt.definition.triggers().map(|(task, of)| (task.task_id, of.dag.dag_id));
    assert_eq!(triggers.collect::<Vec<_>>(), [("go", "other")]);
}

#[tokio::test]
async fn what_calls_a_service_that_wants_to_be_left_alone_comes_back_in_the_same_try() {
    const CALL: Call = Call {
        method: crate::tech::Method::Get,
        path: "/",
        // Nobody listens there: who calls it fails.
        service: crate::tech::Service::Url("http://127.0.0.1:9"),
        token: crate::tech::Token::None,
        accept: "*/*",
        request_timeout: Duration::from_secs(1),
        log_response: false,
        output: None,
    };
    static SENSOR: SensorCall = SensorCall {
        call: CALL,
        poke_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
        until: None,
    };
    let host = Fake::new();
    let task = |kind| Task { task_id: "a", kind, ..Task::FUNCTION };
    let call = first(task(Kind::Call), Body::Call { call: &CALL, arguments: None }, &[]);
    let mut sensor = first(task(Kind::Sensor), Body::Sensor { call: &SENSOR, arguments: None }, &[]);
    let now = chrono::Utc::now();
    sensor.started = now;
    host.services.guard().close("http://another", Duration::from_secs(3600), now);
    assert_eq!(host.attempt(&call).await.ending, Ending::Failed(crate::error::Retry::AsConfigured));
    host.services.guard().close("http://127.0.0.1:9", Duration::from_secs(3600), now);
    let until = |at| Wait { what: Awaited::Moment, until: Some(at) };
    let end = host.attempt(&call).await;
    assert_eq!(waits(&end), Some(&until(now + TimeDelta::seconds(3600))));
    // A sensor has its last look in time, and that one is taken.
    let end = host.attempt(&sensor).await;
    assert_eq!(waits(&end), Some(&until(now + TimeDelta::seconds(60))));
    sensor.started = now - TimeDelta::seconds(60);
    let error = host.attempt(&sensor).await.error.unwrap();
    assert!(
        error.starts_with("not there within its timeout of 1m: GET http://127.0.0.1:9/ got no answer"),
        "{error}"
    );
}

/// What the threads of the next test have done, and what lets them end.
static BEGUN: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static HELD: std::sync::Barrier = std::sync::Barrier::new(2);

#[tokio::test]
async fn a_thread_does_not_outlast_its_timeout_and_is_never_beside_another_of_its_task() {
    let runner: Runner = |_| {
        Ok(finish_blocking(|| {
            BEGUN.lock().unwrap().push("begins");
            HELD.wait();
            BEGUN.lock().unwrap().push("ends");
        }))
    };
    let limit = Some(Duration::from_millis(50));
    let options = Box::leak(Box::new(Options { execution_timeout: limit, ..Options::DEFAULT }));
    let body = || Body::Function(runner);
    let attempt = first(Task { task_id: "work", options, ..Task::FUNCTION }, body(), &[]);
    let host = Fake::new();
    let late = "took longer than its execution_timeout of 50ms";
    // It is told at once, and the next try is none while its thread goes on.
    for _ in 0..2 {
        let end = host.attempt(&attempt).await;
        assert_eq!(end.error.as_deref(), Some(late));
        assert_eq!(*BEGUN.lock().unwrap(), ["begins"]);
    }
    let patient = first(Task { task_id: "work", ..Task::FUNCTION }, body(), &[]);
    let next = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.attempt(&patient).await }
    });
    // One thread, and then the other.
    for _ in 0..2 {
        tokio::task::spawn_blocking(|| HELD.wait()).await.unwrap();
    }
    assert_eq!(next.await.unwrap().error, None);
    assert_eq!(*BEGUN.lock().unwrap(), ["begins", "ends", "begins", "ends"]);
}

#[tokio::test]
async fn a_name_that_holds_a_secret_is_not_stored() {
    let runner: Runner = |context| {
        let context = context.clone();
        Ok(finish(async move { context.xcom_push("a very-secret name", &1).await }))
    };
    let attempt = first(Task { task_id: "work", ..Task::FUNCTION }, Body::Function(runner), &[]);
    let end = Fake::new().attempt(&attempt).await;
    assert_eq!(end.xcoms, []);
    let told = "the name of what it has pushed holds a secret, and would be stored";
    assert_eq!(end.error.as_deref(), Some(told));
}

#[tokio::test]
async fn where_many_threads_go_on_no_other_one_is_given_up() {
    let host = Fake::new();
    for number in 0..64 {
        assert!(!host.threads.are_many());
        let id = (number, crate::run::Key { task: 0, map_index: -1 });
        let never = std::future::pending().boxed();
        assert!(host.threads.run(id, never).now_or_never().is_none());
    }
    let runner: Runner = |_| Ok(finish_blocking(|| std::thread::sleep(Duration::from_millis(50))));
    let options = Options { execution_timeout: Some(Duration::from_millis(1)), ..Options::DEFAULT };
    let task = Task { task_id: "work", options: Box::leak(Box::new(options)), ..Task::FUNCTION };
    let mut attempt = first(task, Body::Function(runner), &[]);
    Arc::get_mut(&mut attempt.run).unwrap().number = 100;
    assert_eq!(host.attempt(&attempt).await.error, None);
}
