//! `db`: care for the database, also while a run is under way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use coworks_biz::local::axum::{Json, Router, routing::get};
use nix::unistd::{Uid, chown};
use serde_json::json;

use crate::harness::{Ended, Gate, World};

fn gated(gate: &Gate) -> Router {
    let gate = gate.clone();
    Router::new().route(
        "/gate",
        get(move || {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Json(1)
            }
        }),
    )
}

/// Runs of `large`, each with a large value.
async fn runs(world: &World, number: usize) {
    for _ in 0..number {
        assert_eq!(world.run(&["run", "large", "--quiet"]).await.code(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_and_checked_while_a_run_is_under_way() {
    let gate = Gate::new();
    let world = World::new(gated(&gate)).await;
    runs(&world, 1).await;
    let mut held = world.start(&["run", "held"]);
    gate.arrival().await;

    let made = world.run(&["db", "backup", "copy.db", "--output", "json"]).await;
    assert_eq!(made.code(), 0, "{made:?}");
    assert_eq!((&made.json()["runs"], &made.json()["blobs"]), (&json!(2), &json!(1)));
    let verified = world.run(&["db", "verify", "--output", "json"]).await;
    assert_eq!((verified.code(), &verified.json()["damage"]), (0, &json!([])));
    let again = world.run(&["db", "backup", "copy.db"]).await;
    assert_eq!((again.code(), again.error()), (3, "copy.db: it is there already, and is left as it is"));

    let pid = held.pid();
    for verb in [&["db", "migrate"][..], &["db", "prune"]] {
        let refused = world.run(verb).await;
        assert_eq!(refused.code(), 3);
        let sentence =
            format!("the database .coworks-biz/biz.db is in use by process {pid}: wait for it, or use");
        assert!(refused.error().starts_with(&sentence), "{refused:?}");
    }
    let counted = world.run(&["db", "prune", "--older-than", "1ns", "--dry-run", "-o", "json"]).await;
    assert_eq!((counted.code(), &counted.json()["runs"]), (0, &json!(0)), "{counted:?}");

    gate.open();
    assert_eq!(held.ended().await.code(), 0);
    // The copy is of the moment at which the run was under way, and goes on from there.
    let copy = ["--db", "copy.db"];
    let shown = world.run(&[&["show", "--output", "json"][..], &copy].concat()).await;
    assert_eq!(shown.json()["state"], "running");
    let run_id = shown.json()["run_id"].as_str().unwrap().to_owned();
    gate.open();
    let ended = world.run(&[&["run", "--resume", &run_id][..], &copy].concat()).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let large = world.run(&[&["runs", "large", "-o", "json"][..], &copy].concat()).await.json();
    let run_id = large[0]["run_id"].as_str().unwrap();
    let shown = world.run(&[&["show", run_id, "--output", "json"][..], &copy].concat()).await.json();
    let made = shown["tasks"].as_array().unwrap().iter().find(|task| task["task_id"] == "make").unwrap();
    assert_eq!(made["xcom"]["return_value"].as_str().unwrap().len(), 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_are_removed_and_the_last_one_stays() {
    let world = World::new(Router::new()).await;
    let missing = world.run(&["db", "prune"]).await;
    assert_eq!(missing.code(), 3);
    assert!(missing.error().starts_with("there is no database at .coworks-biz/biz.db"), "{missing:?}");
    runs(&world, 3).await;
    let young = world.run(&["db", "prune", "--output", "json"]).await;
    assert_eq!((young.code(), young.json()["runs"].as_u64()), (0, Some(0)), "kept for 90 days");

    let prune = ["db", "prune", "--older-than", "1ns"];
    let would = world.run(&[&prune[..], &["--dry-run"]].concat()).await;
    assert!(would.stdout.starts_with("would be removed: 2 runs with "), "{would:?}");
    assert_eq!(world.run(&["runs", "-o", "json"]).await.json().as_array().unwrap().len(), 3);
    let done = world.run(&[&prune[..], &["--compact"]].concat()).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(done.stdout, would.stdout.replace("would be removed", "removed"));
    assert_eq!(world.run(&["runs", "-o", "json"]).await.json().as_array().unwrap().len(), 1);
    assert_eq!(world.run(&["show"]).await.code(), 0);
    let verified = world.run(&["db", "verify"]).await;
    assert_eq!(verified.code(), 0, "{verified:?}");
    assert!(verified.stdout.ends_with("1 runs, 1 large values\n"), "{verified:?}");

    let mut command = world.command(&["db", "prune"]);
    let off = Ended::from(command.env("COWORKS_BIZ_RETENTION", "off").output().unwrap());
    assert_eq!(off.code(), 2);
    assert!(off.error().contains("--older-than 30d"), "{off:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_by_verify_and_keeps_everything_else_away() {
    let world = World::new(Router::new()).await;
    runs(&world, 1).await;
    let (path, values) = (world.path(".coworks-biz/biz.db"), world.path(".coworks-biz/biz.db.blobs"));
    let value = fs::read_dir(&values).unwrap().next().unwrap().unwrap().path();
    fs::rename(&value, world.path("value")).unwrap();
    let verified = world.run(&["db", "verify"]).await;
    assert_eq!(verified.code(), 3);
    assert!(verified.stdout.starts_with("damage the large value .coworks-biz/biz.db.blobs/"), "{verified:?}");
    assert!(verified.error().contains("put a backup in its place"), "{verified:?}");
    fs::rename(world.path("value"), &value).unwrap();

    // Whoever closes the file last brings the log into it.
    let last = rusqlite::Connection::open(&path).unwrap();
    last.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    last.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 * 2..4096 * 3].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let verified = world.run(&["db", "verify", "--output", "json"]).await;
    assert_eq!(verified.code(), 3);
    assert_ne!(verified.json()["damage"], json!([]));
    for verb in [&["run", "large"][..], &["db", "prune"], &["db", "migrate"], &["db", "backup", "copy.db"]] {
        let refused = world.run(verb).await;
        assert_eq!(refused.code(), 3, "{refused:?}");
        assert!(refused.error().starts_with("the database .coworks-biz/biz.db is damaged ("), "{refused:?}");
    }
    assert!(fs::read(&path).unwrap() == bytes && !world.path("copy.db").exists());
}

/// The program as a user to whom permissions apply: root has none that matter.
fn as_nobody(command: &Command, dir: &Path) -> Ended {
    let binary = dir.join("program");
    let mut copy = Command::new(&binary);
    copy.args(command.get_args()).current_dir(dir).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            copy.env(name, value);
        }
    }
    if Uid::effective().is_root() {
        copy.uid(65_534).gid(65_534);
    }
    Ended::from(copy.output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_or_written_is_refused_with_what_to_do() {
    let world = World::new(Router::new()).await;
    runs(&world, 1).await;
    let dir = world.dir.path();
    // Nobody may get at the tests' own binaries.
    fs::copy(crate::harness::example("program"), dir.join("program")).unwrap();
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    if Uid::effective().is_root() {
        let inside = fs::read_dir(dir.join(".coworks-biz")).unwrap().map(|entry| entry.unwrap().path());
        for path in inside.chain([dir.into(), dir.join("program"), dir.join(".coworks-biz")]) {
            chown(&path, Some(65_534.into()), Some(65_534.into())).unwrap();
        }
    }
    let run = |arguments: &[&str]| as_nobody(&world.command(arguments), dir);
    let refused = |arguments: &[&str]| {
        let ended = run(arguments);
        assert_eq!(ended.code(), 3, "{ended:?}");
        assert!(ended.error().contains("cannot be used by this user ("), "{ended:?}");
        assert!(ended.error().contains("give it the right to read and write"), "{ended:?}");
    };
    assert_eq!(run(&["show"]).code(), 0, "{:?}", run(&["show"]));
    let before = fs::read(dir.join(".coworks-biz/biz.db")).unwrap();

    mode(".coworks-biz/biz.db", 0o000);
    refused(&["run", "large"]);
    refused(&["show"]);
    mode(".coworks-biz/biz.db", 0o400);
    refused(&["run", "large"]);
    mode(".coworks-biz/biz.db", 0o600);
    mode(".coworks-biz", 0o000);
    refused(&["run", "large"]);
    refused(&["show"]);
    mode(".coworks-biz", 0o700);
    // A folder in which nothing can be made.
    fs::create_dir(dir.join("sealed")).unwrap();
    fs::copy(dir.join(".coworks-biz/biz.db"), dir.join("sealed/biz.db")).unwrap();
    mode("sealed", 0o555);
    refused(&["run", "large", "--db", "sealed/biz.db"]);
    refused(&["run", "large", "--db", "sealed/new.db"]);
    refused(&["show", "--db", "sealed/biz.db"]);
    mode("sealed", 0o755);
    assert!(fs::read(dir.join(".coworks-biz/biz.db")).unwrap() == before);
    let ended = run(&["run", "large"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
}
