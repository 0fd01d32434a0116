//! The examples, as a newcomer runs them.

use std::process::Command;

use coworks_biz::local::axum::{Router, routing::get};

use crate::harness::{Ended, Run, World, example};

fn run_example(name: &str, dir: &std::path::Path, arguments: &[&str]) -> Ended {
    Command::new(example(name)).args(arguments).current_dir(dir).env_clear().output().unwrap().into()
}

#[test]
fn the_quickstart_runs_locally_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run_example("first", dir.path(), &["run", "--local", "--output", "json"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let run = Run(ended.json());
    assert_eq!(run.state(), "success");
    let done = |id| (id, "success");
    assert_eq!(run.states(), ["simple.call", "simple.wait", "simple.read", "print_result"].map(done));
    assert_eq!(run.value("simple.read"), "Hello from a technical microservice!");
    assert_eq!(run.task("simple.read")["xcom"]["status_code"], 200);
    assert_eq!(run.task("simple.wait")["xcom"], serde_json::json!({}));
    let call = run.task("simple.call")["xcom"].as_object().unwrap();
    assert_eq!(call.keys().collect::<Vec<_>>(), ["bucket", "cws_name", "key"]);
    assert_eq!(call["cws_name"], "xxxx");

    // Each step was logged as it happened, and nothing of it is among the data.
    for word in ["begins", "accepted with 200", "simple.wait", "run ends: success"] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }

    let run_id = run.0["run_id"].as_str().unwrap();
    let shown = run_example("first", dir.path(), &["show", run_id, "--output", "json"]);
    assert_eq!(shown.json(), run.0);
    let logs = run_example("first", dir.path(), &["logs", "--task", "print_result"]);
    assert!(logs.stdout.contains(&format!("run {run_id}: Hello from a technical microservice!")), "{logs:?}");
}

#[test]
fn the_summary_is_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run_example("first", dir.path(), &["run", "--local", "--quiet"]);
    assert_eq!(ended.stderr, "");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["TASK", "STATE", "TRIES", "DURATION"]);
    assert!(lines[1].starts_with("✓ simple.call   success      1  "), "{}", ended.stdout);
    assert!(ended.stdout.contains("first succeeded in"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'), "colours are for terminals");
}

#[test]
fn what_is_static_needs_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let say = |arguments: &[&str]| run_example("first", dir.path(), arguments).stdout;
    assert_eq!(say(&["graph"]), "simple.call ─▶ simple.wait ─▶ simple.read ─▶ print_result\n");
    let list: serde_json::Value = serde_json::from_str(&say(&["list", "--output", "json"])).unwrap();
    assert_eq!(list[0]["biz"], "first");
    assert_eq!(list[0]["schedule"], "0 0 * * *");
    assert_eq!(list[0]["description"], "Greets once a day.");
    assert_eq!(list[0]["tags"][0], "air-et-sante");
    let check = say(&["check"]);
    assert!(check.contains("the token of `simple.call` is in the source"), "{check}");
    assert!(check.contains("1 of 1 can run"), "{check}");
    assert!(!dir.path().join(".coworks-biz").exists(), "looking leaves nothing behind");
}

#[test]
fn typed_values_pass_from_synchronous_calls_to_functions() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run_example("invoice", dir.path(), &["run", "--local", "--output", "json"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let run = Run(ended.json());
    assert_eq!(run.value("total"), 59.5);
    assert_eq!(run.task("customer")["xcom"]["cws_name"], "directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_local_the_same_binary_talks_to_what_the_environment_names() {
    // The quickstart's service under its own id, elsewhere.
    use coworks_biz::local::{Service, Services};
    let world = World::new(Router::new()).await;
    let entries = Router::new().route("/", get(|| async { "from elsewhere" }));
    let services = Services::new().with(Service::new("xxxx").token("token").entries(entries));
    let elsewhere = services.start(&world.path("other-s3"), "another-bucket").await.unwrap();
    let mut command = Command::new(example("first"));
    command
        .args(["run", "--output", "json"])
        .current_dir(world.dir.path())
        .env_clear()
        .env("COWORKS_GATEWAY_URL", elsewhere.gateway_url())
        .env("COWORKS_BUCKET", "another-bucket")
        .env("AWS_ENDPOINT_URL_S3", &elsewhere.s3().endpoint)
        .env("AWS_ACCESS_KEY_ID", &elsewhere.s3().access_key)
        .env("AWS_SECRET_ACCESS_KEY", elsewhere.s3().secret_key.expose());
    let ended = tokio::task::spawn_blocking(move || Ended::from(command.output().unwrap())).await.unwrap();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(Run(ended.json()).value("simple.read"), "from elsewhere");
}
