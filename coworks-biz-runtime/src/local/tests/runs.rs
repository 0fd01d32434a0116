//! Replies in runs: as XComs, and as the values of those who read them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Segment, RawQuery};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::any;
use serde_json::{Value, json};

use super::config;
use crate::config::Config;
use crate::dag::{Dag, Kind, Options, Role, Task};
use crate::engine::{Engine, EngineError, Mode, Refusal, Trigger};
use crate::error::Result;
use crate::local::{Service, Services};
use crate::run::RunState;
use crate::store::Reader;
use crate::task::{Body, Context, Definition, Member, Names, Work, finish};
use crate::tech::{self, Arguments, AsyncCall, Call, Method, Token};
use crate::value::{Reply, Type};

static OPTIONS: Options = Options { retries: 1, retry_delay: Duration::from_millis(5), ..Options::DEFAULT };

fn get(path: &'static str) -> Call {
    Call {
        method: Method::Get,
        path,
        service: tech::Service::Named { cws_name: "neorezo-status", stage: None },
        token: Token::OfService,
        accept: "application/json",
        request_timeout: Duration::from_secs(10),
        log_response: false,
        output: Some(Type::of::<Reply<u32>>()),
    }
}

/// A chain of tasks, in which each takes the output of the one before it.
fn chain(
    dag_id: &'static str,
    tasks: Vec<(&'static str, Kind, Body, &'static [u32])>,
    variables: &'static [&'static str],
) -> &'static Definition {
    let required = Names { secrets: &[], variables };
    let count = tasks.len() as u32;
    let (nodes, bodies): (Vec<_>, Vec<_>) = tasks
        .into_iter()
        .zip(0..)
        .map(|((task_id, kind, body, shares), index)| {
            let upstream: &[u32] = if index == 0 { &[] } else { vec![index - 1].leak() };
            let downstream: &[u32] = if index + 1 == count { &[] } else { vec![index + 1].leak() };
            let task = Task {
                task_id,
                kind,
                upstream,
                downstream,
                inputs: match body {
                    Body::Function(_) | Body::Group { member: Member::Submit, .. } => upstream,
                    _ => &[],
                },
                shares,
                output: "",
                gate: None,
                map: None,
                role: Role::Work,
                options: &OPTIONS,
                line: 1,
            };
            (task, body)
        })
        .unzip();
    let dag = Dag { dag_id, tasks: nodes.leak(), order: (0..count).collect::<Vec<_>>().leak(), ..Dag::EMPTY };
    let dag = Box::leak(Box::new(dag));
    Box::leak(Box::new(Definition { dag, bodies: bodies.leak(), required, ..Definition::EMPTY }))
}

/// Tells the reply it is given, and that it is the same by name.
fn tell(context: &Context) -> Result<Work> {
    let reply: Reply<u32> = context.input(0)?;
    let context = context.clone();
    Ok(finish(async move {
        let node = if context.dag_id.starts_with("async") { "x.read" } else { "x" };
        assert_eq!(context.xcom_pull::<Reply<u32>>(node).await?, reply);
        assert_eq!(context.xcom_pull::<Option<Reply<u32>>>(node).await?.as_ref(), Some(&reply));
        Result::<String>::Ok(match reply {
            Reply::Success(value) => format!("success {value}"),
            Reply::NoContent => "no content".to_owned(),
            Reply::Failure(failure) => format!("{failure}, {:?}", failure.headers.get("x-a")),
        })
    }))
}

fn synchronous(dag_id: &'static str, call: Call) -> &'static Definition {
    let call = Body::Call { call: Box::leak(Box::new(call)), arguments: None };
    chain(
        dag_id,
        vec![("x", Kind::Call, call, &[]), ("tell", Kind::Function, Body::Function(tell), &[])],
        &[],
    )
}

pub(super) fn asynchronous(dag_id: &'static str, path: &'static str) -> &'static Definition {
    let call = AsyncCall { call: get(path), timeout: Duration::from_secs(60), bucket: None, keep: false };
    let call: &AsyncCall = Box::leak(Box::new(call));
    let member = |member| Body::Group { member, call, arguments: None, submit: 0 };
    chain(
        dag_id,
        vec![
            ("x.call", Kind::Submit, member(Member::Submit), &[]),
            ("x.wait", Kind::Wait, member(Member::Wait), &[0]),
            ("x.read", Kind::Read, member(Member::Read), &[0, 1]),
            ("tell", Kind::Function, Body::Function(tell), &[]),
        ],
        &[],
    )
}

/// A service that answers with the status of its path, and a configuration that reaches it.
async fn world(dir: &std::path::Path) -> (crate::local::Local, Config) {
    let entry = |Segment(status): Segment<u16>| async move {
        let status = StatusCode::from_u16(status).unwrap();
        let body = match status.as_u16() {
            200 => axum::Json(7).into_response(),
            204 => ().into_response(),
            _ => axum::Json("no").into_response(),
        };
        (status, [("x-a", "b")], body)
    };
    let service = Service::new("xxxx")
        .named("neorezo-status")
        .token("token")
        .entries(Router::new().route("/{status}", any(entry)));
    let mut config = config(dir, &[]);
    let local = Services::new().with(service).start(&dir.join("s3"), &config.bucket).await.unwrap();
    local.configure(&mut config);
    (local, config)
}

/// Runs it, and gives what it told, and the XComs `status_code`, `return_value` and `headers` and
/// the try of the task with the reply.
async fn run(engine: &Engine, config: &Config, definition: &'static Definition) -> (RunState, String) {
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    let state = run.ended().await.unwrap();
    let reader = Reader::open(&config.db).unwrap();
    let node = if definition.dag.dag_id.starts_with("async") { "x.read" } else { "x" };
    let xcom = |task: &str, key: &str| {
        let json = reader.xcom(run.run.number, task, -1, key).unwrap();
        json.map_or("-".to_owned(), |json| json.as_str().to_owned())
    };
    let tries: u32 =
        reader.tasks(run.run.number).unwrap().iter().find(|t| t.task_id == node).map_or(0, |t| t.try_number);
    let headers = if xcom(node, "headers").contains("\"x-a\":\"b\"") { "headers" } else { "-" };
    let (status, value, told) =
        (xcom(node, "status_code"), xcom(node, "return_value"), xcom("tell", "return_value"));
    (state, format!("{status} {value} {headers} try {tries}: {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_pushed_as_coworks_does_and_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let (_local, config) = world(dir.path()).await;
    let cases = [
        (synchronous("200", get("/200")), r#"200 7 - try 1: "success 7""#),
        (synchronous("204", get("/204")), r#"204 {} - try 1: "no content""#),
        (synchronous("404", get("/404")), r#"404 "no" headers try 1: "answered 404: no, Some(\"b\")""#),
        (synchronous("503", get("/503")), r#"503 "no" headers try 2: "answered 503: no, Some(\"b\")""#),
        (asynchronous("async 200", "/200"), r#"200 7 - try 1: "success 7""#),
        (asynchronous("async 204", "/204"), r#"204 "" - try 1: "no content""#),
        (asynchronous("async 404", "/404"), r#"404 "no" headers try 1: "answered 404: no, Some(\"b\")""#),
        (asynchronous("async 503", "/503"), r#"503 "no" headers try 2: "answered 503: no, Some(\"b\")""#),
    ];
    let engine = Engine::start(&config, &cases.map(|(definition, _)| definition), Mode::OneRun).unwrap();
    for (definition, expected) in cases {
        let ended = run(&engine, &config, definition).await;
        assert_eq!(ended, (RunState::Success, expected.to_owned()), "{}", definition.dag.dag_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_again_is_what_was_transformed() {
    static CALL: LazyLock<AsyncCall> = LazyLock::new(|| AsyncCall {
        call: Call { output: Some(Type::of::<u32>()), ..get("/") },
        timeout: Duration::from_secs(60),
        bucket: None,
        keep: false,
    });
    fn transformer(_: &Context) -> Result<Work> {
        Ok(finish(async { Result::<_>::Ok(json!({ "page": 2 })) }))
    }
    fn arguments(context: &Context) -> Result<Arguments> {
        Arguments::new().transformed(Method::Get, context.input::<Value>(0)?)
    }
    fn member(member: Member) -> Body {
        Body::Group { member, call: &CALL, arguments: Some(arguments), submit: 1 }
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let entry = move |RawQuery(query): RawQuery| async move {
        assert_eq!(query.as_deref(), Some("page=2"));
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => axum::Json(7).into_response(),
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new("x").named("neorezo-status").entries(Router::new().route("/", any(entry)));
    let mut config = config(dir.path(), &[]);
    let local = Services::new().with(service).start(&dir.path().join("s3"), &config.bucket).await.unwrap();
    local.configure(&mut config);
    let tasks = vec![
        ("x.transformer", Kind::Function, Body::Function(transformer), &[][..]),
        ("x.call", Kind::Submit, member(Member::Submit), &[]),
        ("x.wait", Kind::Wait, member(Member::Wait), &[1]),
        ("x.read", Kind::Read, member(Member::Read), &[1, 2]),
    ];
    let definition = chain("async transformed", tasks, &[]);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let ended = run(&engine, &config, definition).await;
    assert_eq!(ended, (RunState::Success, "200 7 - try 2: -".to_owned()));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // Nothing else is told to the engine that would remind it.
    let drained = tokio::time::timeout(Duration::from_secs(60), engine.drain()).await;
    drained.expect("both answers are deleted, and nothing is left to do").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_reached_is_no_reply() {
    let dir = tempfile::tempdir().unwrap();
    let (_local, config) = world(dir.path()).await;
    let call = Call { service: tech::Service::Url("http://127.0.0.1:1"), ..get("/") };
    let definition = synchronous("unreachable", call);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let ended = run(&engine, &config, definition).await;
    assert_eq!(ended, (RunState::Failed, "- - - try 2: -".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_refused_where_a_name_is_not_set() {
    static ARGUMENTS: LazyLock<Call> = LazyLock::new(|| get("/200"));
    fn arguments(_: &Context) -> Result<Arguments> {
        Arguments::new().query_pair("page", &crate::config::var("PAGE"))
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.directory = None;
    let call = Body::Call { call: &ARGUMENTS, arguments: Some(arguments) };
    let definition = chain("needs", vec![("x", Kind::Call, call, &[])], &["PAGE"]);
    let engine = Engine::start(&config, &[definition], Mode::OneRun).unwrap();
    let error = engine.trigger(definition, Trigger::default()).await.unwrap_err();
    let EngineError::Refused(Refusal::Missing { missing, .. }) = error else { panic!("{error}") };
    assert_eq!(
        missing,
        [
            "services are called by name, and no directory is configured: set COWORKS_DIRECTORY_URL and \
             COWORKS_DIRECTORY_TOKEN, or AIRFLOW_CONN_COWORKS_DIRECTORY",
            "the variable `PAGE` is not set: put it into COWORKS_VAR_PAGE (or AIRFLOW_VAR_PAGE)",
        ]
    );
}
