//! Shapes inside shapes, values that are not plain, and code in the plan that goes wrong.

use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::{TOKEN, World};

#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_answered_and_decided_by_itself() {
    let stock = |Path(article): Path<String>| async move {
        match article.as_str() {
            "pen" => Json(9).into_response(),
            "ink" => Json(1).into_response(),
            "glue" => StatusCode::NO_CONTENT.into_response(),
            "rope" => (StatusCode::NOT_FOUND, "unknown").into_response(),
            _ => (StatusCode::BAD_GATEWAY, "busy").into_response(),
        }
    };
    let entries = Router::new()
        .route("/stock/{article}", get(stock))
        .route("/orders/{article}", post(|| async { StatusCode::NO_CONTENT }));
    let world = World::new(entries).await;
    let lines: Vec<_> =
        ["pen", "ink", "glue", "rope", "tape"].map(|article| json!({"article": article, "count": 3})).into();
    let (ended, run) = world.run_with("stock", json!(lines)).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let said = ["9 pen", "usual", "ordered 3 glue", "rope answered 404: unknown", "tape answered 502: busy"];
    assert_eq!(run.values("said"), said.map(Value::from).iter().collect::<Vec<_>>());
    assert_eq!(run.values("seen"), said.map(|said| Value::from(said.len())).iter().collect::<Vec<_>>());
    let tries: Vec<_> = run.instances("stock").iter().map(|task| task["try_number"].clone()).collect();
    assert_eq!(tries, [1, 1, 1, 1, 2]);
    assert_eq!(run.value("replies"), &json!([9, 1, null, null, null]));
    assert_eq!(run.mapped("shout").len(), 5);
    assert_eq!(run.instances("shout")[2]["xcom"]["return_value"], "2 ORDERED 3 GLUE of 5");
    assert_eq!((run.value("many"), run.state_of("few")), (&json!(5), "skipped"));
    let orders: Vec<_> = world.seen().iter().filter(|seen| seen.method == "POST").map(|s| s.line()).collect();
    assert_eq!(orders, ["POST /orders/glue"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_a_value_and_groups_hold_every_shape() {
    let world = World::new(Router::new()).await;
    for (conf, value, ran, list) in [
        (json!([2]), json!(2), "inside.only", json!([0, 10])),
        (json!([1, 1]), json!(1), "found", json!([0])),
        (json!([]), Value::Null, "inside.nothing", json!([])),
    ] {
        let (ended, run) = world.run_with("maybe", conf.clone()).await;
        assert_eq!(ended.code(), 0, "{conf}: {ended:?}");
        assert_eq!(run.value("inside.joined"), &value, "{conf}");
        assert_eq!(run.state_of(ran), "success");
        let last = value.as_u64().map(|n| n as u32);
        assert_eq!(run.value("last"), &json!(format!("{last:?}")));
        assert_eq!(run.value("list"), &list);
        for arm in ["inside.only", "inside.nothing"] {
            assert_eq!(run.state_of(arm), if arm == ran { "success" } else { "skipped" }, "{conf}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_and_variables_may_be_large() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_with("heavy", json!([70_000, 0, 200_000])).await;
    assert_eq!(ended.code(), 0, "{:?}", ended.stderr);
    assert_eq!(run.value("sizes"), &json!([[70_000, 0, 200_000], [140_000, null, 400_000]]));
    assert_eq!((run.value("total"), run.value("again")), (&json!(270_000), &json!(270_000)));
    assert_eq!(run.value("map_pages")[2].as_str().unwrap().len(), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_the_plan_that_panics_fails_its_task_and_no_other() {
    let world = World::new(Router::new().route("/", get(|| async { Json("fine") }))).await;
    let (ended, run) = world.run_with("careless", json!([])).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let bounds =
        |index: usize| format!("panicked: index out of bounds: the len is 0 but the index is {index}");
    assert_eq!(run.error("one"), bounds(0));
    assert_eq!(run.error("two.call"), bounds(1));
    assert_eq!(run.error("three"), bounds(2));
    assert_eq!(run.error("map_conf"), "panicked: range start index 3 out of range for slice of length 0");
    assert_eq!(run.error("five"), "panicked: bad");
    assert_eq!(run.error("seven"), bounds(7));
    for (index, branch) in run.instances("if_conf").iter().enumerate() {
        assert_eq!(branch["error"], bounds(index));
    }
    assert_eq!(run.mapped("six"), ["upstream_failed"; 2]);
    assert_eq!(run.state_of("four"), "upstream_failed");
    assert_eq!(run.value("last"), &json!([0, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_no_item_and_no_variable() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_json(&["careful"]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let map = run.ids("failed");
    assert_eq!(map, ["map_halves", "match_halves"]);
    assert_eq!(run.error("map_halves"), "`item 0` holds a secret at $, and would be stored");
    assert_eq!(run.error("match_halves"), "`bindings` holds a secret at $.whole, and would be stored");
    assert_eq!(run.ids("upstream_failed"), ["said", "text"]);
    assert!(!ended.stdout.contains(TOKEN) && !ended.stderr.contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_in_an_arm_has_setups_and_arms_for_each_item() {
    let world = World::new(Router::new()).await;
    let conf = json!({"Items": {"items": [0, 1, 13, 2], "owner": "Ann"}});
    let (ended, run) = world.run_with("parcel", conf).await;
    assert_eq!(ended.code(), 0, "no last task has failed: {ended:?}");
    let (ok, failed, blocked, skipped) = ("success", "failed", "upstream_failed", "skipped");
    for (task, states) in [
        ("opened", [ok, ok, failed, ok]),
        ("packed", [ok, ok, blocked, ok]),
        ("closed", [ok, ok, blocked, ok]),
        ("match_item", [ok; 4]),
        ("noted", [skipped, skipped, skipped, ok]),
        ("stamped", [skipped, skipped, skipped, ok]),
        ("odd", [skipped, ok, ok, skipped]),
    ] {
        assert_eq!(run.mapped(task), states, "{task}");
    }
    let closed = json!(["0 of Ann", "1 of Ann", null, "2 of Ann"]);
    let noted = json!([null, null, null, "2 of Ann, 6"]);
    assert_eq!(run.value("all"), &json!([closed, noted, [null, 1, 13, null]]));
    assert_eq!((run.value("alarm"), run.value("after")), (&json!("alarm"), &json!(3)));

    for (conf, none) in [(json!("Nothing"), ok), (json!({"Items": {"items": [], "owner": "Ann"}}), skipped)] {
        let (ended, run) = world.run_with("parcel", conf).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(run.state_of("none"), none);
        for task in ["opened", "packed", "closed", "match_item", "noted", "stamped", "odd", "alarm"] {
            assert_eq!(run.state_of(task), skipped, "{task}");
        }
        assert_eq!(run.value("all"), &json!([[], [], []]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_follow_one_another() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_with("again", json!([5, 6])).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("last"), &json!([[6, 7], [10, 12], ["0: 23", "1: 25"]]));
}
