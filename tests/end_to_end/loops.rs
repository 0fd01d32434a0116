//! Loops: one instance for each item, and lists behind them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::post;
use coworks_biz::local::axum::{Json, Router};
use serde_json::{Value, json};

use crate::harness::{Gate, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_has_an_instance_for_each_item_and_behind_it_a_list_in_their_order() {
    let world = World::new(Router::new()).await;
    for count in [1, 3] {
        let (ended, run) = world.run_with("counted", json!(count)).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(run.value("map_list"), &json!((0..count).collect::<Vec<_>>()));
        assert_eq!(run.mapped("doubled"), vec!["success"; count]);
        let doubled = (0..count).map(|n| n * 2);
        assert_eq!(
            run.values("doubled"),
            doubled.clone().map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
        assert_eq!(run.value("total"), &json!([count, doubled.sum::<usize>()]));
        assert_eq!(run.value("whatever"), count);
    }
    // As in Airflow, a loop over nothing is skipped, and what needs its outputs with it.
    let (ended, run) = world.run_with("counted", json!(0)).await;
    assert_eq!((ended.code(), run.state()), (0, "success"), "{ended:?}");
    assert_eq!(
        run.states(),
        [
            ("list", "success"),
            ("map_list", "success"),
            ("doubled", "skipped"),
            ("total", "skipped"),
            ("whatever", "success")
        ]
    );
    assert_eq!((run.value("map_list"), run.value("whatever")), (&json!([]), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_items_are_no_other_thing() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_with("counted", json!(10_000)).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr.lines().last().unwrap_or_default());
    assert_eq!(run.mapped("doubled"), vec!["success"; 10_000]);
    assert_eq!(run.value("total"), &json!([10_000, 9_999 * 10_000]));
    // People are told how many, not each.
    let shown = world.run(&["show"]).await.stdout;
    assert!(shown.contains("doubled × 10000  10000 success"), "{shown}");
    assert!(shown.lines().count() < 15, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_loop_see_those_of_the_same_item_and_what_is_outside() {
    let world = World::new(Router::new()).await;
    let line = |article: &str, count: u32| json!({"article": article, "count": count});
    let lines = [line("pen", 1), line("poison", 2), line("paper", 3), line("ink", 0)];
    let (ended, run) = world.run_with("baskets", json!({"customer": "Ann", "lines": lines})).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let (ok, failed, blocked, skipped) = ("success", "failed", "upstream_failed", "skipped");
    assert_eq!(run.mapped("priced"), [ok, failed, ok, ok]);
    assert_eq!(run.instances("priced")[1]["error"], "Ann may not have poison");
    assert_eq!(run.mapped("labelled"), [ok, blocked, ok, ok]);
    assert_eq!(run.instances("labelled")[2]["xcom"]["return_value"], "2: 3 x paper = 150");
    // The branch is decided for each item, also where its arms cannot run.
    assert_eq!(run.mapped("match_line"), [ok; 4]);
    assert_eq!(run.mapped("bulk"), [skipped, skipped, ok, skipped]);
    assert_eq!(run.mapped("sort"), [skipped, skipped, skipped, ok]);
    assert_eq!(run.mapped("sorted"), [ok, blocked, ok, ok]);
    let sorted = [json!("0: 1 x pen = 30"), Value::Null, json!("bulk of 3 paper"), json!("none")];
    assert_eq!(run.values("sorted"), sorted.iter().collect::<Vec<_>>());
    let notes =
        [json!("pen 0: 1 x pen = 30"), Value::Null, json!("paper bulk of 3 paper"), json!("ink none")];
    let noted = [
        json!("pen 0: 1 x pen = 30 [0,30,10]"),
        Value::Null,
        json!("paper bulk of 3 paper [2,150,10]"),
        json!("ink none [3,0,10]"),
    ];
    assert_eq!(run.values("noted"), noted.iter().collect::<Vec<_>>());
    assert_eq!(
        run.value("bill"),
        &json!({
            "priced": [30, null, 150, 0],
            "all": [30, null, 150, 0],
            "bulk": [null, null, "bulk of 3 paper", null],
            "notes": notes,
            "articles": ["pen", "poison", "paper", "ink"],
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_goes_to_one_instance_also_where_the_process_dies_in_the_middle() {
    const ITEMS: usize = 12;
    let gate = Gate::new();
    let held = gate.clone();
    let calls = Arc::new(Mutex::new(0));
    let entry = move |Path(key): Path<String>| {
        let nth = {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        let held = held.clone();
        async move {
            // From the sixth on until it is opened.
            if nth > 5 {
                held.pass().await;
            }
            Json(key)
        }
    };
    let world = World::new(Router::new().route("/effects/{key}", post(entry))).await;
    let conf: serde_json::Map<_, _> = (0..ITEMS).map(|n| (format!("key {n}"), n.into())).collect();
    let conf = Value::Object(conf).to_string();
    let mut first = world.start(&["run", "effects", "--conf", &conf, "--parallelism", "2"]);
    gate.arrival().await;
    gate.arrival().await;
    first.kill().await;
    (0..ITEMS).for_each(|_| gate.open());
    gate.open();
    let (ended, run) = world.run_json(&["--resume", &world.last_run_id().await]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("count"), ITEMS);

    // Each name of a call is that of one item, and each item has one.
    let mut names = HashMap::new();
    for seen in world.seen() {
        let name = seen.header("idempotency-key").unwrap().to_owned();
        let item = (seen.uri.path().to_owned(), seen.json());
        assert_eq!(names.entry(name).or_insert_with(|| item.clone()), &item);
    }
    let mut items: Vec<_> =
        names.values().map(|(path, value)| (value.as_u64().unwrap(), path.clone())).collect();
    items.sort_unstable();
    let expected: Vec<_> = (0..ITEMS).map(|n| (n as u64, format!("/effects/key%20{n}"))).collect();
    assert_eq!(items, expected);
    assert_eq!(world.seen().len(), ITEMS + 2, "what had ended is not sent again");
    let list = run.value("map_conf").as_array().unwrap();
    for (index, item) in list.iter().enumerate() {
        let name = names.iter().find(|(_, (_, value))| value == &item[1]).unwrap().0;
        assert!(name.ends_with(&format!("/effect.{index}.0")), "{name} is item {index}");
        assert_eq!(&run.instances("effect")[index]["xcom"]["return_value"], &item[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_over_a_list_that_is_not_made_is_skipped() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_with("listless", json!(false)).await;
    assert_eq!((ended.code(), run.state()), (0, "success"), "{ended:?}");
    assert_eq!(run.ids("skipped"), ["list", "map_list", "sum", "total"]);
    assert_eq!(run.value("last"), 0);
    let (ended, run) = world.run_with("listless", json!(true)).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("map_list"), &json!([[0, 0], [1, 1]]));
    assert_eq!((run.value("total"), run.value("last")), (&json!(2), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_call_in_a_loop_is_one_for_each_item() {
    let refused: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let entry = move |Json(page): Json<Value>| {
        let name = page["name"].as_str().unwrap().to_owned();
        let nth = {
            let mut refused = refused.lock().unwrap();
            let nth = refused.entry(name.clone()).or_default();
            *nth += 1;
            *nth
        };
        async move {
            match (name.as_str(), nth) {
                ("b", 1) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => format!("{} of {name}", page["index"]).into_response(),
            }
        }
    };
    let world = World::new(Router::new().route("/render", post(entry))).await;
    let (ended, run) = world.run_with("renders", json!(["a", "b", "cc"])).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("pages"), &json!([["0 of a", "1 of b", "2 of cc"], [5, 5, 5]]));
    for member in ["page.transformer", "page.call", "page.wait", "page.read", "length"] {
        assert_eq!(run.mapped(member), ["success"; 3], "{member}");
    }
    let tries: Vec<_> = run.instances("page.read").iter().map(|task| task["try_number"].clone()).collect();
    assert_eq!(tries, [1, 2, 1], "only what was refused is asked for again");
    let mut sent: Vec<_> = world
        .seen()
        .iter()
        .map(|seen| {
            let key = seen.header("x-cws-s3key").unwrap().rsplit('/').next().unwrap().to_owned();
            (key, seen.json()["name"].as_str().unwrap().to_owned())
        })
        .collect();
    sent.sort_unstable();
    let expected =
        [("page.call.0.0", "a"), ("page.call.1.0", "b"), ("page.call.1.0.2", "b"), ("page.call.2.0", "cc")];
    assert_eq!(sent, expected.map(|(key, name)| (key.to_owned(), name.to_owned())));
    assert_eq!(world.objects(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_a_loop_that_arrive_while_nobody_runs_are_taken() {
    let gate = Gate::new();
    let held = gate.clone();
    let entry = move |Json(page): Json<Value>| {
        let held = held.clone();
        async move {
            held.pass().await;
            format!("{} of {}", page["index"], page["name"].as_str().unwrap())
        }
    };
    let world = World::new(Router::new().route("/render", post(entry))).await;
    let mut first = world.start(&["run", "renders", "--conf", r#"["a", "b", "cc"]"#]);
    for _ in 0..3 {
        first.says("up_for_reschedule").await;
    }
    first.kill().await;
    (0..3).for_each(|_| gate.open());
    let (ended, run) = world.run_json(&["--resume", &world.last_run_id().await]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("pages"), &json!([["0 of a", "1 of b", "2 of cc"], [5, 5, 5]]));
    assert_eq!(world.seen().len(), 3, "each was called once");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_tried_again_by_itself_and_shown_by_its_index() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_json(&["stubborn"]).await;
    assert_eq!((ended.code(), run.state()), (1, "failed"), "{ended:?}");
    assert_eq!(run.mapped("stumbles"), ["success", "success", "failed"]);
    assert_eq!(run.mapped("next"), ["success", "success", "upstream_failed"]);
    let tries: Vec<_> = run.instances("stumbles").iter().map(|task| task["try_number"].clone()).collect();
    assert_eq!(tries, [1, 2, 2]);
    assert_eq!(run.value("list"), &json!([0, 1, null]));
    assert_eq!(run.state_of("strict"), "upstream_failed");

    let shown = world.run(&["show"]).await.stdout;
    let lines: Vec<_> =
        shown.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "✓ stumbles[0] success 1",
        "✓ stumbles[1] success 2",
        "✗ stumbles[2] failed 2",
        "always",
        "⊘ next[2] upstream_failed -",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}: {shown}");
    }
    let logs = |arguments: &'static [&'static str]| world.run(arguments);
    let of_one = logs(&["logs", "--task", "stumbles[1]"]).await.stdout;
    assert!(
        of_one.contains("stumbles[1]") && of_one.contains("at first") && !of_one.contains("always"),
        "{of_one}"
    );
    let of_all = logs(&["logs", "--task", "stumbles", "--output", "json"]).await.stdout;
    let indexes: Vec<_> = of_all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["map_index"].as_i64().unwrap())
        .collect();
    assert!(indexes.contains(&1) && indexes.contains(&2), "{of_all}");
    let none = logs(&["logs", "--task", "stumbles[7]"]).await;
    assert_eq!(none.code(), 2, "{none:?}");
}
