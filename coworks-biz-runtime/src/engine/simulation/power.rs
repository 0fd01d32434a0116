//! A loss of power: what was not synced may be gone. Commit by commit, from the end: the log is written in order.

use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::machine::Process;
use super::random::Random;

/// What a loss of power may leave: the log as long as it was behind each commit since the last sync.
#[derive(Default)]
pub(super) struct Power {
    left: Vec<(u64, Ledger)>,
    syncs: u64,
}

/// What was on the disk before the process was gone.
pub(super) struct Disk {
    file: Vec<u8>,
    log: Vec<u8>,
}

fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

impl Power {
    /// A process has the database, as it is.
    pub(super) fn on(&mut self, database: &Path, process: &Process, ledger: &Ledger) {
        let length = std::fs::metadata(log_of(database)).map_or(0, |file| file.len());
        *self = Self { left: vec![(length, ledger.clone())], syncs: process.core.writer.syncs() };
    }

    /// Something was committed. How many commits are not synced.
    pub(super) fn committed(&mut self, database: &Path, process: &Process, ledger: &Ledger) -> usize {
        let syncs = process.core.writer.syncs();
        if syncs > self.syncs {
            self.left.clear();
        }
        self.syncs = syncs;
        let length = std::fs::metadata(log_of(database)).map_or(0, |file| file.len());
        self.left.push((length, ledger.clone()));
        self.left.len() - 1
    }

    pub(super) fn disk(database: &Path) -> Disk {
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        Disk { file: read(database), log: read(&log_of(database)) }
    }

    /// The power goes. What is left in the rows; `None` where nothing was ever written.
    pub(super) fn off(&mut self, database: &Path, disk: Disk, random: &mut Random) -> Option<Ledger> {
        let (length, ledger) = random.pick(&self.left)?;
        let log = &disk.log[..(*length as usize).min(disk.log.len())];
        std::fs::write(database, &disk.file).expect("the file is written back");
        match log.is_empty() {
            true => drop(std::fs::remove_file(log_of(database))),
            false => std::fs::write(log_of(database), log).expect("the log is written back"),
        }
        Some(ledger.clone())
    }
}
