//! Reading: each query is short, and no connection that reads outlives its caller.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, Datelike, Utc};
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::rows::EVENTS_OF_RUN;
use super::{
    BackfillRecord, Blobs, DagRecord, Deletion, EventRecord, LogRecord, NoticeRecord, RunRecord, RunType,
    StoreError, TaskRecord, WaitsFor, schema, upkeep,
};
use crate::run::InstanceName;
use crate::value::{Json, LARGEST, Object, RETURN_VALUE};

/// Reads a database beside the process that writes it.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    blobs: Blobs,
    path: PathBuf,
}

impl Reader {
    /// Opens the file for reading only. It must be there, and of this version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let there = path.try_exists().map_err(|source| StoreError::io(path, path, source))?;
        if !there {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        upkeep::refuse_cut_off(path)?;
        Self::beside_the_writer(path)
    }

    /// Opens the file in the process whose [`Writer`](super::Writer) has it. It is not looked at but through
    /// SQLite: closing it another time would drop all locks that this process has on it.
    pub fn beside_the_writer(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|source| StoreError::of(path, source))?;
        connection
            .busy_timeout(std::time::Duration::from_secs(5))
            .map_err(|source| StoreError::of(path, source))?;
        let found = schema::check(&connection, path)?;
        if found == 0 {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        if found < schema::current() {
            return Err(StoreError::Older { path: path.to_owned() });
        }
        Ok(Self { connection, blobs: Blobs::of(path), path: path.to_owned() })
    }

    /// The runs of this run id: at most one of each DAG.
    pub fn named(&self, dag_id: Option<&str>, run_id: &str) -> Result<Vec<RunRecord>, StoreError> {
        named(&self.connection, dag_id, run_id).map_err(|source| self.wrap(source))
    }

    /// The runs that began last, the latest first.
    pub fn runs(&self, dag_id: Option<&str>, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        let sql = |of| format!("SELECT {RUN} FROM dag_run {of} ORDER BY id DESC LIMIT ?");
        match dag_id {
            Some(dag_id) => self.list(&sql("WHERE dag_id = ?"), params![dag_id, limit], run_record),
            None => self.list(&sql(""), params![limit], run_record),
        }
    }

    /// The run of this number.
    pub fn run(&self, number: i64) -> Result<Option<RunRecord>, StoreError> {
        let mut runs = which(&self.connection, Which::Number(number)).map_err(|source| self.wrap(source))?;
        Ok(runs.pop())
    }

    /// What is remembered of the DAGs.
    pub fn dags(&self) -> Result<Vec<DagRecord>, StoreError> {
        dags(&self.connection).map_err(|source| self.wrap(source))
    }

    /// The backfills, the oldest first.
    pub fn backfills(&self) -> Result<Vec<BackfillRecord>, StoreError> {
        backfills(&self.connection, false).map_err(|source| self.wrap(source))
    }

    /// Every transition of a run, in the order in which they came about.
    pub fn events(&self, run: i64) -> Result<Vec<EventRecord>, StoreError> {
        events(&self.connection, run).map_err(|source| self.wrap(source))
    }

    /// The task instances of a run, in the order of their ids.
    pub fn tasks(&self, run: i64) -> Result<Vec<TaskRecord>, StoreError> {
        self.snapshot(|connection| tasks(connection, run))
    }

    /// No more than `limit` task instances of a run, in the order of their ids: those behind this one, from the
    /// first on where there is none.
    pub fn tasks_after(
        &self,
        run: i64,
        after: Option<(&str, i32)>,
        limit: u32,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        self.snapshot(|connection| tasks_after(connection, run, after, limit))
    }

    /// Every XCom of a run: task, map index, key, value.
    pub fn xcoms(&self, run: i64) -> Result<Vec<(String, i32, String, Json)>, StoreError> {
        let rows = self.list(
            "SELECT task_id, map_index, key, value, blob FROM xcom WHERE run = ? ORDER BY task_id, map_index, key",
            params![run],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )?;
        let load = |(task, map, key, value, blob)| {
            let value = self.load(run, value, blob).transpose()?;
            Some(value.map(|value| (task, map, key, value)))
        };
        rows.into_iter().filter_map(load).collect()
    }

    /// One XCom of a run.
    pub fn xcom(&self, run: i64, task: &str, map_index: i32, key: &str) -> Result<Option<Json>, StoreError> {
        let found = self.list(
            "SELECT value, blob FROM xcom WHERE run = ? AND task_id = ? AND map_index = ? AND key = ?",
            params![run, task, map_index, key],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let found = found.into_iter().next();
        found.map_or(Ok(None), |(value, blob)| self.load(run, value, blob))
    }

    /// What the instances of a mapped task have pushed under `key`, by their map indexes: one for
    /// each item of `list`, and none where that has not succeeded.
    pub fn mapped_xcoms(
        &self,
        run: i64,
        list: &str,
        task: &str,
        key: &str,
    ) -> Result<Vec<Option<Json>>, StoreError> {
        let (items, rows) = self.snapshot(|connection| {
            let outcome: Option<Option<u32>> = connection
                .prepare_cached(
                    "SELECT outcome FROM task_instance
                     WHERE run = ? AND task_id = ? AND map_index = -1 AND state = 'success'",
                )?
                .query_row(params![run, list], |row| row.get(0))
                .optional()?;
            let items = items_of(connection, run, list, outcome.flatten())?;
            let rows: Vec<(u32, _, _)> = connection
                .prepare_cached(
                    "SELECT map_index, value, blob FROM xcom
                     WHERE run = ? AND task_id = ? AND map_index >= 0 AND map_index < ? AND key = ?",
                )?
                .query_map(params![run, task, items, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            Ok((items, rows))
        })?;
        let mut values = vec![None; items as usize];
        for (index, value, blob) in rows {
            values[index as usize] = self.load(run, value, blob)?;
        }
        Ok(values)
    }

    /// The log of a run, of one task when one is given, in the order it was written.
    pub fn logs(&self, run: i64, task: Option<&str>) -> Result<Vec<LogRecord>, StoreError> {
        logs(&self.connection, run, task).map_err(|source| self.wrap(source))
    }

    fn list<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        record: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let list = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare_cached(sql)?.query_map(params, record)?.collect()
        };
        list().map_err(|source| self.wrap(source))
    }

    /// What several statements tell of one moment, beside whoever writes.
    fn snapshot<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let told = read(&transaction)?;
            transaction.commit()?;
            Ok(told)
        };
        read().map_err(|source| self.wrap(source))
    }

    /// The value of a row that was read; `None` where row and file have been removed since.
    fn load(
        &self,
        run: i64,
        inline: Option<String>,
        blob: Option<String>,
    ) -> Result<Option<Json>, StoreError> {
        let (None, Some(name)) = (&inline, &blob) else { return self.blobs.load(inline, blob).map(Some) };
        let mut loaded = self.blobs.load(None, blob.clone());
        // Nobody does that again and again, and others commit all the time.
        for _ in 0..LOOKS {
            if loaded.is_ok() {
                break;
            }
            let before = self.commits()?;
            loaded = self.blobs.load(None, blob.clone());
            let sql = "SELECT 1 FROM xcom WHERE run = ? AND blob = ? LIMIT 1";
            if self.list(sql, params![run, name], |_| Ok(()))?.is_empty() {
                return Ok(None);
            }
            // Where somebody has written meanwhile, it may have been removed and stored again between the two.
            if self.commits()? == before {
                break;
            }
        }
        loaded.map(Some)
    }

    /// Is another one where somebody else has committed since.
    fn commits(&self) -> Result<i64, StoreError> {
        let mut versions = self.list("PRAGMA data_version", [], |row| row.get(0))?;
        Ok(versions.pop().unwrap_or_default())
    }

    fn wrap(&self, source: rusqlite::Error) -> StoreError {
        StoreError::of(&self.path, source)
    }
}

/// More tries than any task has.
const MOST_TRIES: u32 = 1 << 30;

/// No list has more items: its JSON would be too large.
const MOST_ITEMS: i32 = (LARGEST / 2) as i32;

/// As many are taken to be there without a look.
const MANY: u32 = 1000;

/// How often it is looked whether a value that is not there was removed and stored again meanwhile.
const LOOKS: u32 = 3;

/// Moments beyond are none that anybody has stored, and nothing can be reckoned with them.
const LAST_YEAR: i32 = 200_000;

const RUN: &str = "id, dag_id, run_id, uuid, run_type, state, version, conf, logical_date, \
                   data_interval_start, data_interval_end, queued_at, start_date, end_date, \
                   idempotency_key, backfill, stopped, held";

/// What [`Which::Open`] asks: also for one whose state cannot be read, which is told, and not left behind. By the order
/// of `id` itself SQLite would walk through all that have ended.
pub(super) fn open_sql() -> String {
    format!(
        "SELECT {RUN} FROM dag_run WHERE end_date IS NULL AND state NOT IN ('success', 'failed') ORDER BY +id"
    )
}

/// Which runs are looked for.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// That of this number.
    Number(i64),
    /// Those that have not ended.
    Open,
    /// That of this DAG which stands for this moment.
    Date(&'a str, DateTime<Utc>),
    /// That which a trigger of this DAG with this key has made.
    Trigger(&'a str, &'a str),
    /// The last one of this DAG that stands for a moment before this one; of those that nobody
    /// triggered, where this says so.
    Before(&'a str, DateTime<Utc>, bool),
    /// Those of this DAG that stand for moments of this span, both included.
    Between(&'a str, DateTime<Utc>, DateTime<Utc>),
    /// The last one that the schedule has made of this DAG.
    LastTick(&'a str),
}

pub(super) fn which(connection: &Connection, which: Which) -> rusqlite::Result<Vec<RunRecord>> {
    let list = |condition: &str, params: &[&dyn rusqlite::ToSql]| {
        let sql = format!("SELECT {RUN} FROM dag_run WHERE {condition}");
        connection.prepare_cached(&sql)?.query_map(params, run_record)?.collect()
    };
    let micros = |at: DateTime<Utc>| at.timestamp_micros();
    match which {
        Which::Number(number) => list("id = ?", &[&number]),
        Which::Open => connection.prepare_cached(&open_sql())?.query_map([], run_record)?.collect(),
        Which::Date(dag_id, date) => list("dag_id = ? AND logical_date = ?", &[&dag_id, &micros(date)]),
        Which::Trigger(dag_id, key) => list("dag_id = ? AND idempotency_key = ?", &[&dag_id, &key]),
        Which::Before(dag_id, date, only_scheduled) => list(
            "dag_id = ?1 AND logical_date < ?2 AND (NOT ?3 OR run_type <> 'manual')
             ORDER BY logical_date DESC LIMIT 1",
            &[&dag_id, &micros(date), &only_scheduled],
        ),
        Which::Between(dag_id, from, to) => list(
            "dag_id = ? AND logical_date BETWEEN ? AND ? ORDER BY logical_date",
            &[&dag_id, &micros(from), &micros(to)],
        ),
        Which::LastTick(dag_id) => {
            list("dag_id = ? AND run_type = 'scheduled' ORDER BY logical_date DESC LIMIT 1", &[&dag_id])
        }
    }
}

pub(super) fn dags(connection: &Connection) -> rusqlite::Result<Vec<DagRecord>> {
    connection
        .prepare("SELECT dag_id, paused, schedule, schedule_since, ticked FROM dag ORDER BY dag_id")?
        .query_map([], |row| {
            Ok(DagRecord {
                dag_id: row.get(0)?,
                paused: row.get(1)?,
                schedule: row.get(2)?,
                schedule_since: time(row, 3)?,
                ticked: time(row, 4)?,
            })
        })?
        .collect()
}

pub(super) fn structure(
    connection: &Connection,
    dag_id: &str,
    version: &str,
) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT structure FROM dag_version WHERE dag_id = ? AND version = ?")?
        .query_row([dag_id, version], |row| row.get(0))
        .optional()
}

pub(super) fn backfills(connection: &Connection, only_open: bool) -> rusqlite::Result<Vec<BackfillRecord>> {
    connection
        .prepare(
            "SELECT id, dag_id, from_date, to_date, reprocess, max_active_runs, created_at, completed_at
             FROM backfill WHERE NOT ? OR completed_at IS NULL ORDER BY id",
        )?
        .query_map([only_open], |row| {
            Ok(BackfillRecord {
                id: row.get(0)?,
                dag_id: row.get(1)?,
                from_date: moment(row, 2)?,
                to_date: moment(row, 3)?,
                reprocess: row.get(4)?,
                max_active_runs: row.get(5)?,
                created_at: moment(row, 6)?,
                completed_at: time(row, 7)?,
            })
        })?
        .collect()
}

pub(super) fn notices(connection: &Connection) -> rusqlite::Result<Vec<NoticeRecord>> {
    connection
        .prepare("SELECT id, run, way, notice, tries, due_at FROM notice ORDER BY id")?
        .query_map([], |row| {
            Ok(NoticeRecord {
                id: row.get(0)?,
                run: row.get(1)?,
                way: row.get(2)?,
                notice: row.get(3)?,
                tries: row.get(4)?,
                due_at: moment(row, 5)?,
            })
        })?
        .collect()
}

pub(super) fn named(
    connection: &Connection,
    dag_id: Option<&str>,
    run_id: &str,
) -> rusqlite::Result<Vec<RunRecord>> {
    let mut statement = connection.prepare_cached(&named_sql(dag_id.is_some()))?;
    match dag_id {
        Some(dag_id) => statement.query_map([run_id, dag_id], run_record)?.collect(),
        None => statement.query_map([run_id], run_record)?.collect(),
    }
}

/// No index begins with the run id: where the DAG is not known, that of each is looked for, and no run is walked past.
pub(super) fn named_sql(of_one_dag: bool) -> String {
    match of_one_dag {
        true => format!("SELECT {RUN} FROM dag_run WHERE run_id = ?1 AND dag_id = ?2"),
        false => format!(
            "WITH RECURSIVE of(name) AS
             (SELECT min(dag_id) FROM dag_run UNION ALL
              SELECT (SELECT min(dag_id) FROM dag_run WHERE dag_id > name) FROM of WHERE name IS NOT NULL)
             SELECT {RUN} FROM of CROSS JOIN dag_run ON dag_id = name AND run_id = ?1 ORDER BY +id"
        ),
    }
}

pub(super) fn tasks(connection: &Connection, run: i64) -> rusqlite::Result<Vec<TaskRecord>> {
    tasks_after(connection, run, None, u32::MAX)
}

fn tasks_after(
    connection: &Connection,
    run: i64,
    after: Option<(&str, i32)>,
    limit: u32,
) -> rusqlite::Result<Vec<TaskRecord>> {
    let (task_id, map_index) = after.unwrap_or(("", i32::MIN));
    let tasks: Vec<TaskRecord> = connection
        .prepare_cached(
            "SELECT task_id, map_index, state, try_number, tries_before, interruptions, generation, start_date,
                    end_date, due_at, waits_for, error, outcome
             FROM task_instance WHERE run = ? AND (task_id, map_index) > (?, ?)
             ORDER BY task_id, map_index LIMIT ?",
        )?
        .query_map(params![run, task_id, map_index, limit], |row| {
            Ok(TaskRecord {
                run,
                task_id: row.get::<_, String>(0)?.into(),
                map_index: row.get(1)?,
                state: row.get::<_, Option<String>>(2)?.map(|_| word(row, 2)).transpose()?,
                try_number: row.get(3)?,
                tries_before: row.get(4)?,
                interruptions: row.get(5)?,
                generation: row.get(6)?,
                start_date: time(row, 7)?,
                end_date: time(row, 8)?,
                due_at: time(row, 9)?,
                waits_for: waits_for(row, 10)?,
                error: row.get(11)?,
                outcome: row.get(12)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for task in &tasks {
        sound(connection, task)?;
    }
    Ok(tasks)
}

pub(super) fn events(connection: &Connection, run: i64) -> rusqlite::Result<Vec<EventRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT at, task_id, map_index, try_number, state, detail FROM event
             WHERE {EVENTS_OF_RUN} AND state IS NOT NULL ORDER BY id"
        ))?
        .query_map([run], |row| {
            Ok(EventRecord {
                at: moment(row, 0)?,
                task_id: row.get(1)?,
                map_index: row.get::<_, Option<i32>>(2)?.unwrap_or(-1),
                try_number: row.get::<_, Option<u32>>(3)?.unwrap_or(0),
                state: row.get(4)?,
                detail: row.get(5)?,
            })
        })?
        .collect()
}

pub(super) fn logs(
    connection: &Connection,
    run: i64,
    task: Option<&str>,
) -> rusqlite::Result<Vec<LogRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT task_id, map_index, try_number, records FROM event
             WHERE {EVENTS_OF_RUN} AND records IS NOT NULL AND (?2 IS NULL OR task_id = ?2) ORDER BY id"
        ))?
        .query_map(params![run, task], |row| {
            Ok(LogRecord {
                task_id: row.get::<_, String>(0)?.into(),
                map_index: row.get(1)?,
                try_number: row.get(2)?,
                records: row.get(3)?,
            })
        })?
        .collect()
}

/// Refuses numbers that no engine counts to: what is made of them would have no end.
fn sound(connection: &Connection, task: &TaskRecord) -> rusqlite::Result<()> {
    let counts = [task.try_number, task.tries_before, task.interruptions, task.generation];
    let is_sound = (-1..MOST_ITEMS).contains(&task.map_index)
        && task.tries_before <= task.try_number
        && counts.iter().all(|count| *count <= MOST_TRIES);
    if !is_sound {
        let name = InstanceName(&task.task_id, task.map_index);
        return Err(unreadable(
            1,
            &format!("`{name}` of run number {} has numbers that nobody has counted", task.run),
        ));
    }
    items_of(connection, task.run, &task.task_id, task.outcome).map(drop)
}

/// The items of a list that has so many; of many, there must be as many as that.
fn items_of(connection: &Connection, run: i64, task: &str, outcome: Option<u32>) -> rusqlite::Result<u32> {
    let items = outcome.unwrap_or(0);
    if items > MANY {
        let stored: u32 = connection
            .prepare_cached(
                "SELECT count(*) FROM xcom WHERE run = ? AND task_id = ? AND map_index >= 0 AND key = ?",
            )?
            .query_row(params![run, task, RETURN_VALUE], |row| row.get(0))?;
        if stored < items {
            let why = format!("`{task}` of run number {run} has {items} items, and {stored} are there");
            return Err(unreadable(12, &why));
        }
    }
    Ok(items)
}

pub(super) fn deletions(
    connection: &Connection,
    due: DateTime<Utc>,
    limit: usize,
) -> rusqlite::Result<Vec<Deletion>> {
    connection
        .prepare_cached(
            "SELECT bucket, key, due_at, until FROM to_delete WHERE due_at <= ? ORDER BY due_at LIMIT ?",
        )?
        .query_map(rusqlite::params![due.timestamp_micros(), limit], |row| {
            Ok(Deletion {
                object: Object { bucket: row.get(0)?, key: row.get(1)? },
                due_at: moment(row, 2)?,
                until: moment(row, 3)?,
            })
        })?
        .collect()
}

pub(super) fn next_deletion(connection: &Connection) -> rusqlite::Result<Option<DateTime<Utc>>> {
    connection.prepare_cached("SELECT min(due_at) FROM to_delete")?.query_row([], |row| time(row, 0))
}

fn run_record(row: &Row) -> rusqlite::Result<RunRecord> {
    let at = |column| moment(row, column);
    let run_type: String = row.get(4)?;
    Ok(RunRecord {
        number: row.get(0)?,
        dag_id: row.get(1)?,
        run_id: row.get(2)?,
        uuid: row.get(3)?,
        run_type: RunType::read(&run_type)
            .ok_or_else(|| unreadable(4, &format!("`{run_type}` makes no run")))?,
        state: word(row, 5)?,
        version: row.get(6)?,
        conf: row.get(7)?,
        logical_date: at(8)?,
        data_interval_start: at(9)?,
        data_interval_end: at(10)?,
        queued_at: at(11)?,
        start_date: time(row, 12)?,
        end_date: time(row, 13)?,
        idempotency_key: row.get(14)?,
        backfill: row.get(15)?,
        stopped: row.get(16)?,
        held: row.get(17)?,
    })
}

fn unreadable(column: usize, why: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

fn word<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row,
    column: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

fn time(row: &Row, column: usize) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let micros: Option<i64> = row.get(column)?;
    micros
        .map(|micros| {
            let moment = DateTime::from_timestamp_micros(micros).filter(|at| at.year().abs() <= LAST_YEAR);
            moment.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, micros))
        })
        .transpose()
}

/// The moment of a column that always has one.
fn moment(row: &Row, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    time(row, column)?.ok_or_else(|| unreadable(column, "there is no moment"))
}

fn waits_for(row: &Row, column: usize) -> rusqlite::Result<Option<WaitsFor>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| {
        serde_json::from_str(&text)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
    })
    .transpose()
}
