//! Branches: which arm runs, what is remembered of it, and what comes behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use coworks_biz::local::axum::extract::Path;
use coworks_biz::local::axum::http::StatusCode;
use coworks_biz::local::axum::response::IntoResponse;
use coworks_biz::local::axum::routing::{get, post};
use coworks_biz::local::axum::{Json, Router};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Gate, Run, World};

fn far() -> Router {
    Router::new()
        .route("/near/{number}", get(|Path(number): Path<u32>| async move { Json(number) }))
        .route("/far", post(|Json(numbers): Json<Vec<u32>>| async move { format!("{numbers:?}") }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_arm_that_matches_runs_and_its_tasks_share_its_variables() {
    let world = World::new(far()).await;
    let arms = [
        "Parcel::Paid { amount, by } if amount >= 10.0",
        "Parcel::Paid { amount: small, .. }",
        "Parcel::Sent(Some(number))",
        "Parcel::Sent(None)",
        "Parcel::New | Parcel::Lost",
    ];
    for (conf, arm, bindings, ran, value) in [
        (
            json!({"Paid": {"amount": 12.5, "by": "Ann"}}),
            0,
            json!({"amount": 12.5, "by": "Ann"}),
            &["receipt", "thank"][..],
            ("thank", json!("Ann paid 12.5, see receipt for Ann")),
        ),
        (
            json!({"Paid": {"amount": 9.5, "by": "Ann"}}),
            1,
            json!({"small": 9.5}),
            &["remind"],
            ("remind", json!(0.5)),
        ),
        (json!({"Sent": 0}), 2, json!({"number": 0}), &["match_number"], ("match_number", json!("0"))),
        (json!({"Sent": 3}), 2, json!({"number": 3}), &["match_number", "near"], ("near", json!(3))),
        (
            json!({"Sent": 10}),
            2,
            json!({"number": 10}),
            &["even", "match_number"],
            ("even", json!("10 of 10")),
        ),
        (
            json!({"Sent": 11}),
            2,
            json!({"number": 11}),
            &["match_number", "odd.call", "odd.read", "odd.wait"],
            ("odd.read", json!("[11, 11]")),
        ),
        (json!({"Sent": null}), 3, json!({}), &["map", "squared", "squares"], ("squares", json!(14))),
        (json!("New"), 4, json!({}), &[], ("match_conf", json!(arms[4]))),
        (json!("Lost"), 4, json!({}), &[], ("match_conf", json!(arms[4]))),
    ] {
        let (ended, run) = world.run_with("parcels", conf.clone()).await;
        assert_eq!((ended.code(), run.state()), (0, "success"), "{conf}: {ended:?}");
        let choice = run.task("match_conf")["xcom"].as_object().unwrap();
        assert_eq!(
            Value::Object(choice.clone()),
            json!({"return_value": arms[arm], "arm": arm, "bindings": bindings})
        );
        let mut succeeded = vec!["match_conf"];
        succeeded.extend(ran);
        succeeded.sort_unstable();
        assert_eq!(run.ids("success"), succeeded, "{conf}");
        assert_eq!(run.ids("skipped").len() + succeeded.len(), 13, "the others are skipped");
        assert_eq!(run.value(value.0), &value.1);
    }
    assert_eq!(world.seen().iter().map(|seen| seen.line()).collect::<Vec<_>>(), ["GET /near/3", "POST /far"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_tried_in_turn_and_what_belongs_to_an_arm_is_skipped_with_it() {
    let world = World::new(Router::new()).await;
    for (conf, label, ran, value) in [
        (40, "number > 1_000", &["big"][..], ("big", json!("big"))),
        (6, "let Some(half) = half(number) && half > 10", &["halved", "twice"], ("twice", json!("18 324"))),
        (1, "number == 1", &["cleanup", "say"], ("say", json!("one"))),
        (4, "else", &["again", "other"], ("again", json!("16"))),
    ] {
        let (ended, run) = world.run_with("conditions", json!(conf)).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(run.value("if_number"), label);
        let mut succeeded = vec!["if_number", "number"];
        succeeded.extend(ran);
        succeeded.sort_unstable();
        assert_eq!(run.ids("success"), succeeded, "{conf}");
        // The cleanup of an arm that was not taken too, whatever its trigger rule.
        assert_eq!(run.ids("skipped").len(), 9 - succeeded.len(), "{conf}");
        assert_eq!(run.value(value.0), &value.1, "{conf}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outputs_of_arms_are_one_value_behind_them() {
    let some = |Path(number): Path<u32>| async move { Json(format!("some: {number}")) };
    let world = World::new(Router::new().route("/some/{number}", get(some))).await;
    for (conf, text, skipped) in [
        (0, "nothing", &["answer", "few", "if_n", "inner", "say"][..]),
        (1, "one", &["answer", "few", "if_n", "inner"]),
        (2, "few: 4", &["answer", "say"]),
        (4, "some: 16", &["few", "say"]),
        (8, "many", &["answer", "few", "if_n", "inner", "say"]),
    ] {
        let (ended, run) = world.run_with("joins", json!(conf)).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(run.value("text"), text);
        assert_eq!(run.value("said"), &json!(format!("{text}!")));
        assert_eq!(run.value("all"), &json!(format!("Some({text:?}) of Some({})", conf * conf)));
        assert_eq!(run.ids("skipped"), skipped, "{conf}");
    }
    assert_eq!(world.seen().len(), 1, "an arm that is not taken calls nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_is_made_once_also_where_its_process_dies() {
    let gate = Gate::new();
    let held = gate.clone();
    let entry = move |Path(number): Path<u64>| {
        let held = held.clone();
        async move {
            held.pass().await;
            Json(number)
        }
    };
    let world = World::new(Router::new().route("/gate/{number}", get(entry))).await;
    let mut first = world.start(&["run", "chance"]);
    gate.arrival().await;
    first.kill().await;
    let before = Run(world.run(&["show", "--output", "json"]).await.json());
    assert_eq!(before.state(), "running");
    let choice = &before.task("match_limit")["xcom"];

    gate.open();
    gate.open();
    let (ended, run) = world.run_json(&["--resume", &world.last_run_id().await]).await;
    assert_eq!((ended.code(), run.state()), (0, "success"), "{ended:?}");
    assert_eq!(&run.task("match_limit")["xcom"], choice, "what was chosen stays");
    let drawn = std::fs::read_to_string(world.path("drawn")).unwrap();
    let drawn: Vec<u64> = drawn.lines().map(|line| line.parse().unwrap()).collect();
    let [drawn] = drawn[..] else { panic!("evaluated more than once: {drawn:?}") };
    let (ran, not) = match drawn % 2 {
        0 => (["one", "held", "two"], ["first", "waits", "second"]),
        _ => (["first", "waits", "second"], ["one", "held", "two"]),
    };
    for (ran, not) in ran.into_iter().zip(not) {
        assert_eq!(run.value(ran), drawn, "all tasks of the arm have the same variable");
        assert_eq!(run.state_of(not), "skipped");
    }
    let lines: Vec<_> = world.seen().iter().map(|seen| seen.line()).collect();
    assert_eq!(lines, [format!("GET /gate/{drawn}"), format!("GET /gate/{drawn}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_arms_each_trigger_rule_means_what_it_means_in_airflow() {
    let world = World::new(Router::new()).await;
    let all = [
        "all_failed",
        "all_done",
        "all_skipped",
        "one_success",
        "one_failed",
        "one_done",
        "none_failed",
        "none_failed_min_one_success",
        "always",
        "behind",
        "all_success",
        "none_skipped",
    ];
    let (run_, skip, block) = ("success", "skipped", "upstream_failed");
    #[rustfmt::skip]
    let table = [
        //            left, fails   failed done skipped 1 succ 1 fail 1 done none_f  min_1  always behind left:all  none_skipped
        ((true,  false), [skip, run_, skip, run_,  skip, run_, run_,  run_,  run_, run_,  run_,  run_]),
        ((true,  true),  [skip, run_, skip, block, run_, run_, block, block, run_, block, block, run_]),
        ((false, false), [skip, run_, skip, run_,  skip, run_, run_,  run_,  run_, run_,  skip,  skip]),
        ((false, true),  [skip, run_, skip, block, run_, run_, block, block, run_, block, skip,  skip]),
    ];
    for ((left, fails), expected) in table {
        let (ended, run) = world.run_with("rules", json!({"left": left, "fails": fails})).await;
        assert_eq!(ended.code(), i32::from(fails), "{ended:?}");
        let states: Vec<_> = all.iter().map(|rule| (*rule, run.state_of(rule))).collect();
        let expected: Vec<_> = all.into_iter().zip(expected).collect();
        assert_eq!(states, expected, "left {left}, fails {fails}");
        let of_right = ["right", "further", "tidied"].map(|id| run.state_of(id));
        match (left, fails) {
            (true, _) => assert_eq!(of_right, [skip; 3], "all_done does not open an arm"),
            (false, false) => assert_eq!(of_right, [run_; 3]),
            (false, true) => assert_eq!(of_right, ["failed", block, run_]),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_choice_nothing_in_the_arms_can_run() {
    let world = World::new(Router::new()).await;
    let (ended, run) = world.run_with("undecided", json!(0)).await;
    assert_eq!((ended.code(), run.state()), (1, "failed"), "{ended:?}");
    assert_eq!(run.state_of("choose"), "failed");
    assert_eq!(run.task("choose")["try_number"], 2);
    assert_eq!(run.error("choose"), "panicked: attempt to divide by zero");
    assert_eq!(run.ids("upstream_failed"), ["part", "say", "swept", "text"]);
    assert_eq!(run.value("report"), &Value::Null);
    let (_, run) = world.run_with("undecided", json!(3)).await;
    assert_eq!((run.value("report"), run.ids("skipped")), (&json!("a part"), vec!["say"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_value_once_no_other_try_is_left() {
    let cases = [
        (200, "number 7; a page", 1),
        (204, "nothing; nothing", 1),
        (404, "answered 404: not today (closed); answered 404: not today (closed)", 1),
        (500, "answered 500: not today (closed); answered 500: not today (closed)", 3),
    ];
    join_all(cases.map(|(status, expected, tries)| async move {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let entry = move |success: Value| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match StatusCode::from_u16(status).unwrap() {
                    StatusCode::OK => Json(success).into_response(),
                    StatusCode::NO_CONTENT => StatusCode::NO_CONTENT.into_response(),
                    refusal => (refusal, [("x-why", "closed")], "not today").into_response(),
                }
            }
        };
        let render = entry.clone();
        let entries = Router::new()
            .route("/bill", post(move || entry(json!(7))))
            .route("/render", post(move || render(json!("a page"))));
        let world = World::new(entries).await;
        let (ended, run) = world.run_json(&["replies"]).await;
        assert_eq!(ended.code(), 0, "{status}: {ended:?}");
        assert_eq!(run.value("both"), expected);
        for task in ["bill", "render.read"] {
            assert_eq!(run.task(task)["try_number"], tries, "{task}");
            assert_eq!(run.task(task)["xcom"]["status_code"], status, "{task}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2 * tries);
        assert_eq!(world.objects(), Vec::<std::path::PathBuf>::new(), "no answer is left");
    }))
    .await;
}
