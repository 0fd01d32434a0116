//! Groups, values by their names, and how the shapes of a plan are shown.

use coworks_biz::local::axum::routing::post;
use coworks_biz::local::axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn values_are_reached_by_the_ids_of_tasks() {
    let sent = |Json(body): Json<Value>| async move { Json(body["prep"].as_u64().unwrap() * 100) };
    let world = World::new(Router::new().route("/sent", post(sent))).await;
    let conf = json!({"who": "Ann", "count": 5}).to_string();
    let arguments = ["by_name", "--conf", &conf, "--logical-date", "2026-01-31T06:00:00Z"];
    let (ended, run) = world.run_json(&arguments).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_eq!(
        ["prep.one", "prep.inner.two", "prep.count", "after.sum", "after.sent.read"]
            .map(|id| run.value(id).clone()),
        [5, 6, 7, 17, 700].map(Value::from)
    );
    assert_eq!(run.value("by_id"), &json!([6, 700, 200, "prep.one", null, 5, "2026-01-31", "Ann", "Ann"]));
    assert_eq!(run.error("missing"), "`prep.one` has pushed nothing under `nothing` in this run");
    let id = "manual__2026-01-31T06:00:00+00:00";
    assert_eq!(
        run.value("context"),
        &json!({
            "dag": "by_name", "task": "context", "map": -1, "try": 1,
            "run": [id, "manual", "by_name"], "same": true,
            "interval": ["2026-01-31T06:00:00Z", "2026-01-31T06:00:00Z"], "conf": "Ann",
        })
    );

    let (ended, run) = world.run_with("by_name", json!({"who": "", "count": 5})).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_eq!(run.error("by_id"), "nobody wishes");
}

#[tokio::test(flavor = "multi_thread")]
async fn arms_loops_and_labels_are_drawn() {
    let world = World::new(Router::new()).await;
    let draw = async |arguments: &[&str]| world.run(&[&["graph"], arguments].concat()).await.stdout;
    let drawing = draw(&["parcels"]).await;
    let lines: Vec<_> = drawing.lines().collect();
    for line in [
        "match_conf ─ Parcel::Paid { amount, by } if amount >=… ─▶ receipt ─▶ thank",
        "match_conf ─ Parcel::Sent(Some(number)) ─▶ match_number ─ 1 .. 10 ─▶ near",
        "match_number ─ far if far % 2 == 0 ─▶ even",
        "match_conf ─ Parcel::Sent(None) ─▶ map ─ each ─▶ squared ─▶ squares",
    ] {
        assert!(lines.contains(&line), "{line} is not in\n{drawing}");
    }
    assert_eq!(draw(&["rooms"]).await.lines().filter(|line| line.contains("clean")).count(), 3);
    let dot = draw(&["by_name", "--format", "dot"]).await;
    for line in [
        r#""prep.inner.two" -> "after.sent.call" [label = "told"];"#,
        r#""after.sent.read" -> "missing" [label = "at last"];"#,
    ] {
        assert!(dot.contains(line), "{line} is not in\n{dot}");
    }
    let mermaid = draw(&["conditions", "--format", "mermaid"]).await;
    assert!(mermaid.contains(r#"-->|"number > 1_000"|"#) && mermaid.contains(r#"-->|"else"|"#), "{mermaid}");
}
