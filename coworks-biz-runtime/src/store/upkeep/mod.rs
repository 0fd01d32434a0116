//! The care of a database: what can be done with the file beside running from it.
//!
//! [`backup`] and [`verify`] only read, and work beside the process that owns the file.

mod backup;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};

pub use self::backup::{BackUp, backup};
pub use self::verify::{Verdict, verify};
use super::lock::beside;
use super::prune::{MAY_GO, of_runs};
use super::{Pruned, StoreError, Writer, schema};
use crate::config::Durability;

/// Files up to this size are checked whole when they are opened to be written: that takes
/// milliseconds. Damage in a larger one is told by `db verify`, and by what reads the broken page.
const CHECKED: u64 = 16 << 20;

/// What bringing a file up to date did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The version it was of.
    pub from: usize,
    /// The version it is of.
    pub to: usize,
}

/// Brings the file to the version of this program. It must be there, and nobody else may hold it.
pub fn migrate(path: &Path) -> Result<Migration, StoreError> {
    let from = open(path)?.1;
    drop(Writer::open(path, Durability::Step)?);
    Ok(Migration { from, to: schema::current() })
}

/// Opens the file to be written where it is there: nothing is made.
pub fn existing(path: &Path) -> Result<Writer, StoreError> {
    drop(open(path)?);
    Writer::open(path, Durability::Step)
}

/// What [`Writer::prune`] would remove in all. Only reads.
pub fn prunable(path: &Path, before: DateTime<Utc>) -> Result<Pruned, StoreError> {
    let (mut connection, version) = open(path)?;
    if version < schema::current() {
        return Err(StoreError::Older { path: path.to_owned() });
    }
    let mut count = || -> rusqlite::Result<Pruned> {
        // All of it of one moment.
        let snapshot = connection.transaction()?;
        let may_go = format!("SELECT id FROM dag_run r WHERE {MAY_GO}");
        let before = [before.timestamp_micros()];
        let number = |sql: String| snapshot.query_row(&sql, before, |row| row.get::<_, u64>(0));
        let runs = number(format!("SELECT count(*) FROM ({may_go})"))?;
        let mut pruned = Pruned { runs, rows: runs, ..Pruned::default() };
        let (mut going, mut staying) = (BTreeSet::<String>::new(), BTreeSet::new());
        for table in of_runs(&snapshot)? {
            let name = &table.name;
            let of_run = table.of_run("going");
            pruned.rows += number(format!(
                "SELECT count(*) FROM (SELECT id AS going FROM ({may_go})) CROSS JOIN {name} WHERE {of_run}"
            ))?;
            if !table.names_blobs {
                continue;
            }
            let sql = format!("SELECT blob, run IN ({may_go}) FROM {name} WHERE blob IS NOT NULL");
            let mut statement = snapshot.prepare(&sql)?;
            let rows = statement.query_map(before, |row| Ok((row.get(0)?, row.get::<_, bool>(1)?)))?;
            for row in rows {
                let (blob, goes) = row?;
                if goes { &mut going } else { &mut staying }.insert(blob);
            }
        }
        pruned.blobs = going.difference(&staying).count() as u64;
        Ok(pruned)
    };
    count().map_err(|source| StoreError::of(path, source))
}

/// Opens a file of this program's for reading, of this version or of an older one, which it says.
fn open(path: &Path) -> Result<(Connection, usize), StoreError> {
    let wrap = |source| StoreError::of(path, source);
    if !path.try_exists().map_err(|source| StoreError::io(path, path, source))? {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    schema::refuse_foreign(path)?;
    refuse_cut_off(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(wrap)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(wrap)?;
    match schema::check(&connection, path)? {
        0 => Err(StoreError::Missing { path: path.to_owned() }),
        version => Ok((connection, version)),
    }
}

/// Refuses a file that ends before its last page, or whose log is left alone. SQLite would take the
/// one for whole until it comes to the end, and throw the other away.
pub(super) fn refuse_cut_off(path: &Path) -> Result<(), StoreError> {
    let io = |source: std::io::Error| StoreError::io(path, path, source);
    let length = |path: &Path| match std::fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(io(e)),
    };
    let damaged = |what: String| Err(StoreError::Damaged { path: path.to_owned(), what });
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut head).map(|_| ()).map_err(io)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    // SQLite takes a file of a later format for one that this user may not write.
    if head.starts_with(b"SQLite format 3\0")
        && head.get(18..20).is_some_and(|format| format.iter().max() > Some(&2))
    {
        return damaged("its first page is of no format that there is".to_owned());
    }
    // In this order: what another process may have brought into the file meanwhile only makes it longer.
    let (log, there) = (length(&beside(path, "-wal"))?, length(path)?);
    match (log, there) {
        (0, 0) => return Ok(()),
        (_, 0) => return damaged("it is empty or gone, and its write-ahead log is not".to_owned()),
        (0, _) if head.is_empty() => return Ok(()),
        (..) if (1..100).contains(&head.len()) => return damaged("it ends within its first page".to_owned()),
        (0, _) => {}
        // The log may hold the pages that the file lacks.
        _ => return Ok(()),
    }
    let number = |at: usize| head[at..at + 4].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    // Two bytes, in which 65,536 is written as 1.
    let size = match number(14) & 0xffff {
        1 => 65_536,
        size => size,
    };
    // The number of pages counts only where the same writer has left both of these.
    let length = number(28) * size;
    match number(24) == number(92) && there < length {
        true => damaged(format!("it has {there} bytes, and should have {length}")),
        false => Ok(()),
    }
}

/// Refuses a file that is broken, before anything is written to it.
pub(super) fn refuse_damaged(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let length = std::fs::metadata(path).map_err(|source| StoreError::io(path, path, source))?.len();
    if length > CHECKED {
        return Ok(());
    }
    let found: String = connection
        // With its indexes: by one that is another's, runs would be passed over.
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|source| StoreError::of(path, source))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { path: path.to_owned(), what: found.replace('\n', "; ") }),
    }
}
