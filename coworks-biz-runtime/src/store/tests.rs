use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use rusqlite::StatementStatus;

use super::*;
use crate::config::Durability;
use crate::run::{RunState, State};
use crate::value::{Json, Object, RETURN_VALUE};

pub(super) fn open(path: &Path) -> Result<Writer, StoreError> {
    Writer::open(path, Durability::Step)
}

pub(super) fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

pub(super) fn run(number: i64, logical: i64) -> RunRecord {
    RunRecord {
        number,
        dag_id: "first".into(),
        run_id: format!("manual__{number}"),
        uuid: format!("u{number}"),
        run_type: RunType::Manual,
        state: RunState::Running,
        version: "v".into(),
        conf: "null".into(),
        logical_date: at(logical),
        data_interval_start: at(logical),
        data_interval_end: at(logical),
        queued_at: at(1),
        start_date: Some(at(1)),
        end_date: None,
        idempotency_key: None,
        backfill: None,
        stopped: None,
        held: None,
    }
}

pub(super) fn task(run: i64, state: State) -> TaskRecord {
    TaskRecord {
        run,
        task_id: "a".into(),
        map_index: -1,
        state: Some(state),
        try_number: 1,
        tries_before: 0,
        interruptions: 2,
        generation: 3,
        outcome: Some(4),
        start_date: Some(at(10)),
        end_date: None,
        due_at: Some(at(20)),
        waits_for: Some(WaitsFor::Object(Object { bucket: "b".into(), key: "k".into() })),
        error: Some("why".into()),
    }
}

fn ended(run: RunRecord, state: RunState, micros: i64) -> Write {
    let record = Box::new(RunRecord { state, end_date: Some(at(micros)), ..run });
    Write::Run { record, event: state.as_str(), detail: None, at: at(micros) }
}

#[test]
fn what_was_committed_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/biz.db");
    let mut writer = open(&path).unwrap();
    let large = Json::encode(&"x".repeat(100_000)).unwrap();
    let xcom = |key: &'static str, json: &Json| Write::XCom {
        run: 1,
        task_id: "a".into(),
        map_index: -1,
        key: key.into(),
        value: writer.blobs().store(json).unwrap(),
    };
    let writes = [
        Write::RunMade(run(1, 5)),
        Write::Task { record: task(1, State::Running), at: at(10) },
        Write::Task { record: task(1, State::UpForReschedule), at: at(11) },
        xcom("small", &Json::encode(&7).unwrap()),
        xcom("large", &large),
        Write::Log {
            run: 1,
            piece: LogRecord { task_id: "a".into(), map_index: -1, try_number: 1, records: "{}\n".into() },
        },
        ended(run(1, 5), RunState::Success, 30),
    ];
    writer.commit(&writes).unwrap();

    let reader = Reader::open(&path).unwrap();
    let read = reader.named(Some("first"), "manual__1").unwrap().remove(0);
    assert_eq!((read.state, read.end_date), (RunState::Success, Some(at(30))));
    let tasks = reader.tasks(1).unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!(format!("{:?}", tasks[0]), format!("{:?}", task(1, State::UpForReschedule)));
    assert_eq!(reader.xcom(1, "a", -1, "large").unwrap(), Some(large));
    assert_eq!(reader.xcoms(1).unwrap().len(), 2);
    assert_eq!(reader.logs(1, Some("a")).unwrap()[0].records, "{}\n");
    assert_eq!(writer.next_run().unwrap(), 2);
    assert!(writer.has_logical_date("first", at(5)).unwrap());
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let first = rusqlite::Connection::open(&path).unwrap();
    first.execute_batch(include_str!("schema/1.sql")).unwrap();
    first.pragma_update(None, "application_id", 0x4357_627a).unwrap();
    first.pragma_update(None, "user_version", 1).unwrap();
    first
        .execute_batch(
            "INSERT INTO dag_run VALUES
                 (1, 'first', 'r', 'u', 'manual', 'running', 'v', 'null', 5, 5, 5, 1, NULL);
             INSERT INTO task_instance VALUES
                 (1, 'a', -1, 'up_for_retry', 1, 2, 3, 10, 11, 20, NULL, 'why');",
        )
        .unwrap();
    drop(first);
    assert!(matches!(Reader::open(&path), Err(StoreError::Older { .. })));

    let mut writer = open(&path).unwrap();
    let before = writer.tasks(1).unwrap().remove(0);
    assert_eq!((before.state, before.outcome), (Some(State::UpForRetry), None));
    let run = writer.runs(Which::Open).unwrap().remove(0);
    assert_eq!((run.run_type, run.queued_at, run.start_date), (RunType::Manual, at(1), Some(at(1))));
    writer.commit(&[Write::Task { record: task(1, State::Success), at: at(30) }]).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.named(None, "r").unwrap().len(), 1);
    assert_eq!(reader.tasks(1).unwrap()[0].outcome, Some(4));
    drop((reader, writer));
    drop(open(&path).unwrap());
}

#[test]
fn the_outputs_of_a_loop_are_one_for_each_item() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let large = Json::encode(&"x".repeat(100_000)).unwrap();
    let small = Json::encode(&7).unwrap();
    let blobs = writer.blobs();
    let xcom = |task_id: &'static str, map_index: i32, key: &'static str, json: &Json| Write::XCom {
        run: 1,
        task_id: task_id.into(),
        map_index,
        key: key.into(),
        value: blobs.store(json).unwrap(),
    };
    let list = |items| TaskRecord { task_id: "list".into(), outcome: items, ..task(1, State::Success) };
    let read = |list: &str| Reader::open(&path).unwrap().mapped_xcoms(1, list, "each", "k").unwrap();
    let writes = [
        xcom("each", 0, "k", &small),
        xcom("each", 2, "k", &large),
        xcom("each", 1, "other", &small),
        // Left by an earlier try that had more items.
        xcom("each", 3, "k", &small),
        xcom("each", -1, "k", &small),
        xcom("eachother", 1, "k", &small),
    ];
    writer.commit(&writes).unwrap();
    assert_eq!(read("list"), [], "nothing was expanded");
    writer.commit(&[Write::Task { record: list(Some(3)), at: at(1) }]).unwrap();
    assert_eq!(read("list"), [Some(small), None, Some(large)]);
    writer.commit(&[Write::Task { record: list(Some(0)), at: at(1) }]).unwrap();
    assert_eq!(read("list"), []);
    assert_eq!(read("missing"), []);
}

#[test]
fn what_a_task_returned_is_there_once_wherever_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let json = |length: usize| Json::encode(&"x".repeat(length)).unwrap();
    let returned = |value: Stored| Write::XCom {
        run: 1,
        task_id: "a".into(),
        map_index: -1,
        key: RETURN_VALUE.into(),
        value,
    };
    let end = || Write::Task { record: task(1, State::Success), at: at(1) };
    let kept = || -> u64 {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.query_row("SELECT count(*) FROM xcom_value", [], |row| row.get(0)).unwrap()
    };
    let read = || {
        let reader = Reader::open(&path).unwrap();
        let all = reader.xcoms(1).unwrap().into_iter().map(|(.., json)| json).collect::<Vec<_>>();
        assert_eq!(reader.xcom(1, "a", -1, RETURN_VALUE).unwrap(), all.first().cloned());
        all
    };
    for (length, beside) in [(1, 0), (254, 0), (255, 1), (100_000, 1), (7, 0), (300, 1), (2, 0)] {
        writer.commit(&[returned(writer.blobs().store(&json(length)).unwrap()), end()]).unwrap();
        assert_eq!(read(), [json(length)]);
        assert_eq!(kept(), beside, "{length}");
        // What somebody says of it later leaves it as it is.
        writer.commit(&[Write::Task { record: task(1, State::Failed), at: at(2) }]).unwrap();
        assert_eq!(read(), [json(length)]);
    }
    for (length, map_index) in [(3, None), (4, Some(-1)), (1_000, None), (1_000, Some(-1))] {
        writer.commit(&[returned(Stored::Inline(json(length))), end()]).unwrap();
        assert_eq!(read(), [json(length)]);
        let other = Write::Forget { run: 1, task_id: "a".into(), map_index: Some(0) };
        writer.commit(&[other]).unwrap();
        assert_eq!(read(), [json(length)]);
        let forget = Write::Forget { run: 1, task_id: "a".into(), map_index };
        writer.commit(&[forget]).unwrap();
        assert_eq!(read(), []);
    }
    // Forgotten in the commit that it comes with, and come again after that.
    let forget = || Write::Forget { run: 1, task_id: "a".into(), map_index: None };
    let value = |length| returned(Stored::Inline(json(length)));
    writer.commit(&[value(5), end(), forget()]).unwrap();
    assert_eq!(read(), []);
    writer.commit(&[value(5), end(), forget(), value(6), end()]).unwrap();
    assert_eq!(read(), [json(6)]);
    // One that ends among many is not taken for another.
    let many = (0..50).flat_map(|map_index| {
        let value = Write::XCom {
            run: 1,
            task_id: "a".into(),
            map_index,
            key: RETURN_VALUE.into(),
            value: Stored::Inline(Json::encode(&map_index).unwrap()),
        };
        let record = TaskRecord { map_index: map_index ^ 1, ..task(1, State::Success) };
        [value, Write::Task { record, at: at(1) }]
    });
    writer.commit(&many.collect::<Vec<_>>()).unwrap();
    let reader = Reader::open(&path).unwrap();
    for map_index in 0..50 {
        let value = reader.xcom(1, "a", map_index, RETURN_VALUE).unwrap().unwrap();
        assert_eq!(value.decode::<i32>().unwrap(), map_index);
    }
}

#[test]
fn a_run_of_a_number_that_no_event_can_have_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(&dir.path().join("biz.db")).unwrap();
    let most = i64::from(i32::MAX);
    for number in [most + 1, -1] {
        assert!(writer.commit(&[Write::RunMade(run(number, 5))]).is_err(), "{number}");
    }
    writer.commit(&[Write::RunMade(run(most, 5)), Write::RunMade(run(1, 6))]).unwrap();
    let reader = Reader::open(&dir.path().join("biz.db")).unwrap();
    assert_eq!((reader.events(most).unwrap().len(), reader.events(1).unwrap().len()), (1, 1));
}

#[test]
fn a_commit_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    writer.commit(&[Write::RunMade(run(1, 5))]).unwrap();
    // The same (DAG, logical date) a second time.
    let writes = [Write::Task { record: task(1, State::Running), at: at(1) }, Write::RunMade(run(2, 5))];
    assert!(matches!(writer.commit(&writes), Err(StoreError::Sqlite { .. })));
    assert!(writer.tasks(1).unwrap().is_empty());
    assert_eq!(writer.next_run().unwrap(), 2);
}

#[test]
fn a_file_of_another_program_or_a_newer_version_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "these are my notes, and no database at all".repeat(50)).unwrap();
    let before = std::fs::read(&text).unwrap();
    assert!(matches!(open(&text), Err(StoreError::Foreign { .. })));
    assert!(matches!(Reader::open(&text), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read(&text).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made beside it");

    let other = dir.path().join("other.db");
    let theirs = rusqlite::Connection::open(&other).unwrap();
    theirs.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE mine (x)").unwrap();
    // Whoever has it goes on writing its log: not even the same bytes may be written there.
    let log = dir.path().join("other.db-wal");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().append(true).open(&log).unwrap().set_modified(long_ago).unwrap();
    assert!(matches!(open(&other), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::metadata(&log).unwrap().modified().unwrap(), long_ago);
    drop(theirs);

    let newer = dir.path().join("newer.db");
    drop(open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let message = open(&newer).unwrap_err().to_string();
    assert!(message.contains("is of version 99"), "{message}");
}

#[test]
fn a_second_writer_is_refused_with_the_pid_of_the_first_until_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let first = open(&path).unwrap();
    match open(&path) {
        Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    let id = first.engine_id().to_owned();
    drop(first);
    assert_eq!(open(&path).unwrap().engine_id(), id);
}

#[test]
fn reading_where_nothing_has_run_says_so() {
    let error = Reader::open(Path::new("/nowhere/biz.db")).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }));
}

#[test]
fn runs_are_found_by_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(&dir.path().join("biz.db")).unwrap();
    let scheduled = |number, logical| RunRecord { run_type: RunType::Scheduled, ..run(number, logical) };
    let keyed = RunRecord {
        idempotency_key: Some("k".into()),
        state: RunState::Queued,
        start_date: None,
        ..run(4, 40)
    };
    let other = RunRecord { dag_id: "other".into(), ..run(5, 25) };
    let made = [scheduled(1, 10), scheduled(2, 20), run(3, 30), keyed.clone(), other];
    writer.commit(&made.map(Write::RunMade)).unwrap();
    writer.commit(&[ended(scheduled(2, 20), RunState::Failed, 50)]).unwrap();
    let found = |which| writer.runs(which).unwrap().iter().map(|run| run.number).collect::<Vec<_>>();
    assert_eq!(found(Which::Number(3)), [3]);
    assert_eq!(found(Which::Open), [1, 3, 4, 5]);
    assert_eq!(found(Which::Date("first", at(20))), [2]);
    assert_eq!(found(Which::Trigger("first", "k")), [4]);
    assert_eq!(found(Which::Trigger("other", "k")), [0; 0]);
    assert_eq!(found(Which::Before("first", at(40), false)), [3]);
    assert_eq!(found(Which::Before("first", at(40), true)), [2]);
    assert_eq!(found(Which::Before("first", at(10), false)), [0; 0]);
    assert_eq!(found(Which::Between("first", at(10), at(30))), [1, 2, 3]);
    assert_eq!(found(Which::LastTick("first")), [2]);
    // A key makes one run.
    let twin =
        RunRecord { number: 6, run_id: "manual__6".into(), uuid: "u6".into(), logical_date: at(60), ..keyed };
    assert!(writer.commit(&[Write::RunMade(twin)]).is_err());
}

#[test]
fn what_is_remembered_beside_runs_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let dag = DagRecord {
        dag_id: "first".into(),
        paused: true,
        schedule: Some("@daily".into()),
        schedule_since: Some(at(1)),
        ticked: Some(at(2)),
    };
    let backfill = BackfillRecord {
        id: 1,
        dag_id: "first".into(),
        from_date: at(1),
        to_date: at(9),
        reprocess: "none".into(),
        max_active_runs: 3,
        created_at: at(4),
        completed_at: None,
    };
    let twice = BackfillRecord { id: 2, ..backfill.clone() };
    let notice =
        NoticeRecord { id: 1, run: 1, way: "email".into(), notice: "{}".into(), tries: 0, due_at: at(3) };
    let version = |structure: &str| Write::Version {
        dag_id: "first".into(),
        version: "v".into(),
        structure: structure.into(),
    };
    let writes = [
        Write::Dag(dag.clone()),
        version("as it was"),
        version("not again"),
        Write::Backfill(backfill.clone()),
        Write::Notice(notice),
    ];
    writer.commit(&writes).unwrap();
    assert_eq!(writer.dags().unwrap(), [dag]);
    assert_eq!(writer.structure("first", "v").unwrap().as_deref(), Some("as it was"));
    assert_eq!((writer.backfills().unwrap().len(), writer.next_backfill().unwrap()), (1, 2));
    assert!(writer.commit(&[Write::Backfill(twice)]).is_err(), "one at a time");
    assert_eq!(writer.notices().unwrap().len(), 1);
    let complete = BackfillRecord { completed_at: Some(at(10)), ..backfill };
    writer.commit(&[Write::Backfill(complete), Write::Told { id: 1 }]).unwrap();
    assert!(writer.backfills().unwrap().is_empty() && writer.notices().unwrap().is_empty());
    assert_eq!(Reader::open(&path).unwrap().backfills().unwrap().len(), 1);
}

#[test]
fn what_is_to_be_deleted_longer_stays_when_the_shorter_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&dir.path().join("biz.db"), Durability::Step).unwrap();
    let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
    let object = Object { bucket: "b".into(), key: "k".into() };
    let read = Deletion { object, due_at: at(0), until: at(900) };
    let late = Deletion { due_at: at(10), until: at(21_600), ..read.clone() };
    writer.commit(&[Write::Delete(read.clone())]).unwrap();
    assert_eq!(writer.deletions(at(0), 9).unwrap(), std::slice::from_ref(&read));
    // Said while the first one is under way.
    writer.commit(&[Write::Delete(late.clone())]).unwrap();
    writer.commit(&[Write::Deleted { deletion: read.clone(), again: None }]).unwrap();
    let left = writer.deletions(at(0), 9).unwrap();
    assert_eq!((left[0].due_at, left[0].until), (at(0), at(21_600)));
    writer.commit(&[Write::Deleted { deletion: left[0].clone(), again: Some(at(3600)) }]).unwrap();
    assert_eq!(
        (writer.deletions(at(3599), 9).unwrap(), writer.next_deletion().unwrap()),
        (vec![], Some(at(3600)))
    );
    writer.commit(&[Write::Deleted { deletion: late, again: None }]).unwrap();
    assert_eq!(writer.next_deletion().unwrap(), None);
}

#[test]
fn the_tasks_of_a_run_are_paged_through() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let instance = |task_id: &'static str, map_index| {
        let record = TaskRecord { task_id: task_id.into(), map_index, ..task(1, State::Running) };
        Write::Task { record, at: at(1) }
    };
    let mut writes = vec![Write::RunMade(run(1, 5)), Write::RunMade(run(2, 6))];
    writes
        .extend([("b", 0), ("b", 1), ("a", -1), ("b", 2), ("c", -1)].map(|(id, index)| instance(id, index)));
    writer.commit(&writes).unwrap();
    let reader = Reader::open(&path).unwrap();
    let page = |after: Option<(&str, i32)>| {
        let tasks = reader.tasks_after(1, after, 2).unwrap();
        tasks.into_iter().map(|task| (task.task_id.into_owned(), task.map_index)).collect::<Vec<_>>()
    };
    let of = |id: &str, index: i32| (id.to_owned(), index);
    assert_eq!(page(None), [of("a", -1), of("b", 0)]);
    assert_eq!(page(Some(("b", 0))), [of("b", 1), of("b", 2)]);
    assert_eq!(page(Some(("b", 2))), [of("c", -1)]);
    assert_eq!(page(Some(("c", -1))), []);
    assert_eq!(reader.tasks(1).unwrap().len(), 5);
}

#[test]
fn runs_that_have_ended_are_not_walked_past_for_an_open_one_or_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(&dir.path().join("biz.db")).unwrap();
    let ended =
        |number| RunRecord { state: RunState::Success, end_date: Some(at(number)), ..run(number, number) };
    let mut writes: Vec<_> = (1..=500).map(|number| Write::RunMade(ended(number))).collect();
    writes.push(Write::RunMade(run(501, 501)));
    writes.push(Write::RunMade(RunRecord {
        dag_id: "other".into(),
        run_id: "manual__7".into(),
        ..run(502, 502)
    }));
    writer.commit(&writes).unwrap();
    let numbers = |runs: Vec<RunRecord>| runs.iter().map(|run| run.number).collect::<Vec<_>>();
    assert_eq!(numbers(writer.runs(Which::Open).unwrap()), [501, 502]);
    assert_eq!(numbers(writer.named(None, "manual__7").unwrap()), [7, 502]);
    assert_eq!(numbers(writer.named(Some("other"), "manual__7").unwrap()), [502]);
    assert_eq!(numbers(writer.named(Some("other"), "manual__8").unwrap()), [0; 0]);
    for sql in [read::open_sql(), read::named_sql(false), read::named_sql(true)] {
        let steps = writer.connection.prepare_cached(&sql).unwrap().get_status(StatementStatus::VmStep);
        assert!((1..400).contains(&steps), "{steps} steps of SQLite's: {sql}");
    }
}

#[test]
fn what_a_try_has_logged_at_its_end_is_in_the_row_of_that_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let log = |try_number, records: &str| {
        let piece = LogRecord { task_id: "a".into(), map_index: -1, try_number, records: records.into() };
        Write::Log { run: 1, piece }
    };
    let begun = Write::Task { record: task(1, State::Running), at: at(1) };
    writer.commit(&[Write::RunMade(run(1, 5)), begun]).unwrap();
    let tried = task(1, State::Success).try_number;
    writer.commit(&[log(tried, "while it ran")]).unwrap();
    // Many at once, of which one is the end, and a piece of another try.
    let mut writes: Vec<_> = (0..40)
        .map(|map_index| {
            let record = TaskRecord { task_id: "each".into(), map_index, ..task(1, State::Running) };
            Write::Task { record, at: at(2) }
        })
        .collect();
    writes.push(Write::Task { record: task(1, State::Success), at: at(3) });
    writes.extend([log(tried, "at its end"), log(tried + 1, "of another try"), log(tried, "one more")]);
    writer.commit(&writes).unwrap();
    let rows: Vec<(Option<String>, String)> = writer
        .connection
        .prepare("SELECT state, records FROM event WHERE records IS NOT NULL ORDER BY seq")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let row = |state: Option<&str>, records: &str| (state.map(String::from), records.to_owned());
    assert_eq!(
        rows,
        [
            row(None, "while it ran"),
            row(Some("success"), "at its end"),
            row(None, "of another try"),
            row(None, "one more")
        ]
    );
    let reader = Reader::open(&path).unwrap();
    let logs: Vec<_> = reader.logs(1, Some("a")).unwrap().into_iter().map(|piece| piece.records).collect();
    assert_eq!(logs, ["while it ran", "at its end", "of another try", "one more"]);
    assert_eq!(reader.events(1).unwrap().len(), 43, "no event more for what was logged");
}

/// Says that it is over, where the test fails too: nobody would wait for the end of those that go on until then.
pub(super) struct Done<'a>(pub(super) &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_cleared_while_it_is_read_is_not_taken_to_be_damaged() {
    const ITEMS: u32 = 1200;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let large = Json::encode(&"x".repeat(100_000)).unwrap();
    let xcom = |map_index, value| Write::XCom {
        run: 1,
        task_id: "a".into(),
        map_index,
        key: RETURN_VALUE.into(),
        value,
    };
    let list =
        |outcome| Write::Task { record: TaskRecord { outcome, ..task(1, State::Success) }, at: at(10) };
    writer.commit(&[Write::RunMade(run(1, 5)), list(None)]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let reader = Reader::open(&path).unwrap();
            while !done.load(Ordering::Relaxed) {
                reader.tasks(1).unwrap();
                reader.xcoms(1).unwrap();
                reader.xcom(1, "a", -1, RETURN_VALUE).unwrap();
                let items = reader.mapped_xcoms(1, "a", "a", RETURN_VALUE).unwrap();
                assert!(items.is_empty() || items.len() == ITEMS as usize && items[0].is_some());
            }
        });
        let _done = Done(&done);
        for _ in 0..50 {
            let stored = writer.blobs().store(&large).unwrap();
            let Stored::Blob(name) = &stored else { panic!("it is large") };
            let blob = writer.blobs().dir().join(name);
            let mut writes = vec![xcom(-1, stored.clone())];
            writes.extend((0..ITEMS as i32).map(|index| xcom(index, Stored::Inline(Json::from_stored("7")))));
            writes.push(list(Some(ITEMS)));
            writer.commit(&writes).unwrap();
            let forget = Write::Forget { run: 1, task_id: "a".into(), map_index: None };
            writer.commit(&[forget, list(None)]).unwrap();
            std::fs::remove_file(blob).unwrap();
        }
    });
}

/// The file is a pipe first, which keeps the one that reads it until all has happened.
#[test]
#[cfg(unix)]
fn what_is_removed_and_stored_again_while_it_is_read_is_not_taken_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let large = Json::encode(&"x".repeat(100_000)).unwrap();
    let xcom =
        |value| Write::XCom { run: 1, task_id: "a".into(), map_index: -1, key: RETURN_VALUE.into(), value };
    let value = writer.blobs().store(&large).unwrap();
    let Stored::Blob(name) = &value else { panic!("it is large") };
    let blob = writer.blobs().dir().join(name);
    let writes = [
        Write::RunMade(run(1, 5)),
        Write::Task { record: task(1, State::Success), at: at(10) },
        xcom(value.clone()),
    ];
    writer.commit(&writes).unwrap();
    std::fs::remove_file(&blob).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&blob).status().unwrap().success());
    std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let value = Reader::open(&path).and_then(|reader| reader.xcom(1, "a", -1, RETURN_VALUE));
            // Who has not come to the pipe lets go of who waits for that.
            drop(std::fs::File::options().read(true).write(true).open(&blob));
            value
        });
        let pipe = std::fs::File::options().write(true).open(&blob).unwrap();
        std::fs::remove_file(&blob).unwrap();
        let forget = Write::Forget { run: 1, task_id: "a".into(), map_index: None };
        writer.commit(&[forget]).unwrap();
        let again = writer.blobs().store(&large).unwrap();
        writer.commit(&[xcom(again)]).unwrap();
        drop(pipe);
        assert_eq!(read.join().unwrap().unwrap(), Some(large.clone()));
    });
}

#[test]
fn a_relative_path_is_that_of_the_directory_in_which_it_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let here = std::env::current_dir().unwrap();
    let mut relative: std::path::PathBuf = here.ancestors().skip(1).map(|_| "..").collect();
    relative.push(dir.path().strip_prefix("/").unwrap());
    relative.push("biz.db");
    let writer = open(&relative).unwrap();
    assert!(relative.is_relative() && writer.location().is_absolute() && writer.blobs().dir().is_absolute());
    writer.stays().unwrap();
}

/// The system itself says what was asked of it: there are files that cannot be synced.
#[test]
#[cfg(unix)]
fn a_commit_asks_the_system_to_sync_what_its_durability_says() {
    use std::os::unix::fs::MetadataExt;

    use Durability::{Relaxed, Run, Step};

    let dir = tempfile::tempdir().unwrap();
    let made = |number| Write::RunMade(run(number, number));
    let deletion =
        Deletion { object: Object { bucket: "b".into(), key: "k".into() }, due_at: at(0), until: at(1) };
    let paused = DagRecord {
        dag_id: "first".into(),
        paused: true,
        schedule: None,
        schedule_since: None,
        ticked: None,
    };
    // What is committed, and where that is synced.
    let all: [(Write, &[Durability]); 9] = [
        (made(2), &[Step, Run, Relaxed]),
        (Write::Delete(deletion), &[Step, Run, Relaxed]),
        (ended(run(1, 1), RunState::Success, 5), &[Step, Run]),
        (Write::Task { record: task(1, State::Running), at: at(2) }, &[Step]),
        (Write::Task { record: task(1, State::Success), at: at(3) }, &[Step]),
        (Write::Told { id: 7 }, &[Step]),
        (Write::RunUnmade { run: 2 }, &[Step, Run]),
        (Write::Dag(paused), &[Step, Run]),
        (Write::Forget { run: 1, task_id: "a".into(), map_index: None }, &[Step, Run]),
    ];
    for durability in [Step, Run, Relaxed] {
        let path = dir.path().join(format!("{durability:?}.db"));
        let mut writer = Writer::open(&path, durability).unwrap();
        writer.commit(&[made(1)]).unwrap();
        let file = std::fs::metadata(dir.path().join(format!("{durability:?}.db-wal"))).unwrap();
        assert_eq!(writer.synced(), file.len(), "all of the log is on the disk");
        let log = writer.sync_instead(std::fs::File::open("/dev/null").unwrap());
        assert_eq!(log.metadata().unwrap().ino(), file.ino(), "it is the log that is synced");
        for (write, synced) in &all {
            let committed = writer.commit(std::slice::from_ref(write));
            match synced.contains(&durability) {
                true => {
                    let error = committed.expect_err(&format!("{durability:?} syncs {write:?}")).to_string();
                    assert!(error.contains("may not be on the disk"), "{error}");
                }
                false => committed.unwrap(),
            }
        }
        assert_eq!(writer.synced(), file.len(), "nothing has come there since");
    }
}

#[test]
fn a_large_value_that_is_damaged_is_told_to_be_however_much_is_written_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let mut writer = open(&path).unwrap();
    let large = Json::encode(&"x".repeat(100_000)).unwrap();
    let value = writer.blobs().store(&large).unwrap();
    let Stored::Blob(name) = &value else { panic!("it is large") };
    let file = writer.blobs().dir().join(name);
    let xcom = Write::XCom {
        run: 1,
        task_id: "a".into(),
        map_index: -1,
        key: RETURN_VALUE.into(),
        value: value.clone(),
    };
    writer.commit(&[Write::RunMade(run(1, 5)), xcom]).unwrap();
    std::fs::write(&file, "y".repeat(100_002)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let _done = Done(&done);
            Reader::open(&path).and_then(|reader| reader.xcom(1, "a", -1, RETURN_VALUE))
        });
        let again = Write::Task { record: task(1, State::Success), at: at(10) };
        while !done.load(Ordering::Relaxed) {
            writer.commit(std::slice::from_ref(&again)).unwrap();
        }
        assert!(matches!(read.join().unwrap(), Err(StoreError::Damaged { .. })));
    });
    // Whoever puts out the same again mends it.
    assert_eq!(writer.blobs().store(&large).unwrap(), value);
    let read = Reader::open(&path).unwrap().xcom(1, "a", -1, RETURN_VALUE);
    assert_eq!(read.unwrap(), Some(large));
}

#[test]
#[cfg(unix)]
fn who_has_seen_the_disk_fail_leaves_the_log_to_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let length = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |file| file.len());
    let mut writer = open(&path).unwrap();
    writer.commit(&[Write::RunMade(run(1, 5))]).unwrap();
    drop(writer);
    let whole = length("biz.db");
    assert_eq!(length("biz.db-wal"), 0, "who ends well brings it into the file");

    let mut writer = open(&path).unwrap();
    writer.sync_instead(std::fs::File::open("/dev/null").unwrap());
    writer.commit(&[Write::RunMade(run(2, 6))]).unwrap_err();
    drop(writer);
    assert!(length("biz.db-wal") > 0 && length("biz.db") == whole);
    let writer = open(&path).unwrap();
    assert_eq!(writer.next_run().unwrap(), 3, "what was written is there, or is not: it is known by now");
    drop(writer);
    assert_eq!(length("biz.db-wal"), 0);
}

#[test]
#[cfg(unix)]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.db");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), "/dev/null".as_ref()] {
        assert!(matches!(open(path), Err(StoreError::Foreign { .. })), "{}", path.display());
    }
}
