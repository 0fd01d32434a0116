//! What is large: it is taken up to its limit, and refused beyond with a sentence that names it.

use coworks_biz::local::axum::Router;
use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_output_above_the_limit_is_refused_with_its_size_and_the_limit() {
    let world = World::new(Router::new()).await;
    // Of a text, with its two quotes.
    let most = (64 << 20) - 2;
    let (ended, run) = world.run_with("weighty", json!([100_000_000, most + 1, most])).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_eq!(run.mapped("made"), ["failed", "failed", "success"]);
    let advice = "and a task may pass on 64 MiB: store it elsewhere, such as in S3, and pass on where";
    let errors: Vec<_> = run.instances("made").into_iter().map(|task| task["error"].clone()).collect();
    assert_eq!(errors[0], format!("`return_value` has 96 MiB, {advice}"));
    assert_eq!(errors[1], format!("`return_value` has 65 MiB, {advice}"));
    assert_eq!(errors[2], Value::Null);
    let values = std::fs::read_dir(world.path(".coworks-biz/biz.db.blobs")).unwrap().count();
    assert_eq!(values, 1, "nothing is left of what was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_values_of_one_task_and_a_long_log_of_another_are_one_commit_each() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_with("chatty", json!(5_000)).await;
    assert_eq!((ended.code(), run.value("pulls")), (0, &json!(4_999)));
    assert_eq!(run.task("pushes")["xcom"].as_object().unwrap().len(), 5_000);

    let (ended, _) = world.run_with("noisy", json!(50_000)).await;
    assert_eq!(ended.code(), 0);
    let logs = world.run(&["logs", "--task", "says"]).await.stdout;
    assert!(logs.contains("line 0 ") && logs.contains("line 49999 "), "its head and its tail");
    assert!(logs.contains("records left out here: the log of one try is kept up to 1 MiB"));
    assert!(logs.len() < 2 << 20, "{}", logs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conf_is_taken_up_to_what_may_pass_between_tasks() {
    let world = World::new(Router::new()).await;
    let conf = |size: usize| {
        std::fs::write(world.path("conf.json"), format!("\"{}\"", "x".repeat(size))).unwrap();
    };
    conf((64 << 20) - 2);
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let triggered = ["trigger", "weighed", "--conf", "@conf.json"];
    assert_eq!(world.run(&triggered).await.code(), 0);
    serving.says("run ends: success").await;
    let run = crate::harness::Run(world.run(&["show", "--biz", "weighed", "--output", "json"]).await.json());
    assert_eq!(run.value("length"), (64 << 20) - 2);

    conf((64 << 20) - 1);
    let advice = "the conf does not fit biz `weighed`: it has 65 MiB, and a run may have 64 MiB: \
                  store it elsewhere, such as in S3, and give where";
    let refused = world.run(&triggered).await;
    assert_eq!((refused.code(), refused.error()), (5, advice));
    serving.kill().await;
    let refused = world.run(&["run", "weighed", "--conf", "@conf.json"]).await;
    assert_eq!((refused.code(), refused.error()), (5, advice));
}
