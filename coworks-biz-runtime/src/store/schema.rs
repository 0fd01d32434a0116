//! The tables, and how a file of an older version becomes one of this.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::ffi::{SQLITE_CONSTRAINT, SQLITE_ERROR};

use super::StoreError;
use super::lock::beside;

/// Marks the file as ours: "CWbz".
const APPLICATION_ID: i32 = 0x4357_627a;

/// Each migration brings the file from its index to the next version. Never edited once released.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
];

/// Makes the database where there is none. It gets its name once it is whole and on the disk: a loss of power
/// meanwhile leaves none, and not a part of one, which would have to be refused.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let draft = beside(path, ".new");
    let (wrap, io) = (|source| StoreError::of(path, source), |source| StoreError::io(path, &draft, source));
    for left in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(&draft, left)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
    }
    // Confs and outputs are nobody else's.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
    let mut connection = Connection::open(&draft).map_err(wrap)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").map_err(wrap)?;
    migrate(&mut connection, path)?;
    // Who closes it would bring its log into it, too, and say nothing where that fails.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(wrap)?;
    connection.close().map_err(|(_, source)| wrap(source))?;
    File::open(&draft).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&draft, path).map_err(io)
}

/// Refuses a file that is not ours or is of a newer version; brings any other up to date.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let version = check(connection, path)?;
    let wrap = |source| StoreError::of(path, source);
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction().map_err(wrap)?;
        transaction.execute_batch(sql).map_err(|source| match super::code(&source) {
            // Its tables are not those of the version that it says it is.
            Some(SQLITE_ERROR | SQLITE_CONSTRAINT) => {
                let what = format!("it is not as version {index} is: {source}");
                StoreError::Damaged { path: path.to_owned(), what }
            }
            _ => wrap(source),
        })?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrap)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1).map_err(wrap)?;
        transaction.commit().map_err(wrap)?;
    }
    Ok(())
}

/// Refuses a file that is no SQLite database at all, before anything is made beside it.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::io(path, path, source);
    // A device would be written to all the same, and a pipe waited for.
    if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(16).read_to_end(&mut head).map_err(io)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    match head.as_slice() {
        b"" | b"SQLite format 3\0" => Ok(()),
        _ => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

/// The version of the file, 0 for an empty one; an error for one that this program must not touch.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let wrap = |source| StoreError::of(path, source);
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(wrap);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(wrap)?;
    let id = number("application_id")?;
    let version = number("user_version")?;
    if tables == 0 && id == 0 {
        // The one page of a new file; what has more, and no table, had some.
        return match number("page_count")? {
            ..=1 => Ok(0),
            _ => Err(StoreError::Damaged {
                path: path.to_owned(),
                what: "its first page names no table".into(),
            }),
        };
    }
    if id != i64::from(APPLICATION_ID) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    match usize::try_from(version) {
        Ok(version @ 1..) if version <= MIGRATIONS.len() => Ok(version),
        Err(_) | Ok(0) => {
            let what = format!("its version is {version}, which there is not");
            Err(StoreError::Damaged { path: path.to_owned(), what })
        }
        Ok(_) => Err(StoreError::Newer { path: path.to_owned(), found: version, known: MIGRATIONS.len() }),
    }
}

/// The version this program writes.
pub(super) const fn current() -> usize {
    MIGRATIONS.len()
}
