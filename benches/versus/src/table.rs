//! The table of rates.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::measure::{Sync, commits, median};
use crate::{SYSTEMS, System, command, folder};

const SHAPES: [(&str, &str); 3] =
    [("fan", "1 > 998 > 1"), ("chain", "chain of 1,000"), ("runs", "1,000 runs of 5")];

/// So many commits before those that count: the log has its size by then.
const LOG: u32 = 4_200;

/// Steps a second of one system and shape, in a database of its own; none where it took more than a minute. What fails
/// in any other way fails all: a step that was not done, or a wrong value, is no rate.
fn rate(system: &System, shape: &str) -> f64 {
    let dir = folder();
    let mut child = command(system.program)
        .args(["measure", system.variant, shape])
        .arg(dir.path())
        .stdout(std::process::Stdio::piped())
        // With what it has started itself.
        .process_group(0)
        .spawn()
        .expect("the programs are built: benches/versus/run");
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            eprintln!("{}: {shape} took more than a minute", system.name);
            kill_all(&child);
            let _ = child.wait();
            return 0.0;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("its words");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{} has failed at {shape}: {printed}", system.name);
    let (steps, seconds) = printed.trim().split_once(' ').expect("steps and seconds");
    steps.parse::<f64>().expect("steps") / seconds.parse::<f64>().expect("seconds")
}

/// `kill -9` for a process and all that it has started: a server that is left behind would slow down all that follows.
fn kill_all(child: &Child) {
    let group = format!("-{}", child.id());
    let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
    assert!(killed.is_ok_and(|status| status.success()), "nobody could be killed in group {group}");
}

/// How it compares with the first line: `1/3.4` of its rate, or `×1.5` of it.
fn beside(rate: f64, own: f64) -> String {
    let short = |ratio: f64| if ratio < 9.95 { format!("{ratio:.1}") } else { format!("{ratio:.0}") };
    let (less, more) = (short(own / rate), short(rate / own));
    match (less.as_str(), more.as_str()) {
        ("1.0", _) | (_, "1.0") => String::new(),
        _ if rate < own => format!(" (1/{less})"),
        _ => format!(" (×{more})"),
    }
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
        disk.push(commits(&folder().path().join("reference.db"), Sync::Full, LOG, 2_000));
        for (column, (shape, _)) in SHAPES.iter().enumerate() {
            for (row, system) in SYSTEMS.iter().enumerate() {
                let rate = rate(system, shape);
                eprintln!("round {round}: {shape}, {}: {rate:.0}", system.name);
                rates[row][column].push(rate);
            }
        }
    }
    println!("| Steps a second | {} |", SHAPES.map(|(_, name)| name).join(" | "));
    println!("|---|---:|---:|---:|");
    let medians: Vec<Vec<_>> = rates.into_iter().map(|row| row.into_iter().map(median).collect()).collect();
    for (system, row) in SYSTEMS.iter().zip(&medians) {
        let cells = row.iter().zip(&medians[0]).map(|(rate, own)| match rate {
            0.0 => "more than a minute".to_owned(),
            _ => thousands(*rate) + &beside(*rate, *own),
        });
        println!("| {} | {} |", system.name, cells.collect::<Vec<_>>().join(" | "));
    }
    let disk = thousands(median(disk));
    println!("\nMedian of {rounds} rounds; this disk gives {disk} synced commits of one row a second.");
    eprintln!("load before {before}, after {}", load());
}
