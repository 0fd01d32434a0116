//! A database that is damaged in any way: a word for what is done, and numbers for where, on each line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::tests::{at, open, run, task};
use super::*;
use crate::abuse::Abuse;
use crate::run::{RunState, State};
use crate::value::{Json, Object};

/// A database as its writer left it when it was killed, and as it is once it was closed.
pub(crate) struct Whole {
    dir: tempfile::TempDir,
}

/// The files of a database beside it that belong to it.
const COMPANIONS: [&str; 2] = ["", "-wal"];

impl Whole {
    /// What this leaves in a database at that path.
    pub(crate) fn of(make: impl FnOnce(&Path)) -> Self {
        let whole = Self { dir: tempfile::tempdir().unwrap() };
        make(&whole.path());
        whole
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("biz.db")
    }

    /// A copy in this folder.
    fn copy(&self, dir: &Path) -> PathBuf {
        let path = dir.join("biz.db");
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir_all(dir.join("biz.db.blobs")).unwrap();
        let blobs = Blobs::of(&self.path());
        let values =
            prune::files(blobs.dir()).unwrap().into_iter().map(|name| format!("biz.db.blobs/{name}"));
        let files = COMPANIONS.map(|name| format!("biz.db{name}"));
        for name in values.chain(files.into_iter().filter(|name| self.dir.path().join(name).exists())) {
            fs::copy(self.dir.path().join(&name), dir.join(&name)).unwrap();
        }
        path
    }

    /// A copy in this folder that was damaged so. Whether only rows are other ones, by statements.
    pub(crate) fn damaged(&self, dir: &Path, recipe: &str) -> (PathBuf, bool) {
        let path = self.copy(dir);
        let mut only_rows = true;
        for line in recipe.lines().take(20) {
            let mut words = line.splitn(5, ' ');
            let what = words.next().unwrap_or_default();
            let [a, b, c] = [(); 3].map(|()| words.next().unwrap_or_default());
            let number = |text: &str| text.parse::<usize>().unwrap_or(text.len());
            let (a, b, c, rest) = (number(a), number(b), number(c), words.next().unwrap_or_default());
            match what {
                "set" => drop(set(&path, a, b, c, rest)),
                "delete" => drop(statement(&path, &format!("DELETE FROM {} WHERE rowid = {b}", table(a)))),
                "drop" => drop(statement(&path, &format!("DROP TABLE {}", table(a)))),
                "version" => drop(statement(&path, &format!("PRAGMA user_version = {a}"))),
                "close" => drop(statement(&path, "PRAGMA wal_checkpoint(TRUNCATE)")),
                _ => {
                    let (file, what) = match what.split_once('.') {
                        Some(("wal", what)) => (lock::beside(&path, "-wal"), what),
                        Some(("value", what)) => {
                            let name = prune::files(Blobs::of(&path).dir()).unwrap().pop();
                            (Blobs::of(&path).dir().join(name.unwrap_or_default()), what)
                        }
                        _ => (path.clone(), what),
                    };
                    if let Ok(before) = fs::read(&file) {
                        let mut bytes = before.clone();
                        bytes_of(&mut bytes, what, a, b, c);
                        only_rows &= bytes == before;
                        fs::write(&file, bytes).unwrap();
                    }
                }
            }
        }
        (path, only_rows)
    }
}

fn bytes_of(bytes: &mut Vec<u8>, what: &str, a: usize, b: usize, c: usize) {
    const PAGE: usize = 4096;
    let length = bytes.len().max(1);
    let from = a % length;
    let end = from.saturating_add(b % (2 * PAGE)).min(bytes.len());
    match what {
        "flip" => bytes[from..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (b % 8)),
        "byte" => bytes[from..].iter_mut().take(1).for_each(|byte| *byte = b as u8),
        "fill" => bytes[from..end].fill(c as u8),
        "cut" => bytes.truncate(from),
        "cut_page" => bytes.truncate(from / PAGE * PAGE),
        "grow" => bytes.extend(std::iter::repeat_n(b as u8, a % (4 * PAGE))),
        "out" => drop(bytes.drain(from..end)),
        "swap" | "copy" => {
            let pages = (length / PAGE).max(1);
            let (from, to) = (a % pages * PAGE, b % pages * PAGE);
            if from.max(to) + PAGE <= bytes.len() {
                let (one, other) = (bytes[from..from + PAGE].to_vec(), bytes[to..to + PAGE].to_vec());
                bytes[to..to + PAGE].copy_from_slice(&one);
                if what == "swap" {
                    bytes[from..from + PAGE].copy_from_slice(&other);
                }
            }
        }
        _ => {}
    }
}

const TABLES: [&str; 10] = [
    "dag_run",
    "task_instance",
    "xcom_value",
    "event",
    "to_delete",
    "dag",
    "dag_version",
    "backfill",
    "notice",
    "engine",
];

fn table(number: usize) -> &'static str {
    TABLES[number % TABLES.len()]
}

fn statement(path: &Path, sql: &str) -> rusqlite::Result<()> {
    Connection::open(path)?.execute_batch(sql)
}

/// Gives a column of a row another value: `i7`, `r0.5`, `n` for null, `xab` for bytes, or the text behind `t`.
fn set(path: &Path, which: usize, column: usize, row: usize, value: &str) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    let table = table(which);
    let columns: Vec<String> = connection
        .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if columns.is_empty() {
        return Ok(());
    }
    let column = &columns[column % columns.len()];
    let rest = value.get(1..).unwrap_or_default();
    let value = match value.bytes().next() {
        Some(b'i') => rest.parse().map(Value::Integer).unwrap_or(Value::Null),
        Some(b'r') => rest.parse().map(Value::Real).unwrap_or(Value::Null),
        Some(b'n') | None => Value::Null,
        Some(b'x') => Value::Blob(rest.as_bytes().to_vec()),
        _ => Value::Text(rest.to_owned()),
    };
    let keys: Option<String> = connection.query_row(
        &format!("SELECT group_concat(name) FROM pragma_table_info('{table}') WHERE pk > 0"),
        [],
        |row| row.get(0),
    )?;
    let (keys, rows) = (keys.unwrap_or("rowid".to_owned()), format!("SELECT count(*) FROM {table}"));
    let rows: usize = connection.query_row(&rows, [], |row| row.get(0))?;
    let of = format!("({keys}) = (SELECT {keys} FROM {table} ORDER BY {keys} LIMIT 1 OFFSET ?2)");
    connection.execute(
        &format!("UPDATE {table} SET {column} = ?1 WHERE {of}"),
        params![value, row % rows.max(1)],
    )?;
    Ok(())
}

/// Runs that have ended and that have not, with a row in each table.
fn office(path: &Path) {
    let mut writer = open(path).unwrap();
    let blobs = writer.blobs();
    for number in 1..=30 {
        let ended = (number % 3 != 0).then(|| at(100 + number));
        let state = if ended.is_some() { RunState::Success } else { RunState::Running };
        let record = RunRecord { state, end_date: ended, ..super::tests::run(number, number * 10) };
        let mut writes = vec![Write::RunMade(record)];
        for map_index in -1..(number % 4) as i32 {
            let states = [State::Success, State::Running, State::UpForRetry, State::UpForReschedule];
            let record = TaskRecord { map_index, ..task(number, states[number as usize % 4]) };
            let text = if number == 5 { "y".repeat(80_000) } else { format!("value of {number}") };
            let value = blobs.store(&Json::encode(&text).unwrap()).unwrap();
            let (task_id, key) = ("a".to_owned(), "return_value".to_owned());
            writes.push(Write::XCom {
                run: number,
                task_id: task_id.into(),
                map_index,
                key: key.into(),
                value,
            });
            writes.push(Write::Task { record, at: at(number) });
        }
        let piece =
            LogRecord { task_id: "a".into(), map_index: -1, try_number: 1, records: "{}\n".repeat(20) };
        writes.push(Write::Log { run: number, piece });
        let object = Object { bucket: "b".into(), key: format!("k{number}") };
        writes.push(Write::Delete(Deletion { object, due_at: at(1), until: at(2) }));
        writes.push(Write::Notice(NoticeRecord {
            id: number,
            run: number,
            way: "webhook".into(),
            notice: "{}".into(),
            tries: 0,
            due_at: at(7),
        }));
        writer.commit(&writes).unwrap();
    }
    let dag = DagRecord {
        dag_id: "first".into(),
        paused: false,
        schedule: Some("0 0 * * * UTC".into()),
        schedule_since: None,
        ticked: Some(at(5)),
    };
    let backfill = BackfillRecord {
        id: 1,
        dag_id: "first".into(),
        from_date: at(1),
        to_date: at(9),
        reprocess: "none".into(),
        max_active_runs: 2,
        created_at: at(3),
        completed_at: None,
    };
    let (dag_id, version, structure) = ("first".to_owned(), "v".to_owned(), r#"{"tasks":{}}"#.to_owned());
    let more = [Write::Dag(dag), Write::Backfill(backfill), Write::Version { dag_id, version, structure }];
    writer.commit(&more).unwrap();
}

/// All that readers tell, by run; what cannot be read is an error.
fn all(path: &Path) -> Result<BTreeMap<i64, String>, StoreError> {
    let reader = Reader::open(path)?;
    reader.dags()?;
    reader.backfills()?;
    let mut told = BTreeMap::new();
    for run in reader.runs(None, u32::MAX)? {
        let number = run.number;
        let (tasks, xcoms) = (reader.tasks(number)?, reader.xcoms(number)?);
        reader.logs(number, None)?;
        reader.events(number)?;
        reader.mapped_xcoms(number, "a", "a", "return_value")?;
        told.insert(number, format!("{} {} {} {xcoms:?}", run.run_id, run.uuid, tasks.len()));
    }
    Ok(told)
}

/// Says what is wrong with which file, and what to do.
fn is_told(error: &StoreError) -> String {
    let text = error.to_string();
    assert!(text.contains("biz.db"), "{text}");
    match error {
        StoreError::Damaged { .. } => {
            "damaged".to_owned() + &text.replace(|c: char| !c.is_alphabetic(), "")[..]
        }
        StoreError::Foreign { .. } => "foreign".to_owned(),
        StoreError::Newer { .. } => "newer".to_owned(),
        StoreError::Older { .. } => "older".to_owned(),
        StoreError::Missing { .. } => "missing".to_owned(),
        other => panic!("this does not say that it is damaged: {other}"),
    }
}

fn holds(whole: &Whole, before: &BTreeMap<i64, String>, dir: &Path, case: &[u8]) -> String {
    let (path, only_rows) = whole.damaged(dir, &String::from_utf8_lossy(case));
    let length = fs::metadata(&path).map_or(0, |file| file.len());
    let (verdict, told) = (upkeep::verify(&path), all(&path));
    let kind = match &told {
        Ok(_) => "read".to_owned(),
        Err(error) => is_told(error),
    };
    let is_whole = match &verdict {
        Ok(verdict) => verdict.damage.is_empty(),
        Err(error) => {
            is_told(error);
            false
        }
    };
    if is_whole && verdict.as_ref().is_ok_and(|verdict| verdict.version == schema::current()) {
        let told = told.as_ref().unwrap_or_else(|e| panic!("it is said to be whole, and {e}"));
        if !only_rows {
            // Of a log that is damaged SQLite takes what is before the damage: the end may be missing, and no more.
            let there = if cuts_log(case) { told.len() } else { before.len() };
            assert!(
                told.keys().eq(before.keys().take(there)),
                "it is said to be whole, and runs are missing"
            );
        }
    }
    if let (Ok(told), true) = (&told, is_checked(case)) {
        for (number, values) in told {
            assert!(before.get(number) == Some(values), "what run {number} has put out is another");
        }
    }
    if length > 0 {
        let missing = |error: &StoreError| matches!(error, StoreError::Missing { .. });
        assert!(!told.as_ref().err().is_some_and(missing), "what is there is said not to be");
    }
    // A file without a byte is a new one.
    let may_go = only_rows || cuts_log(case) || length == 0;
    format!("{} {}", taken_over(&path, before, may_go), kind.chars().take(60).collect::<String>())
}

/// Whether only such places were damaged as have a checksum, or are missing: a changed byte of a row does not show.
fn is_checked(case: &[u8]) -> bool {
    let case = String::from_utf8_lossy(case);
    let mut words = case.lines().take(20).map(|line| line.split(' ').next().unwrap_or_default());
    words.all(|word| match word.split_once('.') {
        Some((file, _)) => matches!(file, "wal" | "value"),
        None => matches!(word, "cut" | "cut_page" | "grow" | "close" | "kill" | ""),
    })
}

/// Whether runs may be gone with the end of the write-ahead log.
fn cuts_log(case: &[u8]) -> bool {
    String::from_utf8_lossy(case).contains("wal.")
}

/// Opens it to write, as the engine does.
fn taken_over(path: &Path, before: &BTreeMap<i64, String>, may_go: bool) -> &'static str {
    let mut writer = match open(path) {
        Ok(writer) => writer,
        Err(error) => {
            is_told(&error);
            return "refused";
        }
    };
    let open = writer.runs(Which::Open).map(|runs| runs.iter().map(|run| run.number).collect::<Vec<_>>());
    let mut lost = vec![];
    for &number in before.keys() {
        // Rows may say anything where somebody has written it; they are not to go by themselves.
        let left_out = match writer.runs(Which::Number(number)).map(|mut runs| runs.pop()) {
            Ok(Some(run)) => !run.state.is_final() && run.end_date.is_none(),
            Ok(None) => !may_go,
            Err(_) => open.is_ok() && !has_end(path, number),
        };
        if left_out && open.as_ref().is_ok_and(|open| !open.contains(&number)) {
            lost.push(number);
        }
        if let Err(error) = writer.tasks(number) {
            is_told(&error);
        }
    }
    assert!(lost.is_empty(), "runs {lost:?} are not gone on with, and nobody is told");
    for error in [
        open.err(),
        writer.notices().err(),
        writer.backfills().err(),
        writer.dags().err(),
        writer.deletions(at(i64::MAX / 4), 100).err(),
        writer.next_run().err(),
    ] {
        error.iter().for_each(|error| drop(is_told(error)));
    }
    let Ok(number) = writer.next_run() else { return "opened" };
    let record = RunRecord { uuid: "new".into(), ..run(number, i64::from(u32::MAX)) };
    match writer.commit(&[Write::RunMade(record)]) {
        Ok(()) => "written",
        Err(_) => "not written",
    }
}

/// Whether the row of a run has an end, which is all that is asked of one that cannot be read.
fn has_end(path: &Path, number: i64) -> bool {
    let sql = "SELECT end_date IS NOT NULL FROM dag_run WHERE id = ?";
    let end = |path| Connection::open(path)?.query_row(sql, [number], |row| row.get(0));
    end(path).unwrap_or(true)
}

#[test]
fn a_damaged_database_is_told_to_be_and_no_run_is_lost_in_silence() {
    let closed = Whole::of(office);
    let killed = Whole::of(|path| {
        let other = Whole::of(office);
        let mut writer = open(&other.copy(path.parent().unwrap())).unwrap();
        for number in 31..60 {
            writer.commit(&[Write::RunMade(run(number, number * 10))]).unwrap();
        }
        // As it is before the connection that closes brings the log into the file.
        let left = Whole { dir: tempfile::tempdir().unwrap() };
        for name in COMPANIONS {
            fs::copy(lock::beside(path, name), lock::beside(&left.path(), name)).unwrap();
        }
        drop(writer);
        for name in COMPANIONS {
            fs::copy(lock::beside(&left.path(), name), lock::beside(path, name)).unwrap();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("copy");
    fs::create_dir(&dir).unwrap();
    let runs = |whole: &Whole| all(&whole.copy(&dir)).unwrap();
    let (of_closed, of_killed) = (runs(&closed), runs(&killed));
    assert_eq!((of_closed.len(), of_killed.len()), (30, 59));
    let words = [
        "flip ",
        "byte ",
        "fill ",
        "cut ",
        "cut_page ",
        "grow ",
        "out ",
        "swap ",
        "copy ",
        "wal.flip ",
        "wal.cut ",
        "wal.fill ",
        "value.flip ",
        "value.cut ",
        "set 0 ",
        "set 1 ",
        "set 2 ",
        "set 1 13 ",
        "set 1 2 ",
        "set 0 5 ",
        " trunning",
        " tsuccess",
        " n",
        " i-1",
        " i4294967295",
        " i9223372036854775807",
        " r1e300",
        " xab",
        " t{}",
        " t",
        "delete ",
        "drop ",
        "version ",
        "close\n",
        "\n",
        "4096 ",
        "100 ",
        "18 ",
        "24 ",
        "28 ",
        "60 ",
        "68 ",
        "103 ",
    ];
    Abuse { target: "database", words: &words, cases: 300 }.of(|case| match case.first() {
        Some(b'k') => holds(&killed, &of_killed, &dir, case) + " killed",
        _ => holds(&closed, &of_closed, &dir, case),
    });
}
