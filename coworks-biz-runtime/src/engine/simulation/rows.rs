//! Where there is no process, all that is in the file is what was committed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, Row};

use super::drive::Simulation;
use super::ledger::{Event, Held, Trail, must};
use crate::store::{Deletion, NoticeRecord, Reader};
use crate::value::Object;

impl Simulation {
    pub(super) fn compare_with_rows(&self) -> Held {
        let ledger = &self.ledger;
        let reader = Reader::open(self.database()).map_err(|error| error.to_string())?;
        let runs = reader.runs(None, 100_000).map_err(|error| error.to_string())?;
        let runs: BTreeMap<_, _> = runs.into_iter().map(|run| (run.number, run)).collect();
        let mut tasks = BTreeMap::new();
        for &run in runs.keys() {
            for task in reader.tasks(run).map_err(|error| error.to_string())? {
                tasks.insert((run, task.task_id.to_string(), task.map_index), task);
            }
        }
        same("runs", &runs, &ledger.runs)?;
        same("task instances", &tasks, &ledger.tasks)?;
        let dags = reader.dags().map_err(|error| error.to_string())?;
        same("DAGs", &dags.into_iter().map(|dag| (dag.dag_id.clone(), dag)).collect(), &ledger.dags)?;
        let backfills = reader.backfills().map_err(|error| error.to_string())?;
        let backfills = backfills.into_iter().map(|backfill| (backfill.id, backfill)).collect();
        same("backfills", &backfills, &ledger.backfills)?;
        drop(reader);
        self.compare_the_rest().map_err(|error| error.to_string())?
    }

    /// What no reader gives, or not all at once.
    fn compare_the_rest(&self) -> rusqlite::Result<Held> {
        let ledger = &self.ledger;
        let file = Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let xcoms = all(&file, "SELECT run, task_id, map_index, key, value FROM xcom", |row| {
            Ok((((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?), row.get(4)?))
        })?;
        let deletions = all(&file, "SELECT bucket, key, due_at, until FROM to_delete", |row| {
            let object = Object { bucket: row.get(0)?, key: row.get(1)? };
            Ok((object.key.clone(), Deletion { object, due_at: moment(row, 2)?, until: moment(row, 3)? }))
        })?;
        let notices = all(&file, "SELECT id, run, way, notice, tries, due_at FROM notice", |row| {
            let (id, run, way, notice, tries) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            Ok((id, NoticeRecord { id, run, way, notice, tries, due_at: moment(row, 5)? }))
        })?;
        let versions = all(&file, "SELECT dag_id, version, structure FROM dag_version", |row| {
            Ok(((row.get(0)?, row.get(1)?), Arc::from(row.get::<_, String>(2)?)))
        })?;
        let (mut events, mut logs): (BTreeMap<i64, Trail>, BTreeMap<i64, Trail>) = Default::default();
        let mut rows = file.prepare(
            "SELECT run, task_id, map_index, try_number, at, state, detail, records FROM event ORDER BY run, seq",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let run = row.get(0)?;
            let task: Option<String> = row.get(1)?;
            let of = match &task {
                Some(task) => Some((task.as_str(), row.get(2)?, row.get(3)?)),
                None => None,
            };
            if let Some(state) = row.get::<_, Option<String>>(5)? {
                let detail: Option<String> = row.get(6)?;
                let event: Event = (of, moment(row, 4)?, &state, detail.as_deref());
                events.entry(run).or_default().push(event);
            }
            if let (Some(of), Some(records)) = (of, row.get::<_, Option<String>>(7)?) {
                logs.entry(run).or_default().add((of, &records));
            }
        }
        let all = || -> Held {
            same("XComs", &xcoms, &ledger.xcoms)?;
            same("deletions", &deletions, &ledger.deletions)?;
            same("notices", &notices, &ledger.notices)?;
            same("versions", &versions, &ledger.versions)?;
            same("events", &events, &ledger.events)?;
            same("logs", &logs, &ledger.logs)
        };
        Ok(all())
    }
}

fn all<K: Ord, V>(
    file: &Connection,
    sql: &str,
    read: impl FnMut(&Row) -> rusqlite::Result<(K, V)>,
) -> rusqlite::Result<BTreeMap<K, V>> {
    let mut rows = BTreeMap::new();
    for row in file.prepare(sql)?.query_map([], read)? {
        let (key, value) = row?;
        assert!(rows.insert(key, value).is_none(), "two rows of one key: {sql}");
    }
    Ok(rows)
}

fn moment(row: &Row, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    Ok(DateTime::from_timestamp_micros(row.get(column)?).unwrap_or_default())
}

/// What differs first.
fn same<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    rows: &BTreeMap<K, V>,
    ledger: &BTreeMap<K, V>,
) -> Held {
    if rows == ledger {
        return Ok(());
    }
    for (key, was) in ledger {
        let is = rows.get(key);
        must!(is == Some(was), "of the {what}, {key:?} was {was:?}, and is {is:?}");
    }
    let more: Vec<_> = rows.keys().filter(|key| !ledger.contains_key(key)).collect();
    Err(format!("of the {what}, nobody has committed {more:?}"))
}
