//! What calls take from values, as services see it; and services that are found by their names.

use std::sync::{Arc, Mutex};

use coworks_biz::local::axum::extract::{Path, Query, Request};
use coworks_biz::local::axum::http::{HeaderMap, StatusCode, Uri};
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::{any, get, post};
use coworks_biz::local::axum::{Json, Router, serve};
use serde_json::{Value, json};

use crate::harness::{Ended, Run, Seen, TOKEN, World};

fn fine() -> Router {
    Router::new().route("/{*path}", any(|| async { Json("fine") }))
}

fn order(name: &str) -> Value {
    json!({"name": name, "page": 2, "tags": ["x", "y z"], "note": null})
}

fn of<'s>(seen: &'s [Seen], path: &str) -> &'s Seen {
    let mut all = seen.iter().filter(|seen| seen.uri.path().starts_with(path));
    all.next().unwrap_or_else(|| panic!("nothing went to {path}: {seen:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_where_calls_take_them() {
    let world = World::with(fine(), |test| {
        test.takes("text/").takes("application/octet-stream").takes("application/x-www-form-urlencoded")
    });
    let world = world.await;
    let (ended, run) = world.run_with("arguments", order("A/b c&é")).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.ids("success").len(), 11);
    let seen = world.seen();
    assert_eq!(seen.len(), 10);

    let line = |path: &str| of(&seen, path).line();
    assert_eq!(line("/orders"), "GET /orders/A%2Fb%20c%26%C3%A9/%7Bliteral%7D/3-2");
    assert_eq!(line("/pairs"), format!("GET /pairs?page=2&tag=x&tag=y+z&with+2=true&region=eu&key={TOKEN}"));
    assert_eq!(line("/object"), "DELETE /object?name=A%2Fb+c%26%C3%A9&tag=x&tag=y+z");
    for path in ["/orders", "/pairs", "/object"] {
        let call = of(&seen, path);
        assert!(call.body.is_empty(), "{call:?}");
        assert_eq!(call.header("content-type"), Some("application/json"));
        assert_eq!(call.header("authorization"), None);
    }

    let json_calls: Vec<_> = seen.iter().filter(|seen| seen.uri.path() == "/json").collect();
    let body = json_calls.iter().find(|call| call.method == "POST").unwrap();
    assert_eq!(body.json(), json!({"name": "A/b c&é", "lines": [2, {"tags": ["x", "y z"]}]}));
    for (name, value) in [
        ("content-type", Some("application/json")),
        ("x-page", Some("2")),
        ("x-note", None),
        ("x-region", Some("eu")),
        ("x-key", Some(TOKEN)),
        ("accept", Some("application/vnd.api+json")),
        ("authorization", Some("Bearer 8-2")),
    ] {
        assert_eq!(body.header(name), value, "{name}");
    }
    let whole = json_calls.iter().find(|call| call.method == "PATCH").unwrap();
    assert_eq!(whole.json(), order("A/b c&é"));
    assert_eq!(whole.header("authorization"), Some(TOKEN));

    for (path, kind, bytes) in [
        ("/text", "text/plain; charset=utf-8", "2é".as_bytes()),
        ("/bytes", "application/octet-stream", &[0, 159, 146, 2]),
        ("/form", "application/x-www-form-urlencoded", b"name=A%2Fb+c%26%C3%A9&tag=x&tag=y+z"),
        ("/csv", "text/csv", b"a;b"),
    ] {
        let call = of(&seen, path);
        assert_eq!((call.header("content-type"), &call.body[..]), (Some(kind), bytes), "{path}");
    }

    let own = of(&seen, "/own");
    assert_eq!(own.line(), "GET /own/2");
    for (name, value) in [
        ("x-company", "neorezo"),
        ("x-two", "of the call"),
        ("x-company-key", TOKEN),
        ("authorization", "eu"),
    ] {
        assert_eq!(own.header(name), Some(value), "{name}");
    }
    assert_eq!(run.task("own")["xcom"]["cws_name"], "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_would_make_another_address_is_refused_at_once() {
    for (name, how) in [("", "is empty"), ("..", "is `..`")] {
        let world = World::new(fine()).await;
        let (ended, run) = world.run_with("arguments", order(name)).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert_eq!(run.state_of("path"), "failed");
        assert_eq!(run.task("path")["try_number"], 1, "another try would not help");
        let error = run.error("path");
        let sentence = format!(
            "value 1 in the path `/orders/{{}}/{{literal}}/{{}}-{{}}` {how}: the call would go to another address"
        );
        assert_eq!(error, sentence);
        assert!(world.seen().iter().all(|seen| !seen.uri.path().starts_with("/orders")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_service_says_again_is_nowhere() {
    let say = |uri: Uri, headers: HeaderMap| {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        json!({ "uri": uri.to_string(), "key": header("x-key"), "auth": [header("authorization")] })
    };
    let refuse = move |uri: Uri, headers: HeaderMap| async move {
        (StatusCode::BAD_REQUEST, [("x-said", TOKEN)], Json(say(uri, headers)))
    };
    let give = move |uri: Uri, headers: HeaderMap| async move { Json(say(uri, headers)) };
    let world = World::new(Router::new().route("/refuse", get(refuse)).route("/return", get(give))).await;
    let (ended, run) = world.run_json(&["echoes"]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let refused = run.error("refused");
    assert!(refused.contains("/refuse?key=*** of `test` answered 400: {\"auth\":[\"***\"]"), "{refused}");
    let stored = |id, place| (run.error(id).to_owned(), format!("`{place}, and would be stored"));
    let (error, sentence) = stored("returned", "return_value` holds a secret at $.key");
    assert_eq!(error, sentence);
    let (error, sentence) = stored("listed", "return_value` holds a secret at $.auth[0]");
    assert_eq!(error, sentence, "a token that was computed is a secret too");
    let (error, sentence) = stored("replied", "return_value` holds a secret at $.auth[0]");
    assert_eq!(error, sentence);
    assert_eq!(run.value("said"), false);
    let seen = world.seen();
    assert!(seen.iter().any(|seen| seen.header("authorization") == Some("computed-2")), "{seen:?}");

    let logs = world.run(&["--verbose", "logs"]).await.stdout;
    let shown = world.run(&["show"]).await.stdout;
    let files = std::fs::read_dir(world.path(".coworks-biz")).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap());
    let texts = [ended.stdout, ended.stderr, logs, shown].map(String::into_bytes);
    for bytes in texts.into_iter().chain(files) {
        for secret in [TOKEN, "computed-2"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_conf_is_refused_by_who_has_never_used_it() {
    let world = World::new(fine()).await;
    let (conf, key) = (order(TOKEN).to_string(), format!("for {TOKEN}"));
    let fine = order("A").to_string();
    let with_key = ["--conf", &fine, "--idempotency-key", &key];
    for given in [&["--conf", &conf][..], &with_key] {
        let refused = world.run(&[&["trigger", "arguments"], given].concat()).await;
        assert_eq!(refused.code(), 5, "{refused:?}");
        let sentence = if given.len() > 2 {
            "the idempotency key holds a secret"
        } else {
            "it holds a secret at $.name"
        };
        assert!(refused.stderr.contains(sentence) && !refused.stderr.contains(TOKEN), "{refused:?}");
    }
    let database = std::fs::read(world.path(".coworks-biz/biz.db")).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains(TOKEN), "the database has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transformer_makes_the_query_of_a_get_and_the_json_of_others() {
    let found = |Query(query): Query<Vec<(String, String)>>| async move { Json(json!(query)) };
    let made =
        |Path(page): Path<u32>, request: Request| async move { Json(json!([page, request.uri().query()])) };
    let world = World::new(Router::new().route("/found", get(found)).route("/made/{page}", post(made))).await;
    let (ended, run) = world.run_with("transformed", order("Ann")).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let pairs = json!([["n", "1"], ["name", "Ann"], ["tags", "x"], ["tags", "y z"]]);
    assert_eq!(run.value("both"), &json!([pairs, [2, "page=2"], 2]));
    let given = json!({"name": "Ann", "tags": ["x", "y z"], "note": null, "n": 2});
    assert_eq!(run.value("made.transformer"), &given);
    let seen = world.seen();
    assert_eq!(of(&seen, "/made").json(), given);
    assert!(of(&seen, "/found").body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_found_by_its_name() {
    let entries = fine();
    let world = World::with(entries, |test| test.named("shop").token("token-of-the-shop")).await;
    let (ended, run) = world.run_with("named", json!(false)).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    for task in ["one", "two", "three.call"] {
        assert_eq!(run.task(task)["xcom"]["cws_name"], "shop", "{task}");
    }
    let seen = world.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.header("authorization") == Some("token-of-the-shop")));
    assert_eq!(of(&seen, "/two").json(), json!({"one": "fine"}));

    let (ended, run) = world.run_with("named", json!(true)).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let error = run.error("unknown");
    assert!(error.starts_with("there is no `nobody` in the directory http://127.0.0.1:"), "{error}");
    assert!(!ended.stderr.contains("token-of-the-shop"));
}

/// A directory that gives these tokens, the last one for ever, and what it was asked.
async fn directory(url: String, tokens: &'static [&'static str]) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    let entry = move |uri: Uri, headers: HeaderMap| {
        let mut asked = kept.lock().unwrap();
        asked.push(format!("{uri} with {}", headers["authorization"].to_str().unwrap()));
        let token = tokens[(asked.len() - 1).min(tokens.len() - 1)];
        let answer = Json(json!({ "token": token, "url": url })).into_response();
        async move { answer }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}/directory", listener.local_addr().unwrap());
    tokio::spawn(async move { serve(listener, Router::new().fallback(any(entry))).await });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_refuses_what_the_directory_said_is_looked_up_once_more() {
    for (tokens, code, lookups, calls) in [
        (&["the-old-token", "token-of-the-shop"][..], 0, 3, 4),
        (&["the-old-token"], 1, 2, 1),
        (&["the-old-token", "another-old-token", "token-of-the-shop"], 1, 2, 2),
    ] {
        let entry = |headers: HeaderMap| async move {
            match headers["authorization"].as_bytes() == b"token-of-the-shop" {
                true => Json("fine").into_response(),
                false => StatusCode::UNAUTHORIZED.into_response(),
            }
        };
        let entries = Router::new().route("/{*path}", any(entry));
        let world = World::new(entries).await;
        let service = world.local.gateway_url().replace("{api_id}", "test/dev");
        let (url, asked) = directory(service, tokens).await;
        let mut command = world.command(&["run", "named", "--conf", "false", "--output", "json"]);
        command.env("COWORKS_DIRECTORY_URL", &url).env("COWORKS_DIRECTORY_TOKEN", "the-directorys-own");
        let ended =
            tokio::task::spawn_blocking(move || Ended::from(command.output().unwrap())).await.unwrap();
        assert_eq!(ended.code(), code, "{ended:?}");
        let run = Run(ended.json());
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0], "/directory/shop with the-directorys-own");
        assert_eq!(asked.len(), lookups, "{asked:?}");
        assert_eq!(world.seen().len(), calls);
        assert!(
            !ended.stderr.contains("-token") && !ended.stderr.contains("directorys-own"),
            "{}",
            ended.stderr
        );
        if code == 0 {
            // The name in a stage is another question; the same one is asked once.
            assert_eq!(asked[2], "/directory/shop?stage=dev with the-directorys-own");
        } else {
            assert_eq!(run.task("one")["try_number"], 1);
            let end = "/test/dev/one of `shop` answered 401 (its token is the directory's)";
            assert!(run.error("one").ends_with(end), "{}", run.error("one"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_names_and_nobody_has_set_is_told_before_anything_runs() {
    let world = World::new(fine()).await;
    let sentences = [
        "services are called by name, and no directory is configured: set COWORKS_DIRECTORY_URL and COWORKS_DIRECTORY_TOKEN, or AIRFLOW_CONN_COWORKS_DIRECTORY",
        "the secret `NO_TOKEN` is not set: put it into COWORKS_SECRET_NO_TOKEN (or AIRFLOW_VAR_NO_TOKEN)",
        "the secret `NO_KEY` is not set: put it into COWORKS_SECRET_NO_KEY (or AIRFLOW_VAR_NO_KEY)",
        "the variable `NO_VAR` is not set: put it into COWORKS_VAR_NO_VAR (or AIRFLOW_VAR_NO_VAR)",
    ];
    let ended = world.run(&["run", "wanting", "--conf", "3"]).await;
    assert_eq!(
        (ended.code(), ended.error()),
        (5, &*format!("biz `wanting` cannot run: {}", sentences.join("; ")))
    );
    assert!(world.seen().is_empty());
    assert_eq!(world.run(&["show"]).await.error(), "nothing has run here yet");

    let checked = world.run(&["check", "wanting", "--output", "json"]).await;
    assert_eq!(checked.code(), 5);
    let found: Vec<_> = checked.json().as_array().unwrap().clone();
    assert!(found.iter().all(|finding| finding["level"] == "error" && finding["biz"] == "wanting"));
    assert_eq!(found.iter().map(|finding| finding["text"].as_str().unwrap()).collect::<Vec<_>>(), sentences);
    let text = world.run(&["check"]).await.stdout;
    assert!(text.contains("wanting") && text.contains("`NO_KEY`"), "{text}");

    let mut command = world.command(&["check", "wanting"]);
    command
        .env("COWORKS_SECRET_NO_TOKEN", "a")
        .env("AIRFLOW_VAR_NO_KEY", "b")
        .env("COWORKS_VAR_NO_VAR", "c")
        .env("COWORKS_DIRECTORY_URL", "http://127.0.0.1:9");
    assert_eq!(command.output().unwrap().status.code(), Some(0));
}
