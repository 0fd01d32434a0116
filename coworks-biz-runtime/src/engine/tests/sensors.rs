//! Sensors: nothing is held between their calls, and nothing forgotten.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::dag::Kind;
use crate::run::State;
use crate::store::TaskRecord;
use crate::tech::{Call, Method, SensorCall, Service, Token};

/// Answers one request after the other, the last answer for ever, and keeps the requests.
fn serve(answers: &'static [(u16, &'static str)]) -> (&'static str, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).leak();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&requests);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            kept.lock().unwrap().push(String::from_utf8(request).unwrap());
            let (status, body) = answers[number.min(answers.len() - 1)];
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    (url, requests)
}

fn sensor(url: &'static str, poke_interval: Duration, timeout: Duration) -> &'static Definition {
    let call = Call {
        method: Method::Get,
        path: "/ready",
        service: Service::Url(url),
        token: Token::None,
        accept: "*/*",
        request_timeout: Duration::from_secs(5),
        log_response: false,
        output: None,
    };
    let until: fn(&Json) -> Result<bool> = |json| Ok(json.as_str() != "\"wait\"");
    let call = Box::leak(Box::new(SensorCall { call, poke_interval, timeout, until: Some(until) }));
    let task = Task { task_id: "ready", kind: Kind::Sensor, ..Task::FUNCTION };
    define("sensing", [(task, Body::Sensor { call, arguments: None })])
}

fn start(dir: &Path, definition: &'static Definition) -> Engine {
    let mut config = config(dir, 2);
    config.proxy = false;
    Engine::start(&config, &[definition], Mode::OneRun).unwrap()
}

fn record(dir: &Path, run: i64) -> TaskRecord {
    Reader::open(&dir.join("biz.db")).unwrap().tasks(run).unwrap().remove(0)
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_asks_until_the_answer_is_what_it_waits_for() {
    let (url, requests) = serve(&[(404, "no"), (500, "no"), (200, "\"wait\""), (200, "\"go\"")]);
    let dir = tempfile::tempdir().unwrap();
    let definition = sensor(url, Duration::from_millis(1), HOUR);
    let engine = start(dir.path(), definition);
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    // A service that knows a key would give the old answer again.
    let keys: std::collections::HashSet<_> = requests
        .iter()
        .map(|request| request.lines().find(|line| line.to_lowercase().starts_with("idempotency-key")))
        .collect();
    assert_eq!(keys.len(), 4);
    let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
    let value = |key| reader.xcom(run.run.number, "ready", -1, key).unwrap().unwrap().as_str().to_owned();
    assert_eq!([value("return_value"), value("status_code")], ["\"go\"", "200"]);
    assert_eq!(value("cws_name"), format!("{url:?}"));
    let record = record(dir.path(), run.run.number);
    assert_eq!((record.try_number, record.interruptions, record.waits_for), (1, 0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_its_calls_a_sensor_is_a_row_and_stays_one_over_restarts() {
    let (url, requests) = serve(&[(404, "no"), (200, "\"go\"")]);
    let asked = || requests.lock().unwrap().len();
    let dir = tempfile::tempdir().unwrap();
    let definition = sensor(url, HOUR, 24 * HOUR);
    let engine = start(dir.path(), definition);
    let run = engine.trigger(definition, Trigger::default()).await.unwrap().run;
    let first = until(async || {
        let records = Reader::open(&dir.path().join("biz.db")).unwrap().tasks(run.number).unwrap();
        records.into_iter().find(|record| record.state == Some(State::UpForReschedule))
    })
    .await;
    assert!(first.due_at.unwrap() - first.start_date.unwrap() > chrono::TimeDelta::minutes(59));
    // It has no slot: nothing keeps the engine from being drained.
    engine.drain().await.unwrap();
    drop(engine);

    let engine = start(dir.path(), definition);
    engine.resume(None, &run.run_id).await.unwrap();
    engine.drain().await.unwrap();
    drop(engine);
    let second = record(dir.path(), run.number);
    assert_eq!((second.state, second.due_at), (Some(State::UpForReschedule), first.due_at));
    assert_eq!(asked(), 1);

    // Its time comes while nobody runs.
    let intruder = rusqlite::Connection::open(dir.path().join("biz.db")).unwrap();
    intruder.execute("UPDATE task_instance SET due_at = 1", []).unwrap();
    let engine = start(dir.path(), definition);
    let mut run = engine.resume(None, &run.run_id).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Success);
    assert_eq!(asked(), 2);
    assert_eq!(record(dir.path(), run.run.number).start_date, first.start_date);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_fails_when_its_time_is_over_or_it_is_not_let_in() {
    for (answers, timeout, expected) in [
        (&[(200, "\"wait\"")], Duration::ZERO, "not there within its timeout of 0s: it answered 200"),
        (&[(404, "\"no\"")], Duration::ZERO, "not there within its timeout of 0s: GET "),
        (&[(403, "\"no\"")], HOUR, "GET http://127.0.0.1:"),
    ] {
        let (url, requests) = serve(answers);
        let dir = tempfile::tempdir().unwrap();
        let definition = sensor(url, HOUR, timeout);
        let engine = start(dir.path(), definition);
        let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
        assert_eq!(run.ended().await.unwrap(), RunState::Failed);
        let error = record(dir.path(), run.run.number).error.unwrap();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(requests.lock().unwrap().len(), 1);
    }
}
