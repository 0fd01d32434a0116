//! Remembering: runs, task instances, XComs, events and logs in one SQLite file.
//!
//! One [`Writer`] owns the file, by a lock; each call of [`Writer::commit`] is
//! one transaction. [`Reader`]s look on beside it.

#[cfg(test)]
pub(crate) mod abuse;
mod asked;
mod blobs;
mod checkpoint;
mod lock;
mod log;
mod place;
mod prune;
mod read;
mod record;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
pub mod upkeep;
mod write;

use std::path::{Path, PathBuf};

pub use self::blobs::{Blobs, Stored};
pub use self::lock::{owner_lives, wait as wait_for_lock};
pub use self::prune::{IN_FLIGHT, PRUNED, Pruned};
pub use self::read::{Reader, Which};
pub use self::record::{
    BackfillRecord, DagRecord, Deletion, EventRecord, LogRecord, NoticeRecord, RunRecord, RunType,
    TaskRecord, WaitsFor, Write,
};
pub use self::write::Writer;

/// Why the database cannot be used. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such file.
    #[error("there is no database at {}: nothing has run here yet, or `--db` names another place", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// Another process has it.
    #[error(
        "the database {} is in use by process {}: wait for it, or use another file with `--db`",
        path.display(), if pid.is_empty() { "(unknown)" } else { pid }
    )]
    Locked {
        /// The database.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the database {} is of version {found}, and this program knows versions up to {known}: \
         use the newer program, or another file with `--db`", path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version this program knows.
        known: usize,
    },
    /// An older version of this program wrote it, and it is only to be read.
    #[error(
        "the database {} is of an older version: `db migrate` brings it up to date, and so does the next `run`",
        path.display()
    )]
    Older {
        /// The database.
        path: PathBuf,
    },
    /// It is no database, or not one of this program's.
    #[error(
        "{} is not a database of this program, or its first page is damaged, and was left as it is: \
         use another file with `--db`, or restore a backup", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is one of this program's, and broken.
    #[error(
        "the database {} is damaged ({what}), and was left as it is: `db verify` tells how much; \
         restore a backup, or use another file with `--db`", path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// This user may not do that with it.
    #[error(
        "the database {} cannot be used by this user ({what}): give it the right to read and write the file \
         and its folder, or use another file with `--db`", path.display()
    )]
    Denied {
        /// The database.
        path: PathBuf,
        /// What was refused.
        what: String,
    },
    /// Its files are not where they were opened.
    #[error(
        "the database {} was moved, deleted or replaced while this process had it ({} is not the file that it has \
         open): put back all that was moved, or a backup, and start again", path.display(), file.display()
    )]
    Gone {
        /// The database.
        path: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// SQLite refused.
    #[error("the database {}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What SQLite calls its error.
fn code(error: &rusqlite::Error) -> Option<i32> {
    let error = match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => error,
        _ => return None,
    };
    Some(error.extended_code & 0xff)
}

impl StoreError {
    /// Whether there is no room left on the disk: it can be tried again when there is.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether the disk has failed: nobody knows what is on it.
    pub(crate) fn is_of_disk(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure)
            }
            Self::Io { .. } => !self.is_full(),
            _ => false,
        }
    }

    /// Whether another look may find it whole: nothing is said of what is in it.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Io { .. } | Self::Sqlite { .. } | Self::Missing { .. })
    }

    /// What SQLite said about this database.
    pub(crate) fn of(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase, PermissionDenied, ReadOnly};
        use rusqlite::ffi::SQLITE_ERROR;
        let (path, what) = (path.to_owned(), source.to_string());
        // A row that holds what nobody has written there, or a table that is not what it was.
        let is_nonsense = match &source {
            E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) => true,
            E::InvalidColumnType(..) | E::Utf8Error(..) | E::QueryReturnedNoRows => true,
            other => {
                let lacks = ["no such table", "no such column", "has no column", "unsupported file format"];
                code(other) == Some(SQLITE_ERROR) && lacks.iter().any(|lacks| what.contains(lacks))
            }
        };
        match source.sqlite_error_code() {
            _ if is_nonsense => Self::Damaged { path, what },
            Some(DatabaseCorrupt) => Self::Damaged { path, what },
            Some(NotADatabase) => Self::Foreign { path },
            Some(ReadOnly | CannotOpen | PermissionDenied) => Self::Denied { path, what },
            _ => Self::Sqlite { path, source },
        }
    }

    /// What the file system said about `file`, which is this database or beside it.
    pub(crate) fn io(database: &Path, file: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => {
                Self::Denied { path: database.to_owned(), what: format!("{}: {source}", file.display()) }
            }
            _ => Self::Io { path: file.to_owned(), source },
        }
    }
}
