//! Asynchronous calls whose answers are late, lost, doubled or wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coworks_biz::local::State::{Failed, Success};
use coworks_biz::local::axum::Json;
use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::{HeaderMap, StatusCode};
use coworks_biz::local::axum::response::{IntoResponse, Response};
use coworks_biz::local::{Fault, Sandbox, Service, Services};
use coworks_biz::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

#[biz]
fn once() {
    let x: u32 = tech!(async POST "/work", api_id = "worker", no_auth, timeout = "15m");
}

#[biz(retries = 2, retry_delay = "1m")]
fn patient() {
    let x: u32 = tech!(async POST "/work", api_id = "worker", no_auth, timeout = "15m");
}

#[biz]
fn keeping() {
    let x: u32 = tech!(async POST "/work", api_id = "worker", no_auth, keep, timeout = "15m");
}

/// A service that does its work once for each `Idempotency-Key`, and counts.
fn worker() -> (Services, Arc<Mutex<HashMap<String, u32>>>) {
    let done: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let work = {
        let done = Arc::clone(&done);
        move |headers: HeaderMap| {
            let mut done = done.lock().unwrap();
            let next = done.len() as u32 + 1;
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            let number = *done.entry(key).or_insert(next);
            async move { Json(number) }
        }
    };
    (Services::new().with(Service::new("worker").post("/work", work)), done)
}

#[tokio::test]
async fn an_answer_that_comes_after_nobody_waits_any_more_is_swept() -> Result<()> {
    let sandbox = Sandbox::new(worker().0).await?;
    sandbox.fault("worker", Fault::delay(2 * HOUR));
    let begun = sandbox.now();
    let run = sandbox.run::<once>(()).await?;
    assert_eq!(run.state_of("x.wait"), Some(Failed), "{run}");
    // Not a look earlier than it was told to, nor much later.
    let waited = sandbox.now() - begun;
    assert!((900..901).contains(&waited.num_seconds()), "{waited}");
    assert_eq!(sandbox.answers()?, Vec::<String>::new());

    sandbox.pass(HOUR * 11 / 6).await?;
    assert_eq!(sandbox.answers()?.len(), 1, "it has come");
    sandbox.pass(HOUR).await?;
    assert_eq!(sandbox.answers()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_is_kept_is_kept_also_when_it_is_late() -> Result<()> {
    let sandbox = Sandbox::new(worker().0).await?;
    sandbox.faults("worker", [Fault::none(), Fault::delay(HOUR)]);
    assert!(sandbox.run::<keeping>(()).await?.is_success());
    assert!(!sandbox.run::<keeping>(()).await?.is_success());
    sandbox.pass(10 * HOUR).await?;
    assert_eq!(sandbox.answers()?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_delivered_twice_is_swept_twice() -> Result<()> {
    let sandbox = Sandbox::new(worker().0).await?;
    sandbox.fault("worker", Fault::duplicate());
    let run = sandbox.run::<once>(()).await?;
    assert_eq!(run.output::<u32>("x")?, 1, "{run}");
    sandbox.pass(HOUR).await?;
    assert_eq!(sandbox.answers()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_service_that_works_once_for_a_key_answers_where_it_is_looked() -> Result<()> {
    let (services, done) = worker();
    let sandbox = Sandbox::new(services).await?;
    // Its work is done twice over, and no answer is left.
    sandbox.faults("worker", [Fault::drop(), Fault::drop()]);
    let run = sandbox.run::<patient>(()).await?;
    assert_eq!(run.output::<u32>("x")?, 1, "{run}");
    assert_eq!((run.tries_of("x.wait"), done.lock().unwrap().len()), (3, 1));
    let calls = sandbox.calls("worker");
    for header in ["Idempotency-Key", "X-CWS-S3Key"] {
        let sent: Vec<_> = calls.iter().map(|call| call.header(header).unwrap()).collect();
        assert!(sent.len() == 3 && sent.iter().all(|value| *value == sent[0]), "{header}: {sent:?}");
    }
    assert_eq!(sandbox.answers()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_refused_is_asked_for_at_another_key() -> Result<()> {
    let sandbox = Sandbox::new(worker().0).await?;
    let refused = r#"{"statusCode":503,"headers":{},"body":"busy","isBase64Encoded":false}"#;
    sandbox.faults("worker", [Fault::leaves(refused), Fault::leaves(refused)]);
    let run = sandbox.run::<patient>(()).await?;
    assert_eq!((run.output::<u32>("x")?, run.tries_of("x.read")), (1, 3), "{run}");
    let calls = sandbox.calls("worker");
    let sent = |header| calls.iter().map(|call| call.header(header).unwrap()).collect::<Vec<_>>();
    assert!(sent("Idempotency-Key").iter().all(|key| *key == sent("Idempotency-Key")[0]));
    let keys = sent("X-CWS-S3Key");
    assert_eq!(keys[1..], [format!("{}.2", keys[0]), format!("{}.3", keys[0])]);
    assert_eq!(sandbox.answers()?, Vec::<String>::new());
    Ok(())
}

/// What is left in S3, and what the error says of it.
const UNFIT: &[(&str, &str)] = &[
    ("", "is empty"),
    ("{\"statusCode\": 200", "holds no result of a CoWorks service"),
    ("[1, 2]", "holds no result of a CoWorks service"),
    ("\u{0}\u{1}", "holds no result of a CoWorks service"),
    (r#"{"statusCode":"200","headers":{},"body":7,"isBase64Encoded":false}"#, "holds no result"),
    (r#"{"statusCode":200,"headers":{},"body":"?","isBase64Encoded":true}"#, "base64"),
    (r#"{"statusCode":200,"headers":{},"body":"seven","isBase64Encoded":false}"#, "this is no `u32`"),
];

#[tokio::test]
async fn an_answer_that_cannot_be_understood_is_told_and_kept() -> Result<()> {
    let sandbox = Sandbox::new(worker().0).await?;
    for (number, (left, said)) in UNFIT.iter().enumerate() {
        sandbox.fault("worker", Fault::leaves(*left));
        let run = sandbox.run::<patient>(()).await?;
        let error = run.error_of("x.read").unwrap_or_default();
        assert!(error.contains(said) && error.contains("s3://"), "{left:?}: {run}");
        assert_eq!(run.tries_of("x.read"), 1, "no other try would find anything else: {run}");
        sandbox.pass(10 * HOUR).await?;
        assert_eq!(sandbox.answers()?.len(), number + 1, "{left:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_refused_is_not_waited_for() -> Result<()> {
    for (status, tries) in [(401, 1), (403, 1), (404, 1), (500, 3)] {
        let sandbox = Sandbox::new(worker().0).await?;
        sandbox.faults("worker", [(); 3].map(|()| Fault::status(status)));
        let run = sandbox.run::<patient>(()).await?;
        assert_eq!((run.state_of("x.call"), run.tries_of("x.call")), (Some(Failed), tries), "{run}");
        assert!(run.error_of("x.call").unwrap().contains(&status.to_string()), "{run}");
    }
    Ok(())
}

#[tokio::test]
async fn who_hangs_up_before_it_knows_of_the_call_is_called_again() -> Result<()> {
    let (services, done) = worker();
    let sandbox = Sandbox::new(services).await?;
    sandbox.faults("worker", [Fault::reset(), Fault::reset()]);
    let run = sandbox.run::<patient>(()).await?;
    assert_eq!((run.output::<u32>("x")?, run.tries_of("x.call")), (1, 3), "{run}");
    assert_eq!(done.lock().unwrap().len(), 1);
    Ok(())
}

#[biz]
fn mapped(conf: Vec<u32>) {
    for n in conf {
        let squared: u32 = tech!(async GET "/squares/{n}", api_id = "slow", no_auth, timeout = "2h");
    }
    let all = list(squared);
}

async fn list(squares: Vec<u32>) -> Result<Vec<u32>> {
    Ok(squares)
}

#[tokio::test]
async fn a_hundred_answers_come_in_any_order_and_stay_in_theirs() -> Result<()> {
    let square = |Path(n): Path<u32>| async move { Json(n * n) };
    let sandbox =
        Sandbox::new(Services::new().with(Service::new("slow").get("/squares/{n}", square))).await?;
    // The last first.
    sandbox.faults("slow", (0..100).map(|n| Fault::delay(Duration::from_secs(10 * (100 - n)))));
    let begun = sandbox.now();
    let run = sandbox.run::<mapped>((0..100).collect::<Vec<u32>>()).await?;
    assert_eq!(run.output::<Vec<u32>>("all")?, (0..100).map(|n| n * n).collect::<Vec<_>>(), "{run}");
    let took = (sandbox.now() - begun).num_seconds();
    assert!((1000..1020).contains(&took), "{took}");
    assert_eq!(sandbox.answers()?, Vec::<String>::new());
    Ok(())
}

#[biz(retries = 1, retry_delay = "1m")]
fn tolerant() {
    let x: Reply<u32> = tech!(async POST "/work", api_id = "refuser", no_auth, timeout = "15m");
}

#[tokio::test]
async fn a_refusal_that_is_stored_is_a_value_for_who_wants_a_reply() -> Result<()> {
    let refuse = || async { (StatusCode::NOT_FOUND, [("x-why", "none")], "no such thing").into_response() };
    let refuse = move || -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>> { Box::pin(refuse()) };
    let sandbox = Sandbox::new(Services::new().with(Service::new("refuser").post("/work", refuse))).await?;
    let run = sandbox.run::<tolerant>(()).await?;
    let Reply::Failure(failure) = run.output::<Reply<u32>>("x")? else { panic!("{run}") };
    assert_eq!((failure.status, failure.headers["x-why"].as_str()), (404, "none"));
    assert_eq!((run.tries_of("x.read"), run.state_of("x.read")), (1, Some(Success)));
    assert_eq!(sandbox.answers()?, Vec::<String>::new());
    Ok(())
}
