//! Files that are taken away from under a process that has them.

use std::os::unix::fs::MetadataExt;

use coworks_biz::local::axum::routing::post;
use coworks_biz::local::axum::{Json, Router};

use crate::harness::{Gate, World, show, trigger};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_moved_away_is_noticed_before_a_run_is_acknowledged() {
    for (name, of) in [("biz.db", "database"), ("biz.db-wal", "log"), ("biz.db.lock", "lock")] {
        let world = World::new(Router::new()).await;
        assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
        let mut serving = world.start(&["serve"]);
        serving.says("serving").await;
        let before = trigger(&world, &["ordered", "--conf", r#"{"customer": 1}"#]).await;
        serving.says("run ends: success").await;

        let (here, there) = (world.path(".coworks-biz").join(name), world.path("elsewhere"));
        std::fs::rename(&here, &there).unwrap();
        let refused = world.run(&["trigger", "ordered", "--conf", r#"{"customer": 2}"#]).await;
        assert_eq!(refused.code(), 3, "{of}: {refused:?}");
        let ended = serving.ended().await;
        assert_eq!(ended.code(), 3, "{of}: {ended:?}");
        let sentence =
            "the database .coworks-biz/biz.db was moved, deleted or replaced while this process had it";
        assert!(ended.stderr.contains(sentence), "{of}: {ended:?}");
        assert!(ended.stderr.contains(&format!(".coworks-biz/{name} is not the file")), "{of}: {ended:?}");

        // Put back, it is as it was.
        std::fs::rename(&there, &here).unwrap();
        let mut serving = world.start(&["serve"]);
        serving.says("serving").await;
        assert_eq!(show(&world, &before).await.state(), "success");
        trigger(&world, &["ordered", "--conf", r#"{"customer": 3}"#]).await;
        serving.says("run ends: success").await;
        let verified = world.run(&["db", "verify"]).await;
        assert_eq!(verified.code(), 0, "{of}: {verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_that_looks_into_the_database_takes_nothing_away() {
    let world = World::new(Router::new()).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    // It reads, too, on a connection of its own: a large value is not kept in memory.
    let before = trigger(&world, &["large"]).await;
    serving.says("run ends: success").await;

    // By its lock on the file others know that they are not alone with it, and leave its log where it is. The
    // system drops that where the process closes the file another time, however it had opened it.
    let file = std::fs::metadata(world.path(".coworks-biz/biz.db")).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let (who, what) = (format!(" {} ", serving.pid()), format!(":{file} "));
    assert!(locks.lines().any(|lock| lock.contains(&who) && lock.contains(&what)), "{locks}");
    let other = rusqlite::Connection::open(world.path(".coworks-biz/biz.db")).unwrap();
    let runs: u64 = other.query_row("SELECT count(*) FROM dag_run", [], |row| row.get(0)).unwrap();
    assert_eq!(runs, 1);
    other.close().unwrap();

    let after = trigger(&world, &["large"]).await;
    serving.says("run ends: success").await;
    serving.kill().await;
    for run_id in [&before, &after] {
        assert_eq!(show(&world, run_id).await.state(), "success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_read_what_it_takes_has_no_try_less() {
    // Its second task takes a large value, which is not kept in memory; the first is held meanwhile.
    for gone in [false, true] {
        let gate = Gate::new();
        let hold = gate.clone();
        let entries = Router::new().route(
            "/size",
            post(move || {
                let gate = hold.clone();
                async move {
                    gate.pass().await;
                    Json(1)
                }
            }),
        );
        let world = World::new(entries).await;
        assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
        let mut serving = world.start(&["serve"]);
        serving.says("serving").await;
        let run_id = trigger(&world, &["storm_bulk", "--conf", r#"{"id": 1, "size": 300000}"#]).await;
        gate.arrival().await;

        let (here, there) = match gone {
            true => (world.path(".coworks-biz"), world.path("elsewhere")),
            false => (world.path(".coworks-biz/biz.db.blobs"), world.path("elsewhere")),
        };
        std::fs::rename(&here, &there).unwrap();
        // The value cannot be read: that is a folder.
        if !gone {
            std::fs::create_dir(&here).unwrap();
            let name = std::fs::read_dir(&there).unwrap().next().unwrap().unwrap().file_name();
            std::fs::create_dir(here.join(name)).unwrap();
        }
        gate.open();
        if gone {
            let ended = serving.ended().await;
            assert_eq!(ended.code(), 3, "{ended:?}");
            assert!(ended.stderr.contains("was moved, deleted or replaced"), "{ended:?}");
            std::fs::rename(&there, &here).unwrap();
            serving = world.start(&["serve"]);
        } else {
            serving.says("waits until it can read what it takes").await;
            std::fs::remove_dir_all(&here).unwrap();
            std::fs::rename(&there, &here).unwrap();
        }
        serving.says("run ends: success").await;
        let run = show(&world, &run_id).await;
        assert_eq!(run.task("lengths")["try_number"], 1, "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_says_that_its_database_is_gone() {
    let world = World::new(Router::new()).await;
    assert_eq!(world.run(&["pause", "ticking"]).await.code(), 0);
    let mut serving = world.start(&["serve"]);
    serving.says("serving").await;
    std::fs::rename(world.path(".coworks-biz"), world.path("elsewhere")).unwrap();
    serving.signal("-TERM");
    let ended = serving.ended().await;
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.stderr.contains("was moved, deleted or replaced"), "{ended:?}");
}
