//! What a call sends, as the gateway hands it on.

use serde_json::{Value, json};

use super::{call, config, echo, who};
use crate::config::{secret, var};
use crate::error::Result;
use crate::local::{Local, Service, Services};
use crate::tech::{self, Address, Arguments, Client, Form, Given, Method, TechService, Token};

const API: tech::Service = tech::Service::Api { api_id: "echo", stage: "dev", region: "eu-west-1" };

struct World {
    client: Client,
    _local: Local,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(
            dir.path(),
            &[
                ("COWORKS_SECRET_KEY", "a secret/key"),
                ("COWORKS_VAR_PAGE", "2"),
                ("COWORKS_SECRET_TOKEN", "token"),
            ],
        );
        let service = Service::new("echo")
            .named("neorezo-echo")
            .token("token")
            .takes("application/x-www-form-urlencoded")
            .entries(echo());
        let local = Services::new().with(service).start(&dir.path().join("s3"), "results").await.unwrap();
        local.configure(&mut config);
        Self { client: Client::new(&config).unwrap(), _local: local, _dir: dir }
    }

    async fn ask(&self, call: tech::Call, arguments: Result<Arguments>) -> Result<Value> {
        let answer = self.client.call(&call, &arguments?, &who(), false).await?;
        answer.value.unwrap().decode()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_sends_what_it_was_given() {
    let world = World::new().await;
    let given = Arguments::new()
        .path(&["/customers/", "/orders"], &[&"Smith & Co/é"])
        .and_then(|a| a.query(&json!({"tag": ["a b", "c"], "none": null})))
        .and_then(|a| a.query_pair("key", &secret("KEY")))
        .and_then(|a| a.header("X-Page", &var("PAGE")))
        .and_then(|a| a.header("accept", &"text/csv"))
        .and_then(|a| a.header("Authorization", &"mine"))
        .and_then(|a| a.token(&secret("TOKEN")))
        .and_then(|a| a.json(&json!({"id": 7})));
    let seen = world.ask(call(Method::Post, API, Token::None), given).await.unwrap();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["uri"], "/customers/Smith%20%26%20Co%2F%C3%A9/orders?tag=a+b&tag=c&key=a+secret%2Fkey");
    assert_eq!(seen["body"], r#"{"id":7}"#);
    for (name, value) in [
        ("x-page", "2"),
        ("accept", "text/csv"),
        ("authorization", "token"),
        ("content-type", "application/json"),
        ("x-amzn-trace-id", "Root=1-0-0"),
        ("idempotency-key", "uuid/x.-1.0"),
    ] {
        assert_eq!(seen["headers"][name], value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_sent_as_one_unless_a_header_says_otherwise() {
    let world = World::new().await;
    let post = || call(Method::Post, API, Token::Literal("token"));
    let form = || Arguments::new().data(Form(json!({"name": "Ada L", "tag": [1, 2]})));
    let seen = world.ask(post(), form()).await.unwrap();
    assert_eq!(seen["body"], "name=Ada+L&tag=1&tag=2");
    assert_eq!(seen["headers"]["content-type"], "application/x-www-form-urlencoded");

    let error = world.ask(post(), Arguments::new().data("text")).await.unwrap_err();
    assert!(error.to_string().contains("answered 415"), "{error}");
    let text = Arguments::new().data("text").and_then(|a| a.header("Content-Type", &"application/json"));
    assert_eq!(world.ask(post(), text).await.unwrap()["body"], "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_message() {
    let world = World::new().await;
    let url = tech::Service::Url("http://127.0.0.1:1/base");
    let arguments = Arguments::new().query_pair("key", &secret("KEY"));
    let error = world.ask(call(Method::Get, url, Token::None), arguments).await.unwrap_err().to_string();
    assert!(error.starts_with("GET http://127.0.0.1:1/base/entry?key=*** got no answer: "), "{error}");

    let arguments = Arguments::new().header("X-Key", &secret("NONE"));
    let error = world.ask(call(Method::Get, API, Token::None), arguments).await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("COWORKS_SECRET_NONE"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_company_has_its_own_addresses_and_headers() {
    struct NeoRezo(&'static str);
    impl TechService for NeoRezo {
        fn address(&self) -> Address {
            Address::Named { cws_name: format!("neorezo-{}", self.0), stage: None }
        }

        fn headers(&self) -> Vec<(String, Given)> {
            vec![
                ("Accept".into(), "application/vnd.api+json".into()),
                ("X-NR-JWT".into(), secret("KEY").into()),
                ("X-Of".into(), "the service".into()),
            ]
        }
    }
    static SERVICE: tech::Service = tech::Service::Custom(|| Box::new(NeoRezo("echo")));

    let world = World::new().await;
    let arguments = Arguments::new().header("X-Of", &"the call");
    let seen = world.ask(call(Method::Get, SERVICE, Token::OfService), arguments).await.unwrap();
    assert_eq!(seen["uri"], "/entry");
    for (name, value) in [
        ("accept", "application/vnd.api+json"),
        ("x-nr-jwt", "a secret/key"),
        ("x-of", "the call"),
        ("authorization", "token"),
    ] {
        assert_eq!(seen["headers"][name], value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_is_refused_and_one_within_is_followed() {
    let (asked, address) = elsewhere().await;
    let world = World::new().await;
    let arguments = || Arguments::new().header("X-Key", &secret("KEY"));
    let service = tech::Service::Url(address.leak());
    let at = |path| tech::Call { path, ..call(Method::Get, service, Token::None) };
    assert_eq!(world.ask(at("/within"), arguments()).await.unwrap(), json!("here"));

    let error = world.ask(at("/away"), arguments()).await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("redirects to another host"), "{error}");
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// A service that redirects to itself and to another one, which counts who asks it.
async fn elsewhere() -> (std::sync::Arc<std::sync::atomic::AtomicUsize>, String) {
    use axum::response::Redirect;
    use axum::routing::get;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    let other = axum::Router::new().fallback(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async { "there" }
    });
    let other = serve(other).await;
    let app = axum::Router::new()
        .route("/within", get(|| async { Redirect::temporary("/here") }))
        .route("/here", get(|| async { "here" }))
        .route("/away", get(move || async move { Redirect::temporary(&other) }));
    (asked, serve(app).await)
}

async fn serve(app: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
