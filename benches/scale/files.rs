//! Databases with much in them: what the engine has written of one run, copied with other numbers, names and moments.

use std::path::Path;

use coworks_biz::__runtime::task::Definition;
use rusqlite::{Connection, params};

const DAY: i64 = 86_400_000_000;

/// Numbers of copies are above this.
pub const COPIES: i64 = 1_000;

fn opened(db: &Path) -> Connection {
    let file = Connection::open(db).expect("a database");
    // Nobody needs it after a crash.
    file.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;",
    )
    .expect("settings");
    file
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    since.as_micros() as i64
}

/// Copies of run 1 as runs of these DAGs by turns, all ended, over 80 days, the last so many days ago. Gives the bytes of the
/// file.
pub fn past(db: &Path, count: i64, days_ago: i64, of: &[&'static Definition]) -> u64 {
    let file = opened(db);
    file.execute_batch("CREATE TEMP TABLE of (place INTEGER PRIMARY KEY, dag_id TEXT, version TEXT)")
        .expect("a table");
    for (place, definition) in of.iter().enumerate() {
        let row = params![place as i64, definition.dag.dag_id, definition.dag.version()];
        file.execute("INSERT INTO of VALUES (?, ?, ?)", row).expect("a row");
    }
    // A copy `n` is of the moment `t`, `d` after the run that is copied.
    let copies = format!(
        "WITH RECURSIVE number(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM number WHERE n < ?2),
         copy(n, t, d) AS MATERIALIZED
         (SELECT n, ?3 + (n - {COPIES}) * ?4, ?3 + (n - {COPIES}) * ?4 - logical_date FROM number, dag_run WHERE id = 1)"
    );
    let tables = [
        format!(
            "INSERT INTO dag_run {copies}
             SELECT n, of.dag_id,
                    'manual__' || strftime('%Y-%m-%dT%H:%M:%S', t / 1000000, 'unixepoch') || '.'
                        || printf('%06d+00:00', t % 1000000),
                    printf('%08x-%04x-7%03x-8%03x-%012x', (t / 1000) >> 16, (t / 1000) & 65535, n % 4096, n % 4093,
                           (n * 1000003) & 281474976710655),
                    run_type, state, of.version, conf, t, t, t, t, start_date + d, end_date + d, NULL, NULL, NULL, NULL
             FROM copy CROSS JOIN dag_run r CROSS JOIN of
             WHERE r.id = 1 AND of.place = n % (SELECT count(*) FROM of)"
        ),
        format!(
            "INSERT INTO task_instance {copies}
             SELECT n, task_id, map_index, state, try_number, tries_before, interruptions, generation, start_date + d,
                    end_date + d, due_at, waits_for, error, outcome, value
             FROM copy CROSS JOIN task_instance WHERE run = 1"
        ),
        format!(
            "INSERT INTO xcom_value {copies}
             SELECT n, task_id, map_index, key, value, blob FROM copy CROSS JOIN xcom_value WHERE run = 1"
        ),
        format!(
            "INSERT INTO event {copies}
             SELECT n << 32 | seq, task_id, map_index, try_number, at + d, state, detail, records
             FROM copy CROSS JOIN event WHERE run = 1"
        ),
    ];
    let (from, apart) = (now() - (80 + days_ago) * DAY, 80 * DAY / count.max(1) - 1);
    for begin in (0..count).step_by(100_000) {
        file.execute_batch("BEGIN").expect("a transaction");
        let (first, last) = (COPIES + 1 + begin, COPIES + (begin + 100_000).min(count));
        for sql in &tables {
            file.execute(sql, params![first, last, from, apart]).expect("rows");
        }
        file.execute_batch("COMMIT").expect("a commit");
    }
    drop(file);
    let file = std::fs::File::open(db).expect("a file");
    // What is measured then waits for no writing of this.
    file.sync_all().expect("a disk");
    file.metadata().expect("a file").len()
}

/// Runs of these DAGs by turns that are under way: two tasks have ended, one is to be tried again, one waits for an
/// object, one for its next look, and in one run of ten one is queued, in the others it is yet to be tried again.
pub fn open(db: &Path, count: i64, of: &[&'static Definition]) {
    let mut file = opened(db);
    let file = file.transaction().expect("a transaction");
    let now = now();
    for number in 1..=count {
        let dag = of[number as usize % of.len()].dag;
        let at = now - 3_600_000_000 + number;
        run(&file, number, dag.dag_id, &dag.version(), at, "null");
        let later = now + 3_600_000_000;
        let key =
            format!(r#"{{"bucket":"answers","key":"s3/biz-0123456789ab/{}/asked.-1.0"}}"#, uuid(number));
        let last = if number % 10 == 0 { ("queued", None) } else { ("up_for_retry", Some(later)) };
        for (seq, (task, state, due, waits_for)) in (2..).zip([
            ("done", "success", None, None),
            ("also_done", "success", None, None),
            ("retried", "up_for_retry", Some(later), None),
            ("asked", "up_for_reschedule", Some(later), Some(&key)),
            ("poked", "up_for_reschedule", Some(later), None),
            ("ready", last.0, last.1, None),
        ]) {
            task_instance(&file, number, task, -1, state, at, due, waits_for.map(String::as_str), None);
            event(&file, number, seq, task, at, state);
        }
    }
    file.commit().expect("a commit");
}

/// One run of this DAG, of which so many asynchronous calls were sent.
pub fn waits(db: &Path, count: i64, of: &'static Definition) {
    let mut file = opened(db);
    let file = file.transaction().expect("a transaction");
    let (at, later) = (now() - 60_000_000, now() + 12 * 3_600_000_000);
    run(&file, 1, of.dag.dag_id, &of.dag.version(), at, "[]");
    task_instance(&file, 1, "map_conf", -1, "success", at, None, None, Some(count));
    for index in 0..count {
        let key = format!(
            r#"{{"bucket":"answers","key":"s3/biz-0123456789ab/{}/answered.call.{index}.0"}}"#,
            uuid(1)
        );
        file.prepare_cached(
            "INSERT INTO xcom_value VALUES (1, 'map_conf', ?, 'return_value', '1700000000000', NULL)",
        )
        .expect("a statement")
        .execute([index])
        .expect("an item");
        task_instance(&file, 1, "answered.call", index, "success", at, None, None, None);
        task_instance(
            &file,
            1,
            "answered.wait",
            index,
            "up_for_reschedule",
            at,
            Some(later),
            Some(&key),
            None,
        );
    }
    file.commit().expect("a commit");
}

fn uuid(number: i64) -> String {
    format!("019aafc0-0000-7000-8000-{number:012x}")
}

fn run(file: &Connection, number: i64, dag_id: &str, version: &str, at: i64, conf: &str) {
    file.prepare_cached(
        "INSERT INTO dag_run VALUES (?1, ?2, ?3, ?4, 'manual', 'running', ?5, ?6, ?7, ?7, ?7, ?7, ?7, NULL, NULL, NULL,
         NULL, NULL)",
    )
    .expect("a statement")
    .execute(params![number, dag_id, format!("manual__{number}"), uuid(number), version, conf, at])
    .expect("a run");
    file.prepare_cached("INSERT INTO event VALUES (? << 32 | 1, NULL, NULL, NULL, ?, 'running', NULL, NULL)")
        .expect("a statement")
        .execute([number, at])
        .expect("an event");
}

#[allow(clippy::too_many_arguments, reason = "the columns of a row")]
fn task_instance(
    file: &Connection,
    run: i64,
    task_id: &str,
    map_index: i64,
    state: &str,
    at: i64,
    due_at: Option<i64>,
    waits_for: Option<&str>,
    outcome: Option<i64>,
) {
    let begun = (state != "queued").then_some(at);
    let ended = (state == "success" || state == "up_for_retry").then_some(at);
    file.prepare_cached(
        "INSERT INTO task_instance VALUES (?, ?, ?, ?, 1, 0, 0, 0, ?, ?, ?, ?, NULL, ?, NULL)",
    )
    .expect("a statement")
    .execute(params![run, task_id, map_index, state, begun, ended, due_at, waits_for, outcome])
    .expect("a task instance");
}

fn event(file: &Connection, run: i64, seq: i64, task_id: &str, at: i64, state: &str) {
    file.prepare_cached("INSERT INTO event VALUES (? << 32 | ?, ?, -1, 1, ?, ?, NULL, NULL)")
        .expect("a statement")
        .execute(params![run, seq, task_id, at, state])
        .expect("an event");
}
