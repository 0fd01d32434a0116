//! Services with limits, from their calls to what is under way.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::sync::Semaphore;

use super::shapes::{EACH, conf, list, with};
use super::*;
use crate::config::Limits;
use crate::dag::{Kind, Options, TriggerRule};
use crate::local::{Local, Service as Stand, Services};
use crate::run::State as Stands;
use crate::store::TaskRecord;
use crate::task::Member;
use crate::tech::{Arguments, AsyncCall, Call, Method, SensorCall, Service, Token};
use crate::value::Type;

/// What each entry of the service answers, one after the other, the last one for ever: a status, and
/// its `Retry-After`; 0 is for an answer that waits for the gate.
type Script = BTreeMap<&'static str, Vec<(u16, Option<u32>)>>;

#[derive(Clone)]
struct Stage {
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<(String, Instant)>>>,
    gate: Arc<Semaphore>,
    /// How many were held at once, now and at most.
    held: Arc<Mutex<(usize, usize)>>,
}

impl Stage {
    fn seen(&self, entry: &str) -> Vec<Instant> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(path, _)| path == entry).map(|(_, at)| *at).collect()
    }
}

async fn answer(State(stage): State<Stage>, Segment(entry): Segment<String>) -> Response {
    stage.seen.lock().unwrap().push((entry.clone(), Instant::now()));
    let (status, retry_after) = {
        let mut script = stage.script.lock().unwrap();
        let answers = script.get_mut(&*entry).unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0] }
    };
    if status == 0 {
        {
            let mut held = stage.held.lock().unwrap();
            held.0 += 1;
            held.1 = held.1.max(held.0);
        }
        stage.gate.acquire().await.unwrap().forget();
        stage.held.lock().unwrap().0 -= 1;
        return axum::Json(1).into_response();
    }
    let mut response = (StatusCode::from_u16(status).unwrap(), axum::Json(1)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

struct World {
    dir: tempfile::TempDir,
    config: Config,
    stage: Stage,
    _local: Local,
}

impl World {
    async fn new(script: Script, concurrency: Option<usize>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), 8);
        config.services.default = Limits { concurrency, rate: None };
        let stage = Stage {
            script: Arc::new(Mutex::new(script)),
            seen: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            held: Arc::default(),
        };
        let entries = Router::new().route("/{entry}", any(answer)).with_state(stage.clone());
        let services = Services::new().with(Stand::new("svc").entries(entries));
        let local = services.start(&dir.path().join("s3"), &config.bucket).await.unwrap();
        local.configure(&mut config);
        Self { dir, config, stage, _local: local }
    }

    fn tasks(&self, run: i64) -> Vec<TaskRecord> {
        Reader::open(&self.dir.path().join("biz.db")).unwrap().tasks(run).unwrap()
    }

    fn task(&self, run: i64, id: &str) -> Option<TaskRecord> {
        self.tasks(run).into_iter().find(|task| task.task_id == id)
    }

    fn in_state(&self, run: i64, id: &str, state: Stands) -> usize {
        self.tasks(run).iter().filter(|task| task.task_id == id && task.state == Some(state)).count()
    }
}

async fn until(what: impl Fn() -> bool) {
    super::until(async || what().then_some(())).await;
}

async fn services_of(engine: &Engine) -> Vec<String> {
    match engine.order(Order::Status).await.unwrap() {
        Answer::Status { services, .. } => services,
        other => panic!("{other:?}"),
    }
}

const fn call(path: &'static str) -> Call {
    Call {
        method: Method::Post,
        path,
        service: Service::Api { api_id: "svc", stage: "dev", region: "eu-west-1" },
        token: Token::None,
        accept: "application/json",
        request_timeout: Duration::from_secs(20),
        log_response: false,
        output: Some(Type::of::<u32>()),
    }
}

fn calls(path: &'static str) -> Body {
    Body::Call { call: Box::leak(Box::new(call(path))), arguments: None }
}

/// The members of an asynchronous call, the first of which is at this place.
fn group(submit: u32, timeout: Duration, options: &'static Options) -> [(Task, Body); 3] {
    let call = AsyncCall { call: call("/work"), timeout, bucket: None, keep: false };
    let call = Box::leak(Box::new(call));
    let member =
        |member| Body::Group { member, call, arguments: None::<fn(&Context) -> Result<Arguments>>, submit };
    let list = |list: &[u32]| -> &'static [u32] { list.to_vec().leak() };
    let task =
        |task_id, kind, upstream, shares| Task { task_id, kind, upstream, shares, options, ..Task::FUNCTION };
    [
        (task("x.call", Kind::Submit, &[], &[]), member(Member::Submit)),
        (task("x.wait", Kind::Wait, list(&[submit]), list(&[submit])), member(Member::Wait)),
        (task("x.read", Kind::Read, list(&[submit + 1]), list(&[submit, submit + 1])), member(Member::Read)),
    ]
}

/// The same for each item of the conf.
fn mapped(timeout: Duration, options: &'static Options) -> &'static Definition {
    let members = group(1, timeout, options)
        .map(|(task, body)| (Task { gate: EACH.gate, map: EACH.map, ..task }, body));
    let first = [(list(&[1, 2, 3]), Body::Map(conf))];
    define("calls", first.into_iter().chain(members))
}

const HOUR: Duration = Duration::from_secs(3600);
const RETRIED: Options = Options { retries: 1, retry_delay: Duration::from_millis(5), ..Options::DEFAULT };

#[tokio::test(flavor = "multi_thread")]
async fn places_of_asynchronous_calls_are_neither_exceeded_nor_lost() {
    let world = World::new([("work", vec![(0, None)])].into(), Some(3)).await;
    let definition = mapped(HOUR, &Options::DEFAULT);
    let engine = Engine::start(&world.config, &[definition], Mode::Serve).unwrap();
    let numbers: Vec<u32> = (0..40).collect();
    let mut run = engine.trigger(definition, with(&numbers)).await.unwrap();
    let number = run.run.number;
    until(|| world.in_state(number, "x.wait", Stands::UpForReschedule) == 3).await;
    until(|| world.in_state(number, "x.call", Stands::Queued) == 37).await;
    let told = "3 calls of `svc` are under way, and its `concurrency` is 3: others wait";
    assert_eq!(services_of(&engine).await, [told]);
    world.stage.gate.add_permits(40);
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(world.stage.held.lock().unwrap().1, 3);
    assert_eq!(world.stage.seen("work").len(), 40);
    assert_eq!(services_of(&engine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_cleared_or_marked_has_no_place_any_more() {
    let world = World::new([("work", vec![(0, None)])].into(), Some(2)).await;
    let definition = mapped(HOUR, &Options::DEFAULT);
    let engine = Engine::start(&world.config, &[definition], Mode::Serve).unwrap();
    let begin = async |items: usize, waiting: usize| {
        let run = engine.trigger(definition, with(&vec![7; items])).await.unwrap().run;
        until(|| world.in_state(run.number, "x.wait", Stands::UpForReschedule) == waiting).await;
        until(|| world.in_state(run.number, "x.call", Stands::Queued) == items - waiting).await;
        (run.number, RunName { dag_id: None, run_id: run.run_id.to_string() })
    };
    let (_, first) = begin(4, 2).await;
    engine.order(Order::Cancel { run: first }).await.unwrap();
    assert_eq!(services_of(&engine).await, [""; 0]);
    let (number, second) = begin(3, 2).await;
    let full = services_of(&engine).await;
    assert!(full[0].starts_with("2 calls of `svc`"), "{full:?}");
    // Marked: the third has its place.
    engine
        .order(Order::Mark { run: second.clone(), task: "x.wait[0]".into(), state: crate::run::Mark::Failed })
        .await
        .unwrap();
    until(|| world.in_state(number, "x.wait", Stands::UpForReschedule) == 2).await;
    assert!(services_of(&engine).await[0].starts_with("2 calls"));
    // Cleared: all three begin anew, and two of them at once.
    let sent = world.stage.seen("work").len();
    let pause = |paused| Order::Pause { dag_id: "calls".into(), paused };
    engine.order(pause(true)).await.unwrap();
    engine.order(Order::Retry { run: second.clone(), from: vec!["x.call".into()] }).await.unwrap();
    assert_eq!(services_of(&engine).await, [""; 0]);
    engine.order(pause(false)).await.unwrap();
    until(|| world.stage.seen("work").len() == sent + 2).await;
    until(|| world.in_state(number, "x.wait", Stands::UpForReschedule) == 2).await;
    until(|| world.in_state(number, "x.call", Stands::Queued) == 1).await;
    assert!(services_of(&engine).await[0].starts_with("2 calls"));
    engine.order(Order::Cancel { run: second }).await.unwrap();
    let (_, last) = begin(2, 2).await;
    engine.order(Order::Cancel { run: last }).await.unwrap();
    assert_eq!(services_of(&engine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_what_waits_is_counted() {
    let world = World::new([("work", vec![(0, None)])].into(), Some(2)).await;
    let definition = mapped(HOUR, &Options::DEFAULT);
    let engine = Engine::start(&world.config, &[definition], Mode::Serve).unwrap();
    let run = engine.trigger(definition, with(&[1, 2, 3, 4, 5])).await.unwrap().run;
    until(|| world.in_state(run.number, "x.wait", Stands::UpForReschedule) == 2).await;
    drop(engine);

    let engine = Engine::start(&world.config, &[definition], Mode::Serve).unwrap();
    let full = services_of(&engine).await;
    assert!(full[0].starts_with("2 calls of `svc`"), "{full:?}");
    until(|| world.in_state(run.number, "x.call", Stands::Queued) == 3).await;
    assert_eq!(world.in_state(run.number, "x.call", Stands::Success), 2, "whoever might start has");
    world.stage.gate.add_permits(9);
    until(|| world.in_state(run.number, "x.read", Stands::Success) == 5).await;
    assert_eq!(world.stage.held.lock().unwrap().1, 2);
    assert_eq!(world.stage.seen("work").len(), 5);
    assert_eq!(services_of(&engine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_keeps_its_place_for_its_next_try_and_gives_it_up_in_the_end() {
    // Of one place: who fails must not wait for it behind the others.
    let refused = vec![(500, None), (500, None), (0, None)];
    let world = World::new([("work", refused)].into(), Some(1)).await;
    // That Lambda has taken a call is told by the gateway; here the call itself fails: nobody listens.
    let mut config = world.config.clone();
    config.gateway_url = Some("http://127.0.0.1:9/{api_id}".into());
    let definition = mapped(HOUR, &RETRIED);
    let engine = Engine::start(&config, &[definition], Mode::Serve).unwrap();
    let mut run = engine.trigger(definition, with(&[1, 2, 3])).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed);
    let tries: Vec<_> = world
        .tasks(run.run.number)
        .iter()
        .filter(|task| task.task_id == "x.call")
        .map(|task| task.try_number)
        .collect();
    assert_eq!(tries, [2, 2, 2]);
    assert_eq!(services_of(&engine).await, [""; 0]);
    drop(engine);

    // An answer that is a refusal is asked for again by who reads it, without a place.
    let engine = Engine::start(&world.config, &[definition], Mode::Serve).unwrap();
    let mut run = engine.trigger(definition, with(&[1, 2])).await.unwrap();
    world.stage.gate.add_permits(9);
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(world.stage.seen("work").len(), 4);
    assert_eq!(services_of(&engine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_for_an_answer_leaves_a_closed_service_alone() {
    // The first one is never answered.
    let script = [("work", vec![(0, None), (200, None)]), ("busy", vec![(503, Some(4))])];
    let world = World::new(script.into(), None).await;
    let busy = Task { task_id: "busy", kind: Kind::Call, upstream: &[0], ..Task::FUNCTION };
    let tasks = group(0, Duration::from_millis(500), &RETRIED).into_iter().chain([(busy, calls("/busy"))]);
    let definition = define("calls", tasks);
    let engine = Engine::start(&world.config, &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed, "busy has no other try");
    assert_eq!(world.task(run.run.number, "x.read").unwrap().state, Some(Stands::Success));
    assert_eq!(world.task(run.run.number, "x.wait").unwrap().try_number, 2);
    let (closed, sent) = (world.stage.seen("busy")[0], world.stage.seen("work"));
    assert_eq!(sent.len(), 2);
    // The wait was over long before.
    assert!(sent[1] - closed >= Duration::from_secs(4), "{:?}", sent[1] - closed);
}

const AFTER: Options = Options { trigger_rule: TriggerRule::AllDone, ..Options::DEFAULT };

fn sensor(path: &'static str, poke_interval: Duration, timeout: Duration) -> Body {
    let call = SensorCall { call: call(path), poke_interval, timeout, until: None };
    Body::Sensor { call: Box::leak(Box::new(call)), arguments: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_leaves_a_closed_service_alone_until_its_last_look() {
    let script = [("busy", vec![(503, Some(3600))]), ("ready", vec![(200, None)])];
    let world = World::new(script.into(), Some(1)).await;
    let definition = define(
        "sensing",
        [
            (Task { task_id: "busy", kind: Kind::Call, ..Task::FUNCTION }, calls("/busy")),
            (
                Task { task_id: "s", kind: Kind::Sensor, upstream: &[0], options: &AFTER, ..Task::FUNCTION },
                sensor("/ready", Duration::from_millis(1), Duration::from_millis(300)),
            ),
        ],
    );
    let engine = Engine::start(&world.config, &[definition], Mode::OneRun).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let [looked] = world.stage.seen("ready")[..] else { panic!("{:?}", world.stage.seen("ready")) };
    assert!(looked - world.stage.seen("busy")[0] >= Duration::from_millis(300));
    let task = world.task(run.run.number, "s").unwrap();
    assert_eq!((task.try_number, task.state), (1, Some(Stands::Success)));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_its_calls_a_sensor_has_no_place() {
    let script = [("never", vec![(404, None)]), ("fine", vec![(200, None)])];
    let world = World::new(script.into(), Some(1)).await;
    let definition = define(
        "sensing",
        [
            (Task { task_id: "s", kind: Kind::Sensor, ..Task::FUNCTION }, sensor("/never", HOUR, 24 * HOUR)),
            (Task { task_id: "fine", kind: Kind::Call, ..Task::FUNCTION }, calls("/fine")),
        ],
    );
    let engine = Engine::start(&world.config, &[definition], Mode::OneRun).unwrap();
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    until(|| world.in_state(run.number, "fine", Stands::Success) == 1).await;
    until(|| world.in_state(run.number, "s", Stands::UpForReschedule) == 1).await;
    assert_eq!(services_of(&engine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_wait_for_a_closed_service_without_a_slot_or_a_try_and_it_opens_for_all() {
    let script = [("busy", vec![(503, Some(5)), (200, None)]), ("fine", vec![(200, None)])];
    let world = World::new(script.into(), None).await;
    let busy = Task { task_id: "busy", kind: Kind::Call, options: &RETRIED, ..Task::FUNCTION };
    let first = define("first", [(busy, calls("/busy"))]);
    let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let fine = |task_id| (Task { task_id, kind: Kind::Call, ..Task::FUNCTION }, calls("/fine"));
    let second = define("second", many.map(fine));
    let engine = Engine::start(&world.config, &[first, second], Mode::Serve).unwrap();
    let mut busy = engine.trigger(first, Trigger::default()).await.unwrap();
    until(|| world.in_state(busy.run.number, "busy", Stands::UpForRetry) == 1).await;
    let mut run = engine.trigger(second, Trigger::default()).await.unwrap();
    let told = services_of(&engine).await;
    assert!(told[0].starts_with("`svc` asked to be left alone until "), "{told:?}");
    match engine.order(Order::Status).await.unwrap() {
        Answer::Status { running, runs, .. } => assert_eq!((running, runs), (0, 2)),
        other => panic!("{other:?}"),
    }
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(busy.ended().await.unwrap(), RunState::Success);
    let closed = world.stage.seen("busy")[0];
    let after = world.stage.seen("fine");
    assert_eq!((after.len(), world.stage.seen("busy").len()), (10, 2));
    assert!(after.iter().all(|at| *at - closed >= Duration::from_secs(5)), "{closed:?} {after:?}");
    assert!(world.tasks(run.run.number).iter().all(|task| task.try_number == 1));
    assert_eq!(services_of(&engine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cleared_is_sent_once_more_and_not_twice() {
    let world = World::new([("work", vec![(200, None), (0, None)])].into(), Some(1)).await;
    let definition = define("calls", group(0, HOUR, &RETRIED));
    let engine = Engine::start(&world.config, &[definition], Mode::Serve).unwrap();
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let name = RunName { dag_id: None, run_id: run.run.run_id.to_string() };
    engine.order(Order::Retry { run: name, from: vec!["x.call".into()] }).await.unwrap();
    until(|| world.in_state(run.run.number, "x.wait", Stands::UpForReschedule) == 1).await;
    assert_eq!(world.stage.seen("work").len(), 2);
}
