//! Whether a database is what it should be.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Transaction};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::blobs::{self, Blobs};
use super::super::prune::{PRUNED, files, is_idle, named_blobs, of_runs};
use super::super::{StoreError, Which, read, schema};
use super::open;
use crate::run::InstanceName;
use crate::value::RETURN_VALUE;

/// Of one kind of damage, no more than this are told.
const TOLD: usize = 20;

/// What was found in a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Its version.
    pub version: usize,
    /// Its runs.
    pub runs: u64,
    /// The large values that it names.
    pub blobs: u64,
    /// What is broken: a sentence for each.
    pub damage: Vec<String>,
    /// What is no damage, and worth to know.
    pub notes: Vec<String>,
}

/// Reads all of the database and of its large values. Whoever owns it goes on meanwhile; what is
/// written stays in the write-ahead log for so long.
///
/// The error is for a file that cannot be looked into at all; what is wrong with one that can
/// is [`Verdict::damage`].
pub fn verify(path: &Path) -> Result<Verdict, StoreError> {
    let mut verdict = Verdict::default();
    let mut connection = match open(path) {
        Ok((connection, version)) => {
            verdict.version = version;
            connection
        }
        Err(StoreError::Damaged { what, .. }) => {
            verdict.damage.push(what);
            return Ok(verdict);
        }
        Err(other) => return Err(other),
    };
    let named = match examine(&mut connection, &mut verdict) {
        Ok(named) => named,
        Err(e) => match StoreError::of(path, e) {
            // A page that cannot be read keeps from what is behind it.
            StoreError::Damaged { what, .. } => {
                verdict.damage.push(format!("the rest cannot be read: {what}"));
                return Ok(verdict);
            }
            other => return Err(other),
        },
    };
    values(path, &connection, &named, &mut verdict)?;
    Ok(verdict)
}

/// Looks into the pages and the rows, all of one moment. Gives the large values that are named.
fn examine(connection: &mut Connection, verdict: &mut Verdict) -> rusqlite::Result<BTreeSet<String>> {
    let snapshot = connection.transaction()?;
    let lines: Vec<String> = snapshot
        .prepare(&format!("PRAGMA integrity_check({TOLD})"))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    verdict
        .damage
        .extend(lines.iter().flat_map(|text| text.lines()).filter(|l| *l != "ok").map(String::from));
    verdict.runs = snapshot.query_row("SELECT count(*) FROM dag_run", [], |row| row.get(0))?;
    strays(&snapshot, verdict)?;
    if verdict.version == schema::current() {
        rows(&snapshot, verdict)?;
    }
    let half: u64 =
        snapshot.query_row("SELECT count(*) FROM dag_run WHERE version = ?", [PRUNED], |row| row.get(0))?;
    if half > 0 {
        verdict.notes.push(format!("{half} runs are being removed: `db prune` goes on with it"));
    }
    let named = named_blobs(&snapshot)?;
    verdict.blobs = named.len() as u64;
    Ok(named)
}

/// Rows of runs that are not there.
fn strays(snapshot: &Transaction, verdict: &mut Verdict) -> rusqlite::Result<()> {
    for table in of_runs(snapshot)? {
        let name = &table.name;
        let sql = format!(
            "SELECT count(*), min(run) FROM {name} WHERE run NOT IN (SELECT id FROM dag_run) AND run IS NOT NULL"
        );
        let (rows, run): (u64, Option<i64>) =
            snapshot.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some(run) = run {
            verdict
                .damage
                .push(format!("{rows} rows of `{name}` are of runs that are not there, such as run {run}"));
        }
    }
    Ok(())
}

/// Rows that cannot be read, by who reads them.
fn rows(snapshot: &Transaction, verdict: &mut Verdict) -> rusqlite::Result<()> {
    let json = |text: &str| serde_json::from_str::<&RawValue>(text).map(drop);
    let mut found = Vec::new();
    let mut tell = |what: String, why: Option<String>| found.extend(why.map(|why| format!("{what}: {why}")));
    let why = |e: rusqlite::Error| e.to_string();
    for (table, read) in [
        ("dag", read::dags(snapshot).map(drop)),
        ("backfill", read::backfills(snapshot, false).map(drop)),
        ("notice", read::notices(snapshot).map(drop)),
        ("to_delete", read::deletions(snapshot, DateTime::<Utc>::MAX_UTC, usize::MAX >> 1).map(drop)),
    ] {
        tell(format!("a row of `{table}` cannot be read"), read.err().map(why));
    }
    let mut runs = snapshot.prepare("SELECT id FROM dag_run ORDER BY id")?;
    let mut runs = runs.query([])?;
    while let Some(row) = runs.next()? {
        let run: i64 = row.get(0)?;
        match read::which(snapshot, Which::Number(run)) {
            Err(e) => tell(format!("run number {run} cannot be read"), Some(why(e))),
            Ok(record) => {
                let conf = record.first().and_then(|record| json(&record.conf).err());
                tell(format!("the conf of run number {run} is no JSON"), conf.map(|e| e.to_string()));
            }
        }
        for (what, read) in [
            ("task instances", read::tasks(snapshot, run).map(drop)),
            ("events", read::events(snapshot, run).map(drop)),
            ("logs", read::logs(snapshot, run, None).map(drop)),
        ] {
            tell(format!("the {what} of run number {run} cannot be read"), read.err().map(why));
        }
    }
    let twice: u64 = snapshot.query_row(
        "SELECT count(*) FROM xcom_value v CROSS JOIN task_instance t USING (run, task_id, map_index)
         WHERE v.key = ? AND t.value IS NOT NULL",
        [RETURN_VALUE],
        |row| row.get(0),
    )?;
    tell("what was returned".to_owned(), (twice > 0).then(|| format!("{twice} tasks have two values")));
    let mut values = snapshot.prepare("SELECT run, task_id, map_index, key, value, blob FROM xcom")?;
    let mut values = values.query([])?;
    while let Some(row) = values.next()? {
        let value = || -> rusqlite::Result<Option<String>> {
            let (_, task, map_index): (i64, String, i32) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (key, text, blob): (String, Option<String>, Option<String>) =
                (row.get(3)?, row.get(4)?, row.get(5)?);
            let wrong = match (text, blob) {
                (Some(text), _) => json(&text).err().map(|e| format!("is no JSON: {e}")),
                (None, Some(blob)) => {
                    (!blobs::is_name(&blob)).then(|| format!("names the large value `{blob}`, which is none"))
                }
                (None, None) => Some("is not there".to_owned()),
            };
            let name = InstanceName(&task, map_index).to_string();
            Ok(wrong.map(|wrong| format!("`{key}` of `{name}` {wrong}")))
        };
        let run = row.get::<_, i64>(0).unwrap_or_default();
        tell(format!("a value of run number {run} cannot be read"), value().unwrap_or_else(|e| Some(why(e))));
    }
    let more = found.len().saturating_sub(TOLD);
    verdict.damage.extend(found.into_iter().take(TOLD));
    if more > 0 {
        verdict.damage.push(format!("and {more} more that cannot be read"));
    }
    Ok(())
}

fn values(
    path: &Path,
    connection: &Connection,
    named: &BTreeSet<String>,
    verdict: &mut Verdict,
) -> Result<(), StoreError> {
    let of = Blobs::of(path);
    let fault = |source| StoreError::Io { path: of.dir().to_owned(), source };
    let mut broken = Vec::new();
    // What is no name has been told with its row.
    for name in named.iter().filter(|name| blobs::is_name(name)) {
        match fs::read(of.dir().join(name)) {
            Ok(bytes) if blobs::name(&bytes) == *name => {}
            Ok(_) => broken.push((name, "holds something else than what was stored")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => broken.push((name, "is missing")),
            Err(e) => return Err(fault(e)),
        }
    }
    if !broken.is_empty() {
        // Of runs that were removed since, nothing is missing.
        let now = named_blobs(connection).map_err(|source| StoreError::of(path, source))?;
        broken.retain(|(name, _)| now.contains(*name));
    }
    let more = broken.len().saturating_sub(TOLD);
    for (name, what) in broken.into_iter().take(TOLD) {
        verdict.damage.push(format!("the large value {} {what}", of.dir().join(name).display()));
    }
    if more > 0 {
        verdict.damage.push(format!("and {more} more large values"));
    }
    let mut orphans = 0;
    for file in files(of.dir()).map_err(fault)? {
        // One that was just stored is about to be named.
        let idle = match is_idle(&of.dir().join(&file)) {
            Ok(idle) => idle,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(fault(e)),
        };
        if idle && !named.contains(&file) {
            orphans += 1;
        }
    }
    if orphans > 0 {
        verdict
            .notes
            .push(format!("{orphans} files of large values are named by no run: `db prune` removes them"));
    }
    Ok(())
}
