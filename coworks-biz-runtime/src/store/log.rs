//! The write-ahead log, as another process has left it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use super::StoreError;
use super::lock::beside;

/// Brings to the disk what an earlier process has left in the log. Only for who holds the lock, of a file that is
/// known to be ours: where somebody else writes the log meanwhile, this would undo it. Another program, such as
/// `sqlite3`, knows nothing of the lock: it is kept out by a transaction that writes nothing.
///
/// What is read from it need not be there: that process may have died before its sync, or stopped because that
/// failed. After one that failed the system takes what it has in memory for written, and another sync writes
/// nothing: so it is written again. Nobody may be told of a run by what is in memory alone.
pub(super) fn settle(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    let log = beside(database, "-wal");
    let fault = |source| StoreError::io(database, &log, source);
    let file = match OpenOptions::new().read(true).write(true).open(&log) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.map_err(fault)?,
    };
    let sql = |sql| connection.execute_batch(sql).map_err(|source| StoreError::of(database, source));
    sql("BEGIN IMMEDIATE")?;
    let (mut piece, mut at) = (vec![0; 1 << 20], 0);
    loop {
        let read = file.read_at(&mut piece, at).map_err(fault)?;
        if read == 0 {
            break;
        }
        file.write_all_at(&piece[..read], at).map_err(fault)?;
        at += read as u64;
    }
    if at > 0 {
        file.sync_data().map_err(fault)?;
    }
    sql("ROLLBACK")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_as_it_is_and_one_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (database, none) = (dir.path().join("biz.db"), Connection::open_in_memory().unwrap());
        settle(&none, &database).unwrap();
        let log = beside(&database, "-wal");
        assert!(!log.exists(), "nothing is made");
        for length in [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 5] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            std::fs::write(&log, &bytes).unwrap();
            settle(&none, &database).unwrap();
            assert!(std::fs::read(&log).unwrap() == bytes, "{length}");
        }
        std::fs::remove_file(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        let error = settle(&none, &database).unwrap_err().to_string();
        assert!(error.contains("biz.db-wal"), "{error}");
    }

    #[test]
    fn nobody_writes_the_log_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("biz.db");
        let other = Connection::open(&database).unwrap();
        other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); BEGIN IMMEDIATE").unwrap();
        let ours = Connection::open(&database).unwrap();
        ours.busy_timeout(std::time::Duration::ZERO).unwrap();
        let error = settle(&ours, &database).unwrap_err().to_string();
        assert!(error.contains("locked"), "{error}");
        other.execute_batch("INSERT INTO t VALUES (1); COMMIT").unwrap();
        settle(&ours, &database).unwrap();
        other.execute_batch("INSERT INTO t VALUES (2)").unwrap();
    }
}
