//! The engine simulated: the real core, its real database, and a world that is drawn from a seed.
//!
//! A seed decides the program, what attempts come to, what services and S3 do, who asks for what, and when the
//! process dies; the same seed is the same story, to the last row. `docs/proof.md` tells what is held against it.

mod attempts;
mod by_hand;
mod checks;
mod commit;
mod coverage;
mod death;
mod drive;
mod hands;
mod happen;
mod ledger;
mod limits;
mod machine;
mod operator;
mod plan;
mod power;
mod random;
mod rows;
mod rules;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use self::coverage::Coverage;
use self::drive::{Story, simulate};

/// How many seeds each run of the tests takes.
const SEEDS: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, and is to be a number")))
}

/// The story of a seed, or what has broken, and how to see it again.
fn story(seed: u64) -> Result<Story, String> {
    let told = std::panic::catch_unwind(AssertUnwindSafe(|| simulate(seed, false)));
    let told = told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("it panics: {}", text.unwrap_or_default()))
    });
    told.map_err(|why| {
        format!("seed {seed}: {why}\n  COWORKS_BIZ_SEED={seed} cargo test --workspace --lib simulation::one -- --nocapture")
    })
}

/// Takes so many seeds, on as many threads as there are; tells the first failures and the sum of all.
fn take(from: u64, count: u64) -> (Vec<String>, Vec<Story>) {
    let next = AtomicU64::new(from);
    let most = if std::env::var_os("COWORKS_BIZ_KEEP_GOING").is_some() { usize::MAX } else { 3 };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut failed, mut told) = (Vec::new(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count || failed.len() >= most {
                return (failed, told);
            }
            match story(seed) {
                Ok(story) => told.push(story),
                Err(why) => failed.push(why),
            }
        }
    };
    let (mut failed, mut told) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for one in all {
            let (bad, good) = one.join().expect("it catches its panics");
            failed.extend(bad);
            told.extend(good);
        }
    });
    (failed, told)
}

/// Tries so many seeds, and says how often what has happened in them.
fn check(from: u64, count: u64) -> Coverage {
    let begun = std::time::Instant::now();
    let (failed, told) = take(from, count);
    let mut seen = Coverage::default();
    told.iter().for_each(|story| seen.add(&story.seen));
    println!("{} seeds from {from} in {:.1?}", told.len() + failed.len(), begun.elapsed());
    for (what, count) in &seen.0 {
        println!("{count:>9} {what}");
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    seen
}

#[test]
fn a_thousand_worlds_keep_every_promise() {
    let lacks = check(0, SEEDS).lacks();
    assert!(lacks.is_empty(), "too little has happened:\n{}", lacks.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..40 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}

/// One seed, and all that happens: `COWORKS_BIZ_SEED=7 cargo test .. simulation::one -- --nocapture`.
#[test]
fn one() {
    let seed = number("COWORKS_BIZ_SEED").unwrap_or(0);
    let told = simulate(seed, number("COWORKS_BIZ_SEED").is_some());
    assert!(told.is_ok(), "seed {seed}: {}", told.unwrap_err());
}

/// As many as are asked for: `COWORKS_BIZ_SEEDS=1000000 COWORKS_BIZ_SEED=1 cargo test .. simulation::many`.
#[test]
#[ignore = "takes as long as it is told to"]
fn many() {
    check(number("COWORKS_BIZ_SEED").unwrap_or(SEEDS), number("COWORKS_BIZ_SEEDS").unwrap_or(10_000));
}
