//! When the log is brought into the file. SQLite would do it by itself, and say nothing where that fails: what of it
//! is on the disk would not be known, and the next one would take it to be there.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::Connection;

/// Pages of the log before they are brought into the file: 16 MiB.
const PAGES: i32 = 4096;

/// How long the log of a connection is.
#[derive(Debug)]
pub(super) struct Checkpoint(Arc<AtomicI32>);

impl Checkpoint {
    /// Has nobody but [`when_due`](Self::when_due) do it.
    pub(super) fn of(connection: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let counts = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut _, pages| {
            counts.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self(pages))
    }

    /// Brings the log into the file, where it is long enough. Where a reader is in the way of a part of it, the next
    /// commit has it go on; where there is no room, too.
    pub(super) fn when_due(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.0.load(Ordering::Relaxed) < PAGES {
            return Ok(());
        }
        let done = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()));
        match done {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => Ok(()),
            done => done,
        }
    }
}
