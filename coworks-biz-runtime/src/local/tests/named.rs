//! Services by their names, with a directory that can be watched.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{call, config, echo, who};
use crate::config::{Directory, Secret};
use crate::error::Result;
use crate::tech::{Arguments, Client, Method, Service, Token};

/// A directory that counts, and knows one service, whose token can change.
struct World {
    client: Client,
    secrets: Arc<crate::config::Secrets>,
    lookups: Arc<AtomicUsize>,
    token: Arc<Mutex<&'static str>>,
    url: String,
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

impl World {
    async fn new() -> Self {
        let (lookups, token) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new("first-token")));
        let now = Arc::clone(&token);
        let service = serve(echo().layer(axum::middleware::from_fn(
            move |request: axum::extract::Request, next: axum::middleware::Next| {
                let now = *now.lock().unwrap();
                async move {
                    match request.headers().get("authorization") {
                        Some(given) if given != now && given != "own" => {
                            StatusCode::FORBIDDEN.into_response()
                        }
                        _ => next.run(request).await,
                    }
                }
            },
        )))
        .await;
        let (count, now) = (Arc::clone(&lookups), Arc::clone(&token));
        let entry = move |Path(name): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap| {
            count.fetch_add(1, Ordering::SeqCst);
            assert!(!headers.contains_key("content-type") && !headers.contains_key("x-amzn-trace-id"));
            let answer = match (name.as_str(), headers.get("authorization")) {
                (_, None) => StatusCode::UNAUTHORIZED.into_response(),
                ("known", _) => {
                    let url = format!("{service}/{}", query.unwrap_or_default());
                    axum::Json(json!({ "token": *now.lock().unwrap(), "url": url })).into_response()
                }
                ("wrong", _) => axum::Json(json!({ "token": "leaked-token", "uri": 3 })).into_response(),
                ("busy", _) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => (StatusCode::INTERNAL_SERVER_ERROR, "KeyError").into_response(),
            };
            async move { answer }
        };
        let url = serve(Router::new().route("/dir/{name}", get(entry))).await + "/dir";
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), &[]);
        config.directory = Some(Directory::new(&url, Some(Secret::new("directory-token"))));
        let secrets = Arc::clone(&config.secrets);
        Self { client: Client::new(&config).unwrap(), secrets, lookups, token, url }
    }

    async fn ask(&self, cws_name: &'static str, token: Token) -> Result<Value> {
        let service = Service::Named { cws_name, stage: Some("prod") };
        let call = call(Method::Get, service, token);
        self.client.call(&call, &Arguments::new(), &who(), false).await?.value.unwrap().decode()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_of_a_service_look_it_up_once_and_again_when_it_has_changed() {
    let world = World::new().await;
    for answer in join_all((0..20).map(|_| world.ask("known", Token::OfService))).await {
        let seen = answer.unwrap();
        assert_eq!(seen["uri"], "/stage=prod/entry");
        assert_eq!(seen["headers"]["authorization"], "first-token");
    }
    assert_eq!(world.lookups.load(Ordering::SeqCst), 1);
    assert_eq!(world.secrets.scrub("first-token directory-token"), "*** ***");

    *world.token.lock().unwrap() = "second-token";
    let answers = join_all((0..20).map(|_| world.ask("known", Token::OfService))).await;
    assert!(answers.iter().all(|answer| answer.is_ok()), "{answers:?}");
    assert_eq!(world.lookups.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_token_of_its_own_keeps_it() {
    let world = World::new().await;
    let seen = world.ask("known", Token::Literal("own")).await.unwrap();
    assert_eq!(seen["headers"]["authorization"], "own");
    let seen = world.ask("known", Token::None).await.unwrap();
    assert_eq!(seen["headers"].get("authorization"), None);

    // Its token is refused, and the directory says the same: that is the answer.
    let error = world.ask("known", Token::Literal("wrong")).await.unwrap_err();
    assert!(error.is_fatal(), "{error}");
    let end = "/entry of `known` answered 403 (its token stands in the source of the call)";
    assert!(error.to_string().ends_with(end), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_found_says_where_it_was_looked_for() {
    let world = World::new().await;
    let url = &world.url;
    let error = world.ask("nobody", Token::OfService).await.unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(
        error.to_string(),
        format!("there is no `nobody` in the stage `prod` in the directory {url}: it answered 500: KeyError")
    );
    world.ask("nobody", Token::OfService).await.unwrap_err();
    assert_eq!(world.lookups.load(Ordering::SeqCst), 2, "a failure is not kept");

    let error = world.ask("busy", Token::OfService).await.unwrap_err();
    assert!(!error.is_fatal() && error.to_string().contains("could not be asked"), "{error}");
    let error = world.ask("wrong", Token::OfService).await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("not as {\"token\""), "{error}");
    assert!(!error.to_string().contains("leaked-token"), "{error}");
    let error = world.ask("..", Token::OfService).await.unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().starts_with("the name of a service: value 1 is `..`"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_directory_the_error_says_what_to_set() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(&config(dir.path(), &[])).unwrap();
    let call = call(Method::Get, Service::Named { cws_name: "x", stage: None }, Token::OfService);
    let error = client.call(&call, &Arguments::new(), &who(), false).await.unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(
        error.to_string(),
        "`x` is called by its name, and no directory is configured: set COWORKS_DIRECTORY_URL and \
         COWORKS_DIRECTORY_TOKEN, or AIRFLOW_CONN_COWORKS_DIRECTORY"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_directory_knows_services_by_name_and_stage() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    let stage = |stage: &str| {
        crate::local::Service::new("xxxx").stage(stage).named("neorezo-echo").token("token").entries(echo())
    };
    let services = crate::local::Services::new().with(stage("dev")).with(stage("prod"));
    let local = services.start(dir.path(), "results").await.unwrap();
    local.configure(&mut config);
    let client = Client::new(&config).unwrap();
    let ask = async |cws_name, stage| {
        let call = call(Method::Get, Service::Named { cws_name, stage }, Token::OfService);
        client.call(&call, &Arguments::new(), &who(), false).await
    };
    for stage in [None, Some("dev"), Some("prod")] {
        let seen: Value = ask("neorezo-echo", stage).await.unwrap().value.unwrap().decode().unwrap();
        assert_eq!(seen["headers"]["authorization"], "token");
    }
    let error = ask("neorezo-echo", Some("none")).await.unwrap_err().to_string();
    assert!(error.contains("there is no `neorezo-echo` in the stage `none`"), "{error}");

    let url = format!("{}/neorezo-echo", local.directory().unwrap().url);
    let unknown = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    assert_eq!(unknown.status(), 401);
}
