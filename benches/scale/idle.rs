//! Ten thousand schedules that have nothing to do.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{cpu, memory, ms, plans, serving, status};

/// For so long nothing is due.
const CALM: Duration = Duration::from_secs(30);

/// What is due at every fifth minute is over, and the next such is not near.
async fn calm() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let into = Duration::from_millis((now.as_millis() % 300_000) as u64);
    let left = Duration::from_secs(300) - into;
    if left < CALM + Duration::from_secs(2) {
        tokio::time::sleep(left + Duration::from_secs(5)).await;
    }
}

pub async fn measure(dir: &Path) {
    let definitions = plans::scheduled(10_000);
    let db = dir.join("biz.db");
    let before = memory().0;
    for which in ["the first start", "the next start"] {
        let (engine, took) = serving(&db, &definitions).await;
        let begin = Instant::now();
        while {
            let is = status(&engine).await;
            is.runs > 0 || is.running > 0
        } {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let runs = coworks_biz::store::Reader::open(&db)
            .expect("a database")
            .runs(None, 20_000)
            .expect("runs")
            .len();
        println!(
            "{which}: {:.0} ms; {runs} runs so far, the last {:.0} ms later; {:.1} MiB (DAGs themselves: {before:.1} MiB)",
            ms(took),
            ms(begin.elapsed()),
            memory().0
        );
        if which == "the next start" {
            calm().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before = cpu();
            tokio::time::sleep(CALM).await;
            let took = cpu() - before;
            println!(
                "idle: {:.3} % of a core in {} s",
                took.as_secs_f64() / CALM.as_secs_f64() * 100.0,
                CALM.as_secs()
            );
        }
    }
}
