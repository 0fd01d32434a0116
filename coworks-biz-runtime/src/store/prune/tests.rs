use std::fs::File;
use std::path::PathBuf;

use rusqlite::StatementStatus;

use super::super::tests::{at, open, run, task};
use super::super::{LogRecord, NoticeRecord, RunRecord, RunType, Stored, Write, upkeep};
use super::*;
use crate::run::{RunState, State};
use crate::value::Json;

/// The moment before which runs are old.
const OLD: i64 = 1_000;

fn ended(number: i64, end: i64) -> RunRecord {
    RunRecord { state: RunState::Success, end_date: Some(at(end)), ..run(number, number) }
}

/// All that a run leaves: 7 rows, two of the run itself and its beginning.
fn with_rows(run: RunRecord, value: &Stored) -> Vec<Write> {
    let number = run.number;
    let mut writes = vec![Write::RunMade(run)];
    for map_index in 0..2 {
        let record = super::super::TaskRecord { map_index, ..task(number, State::Success) };
        writes.push(Write::Task { record, at: at(1) });
    }
    writes.push(Write::XCom {
        run: number,
        task_id: "a".into(),
        map_index: 0,
        key: "k".into(),
        value: value.clone(),
    });
    let piece = LogRecord { task_id: "a".into(), map_index: 0, try_number: 1, records: "{}\n".into() };
    writes.push(Write::Log { run: number, piece });
    writes
}

const ROWS: u64 = 7;

fn small() -> Stored {
    Stored::Inline(Json::encode(&7).unwrap())
}

fn left(writer: &Writer) -> Vec<i64> {
    let sql = "SELECT id FROM dag_run ORDER BY id";
    writer
        .connection
        .prepare(sql)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn rows(writer: &Writer) -> u64 {
    let count = |table: &str| -> u64 {
        writer.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    count("dag_run")
        + of_runs(&writer.connection).unwrap().iter().map(|table| count(&table.name)).sum::<u64>()
}

/// As if nobody had stored it for hours.
fn age(file: &Path) {
    let before = SystemTime::now() - 2 * IN_FLIGHT;
    File::options().append(true).open(file).unwrap().set_modified(before).unwrap();
}

struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
    writer: Writer,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let writer = open(&path).unwrap();
    World { _dir: dir, path, writer }
}

#[test]
fn old_runs_go_with_all_their_rows_and_the_others_stay_whole() {
    let World { _dir, path, mut writer } = world();
    for run in [ended(1, 10), ended(2, 20), ended(3, OLD), ended(4, 30), ended(5, 40)] {
        writer.commit(&with_rows(run, &small())).unwrap();
    }
    let would = upkeep::prunable(&path, at(OLD)).unwrap();
    let pruned = writer.prune(at(OLD), 1_000).unwrap();
    assert_eq!(pruned, Pruned { runs: 3, rows: 3 * ROWS, blobs: 0, more: false });
    assert_eq!(would, pruned);
    assert_eq!(left(&writer), [3, 5], "one is too young, and the other is the last");
    assert_eq!(rows(&writer), 2 * ROWS);
    assert_eq!(writer.prune(at(OLD), 1_000).unwrap(), Pruned::default());
}

#[test]
fn what_the_schedule_and_later_runs_ask_for_stays() {
    let World { _dir, path: _, mut writer } = world();
    let of = |dag: &str, run_type: RunType, run: RunRecord| {
        Write::RunMade(RunRecord { dag_id: dag.into(), run_type, ..run })
    };
    let unfinished = RunRecord { state: RunState::Running, end_date: None, ..run(13, 13) };
    let runs = [
        // The last of each type, though others are later.
        of("typed", RunType::Scheduled, ended(1, 1)),
        of("typed", RunType::Scheduled, ended(2, 2)),
        of("typed", RunType::Manual, ended(3, 3)),
        of("typed", RunType::Manual, ended(4, 4)),
        of("typed", RunType::Backfill, ended(5, 5)),
        // What an unfinished run comes after, of any type and of its own.
        of("waiting", RunType::Scheduled, ended(10, 1)),
        of("waiting", RunType::Scheduled, ended(11, 2)),
        of("waiting", RunType::Manual, ended(12, 3)),
        of("waiting", RunType::Scheduled, unfinished),
        of("waiting", RunType::Scheduled, ended(14, 4)),
        of("waiting", RunType::Scheduled, ended(15, 5)),
        of("waiting", RunType::Manual, ended(16, 5)),
        // The highest number, though it stands for an early moment.
        of("late", RunType::Manual, ended(20, 5)),
        of("late", RunType::Manual, RunRecord { logical_date: at(1), ..ended(21, 5) }),
    ];
    writer.commit(&runs).unwrap();
    assert!(!writer.prune(at(OLD), 1_000).unwrap().more);
    assert_eq!(left(&writer), [2, 4, 5, 11, 12, 13, 15, 16, 20, 21]);
}

#[test]
fn it_goes_in_pieces_and_a_run_that_is_half_gone_is_marked() {
    let World { _dir, path, mut writer } = world();
    for run in [ended(1, 10), ended(2, 20), ended(3, 30)] {
        writer.commit(&with_rows(run, &small())).unwrap();
    }
    let (mut all, mut marked) = (Pruned { more: true, ..Pruned::default() }, 0);
    while all.more {
        let before = rows(&writer);
        let pruned = writer.prune(at(OLD), 3).unwrap();
        assert!(pruned.rows <= 3 && before - rows(&writer) == pruned.rows, "{pruned:?}");
        marked += u32::from(writer.named(None, "manual__1").unwrap().iter().any(|run| run.version == PRUNED));
        let verdict = upkeep::verify(&path).unwrap();
        assert_eq!(verdict.damage, [""; 0], "after each piece");
        all = Pruned { runs: all.runs + pruned.runs, rows: all.rows + pruned.rows, ..pruned };
    }
    assert_eq!((all.runs, all.rows, left(&writer)), (2, 2 * ROWS, vec![3]));
    assert_eq!(marked, 2, "it took three pieces, of which the last took the mark along");
}

#[test]
fn pieces_go_on_where_the_last_one_stood_and_the_next_time_begins_anew() {
    let World { _dir, path: _, mut writer } = world();
    let of = |dag: &str, run: RunRecord| with_rows(RunRecord { dag_id: dag.into(), ..run }, &small());
    for (dag, run) in [("a", ended(1, 10)), ("b", ended(2, 20)), ("b", ended(3, 30)), ("b", ended(4, 40))] {
        writer.commit(&of(dag, run)).unwrap();
    }
    let piece = |writer: &mut Writer| {
        let Pruned { runs, more, .. } = writer.prune(at(OLD), ROWS as usize).unwrap();
        (runs, more, left(writer))
    };
    assert_eq!(piece(&mut writer), (1, true, vec![1, 3, 4]), "the last of `a` stays");
    // It may go from now on, and is behind.
    writer.commit(&of("a", ended(5, 50))).unwrap();
    assert_eq!(piece(&mut writer), (1, true, vec![1, 4, 5]));
    assert_eq!(piece(&mut writer), (0, false, vec![1, 4, 5]));
    assert_eq!(piece(&mut writer), (1, true, vec![4, 5]));
    assert_eq!(piece(&mut writer), (0, false, vec![4, 5]));
}

#[test]
fn what_stays_of_many_biz_is_not_walked_past_for_each_run_that_goes() {
    let World { _dir, path: _, mut writer } = world();
    for number in 1..=200 {
        let stays = RunRecord { dag_id: format!("dag_{number}"), ..ended(number, number) };
        writer.commit(&[Write::RunMade(stays)]).unwrap();
    }
    for number in 201..=400 {
        writer.commit(&[Write::RunMade(ended(number, number))]).unwrap();
    }
    writer.commit(&[Write::RunMade(ended(401, 401))]).unwrap();
    let steps = |writer: &mut Writer| {
        // A run and its one event.
        assert_eq!(writer.prune(at(OLD), 20).unwrap().runs, 10);
        writer.connection.prepare_cached(&next()).unwrap().reset_status(StatementStatus::VmStep)
    };
    let (first, then) = (steps(&mut writer), steps(&mut writer));
    assert!(then < first / 2, "{first} steps of SQLite's, and then {then}");
}

#[test]
fn a_large_value_goes_with_the_last_run_that_names_it() {
    let World { _dir, path, mut writer } = world();
    let blobs = writer.blobs();
    let value = blobs.store(&Json::encode(&"x".repeat(100_000)).unwrap()).unwrap();
    let Stored::Blob(name) = &value else { panic!("{value:?}") };
    let file = blobs.dir().join(name);
    age(&file);
    for run in [ended(1, 10), ended(2, 2 * OLD), ended(3, 3 * OLD)] {
        let value = if run.number == 3 { small() } else { value.clone() };
        writer.commit(&with_rows(run, &value)).unwrap();
    }
    assert_eq!(upkeep::prunable(&path, at(OLD)).unwrap().blobs, 0);
    assert_eq!(writer.prune(at(OLD), 1_000).unwrap().blobs, 0);
    assert!(file.exists());
    assert_eq!(upkeep::prunable(&path, at(3 * OLD)).unwrap().blobs, 1);
    assert_eq!(writer.prune(at(3 * OLD), 1_000).unwrap().blobs, 1);
    assert_eq!(files(blobs.dir()).unwrap(), [""; 0]);
}

#[test]
fn no_file_goes_that_a_damaged_row_names() {
    let World { _dir, path, mut writer } = world();
    let other = path.with_file_name("of somebody else");
    std::fs::write(&other, "kept").unwrap();
    age(&other);
    for (number, name) in [(1, other.to_str().unwrap()), (2, "../of somebody else"), (3, "")] {
        writer.commit(&with_rows(ended(number, 10), &Stored::Blob(name.to_owned()))).unwrap();
    }
    let damage = upkeep::verify(&path).unwrap().damage;
    assert!(
        damage[0].contains("names the large value `") && damage[0].contains("`, which is none"),
        "{damage:?}"
    );
    assert!(
        upkeep::backup(&path, &path.with_file_name("copy.db")).unwrap_err().to_string().contains("damaged")
    );
    assert_eq!(writer.prune(at(OLD), 1_000).unwrap().runs, 2);
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "kept");
}

#[test]
fn a_large_value_that_a_task_has_found_again_stays_for_it() {
    let World { _dir, path, mut writer } = world();
    let blobs = writer.blobs();
    let json = Json::encode(&"x".repeat(100_000)).unwrap();
    let value = blobs.store(&json).unwrap();
    let Stored::Blob(name) = &value else { panic!("{value:?}") };
    age(&blobs.dir().join(name));
    writer.commit(&with_rows(ended(1, 10), &value)).unwrap();
    writer.commit(&with_rows(ended(2, 20), &small())).unwrap();
    // A task has the same output, and has not ended yet.
    assert_eq!(blobs.store(&json).unwrap(), value);
    assert_eq!(writer.prune(at(OLD), 1_000).unwrap(), Pruned { runs: 1, rows: ROWS, blobs: 0, more: false });
    writer.commit(&with_rows(ended(3, 30), &value)).unwrap();
    assert_eq!(upkeep::verify(&path).unwrap().damage, [""; 0]);
    assert!(!blobs.remove(name).unwrap(), "and the same looked at from nearer");
}

#[test]
fn what_nobody_names_is_swept_and_what_is_not_ours_is_left() {
    let World { _dir, path: _, mut writer } = world();
    let blobs = writer.blobs();
    let store = |text: &str| blobs.store(&Json::encode(&text.repeat(100_000)).unwrap()).unwrap();
    let (named, orphan) = (store("x"), store("y"));
    writer.commit(&with_rows(ended(1, 10), &named)).unwrap();
    let (Stored::Blob(named), Stored::Blob(orphan)) = (named, orphan) else { panic!() };
    std::fs::write(blobs.dir().join(format!("{orphan}.draft")), "").unwrap();
    std::fs::write(blobs.dir().join("notes.txt"), "").unwrap();
    assert_eq!(writer.sweep().unwrap(), 2);
    assert_eq!(files(blobs.dir()).unwrap(), [named]);
    assert!(blobs.dir().join("notes.txt").exists());
}

#[test]
fn the_file_is_used_again_and_made_smaller_when_asked() {
    let World { _dir, path, mut writer } = world();
    let value = Stored::Inline(Json::encode(&"x".repeat(60_000)).unwrap());
    for number in 1..=20 {
        writer.commit(&with_rows(ended(number, number), &value)).unwrap();
    }
    assert_eq!(writer.free().unwrap(), 0);
    writer.prune(at(OLD), 1_000).unwrap();
    let free = writer.free().unwrap();
    assert!(free > 19 * 60_000, "{free}");
    for number in 21..=30 {
        writer.commit(&with_rows(ended(number, number), &value)).unwrap();
    }
    assert!(writer.free().unwrap() < free / 2);
    writer.compact().unwrap();
    assert_eq!(writer.free().unwrap(), 0);
    drop(writer);
    assert!(std::fs::metadata(path).unwrap().len() < 14 * 60_000);
}

#[test]
fn no_table_is_walked_for_the_rows_of_one_run() {
    let World { _dir, path: _, writer } = world();
    let tables = of_runs(&writer.connection).unwrap();
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    for known in ["event", "task_instance", "xcom_value"] {
        assert!(names.contains(&known), "{names:?}");
    }
    for table in &tables {
        let plan: Vec<String> = writer
            .connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", table.rows()))
            .unwrap()
            .query_map([1, 1], |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{}: {plan:?}", table.name);
        // Those of many runs are searched run by run.
        let (name, of_run) = (&table.name, table.of_run("going"));
        let sql = format!(
            "SELECT count(*) FROM (SELECT id AS going FROM dag_run) CROSS JOIN {name} WHERE {of_run}"
        );
        let plan: Vec<String> = writer
            .connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap()
            .query_map([], |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(plan.iter().any(|step| step.starts_with("SEARCH")), "{name}: {plan:?}");
    }
}

#[test]
fn a_run_of_which_somebody_is_still_to_be_told_stays() {
    let World { _dir, path, mut writer } = world();
    let notice = NoticeRecord {
        id: 7,
        run: 1,
        way: "webhook".into(),
        notice: "{}".into(),
        tries: 1,
        due_at: at(5 * OLD),
    };
    writer.commit(&with_rows(ended(1, 10), &small())).unwrap();
    writer.commit(&with_rows(ended(2, 20), &small())).unwrap();
    writer.commit(&[Write::Notice(notice)]).unwrap();
    assert_eq!(writer.prune(at(OLD), 1_000).unwrap(), Pruned::default());
    assert_eq!(upkeep::prunable(&path, at(OLD)).unwrap(), Pruned::default());
    writer.commit(&[Write::Told { id: 7 }]).unwrap();
    assert_eq!(writer.prune(at(OLD), 1_000).unwrap().runs, 1);
}

#[test]
fn what_nobody_names_any_more_is_swept_while_others_are_stored() {
    let World { _dir, path: _, mut writer } = world();
    let blobs = writer.blobs();
    let store = |text: &str| {
        let stored = blobs.store(&Json::encode(&text.repeat(100_000)).unwrap()).unwrap();
        let Stored::Blob(name) = &stored else { panic!("it is large") };
        (blobs.dir().join(name), stored)
    };
    let [(named, value), (forgotten, old), (young, _), (never, _)] = ["a", "b", "c", "d"].map(store);
    writer.commit(&with_rows(ended(1, 10), &value)).unwrap();
    writer.commit(&with_rows(ended(2, 20), &old)).unwrap();
    writer.commit(&[Write::Forget { run: 2, task_id: "a".into(), map_index: None }]).unwrap();
    [&named, &forgotten, &never].into_iter().for_each(|file| age(file));
    std::fs::write(blobs.dir().join("notes.txt"), "").unwrap();
    let mut pieces = 1;
    while writer.sweep_idle(1).unwrap() {
        pieces += 1;
    }
    assert_eq!(pieces, 4);
    let left = [&named, &forgotten, &young, &never].map(|file| file.exists());
    assert_eq!(left, [true, false, true, false]);
    assert!(blobs.dir().join("notes.txt").exists());
    age(&young);
    assert!(!writer.sweep_idle(10).unwrap());
    assert!(!young.exists() && named.exists());
}

#[test]
#[cfg(unix)]
fn no_file_goes_before_it_is_on_the_disk_that_nobody_names_it() {
    let World { _dir, path: _, mut writer } = world();
    let blobs = writer.blobs();
    let value = blobs.store(&Json::encode(&"x".repeat(100_000)).unwrap()).unwrap();
    let Stored::Blob(name) = &value else { panic!("{value:?}") };
    let file = blobs.dir().join(name);
    age(&file);
    writer.commit(&with_rows(ended(1, 10), &value)).unwrap();
    writer.commit(&with_rows(ended(2, 20), &small())).unwrap();
    // That cannot be synced.
    let log = writer.sync_instead(File::open("/dev/null").unwrap());
    let pruned = writer.prune(at(OLD), 1_000).unwrap_err();
    assert!(pruned.is_of_disk(), "{pruned}");
    let swept = writer.sweep_idle(10).unwrap_err();
    assert!(swept.is_of_disk() && file.exists(), "{swept}");
    writer.sync_instead(log);
    assert!(!writer.sweep_idle(10).unwrap() && !file.exists());
}
