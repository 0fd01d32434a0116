//! Who is told of what by a webhook, by a real server.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use futures_util::FutureExt;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::config::{Secret, WebhookTarget};
use crate::store::{NoticeRecord, Writer};

/// A server that answers each request once it may.
struct Server {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    arrived: Arc<Semaphore>,
    may: Arc<Semaphore>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (arrived, may) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let server = Self { url, bodies: bodies.clone(), arrived: arrived.clone(), may: may.clone() };
        let answer = async move |body: String| {
            bodies.lock().unwrap().push(serde_json::from_str(&body).unwrap());
            arrived.add_permits(1);
            may.acquire().await.unwrap().forget();
        };
        let app = Router::new().route("/hook", post(answer));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        server
    }

    fn config(&self, dir: &Path) -> Config {
        let mut config = config(dir, 4);
        config.webhook = Some(WebhookTarget { url: Secret::new(self.url.clone()), token: None });
        config.proxy = false;
        config
    }
}

/// What is still to be told.
fn left(dir: &Path) -> Vec<NoticeRecord> {
    Writer::open(&dir.join("biz.db"), Default::default()).unwrap().notices().unwrap()
}

fn fails(_: &Context) -> Result<Work> {
    Ok(finish(async { Err::<(), _>(Error::msg("the printer is on fire")) }))
}

async fn fail(engine: &Engine, definition: &'static Definition) {
    let mut run = engine.trigger(definition, Trigger::default()).await.unwrap();
    assert_eq!(run.ended().await.unwrap(), RunState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_task_and_of_a_run_is_posted() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let definition = definition("office", &[("print", &[], fails), ("send", &[0], one)]);
    let engine = Engine::start(&server.config(dir.path()), &[definition], Mode::OneRun).unwrap();
    server.may.add_permits(2);
    fail(&engine, definition).await;
    engine.drain().await.unwrap();
    drop(engine);
    let mut told: Vec<_> = server.bodies.lock().unwrap().iter().map(Value::to_string).collect();
    told.sort_by_key(|text| text.contains("run_failed"));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(r#""failure""#) && told[1].contains(r#""run_failed""#), "{told:?}");
    assert!(told.iter().all(|text| text.contains("office") && text.contains("is on fire")), "{told:?}");
    assert!(left(dir.path()).is_empty(), "all are told");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_stop_waits_for_what_is_being_told_and_begins_with_nothing_more() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let definition = definition("office", &[("print", &[], fails)]);
    let engine = Engine::start(&server.config(dir.path()), &[definition], Mode::Serve).unwrap();
    for _ in 0..10 {
        fail(&engine, definition).await;
    }
    // So many at once; twelve wait for their turn.
    server.arrived.acquire_many(8).await.unwrap().forget();
    {
        let mut drained = std::pin::pin!(engine.drain());
        assert!(drained.as_mut().now_or_never().is_none());
        // What is told now comes behind that.
        server.may.add_permits(20);
        drained.await.unwrap();
    }
    drop(engine);
    assert_eq!((server.bodies.lock().unwrap().len(), left(dir.path()).len()), (8, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_executes_one_run_tells_all_that_came_of_it() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let names: Vec<_> = (0..20).map(|n| &*format!("print_{n}").leak()).collect();
    let tasks: Vec<_> = names.iter().map(|name| (*name, &[][..], fails as Runner)).collect();
    let definition = definition("office", &tasks);
    let engine = Engine::start(&server.config(dir.path()), &[definition], Mode::OneRun).unwrap();
    server.may.add_permits(21);
    fail(&engine, definition).await;
    engine.drain().await.unwrap();
    drop(engine);
    assert_eq!((server.bodies.lock().unwrap().len(), left(dir.path()).len()), (21, 0));
}
