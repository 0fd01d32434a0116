//! The table of rates.

use std::time::{Duration, Instant};

use crate::{SYSTEMS, System, command, folder};

const SHAPES: [(&str, &str); 3] =
    [("fan", "1 > 998 > 1"), ("chain", "chain of 1,000"), ("runs", "1,000 runs of 5")];

/// Steps a second of one system and shape, in a database of its own; `None` where it did not get there.
fn rate(system: &System, shape: &str) -> Option<f64> {
    let dir = folder();
    let mut child = command(system.program)
        .args(["measure", system.variant, shape])
        .arg(dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the programs are built: benches/versus/run");
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            eprintln!("{}: {shape} took more than a minute", system.name);
            child.kill().expect("a child");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("its words");
    let printed = String::from_utf8_lossy(&output.stdout);
    let (steps, seconds) = printed.trim().split_once(' ').filter(|_| output.status.success())?;
    Some(steps.parse::<f64>().ok()? / seconds.parse::<f64>().ok()?)
}

/// Synced commits of one row each, a second.
fn commits() -> f64 {
    let dir = folder();
    let file = rusqlite::Connection::open(dir.path().join("reference.db")).expect("a file");
    file.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE reference (a, b, c)",
    )
    .expect("a table");
    let mut insert =
        file.prepare("INSERT INTO reference VALUES (?, 'task_1', 'success')").expect("a statement");
    let mut write = |count: u32| {
        let begin = Instant::now();
        for number in 0..count {
            insert.execute([number]).expect("a row");
        }
        f64::from(count) / begin.elapsed().as_secs_f64()
    };
    // The log then has its size.
    write(2_000);
    write(2_000)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// `1234567` as `1,234,567`.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn load() -> f64 {
    let words = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    words.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

pub fn print(rounds: usize) {
    let mut rates = vec![[const { Vec::new() }; SHAPES.len()]; SYSTEMS.len()];
    let (mut disk, before) = (vec![], load());
    // All take turns in each round, so that a drift of the machine hits all alike.
    for round in 1..=rounds {
        disk.push(commits());
        for (column, (shape, _)) in SHAPES.iter().enumerate() {
            for (row, system) in SYSTEMS.iter().enumerate() {
                let rate = rate(system, shape);
                eprintln!("round {round}: {shape}, {}: {:.0}", system.name, rate.unwrap_or(f64::NAN));
                rates[row][column].extend(rate);
            }
        }
    }
    println!("| Steps a second | {} |", SHAPES.map(|(_, name)| name).join(" | "));
    println!("|---|---:|---:|---:|");
    let medians: Vec<Vec<_>> = rates.into_iter().map(|row| row.into_iter().map(median).collect()).collect();
    for (system, row) in SYSTEMS.iter().zip(&medians) {
        let cells = row.iter().zip(&medians[0]).map(|(rate, own)| match (rate, own) {
            (Some(rate), Some(own)) => {
                let ratio = own / rate;
                let ratio = if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") };
                format!("{} (1/{ratio})", thousands(*rate)).replace(" (1/1.0)", "")
            }
            _ => "did not end".to_owned(),
        });
        println!("| {} | {} |", system.name, cells.collect::<Vec<_>>().join(" | "));
    }
    let disk = median(disk).map_or(String::new(), thousands);
    println!("\nMedian of {rounds} rounds; this disk gives {disk} synced commits of one row a second.");
    eprintln!("load before {before}, after {}", load());
}
