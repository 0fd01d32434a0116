//! Starting with much that an earlier process has left.

use std::path::Path;
use std::time::{Duration, Instant};

use coworks_biz::__runtime::task::Definition;
use coworks_biz::Biz;
use coworks_biz::engine::{Engine, Mode, Trigger};

use super::{calls, config, files, memory, ms, plans, serving, status};

/// Ten thousand runs under way, of one DAG and of a thousand.
pub async fn runs(dir: &Path) {
    let first = plans::first("first", 10);
    for (name, dags) in [("one DAG", 1), ("1,000 DAGs", 1_000)] {
        let db = dir.join(format!("{dags}.db"));
        let mut all: Vec<&'static Definition> =
            (0..dags).map(|dag| plans::open(format!("open_{dag}").leak())).collect();
        let of = all.clone();
        all.push(first);
        drop(serving(&db, &all).await);
        files::open(&db, 10_000, &of);
        // Once more than counts: the first leaves what was queued done.
        for which in ["start", "once more"] {
            let config = config(&db);
            let begin = Instant::now();
            let engine = Engine::start(&config, &all, Mode::Serve).expect("an engine");
            let started = ms(begin.elapsed());
            let is = status(&engine).await;
            let answered = ms(begin.elapsed());
            let mut run = engine.trigger(first, Trigger::default()).await.expect("a run");
            let triggered = ms(begin.elapsed());
            run.ended().await.expect("its end");
            let begun = ms(plans::begun(run.run.number) - begin);
            println!(
                "{} runs of {name}, {which}: started {started:.0} ms, status {answered:.0} ms, a trigger answered \
                 {triggered:.0} ms, its task begun {begun:.0} ms; {:.0} MiB",
                is.runs,
                memory().0
            );
        }
    }
}

/// A hundred thousand answers that are waited for.
pub async fn waits(dir: &Path) {
    let (db, count) = (dir.join("biz.db"), 100_000);
    let all = [calls::waiting::DEFINITION];
    drop(serving(&db, &all).await);
    files::waits(&db, count, all[0]);
    let before = memory().0;
    let begin = Instant::now();
    let (engine, took) = serving(&db, &all).await;
    while status(&engine).await.answers < count as usize {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waited = ms(begin.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (now, peak) = memory();
    println!(
        "{count} waits: started {:.0} ms, all waited for {waited:.0} ms; {now:.0} MiB (before {before:.0}, at most {peak:.0})",
        ms(took)
    );
}
