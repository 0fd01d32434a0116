//! Bad input: one clear sentence on stderr, the right exit code, nothing half-written.

use coworks_biz::local::axum::{Json, Router, routing::get, routing::post};

use crate::harness::{Gate, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_cannot_mean_is_exit_2_and_leaves_nothing() {
    let world = World::new(Router::new()).await;
    let list = world.run(&["list", "--output", "json"]).await.json();
    let all: Vec<_> = list.as_array().unwrap().iter().map(|biz| biz["biz"].as_str().unwrap()).collect();
    let all = all.join(", ");
    assert!(all.starts_with("held, asynchronous, "), "in the order in which they are listed: {all}");
    for (arguments, sentence) in [
        (
            &["run", "helt"][..],
            &*format!("there is no biz `helt` in this program; it has {all}; did you mean `held`?"),
        ),
        (&["run"], &*format!("which biz? this program has {all}")),
        (
            &["run", "ordered", "--conf", "{customer: 1}"],
            "--conf is no JSON: key must be a string at line 1 column 2",
        ),
        (
            &["run", "ordered", "--conf", "@none.json"],
            "--conf: none.json cannot be read: No such file or directory (os error 2)",
        ),
        (
            &["run", "held", "--local"],
            "this program brings no services for --local: `main![..; local = services]` names a function that does",
        ),
    ] {
        let ended = world.run(arguments).await;
        assert_eq!((ended.code(), ended.error()), (2, sentence));
    }
    let ended = world.run(&["airflow"]).await;
    assert_eq!((ended.code(), ended.error()), (2, "`airflow` is not part of this version yet"));
    let ended = world.run(&["run", "held", "--timeout", "soon"]).await;
    assert_eq!(ended.code(), 2);
    assert!(!world.path(".coworks-biz").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_is_named() {
    let world = World::new(Router::new()).await;
    let mut command = world.command(&["run", "held"]);
    let output = command.env("COWORKS_BIZ_PARALLELISM", "lots").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: COWORKS_BIZ_PARALLELISM is `lots`; it must be a whole number from 1\n"
    );
    std::fs::write(world.path("coworks-biz.toml"), "parallel = 3\n").unwrap();
    let ended = world.run(&["run", "held"]).await;
    assert_eq!(ended.code(), 2);
    assert!(
        ended.error().starts_with("coworks-biz.toml is not as it should be: unknown field `parallel`"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_not_work_is_refused_before_anything_is_recorded() {
    let world = World::new(Router::new()).await;
    let ended = world.run(&["run", "ordered", "--conf", r#"{"customer": "x"}"#]).await;
    assert_eq!(ended.code(), 5);
    assert!(
        ended.error().starts_with("the conf does not fit biz `ordered`: this is no `Order`"),
        "{ended:?}"
    );

    let ended = world.run(&["run", "ordered"]).await;
    assert_eq!(ended.code(), 5);
    let sentence = "the conf does not fit biz `ordered`: none is given, and it takes a `Order`";
    assert_eq!(ended.error(), sentence);

    let mut command = world.command(&["run", "asynchronous"]);
    let output = command.env_remove("COWORKS_SECRET_API_TOKEN").output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: biz `asynchronous` cannot run: the secret `API_TOKEN` is not set: \
         put it into COWORKS_SECRET_API_TOKEN (or AIRFLOW_VAR_API_TOKEN)\n"
    );
    assert_eq!(world.run(&["check", "asynchronous"]).await.code(), 0);
    let mut command = world.command(&["check"]);
    assert_eq!(command.env_remove("COWORKS_SECRET_API_TOKEN").output().unwrap().status.code(), Some(5));

    let ended = world.run(&["show"]).await;
    assert_eq!((ended.code(), ended.error()), (2, "nothing has run here yet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_a_run_does_not_depend_on_who_reads_what_it_prints() {
    let world = World::new(Router::new()).await;
    let mut command = world.command(&["run", "indiscreet"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_two_services_may_have_the_same_name() {
    let world = World::new(Router::new()).await;
    let date = ["--logical-date", "2026-01-31T06:00:00Z"];
    let id = "manual__2026-01-31T06:00:00+00:00";
    for biz in ["large", "indiscreet"] {
        world.run(&[&["run", biz][..], &date].concat()).await;
    }
    let ended = world.run(&["show", id]).await;
    assert_eq!(
        (ended.code(), ended.error().to_owned()),
        (2, format!("run `{id}` is one of each of large, indiscreet: say which with --biz"))
    );
    let shown = world.run(&["show", id, "--biz", "large", "--output", "json"]).await.json();
    assert_eq!(shown["state"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_logical_date_is_one_run() {
    let world = World::new(Router::new()).await;
    let arguments =
        ["run", "ordered", "--conf", r#"{"customer": 7}"#, "--logical-date", "2026-01-31T06:00:00Z"];
    let (ended, run) = world.run_json(&arguments[1..]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(run.value("thrice"), 21);
    assert_eq!(run.0["run_id"], "manual__2026-01-31T06:00:00+00:00");
    let runs = world.run(&["runs", "--output", "json"]).await.json();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!((&runs[0]["biz"], &runs[0]["state"]), (&"ordered".into(), &"success".into()));
    let ended = world.run(&arguments).await;
    assert_eq!(
        (ended.code(), ended.error()),
        (5, "biz `ordered` already has a run with the logical date 2026-01-31 06:00:00 UTC")
    );
    let ended = world.run(&["run", "--resume", run.0["run_id"].as_str().unwrap()]).await;
    assert_eq!(
        (ended.code(), ended.error()),
        (5, "run `manual__2026-01-31T06:00:00+00:00` has ended already: success")
    );
    let ended = world.run(&["run", "--resume", "none"]).await;
    assert_eq!((ended.code(), ended.error()), (5, "there is no run `none` in the database"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_there_fails_the_run_and_is_named() {
    let world = World::new(Router::new()).await;
    let mut command = world.command(&["run", "held", "--output", "json"]);
    let output = command.env("COWORKS_GATEWAY_URL", "http://127.0.0.1:9").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error =
        "GET http://127.0.0.1:9/dev/gate of `test` got no answer: nobody listens there (Connection refused";
    assert!(stderr.contains(error), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_fails_the_call_before_it_is_sent() {
    let world = World::new(Router::new().route("/work", post(|| async { "x" }))).await;
    let mut command = world.command(&["run", "asynchronous", "--output", "json"]);
    let output = command.env("COWORKS_BUCKET", "nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        run["tasks"][0]["error"],
        "there is no bucket `nowhere`: create it, or name another with COWORKS_BUCKET or `bucket = ..`"
    );
    assert!(world.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_with_the_pid_of_the_first() {
    let gate = Gate::new();
    let held = gate.clone();
    let entry = move || {
        let held = held.clone();
        async move {
            held.pass().await;
            Json(1)
        }
    };
    let world = World::new(Router::new().route("/gate", get(entry))).await;
    let mut first = world.start(&["run", "held"]);
    gate.arrival().await;
    let second = world.run(&["run", "large"]).await;
    assert_eq!(second.code(), 3);
    let pid = first.pid();
    assert_eq!(
        second.error(),
        format!(
            "the database .coworks-biz/biz.db is in use by process {pid}: wait for it, or use another file with `--db`"
        )
    );
    // Looking is allowed meanwhile.
    assert_eq!(world.run(&["show"]).await.code(), 0);
    gate.open();
    assert_eq!(first.ended().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_of_ours_is_left_as_it_is() {
    let world = World::new(Router::new()).await;
    let text = "my notes\n".repeat(500);
    std::fs::write(world.path("notes.txt"), &text).unwrap();
    let ended = world.run(&["run", "large", "--db", "notes.txt"]).await;
    assert_eq!(
        (ended.code(), ended.error()),
        (
            3,
            "notes.txt is not a database of this program, or its first page is damaged, and was left as it is: \
             use another file with `--db`, or restore a backup"
        )
    );
    assert_eq!(std::fs::read_to_string(world.path("notes.txt")).unwrap(), text);

    assert_eq!(world.run(&["run", "large", "--db", "newer.db"]).await.code(), 0);
    let newer = rusqlite::Connection::open(world.path("newer.db")).unwrap();
    newer.pragma_update(None, "user_version", 8).unwrap();
    drop(newer);
    for verb in [&["run", "large"][..], &["show"]] {
        let ended = world.run(&[verb, &["--db", "newer.db"]].concat()).await;
        assert_eq!(
            (ended.code(), ended.error()),
            (
                3,
                "the database newer.db is of version 8, and this program knows versions up to 6: use the newer program, or another file with `--db`"
            )
        );
    }
}
