//! What a million past runs cost those that come.

use std::path::Path;
use std::time::{Duration, Instant};

use coworks_biz::config::Durability;
use coworks_biz::store::{Reader, Writer};

use super::shapes::work;
use super::{files, latency, median, ms, plans, serving, shapes};

/// How long a page of runs takes at first and then, of all DAGs and of one.
fn pages(db: &Path) -> [f64; 3] {
    let begin = Instant::now();
    let reader = Reader::open(db).expect("a database");
    reader.runs(None, 50).expect("runs");
    let first = ms(begin.elapsed());
    let page = |dag_id| {
        let begin = Instant::now();
        for _ in 0..100 {
            assert!(!reader.runs(dag_id, 50).expect("runs").is_empty());
        }
        ms(begin.elapsed()) / 100.0
    };
    [first, page(None), page(Some("chain"))]
}

pub async fn measure(dir: &Path, runs: i64, rounds: i64) {
    let (first, short) = (plans::first("first", 1), shapes::chain("short", 5));
    let (fan, chain) = (shapes::fan(), shapes::chain("chain", 1000));
    let mut all = vec![first, short, fan, chain];
    for name in ["a", "b", "c", "d", "e", "f"] {
        all.push(shapes::chain(name, 5));
    }
    let full = dir.join("full.db");
    let (engine, _) = serving(&full, &all).await;
    // What is copied.
    work(&engine, short, 1).await;
    drop(engine);
    let begin = Instant::now();
    let bytes = files::past(&full, runs, 0, &all);
    println!("{runs} runs made in {:.0} s: {} MiB", begin.elapsed().as_secs_f64(), bytes >> 20);

    let shapes = [
        ("1 > 998 > 1", fan, 1, 1_000, 20),
        ("chain of 1,000", chain, 1, 1_000, 2),
        ("1,000 runs of 5", short, 1_000, 5_000, 6),
    ];
    let mut rates = vec![vec![vec![]; shapes.len()]; 2];
    let mut begun: [Vec<Duration>; 2] = Default::default();
    let (mut starts, mut read) = ([vec![], vec![]], vec![vec![]; 6]);
    for round in 0..rounds {
        let empty = dir.join(format!("empty_{round}.db"));
        for (which, db) in [&empty, &full].into_iter().enumerate() {
            let (engine, took) = serving(db, &all).await;
            starts[which].push(ms(took));
            latency::apart(&engine, first, 100, Duration::from_millis(1)).await;
            begun[which].extend(latency::apart(&engine, first, 500, Duration::from_millis(5)).await.begun);
            for (rates, (_, definition, runs, steps, times)) in rates[which].iter_mut().zip(shapes) {
                work(&engine, definition, runs).await;
                let begin = Instant::now();
                for _ in 0..times {
                    work(&engine, definition, runs).await;
                }
                rates.push(f64::from(steps * times) / begin.elapsed().as_secs_f64());
            }
            for (read, took) in read[which * 3..].iter_mut().zip(pages(db)) {
                read.push(took);
            }
        }
    }
    println!("starts, ms: {starts:.0?}");
    println!("{:<34} {:>12} {:>12} {:>8}", "", "empty", "past runs", "ratio");
    let print = |name: &str, empty: f64, full: f64| {
        println!("{name:<34} {empty:>12.2} {full:>12.2} {:>8.2}", full / empty);
    };
    for (place, (name, ..)) in shapes.iter().enumerate() {
        let rate = |which: usize| median(rates[which][place].clone());
        print(&format!("{name}, steps/s"), rate(0), rate(1));
    }
    begun.iter_mut().for_each(|begun| begun.sort_unstable());
    for (name, of_100) in [("p50", 50), ("p99", 99), ("max", 100)] {
        let name = format!("trigger to first task, {name}, ms");
        print(&name, latency::part(&begun[0], of_100), latency::part(&begun[1], of_100));
    }
    print("start, ms", median(starts[0].clone()), median(starts[1].clone()));
    for (place, name) in
        ["opened and the first page, ms", "a page of 50 runs, ms", "a page of one DAG, ms"].iter().enumerate()
    {
        print(name, median(read[place].clone()), median(read[place + 3].clone()));
    }
}

/// What it takes to remove runs that are too old where many DAGs have not run since.
pub async fn prune(dir: &Path) {
    let db = dir.join("biz.db");
    let mut all = vec![shapes::chain("short", 5)];
    let (engine, _) = serving(&db, &all).await;
    work(&engine, all[0], 1).await;
    drop(engine);
    all.extend(plans::scheduled(10_000));
    files::past(&db, 50_000, 100, &all);
    let mut writer = Writer::open(&db, Durability::Step).expect("a database");
    let before = (std::time::SystemTime::now() - Duration::from_secs(90 * 86_400)).into();
    let mut pieces = vec![];
    for _ in 0..200 {
        let begin = Instant::now();
        let pruned = writer.prune(before, 1_000).expect("a piece");
        pieces.push(begin.elapsed());
        if !pruned.more {
            break;
        }
    }
    let first = ms(pieces[0]);
    pieces.sort_unstable();
    let (half, last) = (latency::part(&pieces, 50), latency::part(&pieces, 100));
    println!(
        "10,000 DAGs, {} pieces of 1,000 rows: the first {first:.1} ms, p50 {half:.1} ms, max {last:.1} ms",
        pieces.len()
    );
}
