//! A loss of power: what was not synced may be gone. Commit by commit, from the end: the log is written in order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::machine::Process;
use super::random::Random;
use crate::store::Write;

/// What a loss of power may leave: the log as long as it was behind each commit since the last sync.
#[derive(Default)]
pub(super) struct Power {
    left: Vec<(u64, Ledger)>,
}

/// What was committed since the last sync.
#[derive(Default)]
pub(super) struct Unsynced {
    pub(super) commits: u32,
    /// The runs that were made, and those that have ended.
    pub(super) made: BTreeSet<i64>,
    pub(super) ended: BTreeSet<i64>,
    /// Whether there is something among it that somebody may have ordered.
    pub(super) orders: bool,
    /// The keys of what is to be deleted.
    pub(super) deletions: BTreeSet<String>,
}

impl Unsynced {
    /// These are about to be committed.
    pub(super) fn take(&mut self, writes: &[Write]) {
        self.commits += 1;
        for write in writes {
            self.orders |= matches!(
                write,
                Write::Run { .. }
                    | Write::RunUnmade { .. }
                    | Write::Forget { .. }
                    | Write::Dag(_)
                    | Write::Backfill(_)
            );
            match write {
                Write::RunMade(run) => self.made.extend([run.number]),
                Write::Run { record, .. } if record.state.is_final() => self.ended.extend([record.number]),
                Write::Delete(deletion) => self.deletions.extend([deletion.object.key.clone()]),
                _ => {}
            }
        }
    }
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

fn length(database: &Path) -> u64 {
    std::fs::metadata(log_of(database)).map_or(0, |file| file.len())
}

/// Whether all that was committed is on the disk.
pub(super) fn is_synced(database: &Path, process: &Process) -> bool {
    process.core.writer.synced() == length(database)
}

impl Power {
    /// A process has the database, as it is. What one that was killed has not synced still is not.
    pub(super) fn on(&mut self, database: &Path, ledger: &Ledger) {
        let length = length(database);
        if length == 0 || self.left.last().is_none_or(|(last, _)| *last != length) {
            self.left = vec![(length, ledger.clone())];
        }
    }

    /// Something was committed, and synced or not.
    pub(super) fn committed(&mut self, database: &Path, synced: bool, ledger: &Ledger) {
        if synced {
            self.left.clear();
        }
        self.left.push((length(database), ledger.clone()));
    }

    pub(super) fn disk(database: &Path) -> Disk {
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        Disk { file: read(database), log: read(&log_of(database)) }
    }

    /// The power goes. What is left in the rows; `None` where nothing was ever written.
    pub(super) fn off(&mut self, database: &Path, mut disk: Disk, random: &mut Random) -> Option<Ledger> {
        let left = std::mem::take(&mut self.left);
        let (length, ledger) = random.pick(&left)?;
        disk.log.truncate(*length as usize);
        disk.put_back(database);
        Some(ledger.clone())
    }
}

impl Disk {
    /// Whether its log is far from where it begins anew: until then its length says what is in it.
    pub(super) fn is_short(&self) -> bool {
        self.log.len() < 2 << 20
    }

    /// What was brought into the file when the process closed it is not there.
    pub(super) fn put_back(&self, database: &Path) {
        std::fs::write(database, &self.file).expect("the file is written back");
        match self.log.is_empty() {
            true => drop(std::fs::remove_file(log_of(database))),
            false => std::fs::write(log_of(database), &self.log).expect("the log is written back"),
        }
    }
}
