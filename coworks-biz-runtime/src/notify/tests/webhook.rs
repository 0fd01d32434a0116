use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::config::{Config, Environment, Flags};
use crate::error::Retry;

const PATH: &str = "/services/T0/very-secret-path";

/// A server with this entry, and the settings for it.
async fn serve(entry: axum::routing::MethodRouter) -> (Config, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{PATH}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    let app = Router::new().route(PATH, entry);
    tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
    (config(url), tasks)
}

fn config(url: String) -> Config {
    let env = Environment::from(move |name| match name {
        "COWORKS_WEBHOOK_URL" => Some(url.clone()),
        "COWORKS_WEBHOOK_TOKEN" => Some("webhook-token".into()),
        _ => None,
    });
    let mut config = Config::from(Flags::default(), &env, Path::new("/nowhere")).unwrap();
    config.proxy = false;
    config
}

#[tokio::test]
async fn a_notice_is_posted_as_json_with_its_key_and_without_secrets() {
    let seen: Arc<Mutex<Vec<(HeaderMap, Value)>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let entry = post(async move |headers: HeaderMap, body: String| {
        kept.lock().unwrap().push((headers, serde_json::from_str(&body).unwrap()));
        StatusCode::ACCEPTED
    });
    let (config, _server) = serve(entry).await;
    config.secrets.hide("12345678");
    let webhook = Webhook::new(&config).unwrap().unwrap();
    let of_task = notice(Subject::Failure(TaskNotice {
        exception: Some("\"12345678\" at webhook-token".into()),
        ..task()
    }));
    webhook.send(&of_task).await.unwrap();
    webhook.send(&notice(run_failed(2))).await.unwrap();

    let seen = seen.lock().unwrap();
    let (headers, body) = &seen[0];
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["authorization"], "Bearer webhook-token");
    assert_eq!(headers["idempotency-key"], of_task.id().as_str());
    assert_eq!((&body["kind"], &body["exception"]), (&json!("failure"), &json!("\"***\" at ***")));
    assert_eq!(seen[1].1["failed_tasks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_refusal_says_what_was_answered_and_whether_it_may_pass() {
    let answer = |status: u16, after: &'static str| async move {
        let status = StatusCode::from_u16(status).unwrap();
        let (config, _server) =
            serve(post(async move || (status, [(header::RETRY_AFTER, after)], "no room\nfor webhook-token")))
                .await;
        let webhook = Webhook::new(&config).unwrap().unwrap();
        webhook.send(&notice(run_failed(1))).await.unwrap_err()
    };
    let error = answer(503, "7").await;
    assert_eq!(error.retry(), Retry::After(Duration::from_secs(7)));
    let text = error.to_string();
    assert!(text.starts_with("the webhook at http://127.0.0.1:"), "{text}");
    assert!(text.ends_with(" answered with 503: no room for ***"), "{text}");
    assert_eq!(answer(429, "x").await.retry(), Retry::AsConfigured);
    assert!(answer(404, "7").await.is_fatal());
    assert!(answer(301, "7").await.is_fatal());
}

#[tokio::test]
async fn one_that_is_not_there_or_says_nothing_is_told_without_its_path() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = Webhook::new(&config(format!("http://{address}{PATH}"))).unwrap().unwrap();
    let error = silent.within(Duration::from_millis(100)).send(&notice(run_failed(1))).await.unwrap_err();
    drop(listener);
    let gone = Webhook::new(&config(format!("http://{address}{PATH}"))).unwrap().unwrap();
    for error in [error, gone.send(&notice(run_failed(1))).await.unwrap_err()] {
        let text = error.to_string();
        assert!(text.starts_with(&format!("the webhook at http://{address} got no answer: ")), "{text}");
        assert!(!text.contains("very-secret-path") && !error.is_fatal(), "{text}");
    }
}

#[test]
fn without_an_address_there_is_none() {
    let none = Environment::from(|_| None);
    let config = Config::from(Flags::default(), &none, Path::new("/nowhere")).unwrap();
    assert!(Webhook::new(&config).unwrap().is_none());
    #[cfg(feature = "email")]
    assert!(Mailer::new(&config).unwrap().is_none());
}
