//! The rows that every step writes: gathered, so that one statement takes many of them.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Statement, ToSql, params};

use super::{LogRecord, Stored, TaskRecord, Write};
use crate::run::State;
use crate::value::RETURN_VALUE;

/// How many rows a statement takes, where it may take many.
const MANY: &[usize] = &[16, 2, 1];

/// How far back the end of a try is looked for that a piece of its log goes with.
const LATELY: usize = 4;

/// A table of which rows are gathered.
struct Table {
    columns: usize,
    /// For so many rows at once, from many to one.
    inserts: Vec<(usize, String)>,
}

impl Table {
    fn new(insert: &str, columns: usize, at_once: &[usize], conflict: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let rows = |count| vec![row.as_str(); count].join(", ");
        let sql = |&count: &usize| (count, format!("{insert} VALUES {} {conflict}", rows(count)));
        let inserts = at_once.iter().map(sql);
        Self { columns, inserts: inserts.collect() }
    }

    /// Writes rows, each of which `bind` binds.
    fn write<R>(
        &self,
        connection: &Connection,
        mut rows: &[R],
        bind: impl Fn(&mut Row, &R) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        for (count, sql) in &self.inserts {
            if rows.len() < *count {
                continue;
            }
            let (now, rest) = rows.split_at(rows.len() - rows.len() % count);
            rows = rest;
            let mut statement = connection.prepare_cached(sql)?;
            for rows in now.chunks(*count) {
                for (index, record) in rows.iter().enumerate() {
                    bind(&mut Row { statement: &mut statement, column: index * self.columns }, record)?;
                }
                statement.raw_execute()?;
            }
        }
        Ok(())
    }
}

/// The columns of a row, in their order.
struct Row<'s, 'c> {
    statement: &'s mut Statement<'c>,
    column: usize,
}

impl Row<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.column += 1;
        self.statement.raw_bind_parameter(self.column, value)
    }
}

// What fails undoes the transaction. Else SQLite would copy each page before a statement of many rows
// changes it, to undo that alone; and it does so for many rows that replace others.
static TASKS: LazyLock<Table> =
    LazyLock::new(|| Table::new("INSERT OR REPLACE INTO task_instance", 15, &[1], ""));
/// The same, where what it returned stays. That takes SQLite twice as long.
static TASKS_AS_THEY_RETURNED: LazyLock<Table> = LazyLock::new(|| {
    let conflict = "ON CONFLICT DO UPDATE SET state = excluded.state, try_number = excluded.try_number,
                    tries_before = excluded.tries_before, interruptions = excluded.interruptions,
                    generation = excluded.generation, start_date = excluded.start_date,
                    end_date = excluded.end_date, due_at = excluded.due_at, waits_for = excluded.waits_for,
                    error = excluded.error, outcome = excluded.outcome, value = ifnull(excluded.value, value)";
    Table::new("INSERT INTO task_instance", 15, &[1], conflict)
});
static EVENTS: LazyLock<Table> = LazyLock::new(|| Table::new("INSERT OR ROLLBACK INTO event", 8, MANY, ""));
static XCOMS: LazyLock<Table> =
    LazyLock::new(|| Table::new("INSERT OR REPLACE INTO xcom_value", 6, &[1], ""));

/// What a task returned is in its row where it has no more bytes of JSON than this.
const IN_ROW: usize = 256;

/// Something that has come about in a run, or was logged there.
struct Event<'w> {
    id: i64,
    run: i64,
    /// The task, its map index and its try; `None` for the run itself.
    of: Option<(&'w str, i32, u32)>,
    at: Option<DateTime<Utc>>,
    state: Option<&'w str>,
    detail: Option<&'w str>,
    records: Option<&'w str>,
}

struct XCom<'w> {
    run: i64,
    task_id: &'w str,
    map_index: i32,
    key: &'w str,
    value: &'w Stored,
    /// It is what a task returned, and too long for the row of that.
    beside_row: bool,
}

/// Rows of one transaction that are not written yet.
#[derive(Default)]
pub(super) struct Rows<'w> {
    /// With what it returned, where that goes into its row.
    tasks: Vec<(&'w TaskRecord, Option<&'w str>)>,
    events: Vec<Event<'w>>,
    xcoms: Vec<XCom<'w>>,
}

impl<'w> Rows<'w> {
    /// Gathers what this change is in these tables. `false` where it is none of theirs.
    pub(super) fn take(
        &mut self,
        write: &'w Write,
        numbers: &mut Numbers,
        connection: &Connection,
    ) -> rusqlite::Result<bool> {
        match write {
            Write::Task { record, at } => {
                let returned = self.returned(record);
                self.tasks.push((record, returned));
                self.events.push(Event {
                    id: numbers.next(connection, record.run)?,
                    run: record.run,
                    of: Some((&record.task_id, record.map_index, record.try_number)),
                    at: Some(*at),
                    state: Some(record.state.map_or("cleared", State::as_str)),
                    detail: record.error.as_deref(),
                    records: None,
                });
            }
            Write::XCom { run, task_id, map_index, key, value } => {
                let (run, map_index) = (*run, *map_index);
                self.xcoms.push(XCom { run, task_id, map_index, key, value, beside_row: false });
            }
            Write::Log { run, piece } => {
                let LogRecord { task_id, map_index, try_number, records } = piece;
                let of = Some((&**task_id, *map_index, *try_number));
                // What a try has logged at its end goes with that end.
                let mut lately = self.events.iter_mut().rev().take(LATELY);
                match lately.find(|event| event.run == *run && event.of == of && event.records.is_none()) {
                    Some(end) => end.records = Some(records),
                    None => {
                        let records = Some(records.as_str());
                        self.events.push(Event {
                            id: numbers.next(connection, *run)?,
                            run: *run,
                            of,
                            at: None,
                            state: None,
                            detail: None,
                            records,
                        });
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the task instance returned as it succeeded, where its row has room for that.
    fn returned(&mut self, record: &TaskRecord) -> Option<&'w str> {
        if record.state != Some(State::Success) {
            return None;
        }
        let of = |xcom: &XCom| {
            (xcom.run, xcom.task_id, xcom.map_index) == (record.run, &*record.task_id, record.map_index)
        };
        let pushed = self.xcoms.iter().rev().take_while(|xcom| of(xcom)).count();
        let from = self.xcoms.len() - pushed;
        let at = from + self.xcoms[from..].iter().rposition(|xcom| xcom.key == RETURN_VALUE)?;
        match self.xcoms[at].value {
            Stored::Inline(json) if json.as_str().len() <= IN_ROW => {
                self.xcoms.remove(at);
                Some(json.as_str())
            }
            _ => {
                self.xcoms[at].beside_row = true;
                None
            }
        }
    }

    /// Gathers the event of a run itself.
    pub(super) fn run_event(
        &mut self,
        (run, id): (i64, i64),
        state: &'w str,
        detail: Option<&'w str>,
        at: DateTime<Utc>,
    ) {
        let (at, state) = (Some(at), Some(state));
        self.events.push(Event { id, run, of: None, at, state, detail, records: None });
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        // A value is in one of two places: what it replaces may be in the other.
        for (record, _) in self.tasks.iter().filter(|(_, returned)| returned.is_some()) {
            connection
                .prepare_cached(
                    "DELETE FROM xcom_value WHERE run = ? AND task_id = ? AND map_index = ? AND key = ?",
                )?
                .execute(params![record.run, record.task_id, record.map_index, RETURN_VALUE])?;
        }
        for xcom in self.xcoms.iter().filter(|xcom| xcom.beside_row) {
            connection
                .prepare_cached(
                    "UPDATE task_instance SET value = NULL
                     WHERE run = ? AND task_id = ? AND map_index = ? AND value IS NOT NULL",
                )?
                .execute(params![xcom.run, xcom.task_id, xcom.map_index])?;
        }
        // Only an end that comes after another one finds something that was returned: a clear forgets it.
        let may_find = |(record, returned): &(&TaskRecord, Option<&str>)| {
            returned.is_none() && record.state.is_none_or(State::is_final)
        };
        for tasks in self.tasks.chunk_by(|one, next| may_find(one) == may_find(next)) {
            let table = if tasks.first().is_some_and(may_find) { &TASKS_AS_THEY_RETURNED } else { &TASKS };
            table.write(connection, tasks, |row, (record, returned)| {
                bind_task(row, record)?;
                row.put(returned)
            })?;
        }
        EVENTS.write(connection, &self.events, |row, event| {
            row.put(event.id)?;
            row.put(event.of.map(|(task_id, ..)| task_id))?;
            row.put(event.of.map(|(_, map_index, _)| map_index))?;
            row.put(event.of.map(|(.., try_number)| try_number))?;
            row.put(event.at.map(|at| at.timestamp_micros()))?;
            row.put(event.state)?;
            row.put(event.detail)?;
            row.put(event.records)
        })?;
        XCOMS.write(connection, &self.xcoms, |row, xcom| {
            row.put(xcom.run)?;
            row.put(xcom.task_id)?;
            row.put(xcom.map_index)?;
            row.put(xcom.key)?;
            let (inline, blob) = match xcom.value {
                Stored::Inline(json) => (Some(json.as_str()), None),
                Stored::Blob(name) => (None, Some(name)),
            };
            row.put(inline)?;
            row.put(blob)
        })?;
        self.tasks.clear();
        self.events.clear();
        self.xcoms.clear();
        Ok(())
    }
}

fn bind_task(row: &mut Row, record: &TaskRecord) -> rusqlite::Result<()> {
    let micros = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
    let waits_for = record.waits_for.as_ref().map(serde_json::to_string).transpose();
    row.put(record.run)?;
    row.put(&*record.task_id)?;
    row.put(record.map_index)?;
    row.put(record.state.map(State::as_str))?;
    row.put(record.try_number)?;
    row.put(record.tries_before)?;
    row.put(record.interruptions)?;
    row.put(record.generation)?;
    row.put(micros(record.start_date))?;
    row.put(micros(record.end_date))?;
    row.put(micros(record.due_at))?;
    row.put(waits_for.map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?)?;
    row.put(&record.error)?;
    row.put(record.outcome)
}

/// As many runs are not under way at once: the numbers of others are read again.
const REMEMBERED: usize = 100_000;

/// The rows of the table `event` that are of the run `?1`.
pub(super) const EVENTS_OF_RUN: &str = "id BETWEEN ?1 << 32 AND ?1 << 32 | 4294967295 AND run = ?1";

/// The keys that events get: of each run those behind its number, counting up.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: HashMap<i64, u32>,
    /// The runs of which little is to come once this transaction is written.
    ended: Vec<i64>,
}

impl Numbers {
    /// The next key of a run.
    pub(super) fn next(&mut self, connection: &Connection, run: i64) -> rusqlite::Result<i64> {
        let last = match self.last.get(&run) {
            Some(last) => *last,
            None => last(connection, run)?,
        };
        let next = last.checked_add(1).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, i64::from(last)))?;
        let of = i32::try_from(run).ok().filter(|run| *run >= 0);
        let of = of.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, run))?;
        self.last.insert(run, next);
        Ok(i64::from(of) << 32 | i64::from(next))
    }

    /// Of a run that is new.
    pub(super) fn begin(&mut self, run: i64) {
        self.last.insert(run, 0);
    }

    /// A run ends.
    pub(super) fn end(&mut self, run: i64) {
        self.ended.push(run);
    }

    /// The transaction is written.
    pub(super) fn keep(&mut self) {
        for run in self.ended.drain(..) {
            self.last.remove(&run);
        }
        // Something may be said of a run after its end, and would be kept for ever.
        if self.last.len() > REMEMBERED {
            self.last.clear();
        }
    }

    /// The transaction is not written.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The last number of a run.
fn last(connection: &Connection, run: i64) -> rusqlite::Result<u32> {
    let sql = format!("SELECT seq FROM event WHERE {EVENTS_OF_RUN} ORDER BY id DESC LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row([run], |row| row.get(0)).optional()?.unwrap_or_default())
}
