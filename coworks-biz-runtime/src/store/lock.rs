//! One process at a time: a lock file of its own beside the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Held as long as it lives; the system frees it when the process dies, however it dies.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database, ".lock");
        let io = |source| StoreError::io(database, &path, source);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Whoever holds it may be about to write its pid: an empty one is told as unknown.
                let _ = file.read_to_string(&mut pid);
                let pid = pid.trim().to_owned();
                return Err(StoreError::Locked { path: database.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self(file))
    }
}

/// Whether the process that had the database last is still there. Asked for what is told of runs; who
/// wants to write takes the lock.
pub fn owner_lives(database: &Path) -> bool {
    let pid = std::fs::read_to_string(beside(database, ".lock")).unwrap_or_default();
    let pid = pid.trim();
    !pid.is_empty() && pid != std::process::id().to_string() && Path::new("/proc").join(pid).exists()
}

/// Waits on this thread until no process has the database.
pub fn wait(database: &Path) -> Result<(), StoreError> {
    let path = beside(database, ".lock");
    let io = |source| StoreError::Io { path: path.clone(), source };
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    file.lock().map_err(io)
}

/// The path of a companion of the database file: `biz.db` gives `biz.db.lock`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
