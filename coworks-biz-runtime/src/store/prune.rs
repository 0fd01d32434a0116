//! Forgetting: runs that ended long ago, with all that belongs to them.
//!
//! In pieces of so many rows, so that whoever owns the database is never held up. A run whose rows
//! are not all gone is marked, so that nothing goes on with the rest of it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::rows::EVENTS_OF_RUN;
use super::{Blobs, StoreError, Writer, blobs};

#[cfg(test)]
mod tests;

/// The `version` of a run that is being removed: it is of no structure any more, and is not gone on with.
pub const PRUNED: &str = "pruned";

/// A large value that somebody has stored or found again within this time may be about to be named.
pub const IN_FLIGHT: Duration = Duration::from_secs(3600);

/// The runs that may go, where `?1` is the moment before which they must have ended.
///
/// What stays of a DAG: the last run of each type, which tells the schedule where it stands, and
/// what an unfinished run comes after, of which `depends_on_past` asks; and the run of the highest
/// number, so that no number comes twice; and a run of which somebody is still to be told.
pub(super) const MAY_GO: &str = "
    r.end_date < ?1 AND r.state IN ('success', 'failed')
    AND r.id < (SELECT max(id) FROM dag_run)
    AND NOT EXISTS (SELECT 1 FROM notice n WHERE n.run = r.id)
    AND EXISTS (SELECT 1 FROM dag_run l WHERE l.dag_id = r.dag_id AND l.run_type = r.run_type
                AND l.logical_date > r.logical_date)
    AND NOT (SELECT l.end_date IS NULL FROM dag_run l
             WHERE l.dag_id = r.dag_id AND l.logical_date > r.logical_date
             ORDER BY l.logical_date LIMIT 1)
    AND NOT (SELECT l.end_date IS NULL FROM dag_run l
             WHERE l.dag_id = r.dag_id AND l.run_type = r.run_type AND l.logical_date > r.logical_date
             ORDER BY l.logical_date LIMIT 1)";

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Runs of which nothing is left.
    pub runs: u64,
    /// Rows, those of the runs among them.
    pub rows: u64,
    /// Large values that nobody names any more.
    pub blobs: u64,
    /// Whether there may be more to remove.
    pub more: bool,
}

impl Writer {
    /// Removes runs that ended before this moment, the oldest first, `at_most` so many rows of them.
    ///
    /// One transaction; where there is [more](Pruned::more), call it again. A run of which a part is
    /// left goes on being removed by the next call. While there is more, calls go on where the last one
    /// stood; what may go since, and is older, goes once all is through. The pages that become free are used for what
    /// comes; the file keeps its size.
    pub fn prune(&mut self, before: DateTime<Utc>, at_most: usize) -> Result<Pruned, StoreError> {
        self.prune_piece(before, at_most).map_err(|error| self.distrust(error))
    }

    fn prune_piece(&mut self, before: DateTime<Utc>, at_most: usize) -> Result<Pruned, StoreError> {
        let path = self.path.clone();
        let wrap = |source| StoreError::of(&path, source);
        let mut pruned = Pruned::default();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
        let from = self.pruned.unwrap_or(i64::MIN);
        let (freed, last) =
            remove(&transaction, from..before.timestamp_micros(), at_most as u64, &mut pruned)
                .map_err(wrap)?;
        transaction.commit().map_err(wrap)?;
        self.checkpoint()?;
        self.pruned = last.filter(|_| pruned.more);
        if freed.is_empty() {
            return Ok(pruned);
        }
        // Rows that come back after a crash of the machine must still find what they name.
        self.sync()?;
        let blobs = self.blobs();
        for name in freed {
            match blobs.remove(&name) {
                Ok(removed) => pruned.blobs += u64::from(removed),
                Err(e) => {
                    tracing::warn!("{} stays, `db prune` removes it: {e}", blobs.dir().join(name).display())
                }
            }
        }
        Ok(pruned)
    }

    /// Removes the files of large values that no row names, and that nobody has stored or found again for a while:
    /// what was cleared, replaced, or never named. So many are looked at; where there are more, call it again.
    pub fn sweep_idle(&mut self, at_most: usize) -> Result<bool, StoreError> {
        let (blobs, database) = (self.blobs(), self.path.clone());
        // Rights that are missing are no fault of the disk.
        let fault = |source| StoreError::io(&database, blobs.dir(), source);
        let wrap = |source| StoreError::of(&self.path, source);
        let mut left = match self.suspects.take() {
            Some(left) => left,
            None => {
                files(blobs.dir()).map_err(fault)?.into_iter().filter(|file| !file.contains('.')).collect()
            }
        };
        let some = left.split_off(left.len().saturating_sub(at_most));
        let tables = of_runs(&self.connection).map_err(wrap)?;
        let mut freed = Vec::new();
        for name in some {
            let is_idle = match is_idle(&blobs.dir().join(&name)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => false,
                is_idle => is_idle.map_err(fault)?,
            };
            if is_idle && !is_named(&self.connection, &tables, &name).map_err(wrap)? {
                freed.push(name);
            }
        }
        if !freed.is_empty() {
            self.sync()?;
        }
        for name in freed {
            blobs.remove(&name).map_err(fault)?;
        }
        let more = !left.is_empty();
        self.suspects = Some(left).filter(|_| more);
        Ok(more)
    }

    /// Removes the files of large values that no row names. Only for who runs no task: what a task
    /// has just stored is named by its end.
    pub fn sweep(&mut self) -> Result<u64, StoreError> {
        let named = named_blobs(&self.connection).map_err(|source| StoreError::of(&self.path, source))?;
        self.sync()?;
        let blobs = self.blobs();
        let fault = |source| StoreError::Io { path: blobs.dir().to_owned(), source };
        let mut swept = 0;
        for file in files(blobs.dir()).map_err(fault)? {
            if !named.contains(&file) {
                fs::remove_file(blobs.dir().join(file)).map_err(fault)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes what a killed process has half written of large values. Only at a start: what is written now
    /// has such a name, too.
    pub fn sweep_drafts(&self) -> Result<(), StoreError> {
        let blobs = self.blobs();
        let fault = |source| StoreError::Io { path: blobs.dir().to_owned(), source };
        for file in files(blobs.dir()).map_err(fault)?.into_iter().filter(|file| file.contains('.')) {
            fs::remove_file(blobs.dir().join(file)).map_err(fault)?;
        }
        Ok(())
    }

    /// Gives the free pages back to the file system. Takes as much room again while it works.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        let done = self.connection.execute_batch("VACUUM");
        done.map_err(|source| self.distrust(StoreError::of(&self.path, source)))
    }

    /// The bytes of the file that are free for what comes.
    pub fn free(&self) -> Result<u64, StoreError> {
        let number = |pragma| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
        let bytes = || rusqlite::Result::Ok(number("freelist_count")? * number("page_size")?);
        bytes().map_err(|source| StoreError::of(&self.path, source))
    }
}

/// The first run that may go, of those that ended in a span, with its end.
fn next() -> String {
    format!(
        "SELECT id, end_date FROM dag_run r WHERE r.end_date >= ?2 AND {MAY_GO} ORDER BY end_date LIMIT 1"
    )
}

/// Removes rows of runs that ended in this span. Gives the blobs that nobody names any more, and the end of the
/// last run: those before it that stay, two of each DAG, are not looked at again for each that goes.
fn remove(
    connection: &Connection,
    ended: Range<i64>,
    at_most: u64,
    pruned: &mut Pruned,
) -> rusqlite::Result<(Vec<String>, Option<i64>)> {
    let tables = of_runs(connection)?;
    let mut left = at_most;
    let (mut names, mut last) = (BTreeSet::new(), None);
    let next = next();
    while left > 0 {
        let run: Option<(i64, i64)> = connection
            .prepare_cached(&next)?
            .query_row([ended.end, last.unwrap_or(ended.start)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((run, end)) = run else { break };
        last = Some(end);
        for table in &tables {
            left -= table.remove(connection, run, left, &mut names)?;
            if left == 0 {
                break;
            }
        }
        if left == 0 {
            connection
                .prepare_cached("UPDATE dag_run SET version = ? WHERE id = ?")?
                .execute(params![PRUNED, run])?;
            break;
        }
        connection.prepare_cached("DELETE FROM dag_run WHERE id = ?")?.execute([run])?;
        left -= 1;
        pruned.runs += 1;
    }
    pruned.rows = at_most - left;
    pruned.more = left == 0;
    let mut freed = Vec::new();
    for name in names {
        if !is_named(connection, &tables, &name)? {
            freed.push(name);
        }
    }
    Ok((freed, last))
}

fn is_named(connection: &Connection, tables: &[Table], name: &str) -> rusqlite::Result<bool> {
    for table in tables.iter().filter(|table| table.names_blobs) {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE blob = ?)", table.name);
        if connection.prepare_cached(&sql)?.query_row([name], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A table whose rows belong to runs.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// What tells its rows apart.
    key: String,
    /// Whether it has a column `blob`.
    pub(super) names_blobs: bool,
    /// Which of them are of the run `?1`.
    of_run: &'static str,
}

impl Table {
    /// Which of its rows are of a run, as SQL; so is what says which run that is.
    pub(super) fn of_run(&self, run: &str) -> String {
        self.of_run.replace("?1", run)
    }

    /// The rows of a run, no more than so many of them.
    fn rows(&self) -> String {
        format!("SELECT {} FROM {} WHERE {} LIMIT ?2", self.key, self.name, self.of_run)
    }

    fn remove(
        &self,
        connection: &Connection,
        run: i64,
        at_most: u64,
        names: &mut BTreeSet<String>,
    ) -> rusqlite::Result<u64> {
        let Self { name, key, of_run, .. } = self;
        let sql = format!("DELETE FROM {name} WHERE {of_run} AND ({key}) IN ({})", self.rows());
        if !self.names_blobs {
            return Ok(connection.prepare_cached(&sql)?.execute(params![run, at_most])? as u64);
        }
        let mut statement = connection.prepare_cached(&format!("{sql} RETURNING blob"))?;
        let mut rows = statement.query(params![run, at_most])?;
        let mut removed = 0;
        while let Some(row) = rows.next()? {
            names.extend(row.get::<_, Option<String>>(0)?);
            removed += 1;
        }
        Ok(removed)
    }
}

/// The tables whose rows belong to runs: those with a column `run`, so that none is forgotten.
pub(super) fn of_runs(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    connection
        .prepare_cached(
            "SELECT t.name,
                    coalesce((SELECT group_concat(name) FROM pragma_table_info(t.name) WHERE pk > 0), 'rowid'),
                    EXISTS (SELECT 1 FROM pragma_table_info(t.name) WHERE name = 'blob'), c.hidden
             FROM sqlite_schema t JOIN pragma_table_xinfo(t.name) c ON c.name = 'run'
             WHERE t.type = 'table' ORDER BY t.name",
        )?
        .query_map([], |row| {
            // One that is made of the key is found by that.
            let of_run = if row.get(3)? { EVENTS_OF_RUN } else { "run = ?1" };
            Ok(Table { name: row.get(0)?, key: row.get(1)?, names_blobs: row.get(2)?, of_run })
        })?
        .collect()
}

/// Every blob that a row names.
pub(super) fn named_blobs(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for table in of_runs(connection)?.iter().filter(|table| table.names_blobs) {
        let sql = format!("SELECT DISTINCT blob FROM {} WHERE blob IS NOT NULL", table.name);
        for name in connection.prepare(&sql)?.query_map([], |row| row.get(0))? {
            names.insert(name?);
        }
    }
    Ok(names)
}

/// The files of large values, whole ones and drafts. What else is in the folder is not ours.
pub(super) fn files(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let hash = name.split('.').next().unwrap_or_default();
        if blobs::is_name(hash) {
            files.push(name);
        }
    }
    Ok(files)
}

/// Whether nobody has stored or found the value in this file for a while.
pub(super) fn is_idle(file: &Path) -> io::Result<bool> {
    let age = SystemTime::now().duration_since(fs::metadata(file)?.modified()?);
    Ok(age.unwrap_or_default() >= IN_FLIGHT)
}

impl Blobs {
    /// Removes a value that no row names, unless a task may be about to: it may just have stored the
    /// same one. Says whether it did.
    fn remove(&self, name: &str) -> io::Result<bool> {
        // A damaged row may name any file there is.
        if !blobs::is_name(name) {
            return Ok(false);
        }
        let path = self.dir().join(name);
        let gone = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Ok(false),
            _ => Err(e),
        };
        match is_idle(&path) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(e) => return gone(e),
        }
        // Put aside first: who touches it before is seen now, and who looks after writes it anew.
        let aside = self.dir().join(format!("{name}.{}", uuid::Uuid::now_v7()));
        if let Err(e) = fs::rename(&path, &aside) {
            return gone(e);
        }
        if !is_idle(&aside)? {
            fs::rename(&aside, &path)?;
            // Whoever has touched it may have synced the folder while it was not there.
            fs::File::open(self.dir())?.sync_all()?;
            return Ok(false);
        }
        fs::remove_file(&aside)?;
        Ok(true)
    }
}
