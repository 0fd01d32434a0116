use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::super::tests::{Done, at, open as writer, run, task};
use super::super::{Blobs, LogRecord, Reader, RunRecord, Stored, Write};
use super::*;
use crate::run::{RunState, State};
use crate::value::Json;

/// A run with a row in each table, and a large value of this text.
fn rows(number: i64, blobs: &Blobs, text: &str) -> Vec<Write> {
    let run = RunRecord { state: RunState::Success, end_date: Some(at(number)), ..run(number, number) };
    let value = blobs.store(&Json::encode(&text.repeat(100_000)).unwrap()).unwrap();
    let (task_id, key) = ("a".into(), "k".into());
    let piece = LogRecord { task_id: "a".into(), map_index: -1, try_number: 1, records: "{}\n".into() };
    vec![
        Write::RunMade(run),
        Write::Task { record: task(number, State::Success), at: at(1) },
        Write::XCom { run: number, task_id, map_index: -1, key, value },
        Write::Log { run: number, piece },
    ]
}

/// A database of two runs that nobody uses.
fn database(dir: &Path) -> PathBuf {
    let path = dir.join("biz.db");
    let mut writer = writer(&path).unwrap();
    for (number, text) in [(1, "x"), (2, "y")] {
        let rows = rows(number, &writer.blobs(), text);
        writer.commit(&rows).unwrap();
    }
    // Damage to a page that holds nothing would do none.
    writer.compact().unwrap();
    path
}

fn blob(path: &Path, text: &str) -> PathBuf {
    let json = Json::encode(&text.repeat(100_000)).unwrap();
    let Stored::Blob(name) = Blobs::of(path).store(&json).unwrap() else { panic!() };
    Blobs::of(path).dir().join(name)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_brought_to_this_version_and_says_from_which() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    assert!(matches!(migrate(&path), Err(StoreError::Missing { .. })));
    assert_eq!(names(dir.path()), [""; 0], "nothing is made");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../schema/1.sql")).unwrap();
    old.pragma_update(None, "application_id", 0x4357_627a).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    // Also the copy of an old one is one.
    backup(&path, &dir.path().join("before.db")).unwrap();
    assert_eq!(verify(&path).unwrap().version, 1);
    assert_eq!(migrate(&path).unwrap(), Migration { from: 1, to: schema::current() });
    assert_eq!(migrate(&path).unwrap(), Migration { from: schema::current(), to: schema::current() });
    assert_eq!(verify(&dir.path().join("before.db")).unwrap().version, 1);
    let held = writer(&path).unwrap();
    assert!(matches!(migrate(&path), Err(StoreError::Locked { .. })));
    drop(held);
}

#[test]
fn a_backup_is_whole_alone_and_takes_nobodys_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    // In use, with the last changes in the write-ahead log.
    let mut held = writer(&path).unwrap();
    let more = rows(3, &held.blobs(), "x");
    held.commit(&more).unwrap();
    let to = dir.path().join("copies");
    fs::create_dir(&to).unwrap();
    let copy = to.join("biz.db");
    let made = backup(&path, &copy).unwrap();
    assert_eq!((made.runs, made.blobs), (3, 2));
    assert!(made.bytes > 200_000, "{made:?}");
    assert_eq!(names(&to), ["biz.db", "biz.db.blobs"]);
    let verdict = verify(&copy).unwrap();
    assert_eq!(
        (verdict.runs, verdict.blobs, &verdict.damage[..], &verdict.notes[..]),
        (3, 2, &[][..], &[][..])
    );
    let (here, there) = (Reader::open(&path).unwrap(), Reader::open(&copy).unwrap());
    assert_eq!(here.xcoms(3).unwrap(), there.xcoms(3).unwrap());
    drop(there);

    let before = fs::read(&copy).unwrap();
    let error = backup(&path, &copy).unwrap_err().to_string();
    assert!(error.ends_with("biz.db: it is there already, and is left as it is"), "{error}");
    assert_eq!(fs::read(&copy).unwrap(), before);
    fs::remove_file(&copy).unwrap();
    let error = backup(&path, &copy).unwrap_err().to_string();
    assert!(error.contains("biz.db.blobs: it is there already"), "{error}");

    // A copy can be gone on with.
    let copy = to.join("other.db");
    backup(&path, &copy).unwrap();
    let mut other = writer(&copy).unwrap();
    let more = rows(4, &other.blobs(), "z");
    other.commit(&more).unwrap();
    assert_eq!(verify(&copy).unwrap().damage, [""; 0]);
}

#[test]
fn a_backup_of_what_is_broken_is_none_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let to = dir.path().join("copies");
    fs::create_dir(&to).unwrap();
    let copy = to.join("biz.db");
    let (first, second) = (blob(&path, "x"), blob(&path, "y"));
    fs::write(&first, "other").unwrap();
    let error = backup(&path, &copy).unwrap_err().to_string();
    assert!(
        error.contains("is damaged (the large value ") && error.contains("is not what it was"),
        "{error}"
    );
    fs::remove_file(&first).unwrap();
    let error = backup(&path, &copy).unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
    assert!(second.exists());
    assert!(matches!(backup(&dir.path().join("none.db"), &copy), Err(StoreError::Missing { .. })));
    assert_eq!(names(&to), [""; 0]);
}

#[test]
fn a_backup_is_of_one_moment_while_runs_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut writer = writer(&path).unwrap();
            let mut number = 3;
            while !stop.load(Ordering::Relaxed) {
                let rows = rows(number, &writer.blobs(), ["x", "y", "z"][number as usize % 3]);
                writer.commit(&rows).unwrap();
                writer.prune(at(number - 5), 7).unwrap();
                number += 1;
            }
        });
        let stops = Done(&stop);
        for round in 0..5 {
            let copy = dir.path().join(format!("copy{round}.db"));
            backup(&path, &copy).unwrap();
            assert_eq!(verify(&copy).unwrap().damage, [""; 0]);
        }
        drop(stops);
        busy.join().unwrap();
    });
    assert_eq!(verify(&path).unwrap().damage, [""; 0]);
}

#[test]
fn verify_finds_rows_without_their_run_and_values_that_are_gone_or_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let (first, second) = (blob(&path, "x"), blob(&path, "y"));
    let orphan = blob(&path, "orphan");
    let whole = verify(&path).unwrap();
    assert_eq!((whole.runs, whole.blobs, &whole.damage[..], &whole.notes[..]), (2, 2, &[][..], &[][..]));

    let before = std::time::SystemTime::now() - Duration::from_secs(7200);
    OpenOptions::new().append(true).open(&orphan).unwrap().set_modified(before).unwrap();
    let noted = verify(&path).unwrap();
    assert_eq!(noted.notes, ["1 files of large values are named by no run: `db prune` removes them"]);

    fs::remove_file(&first).unwrap();
    OpenOptions::new().append(true).open(&second).unwrap().set_len(100).unwrap();
    Connection::open(&path).unwrap().execute("DELETE FROM dag_run WHERE id = 2", []).unwrap();
    let file = Connection::open(&path).unwrap();
    file.execute("UPDATE task_instance SET value = '7'", []).unwrap();
    file.execute("INSERT INTO xcom_value VALUES (1, 'a', -1, 'return_value', '7', NULL)", []).unwrap();
    drop(file);
    let mut damage = verify(&path).unwrap().damage;
    damage.sort();
    let mut wanted = vec![
        "1 rows of `task_instance` are of runs that are not there, such as run 2".to_owned(),
        "1 rows of `xcom_value` are of runs that are not there, such as run 2".to_owned(),
        "what was returned: 1 tasks have two values".to_owned(),
        "2 rows of `event` are of runs that are not there, such as run 2".to_owned(),
        format!("the large value {} holds something else than what was stored", second.display()),
        format!("the large value {} is missing", first.display()),
    ];
    wanted.sort();
    assert_eq!(damage, wanted);
}

/// An empty database as an older program has made it.
fn older(path: &Path, version: usize) -> Connection {
    let old = Connection::open(path).unwrap();
    let made = [
        include_str!("../schema/1.sql"),
        include_str!("../schema/2.sql"),
        include_str!("../schema/3.sql"),
        include_str!("../schema/4.sql"),
        include_str!("../schema/5.sql"),
    ];
    made[..version].iter().for_each(|sql| old.execute_batch(sql).unwrap());
    old.pragma_update(None, "application_id", 0x4357_627a).unwrap();
    old.pragma_update(None, "user_version", version as i64).unwrap();
    old
}

#[test]
fn what_had_come_about_and_was_logged_stays_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let old = older(&path, 4);
    for number in [1, 2] {
        old.execute(
            "INSERT INTO dag_run (id, dag_id, run_id, uuid, run_type, state, version, conf, logical_date,
                                  data_interval_start, data_interval_end, queued_at)
             VALUES (?1, 'd', ?1, ?1, 'manual', 'running', 'v', 'null', ?1, 0, 0, 0)",
            [number],
        )
        .unwrap();
    }
    for (run, state) in [(1, "running"), (2, "running"), (1, "success")] {
        let event =
            "INSERT INTO event (run, task_id, map_index, try_number, at, state) VALUES (?, 'a', -1, 1, 7, ?)";
        old.execute(event, (run, state)).unwrap();
        let log = "INSERT INTO log (run, task_id, map_index, try_number, records) VALUES (?, 'a', -1, 1, ?)";
        old.execute(log, (run, state)).unwrap();
    }
    old.execute("INSERT INTO xcom VALUES (1, 'a', -1, 'return_value', '7', NULL)", []).unwrap();
    drop(old);
    let mut writer = writer(&path).unwrap();
    let piece = LogRecord { task_id: "a".into(), map_index: -1, try_number: 2, records: "more".into() };
    writer
        .commit(&[
            Write::Task { record: task(1, State::UpForRetry), at: at(9) },
            Write::Log { run: 1, piece },
        ])
        .unwrap();
    let reader = Reader::open(&path).unwrap();
    let events = |run| reader.events(run).unwrap().into_iter().map(|event| event.state).collect::<Vec<_>>();
    assert_eq!(events(1), ["running", "success", "up_for_retry"]);
    assert_eq!(events(2), ["running"]);
    let logs =
        |run| reader.logs(run, Some("a")).unwrap().into_iter().map(|log| log.records).collect::<Vec<_>>();
    assert_eq!(logs(1), ["running", "success", "more"]);
    assert_eq!(logs(2), ["running"]);
    assert_eq!(reader.logs(1, Some("b")).unwrap().len(), 0);
    assert_eq!(reader.xcom(1, "a", -1, "return_value").unwrap().unwrap().as_str(), "7");
    assert_eq!(verify(&path).unwrap().damage, [""; 0]);
}

#[test]
fn an_older_file_with_a_run_that_no_event_can_be_of_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("biz.db");
    let old = older(&path, 5);
    old.execute("INSERT INTO event (run, seq, state) VALUES (4294967297, 1, 'success')", []).unwrap();
    drop(old);
    assert!(matches!(writer(&path), Err(StoreError::Damaged { .. })));
    let there: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT run FROM event WHERE seq = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(there, 4_294_967_297);
}

/// Asserts that the file is refused, and not touched.
fn refused(path: &Path, what: &str) {
    let before = fs::read(path).unwrap();
    let error = writer(path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error:?}");
    let text = error.to_string();
    assert!(text.contains("restore a backup") && text.contains("`db verify`"), "{text}");
    assert!(fs::read(path).unwrap() == before, "{what}: it was written to");
    assert_ne!(verify(path).unwrap().damage, [""; 0], "{what}");
}

#[test]
fn a_file_with_a_broken_page_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len() % 4096, 0);
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        for byte in &mut bytes[page * 4096..(page + 1) * 4096] {
            *byte ^= 0x5a;
        }
        fs::write(&path, bytes).unwrap();
        refused(&path, &format!("page {page}"));
        // Who only reads is told by what it reads, and never given anything else.
        let read = || -> Result<(), StoreError> {
            let reader = Reader::open(&path)?;
            for run in reader.runs(None, 10)? {
                reader.tasks(run.number)?;
                reader.xcoms(run.number)?;
                reader.logs(run.number, None)?;
            }
            Ok(())
        };
        match read() {
            Ok(()) | Err(StoreError::Damaged { .. }) => {}
            other => panic!("page {page}: {other:?}"),
        }
    }
    // Of the first page what is behind the header: the tables are not found.
    let mut bytes = whole.clone();
    bytes[100..200].fill(0xff);
    fs::write(&path, bytes).unwrap();
    refused(&path, "the first page");
    assert!(matches!(Reader::open(&path), Err(StoreError::Damaged { .. })));
    // Without its header nothing says that it is a database.
    fs::write(&path, [&[0xff; 16], &whole[16..]].concat()).unwrap();
    assert!(matches!(writer(&path), Err(StoreError::Foreign { .. })));
    assert!(matches!(Reader::open(&path), Err(StoreError::Foreign { .. })));
    fs::write(&path, whole).unwrap();
    assert_eq!(verify(&path).unwrap().damage, [""; 0], "it was the bytes");
}

#[test]
fn a_file_that_is_cut_off_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let whole = fs::read(&path).unwrap();
    for length in [20, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(&path, &format!("{length} bytes"));
        assert!(matches!(Reader::open(&path), Err(StoreError::Damaged { .. })), "{length}");
    }
    // Less than the words that begin a database.
    fs::write(&path, &whole[..10]).unwrap();
    assert!(matches!(writer(&path), Err(StoreError::Foreign { .. })));
}

#[test]
fn a_log_without_its_file_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let held = writer(&path).unwrap();
    let log = dir.path().join("biz.db-wal");
    let mut held = held;
    let more = rows(3, &held.blobs(), "x");
    held.commit(&more).unwrap();
    let kept = fs::read(&log).unwrap();
    assert!(!kept.is_empty());
    drop(held);
    fs::write(&log, &kept).unwrap();
    fs::remove_file(&path).unwrap();
    let error = writer(&path).unwrap_err().to_string();
    assert!(error.contains("it is empty or gone, and its write-ahead log is not"), "{error}");
    assert!(!path.exists() && fs::read(&log).unwrap() == kept);
    fs::write(&path, "").unwrap();
    assert!(matches!(writer(&path), Err(StoreError::Damaged { .. })));
    assert!(fs::read(&log).unwrap() == kept);
    fs::write(&path, "SQLite").unwrap();
    assert!(
        matches!(Reader::open(&path), Err(StoreError::Damaged { .. })),
        "it is not one that is not there"
    );
    assert!(fs::read(&log).unwrap() == kept);
    fs::write(&path, "").unwrap();
    fs::remove_file(&log).unwrap();
    drop(writer(&path).unwrap());
}

#[test]
fn what_the_system_refuses_says_what_to_do() {
    let path = Path::new("/somewhere/biz.db");
    for code in [rusqlite::ffi::SQLITE_READONLY, rusqlite::ffi::SQLITE_CANTOPEN, rusqlite::ffi::SQLITE_PERM] {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let text = StoreError::of(path, error).to_string();
        assert!(text.contains("give it the right to read and write the file and its folder"), "{text}");
    }
    let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
    let text = StoreError::io(path, Path::new("/somewhere/biz.db.lock"), source).to_string();
    assert!(text.contains("(/somewhere/biz.db.lock: read-only filesystem or storage medium)"), "{text}");
}
