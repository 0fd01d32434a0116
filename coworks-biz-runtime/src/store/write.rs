//! Writing: one connection, one transaction per call.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use super::checkpoint::Checkpoint;
use super::lock::{Lock, beside};
use super::place::Place;
use super::rows::{EVENTS_OF_RUN, Numbers, Rows};
use super::{Blobs, Deletion, StoreError, Write, schema, upkeep};
use crate::config::Durability;

/// How often it is looked at the ends of runs whether the files are still there.
const LOOK: Duration = Duration::from_millis(100);

/// Owns the database: the only one that writes it, by a lock that it holds.
#[derive(Debug)]
pub struct Writer {
    pub(super) connection: Connection,
    /// As it is called in errors.
    pub(super) path: PathBuf,
    /// What a task sets as its current directory is not to move large values, nor to make the file seem gone.
    absolute: PathBuf,
    engine_id: String,
    durability: Durability,
    numbers: Numbers,
    checkpoint: Checkpoint,
    /// Whether the disk has done all that it was asked for.
    is_sound: Cell<bool>,
    /// The end of the last run that was removed, where more are to be.
    pub(super) pruned: Option<i64>,
    /// The files of large values that are still to be looked at.
    pub(super) suspects: Option<Vec<String>>,
    /// The write-ahead log. It is the same file for as long as the connection is open.
    log: File,
    place: Place,
    /// When its files were last looked for.
    looked: Instant,
    /// How long the log was when it was last brought to disk, and has come there.
    #[cfg(test)]
    synced: Cell<u64>,
    _lock: Lock,
}

impl Writer {
    /// Opens the file, makes it when it is not there, and brings it to this version.
    ///
    /// Refused while another process holds it, and for a file that is no
    /// database of this program's or is of a newer version; such a file is
    /// left as it is.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let wrap = |source| StoreError::of(path, source);
        make(parent(path)).map_err(|source| StoreError::io(path, parent(path), source))?;
        schema::refuse_foreign(path)?;
        // SQLite would make its companions as unwritable as the file, and leave them.
        match std::fs::OpenOptions::new().write(true).open(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::io(path, path, e)),
            _ => {}
        }
        upkeep::refuse_cut_off(path)?;
        let lock = Lock::take(path)?;
        if !path.exists() {
            schema::create(path)?;
        }
        let mut connection = Connection::open(path).map_err(wrap)?;
        // Who closes it brings the log into the file, and only a writer that has seen no error may: after one, what it
        // reads from the log need not be on the disk, and the file would be torn by a loss of power meanwhile.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(wrap)?;
        // Before anything is written, and so before a foreign file is touched.
        schema::check(&connection, path)?;
        upkeep::refuse_damaged(&connection, path)?;
        super::log::settle(&connection, path)?;
        // NORMAL syncs at checkpoints; `commit` itself syncs the log as the durability says. It does
        // so by `fdatasync`: SQLite's own sync of each commit would also write the times of the file.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
                 PRAGMA cache_size = -16384; PRAGMA busy_timeout = 5000;",
            )
            .map_err(wrap)?;
        let checkpoint = Checkpoint::of(&mut connection).map_err(wrap)?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::migrate(&mut connection, path)?;
        let engine_id = engine_id(&connection).map_err(wrap)?;
        // SQLite would do this with its first sync of a new file, which here is none of its own.
        let dir = parent(path);
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let log = beside(path, "-wal");
        let log = File::open(&log).map_err(|source| StoreError::Io { path: log, source })?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            absolute: std::path::absolute(path).map_err(|source| StoreError::io(path, path, source))?,
            engine_id,
            durability,
            numbers: Numbers::default(),
            checkpoint,
            is_sound: Cell::new(true),
            pruned: None,
            suspects: None,
            log,
            place: Place::of(path)?,
            looked: Instant::now(),
            #[cfg(test)]
            synced: Cell::new(0),
            _lock: lock,
        })
    }

    /// Who this file belongs to: part of the keys of asynchronous results.
    pub fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// The folder of large values.
    pub fn blobs(&self) -> Blobs {
        Blobs::of(&self.absolute)
    }

    /// Lets the file have so many pages more, and none beyond: as on a full disk.
    #[cfg(test)]
    pub(crate) fn limit(&self, more: u32) {
        let pages: u32 = self.query("SELECT page_count FROM pragma_page_count", []).unwrap();
        self.connection.pragma_update(None, "max_page_count", pages + more).unwrap();
    }

    /// How much of the log is on the disk, as far as a commit has brought it there.
    #[cfg(test)]
    pub(crate) fn synced(&self) -> u64 {
        self.synced.get()
    }

    /// Has another file synced. The one that was is given back.
    #[cfg(test)]
    pub(crate) fn sync_instead(&mut self, file: File) -> File {
        std::mem::replace(&mut self.log, file)
    }

    /// Commits these changes: all of them, or none.
    ///
    /// After a sync that has failed nobody knows what is on the disk: that is no full disk that can be
    /// waited out, and a later process finds out.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.commit_and(writes, || {})
    }

    /// The same, and does something else just before it waits for the disk, where it does.
    pub fn commit_and(&mut self, writes: &[Write], meanwhile: impl FnOnce()) -> Result<(), StoreError> {
        // A run that is acknowledged must be found again; and one that is told to have ended, as far as that can be
        // looked for many times a second.
        let ends = |write: &Write| matches!(write, Write::Run { record, .. } if record.state.is_final());
        if writes.iter().any(|write| matches!(write, Write::RunMade(_)))
            || (self.looked.elapsed() > LOOK && writes.iter().any(ends))
        {
            self.stays()?;
            self.looked = Instant::now();
        }
        if let Err(source) = self.transact(writes) {
            self.numbers.forget();
            // Where another process has taken its place, that is what is wrong.
            self.stays()?;
            return Err(self.distrust(StoreError::of(&self.path, source)));
        }
        self.numbers.keep();
        if writes.iter().any(|write| self.must_sync(write)) {
            meanwhile();
            self.sync()?;
        }
        self.checkpoint()
    }

    /// Brings the log into the file, where it is long enough.
    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        self.checkpoint.when_due(&self.connection).map_err(|source| self.distrust(self.wrap(source)))
    }

    /// After an error of the disk the log stays as it is, for the next process.
    pub(super) fn distrust(&self, error: StoreError) -> StoreError {
        if error.is_of_disk() {
            self.is_sound.set(false);
        }
        error
    }

    /// An error where the files were moved, deleted or replaced: what is written to them now is lost.
    pub fn stays(&self) -> Result<(), StoreError> {
        self.place.check()
    }

    fn transact(&mut self, writes: &[Write]) -> rusqlite::Result<()> {
        // Prepared, where rusqlite's own would be read anew each time.
        let run = |sql| self.connection.prepare_cached(sql)?.execute([]);
        run("BEGIN IMMEDIATE")?;
        let numbers = &mut self.numbers;
        let written = apply_all(&self.connection, writes, numbers).and_then(|()| run("COMMIT"));
        if written.is_err() && !self.connection.is_autocommit() {
            // What cannot be undone here is undone by who opens the file next.
            let _ = run("ROLLBACK");
        }
        written.map(drop)
    }

    fn must_sync(&self, write: &Write) -> bool {
        match (self.durability, write) {
            (Durability::Step, _) => true,
            // What is deleted elsewhere must not come back here.
            (_, Write::RunMade(_) | Write::Delete(_)) => true,
            // The end of a run, and what somebody has ordered.
            (
                Durability::Run,
                Write::Run { .. }
                | Write::RunUnmade { .. }
                | Write::Forget { .. }
                | Write::Dag(_)
                | Write::Backfill(_),
            ) => true,
            (Durability::Run | Durability::Relaxed, _) => false,
        }
    }

    /// Brings the write-ahead log to disk: all that was committed.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.log.sync_data().map_err(|e| {
            let source = std::io::Error::other(format!("what was written may not be on the disk: {e}"));
            self.distrust(StoreError::Io { path: beside(&self.path, "-wal"), source })
        })?;
        #[cfg(test)]
        self.synced.set(self.log.metadata().map_or(0, |log| log.len()));
        Ok(())
    }

    /// Where the file is, whatever the current directory is by now.
    pub fn location(&self) -> &Path {
        &self.absolute
    }

    pub(super) fn query<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<T, StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params, |row| row.get(0)))
            .map_err(|source| self.wrap(source))
    }

    pub(super) fn wrap(&self, source: rusqlite::Error) -> StoreError {
        StoreError::of(&self.path, source)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_sound.get() {
            // Where that cannot be, the next process finds the log.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

/// The folder of the database.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the folder of the database. The default one holds nothing for version control.
fn make(dir: &Path) -> std::io::Result<()> {
    if !dir.exists() {
        std::fs::create_dir_all(dir)?;
        File::open(parent(dir))?.sync_all()?;
    }
    let ignore = dir.join(".gitignore");
    if dir.ends_with(".coworks-biz") && !ignore.exists() {
        std::fs::write(ignore, "*\n")?;
    }
    Ok(())
}

fn engine_id(connection: &Connection) -> rusqlite::Result<String> {
    // A new file gets its id once; twelve hex digits tell the engines of one bucket apart.
    let id = uuid::Uuid::now_v7().simple().to_string();
    connection.execute("INSERT INTO engine SELECT ? WHERE NOT EXISTS (SELECT 1 FROM engine)", [&id[20..]])?;
    connection.query_row("SELECT id FROM engine", [], |row| row.get(0))
}

fn apply_all(connection: &Connection, writes: &[Write], numbers: &mut Numbers) -> rusqlite::Result<()> {
    let mut rows = Rows::default();
    for write in writes {
        if !rows.take(write, numbers, connection)? {
            apply(connection, write, &mut rows, numbers)?;
        }
    }
    rows.flush(connection)
}

fn apply<'w>(
    connection: &Connection,
    write: &'w Write,
    rows: &mut Rows<'w>,
    numbers: &mut Numbers,
) -> rusqlite::Result<()> {
    let micros = |at: &Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
    match write {
        Write::RunMade(run) => {
            connection
                .prepare_cached(
                    "INSERT INTO dag_run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    run.number,
                    run.dag_id,
                    run.run_id,
                    run.uuid,
                    run.run_type.as_str(),
                    run.state.as_str(),
                    run.version,
                    run.conf,
                    run.logical_date.timestamp_micros(),
                    run.data_interval_start.timestamp_micros(),
                    run.data_interval_end.timestamp_micros(),
                    run.queued_at.timestamp_micros(),
                    micros(&run.start_date),
                    micros(&run.end_date),
                    run.idempotency_key,
                    run.backfill,
                    run.stopped,
                    run.held,
                ])?;
            numbers.begin(run.number);
            let number = (run.number, numbers.next(connection, run.number)?);
            rows.run_event(number, run.state.as_str(), None, run.start_date.unwrap_or(run.queued_at));
            Ok(())
        }
        Write::RunUnmade { run } => {
            rows.flush(connection)?;
            numbers.end(*run);
            let of_run = format!("DELETE FROM event WHERE {EVENTS_OF_RUN}");
            connection.prepare_cached(&of_run)?.execute([run])?;
            connection.prepare_cached("DELETE FROM dag_run WHERE id = ?")?.execute([run])?;
            Ok(())
        }
        Write::Run { record, event, detail, at } => {
            let number = (record.number, numbers.next(connection, record.number)?);
            rows.run_event(number, event, detail.as_deref(), *at);
            // What made a run changes with a backfill alone, and is in indexes: an end leaves them alone.
            if record.state.is_final() && *event == record.state.as_str() {
                numbers.end(record.number);
            } else {
                connection
                    .prepare_cached("UPDATE dag_run SET run_type = ?, backfill = ? WHERE id = ?")?
                    .execute(params![record.run_type.as_str(), record.backfill, record.number])?;
            }
            connection
                .prepare_cached(
                    "UPDATE dag_run SET state = ?, version = ?, queued_at = ?, start_date = ?, end_date = ?,
                     stopped = ?, held = ? WHERE id = ?",
                )?
                .execute(params![
                    record.state.as_str(),
                    record.version,
                    record.queued_at.timestamp_micros(),
                    micros(&record.start_date),
                    micros(&record.end_date),
                    record.stopped,
                    record.held,
                    record.number,
                ])?;
            Ok(())
        }
        Write::Forget { run, task_id, map_index } => {
            // What is pushed after this stays.
            rows.flush(connection)?;
            for (all, one) in [
                (
                    "DELETE FROM xcom_value WHERE run = ? AND task_id = ?",
                    "DELETE FROM xcom_value WHERE run = ? AND task_id = ? AND map_index = ?",
                ),
                (
                    "UPDATE task_instance SET value = NULL WHERE run = ? AND task_id = ? AND value IS NOT NULL",
                    "UPDATE task_instance SET value = NULL
                     WHERE run = ? AND task_id = ? AND map_index = ? AND value IS NOT NULL",
                ),
            ] {
                // One statement for both would walk through all items for each.
                match map_index {
                    None => connection.prepare_cached(all)?.execute(params![run, task_id])?,
                    Some(index) => connection.prepare_cached(one)?.execute(params![run, task_id, index])?,
                };
            }
            Ok(())
        }
        Write::Delete(Deletion { object, due_at, until }) => {
            connection
                .prepare_cached(
                    "INSERT INTO to_delete VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
                     SET due_at = min(due_at, excluded.due_at), until = max(until, excluded.until)",
                )?
                .execute(params![
                    object.bucket,
                    object.key,
                    due_at.timestamp_micros(),
                    until.timestamp_micros()
                ])?;
            Ok(())
        }
        Write::Spare(object) => {
            connection
                .prepare_cached("DELETE FROM to_delete WHERE bucket = ? AND key = ?")?
                .execute([&object.bucket, &object.key])?;
            Ok(())
        }
        Write::Deleted { deletion: Deletion { object, until, .. }, again } => {
            let until = until.timestamp_micros();
            match again {
                Some(again) => connection
                    .prepare_cached(
                        "UPDATE to_delete SET due_at = ? WHERE bucket = ? AND key = ? AND until = ?",
                    )?
                    .execute(params![again.timestamp_micros(), object.bucket, object.key, until])?,
                None => connection
                    .prepare_cached("DELETE FROM to_delete WHERE bucket = ? AND key = ? AND until = ?")?
                    .execute(params![object.bucket, object.key, until])?,
            };
            Ok(())
        }
        Write::Dag(dag) => {
            connection.prepare_cached("INSERT OR REPLACE INTO dag VALUES (?, ?, ?, ?, ?)")?.execute(
                params![
                    dag.dag_id,
                    dag.paused,
                    dag.schedule,
                    micros(&dag.schedule_since),
                    micros(&dag.ticked),
                ],
            )?;
            Ok(())
        }
        Write::Version { dag_id, version, structure } => {
            connection
                .prepare_cached("INSERT OR IGNORE INTO dag_version VALUES (?, ?, ?)")?
                .execute([dag_id, version, structure])?;
            Ok(())
        }
        Write::Backfill(backfill) => {
            connection
                .prepare_cached(
                    "INSERT INTO backfill VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                     ON CONFLICT (id) DO UPDATE SET completed_at = excluded.completed_at",
                )?
                .execute(params![
                    backfill.id,
                    backfill.dag_id,
                    backfill.from_date.timestamp_micros(),
                    backfill.to_date.timestamp_micros(),
                    backfill.reprocess,
                    backfill.max_active_runs,
                    backfill.created_at.timestamp_micros(),
                    micros(&backfill.completed_at),
                ])?;
            Ok(())
        }
        Write::Notice(notice) => {
            connection.prepare_cached("INSERT OR REPLACE INTO notice VALUES (?, ?, ?, ?, ?, ?)")?.execute(
                params![
                    notice.id,
                    notice.run,
                    notice.way,
                    notice.notice,
                    notice.tries,
                    notice.due_at.timestamp_micros(),
                ],
            )?;
            Ok(())
        }
        Write::Task { .. } | Write::XCom { .. } | Write::Log { .. } => unreachable!("these are rows"),
        Write::Told { id } => {
            connection.prepare_cached("DELETE FROM notice WHERE id = ?")?.execute([id])?;
            Ok(())
        }
    }
}
