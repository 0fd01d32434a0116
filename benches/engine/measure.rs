//! What the benches count by.

use std::path::Path;
use std::time::{Duration, Instant};

/// The one in the middle, and of an even number the mean of both that are; NaN where there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

/// How a commit comes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// As SQLite does it with `synchronous = FULL`: by `fsync`, which also writes the times of the file.
    Full,
    /// As the engine does it: by `fdatasync` of the log.
    Data,
}

/// Synced commits of one row each a second, so many, in this file: what the disk gives. Those before them, which do not
/// count, bring the log to its size.
pub fn commits(db: &Path, sync: Sync, before: u32, count: u32) -> f64 {
    let file = rusqlite::Connection::open(db).expect("a file");
    file.busy_timeout(Duration::from_secs(5)).expect("a time");
    let level = if sync == Sync::Full { "FULL" } else { "NORMAL" };
    file.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {level}; PRAGMA wal_autocheckpoint = 4096;
         CREATE TABLE IF NOT EXISTS reference (a, b, c)"
    ))
    .expect("a table");
    let mut log = db.to_owned().into_os_string();
    log.push("-wal");
    let log = std::fs::File::open(log).expect("a log");
    let mut insert =
        file.prepare("INSERT INTO reference VALUES (?, 'task_1', 'success')").expect("a statement");
    let mut write = |count: u32| {
        let begin = Instant::now();
        for number in 0..count {
            insert.execute([number]).expect("a row");
            if sync == Sync::Data {
                log.sync_data().expect("a disk");
            }
        }
        f64::from(count) / begin.elapsed().as_secs_f64()
    };
    write(before);
    write(count)
}

/// Resident memory now and at most, in MiB.
pub fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("what Linux says of this process");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse::<f64>().expect("a number") / 1024.0
    };
    (of("VmRSS:"), of("VmHWM:"))
}
