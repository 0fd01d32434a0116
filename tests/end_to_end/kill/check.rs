//! What must hold when all has come to its end, whatever was killed when.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::clear::Name;
use super::server::{Call, Look};
use super::{Asked, End, Storm};
use crate::harness::{Run, TOKEN};

/// A task instance that is over.
struct Task {
    biz: String,
    run: String,
    name: Name,
    state: String,
    try_number: u64,
    interruptions: u64,
    generation: i64,
    error: Option<String>,
}

struct Books<'a> {
    look: Look,
    storm: &'a Storm,
    /// How often attempts have begun, by what is recorded of that.
    starts: BTreeMap<Name, u64>,
}

pub async fn check(storm: &Storm, acknowledged: &BTreeMap<String, Asked>) {
    let books = Books { starts: BTreeMap::new(), look: storm.server.look(), storm };
    let books = Books { starts: books.count("state = 'running'"), ..books };
    // What the service has seen comes first: the rest may only follow from it.
    assert_eq!(storm.server.wrong(), [""; 0]);
    let tasks = books.tasks();
    books.runs(acknowledged);
    books.ends(&tasks);
    books.tries(&tasks);
    books.effects(&tasks);
    books.beginnings(&tasks);
    for (key, asked) in acknowledged {
        books.values(key, asked);
    }
    let bulks: Vec<_> = acknowledged.values().filter(|asked| asked.biz == "storm_bulk").cloned().collect();
    drop(books.look);
    for asked in bulks {
        large(storm, &asked).await;
    }
    files(storm).await;
    secret(storm);
    let Storm { kills, at_work, cleared_at_work, suicides, refused, clears, .. } = storm;
    let (effects, starts) = (storm.server.effects(), books.starts.values().sum::<u64>());
    let requests: u64 = effects.values().map(|effect| effect.requests).sum();
    let interruptions: u64 = tasks.iter().map(|task| task.interruptions).sum();
    println!(
        "{kills} kills, {at_work} at work, {cleared_at_work} on what was cleared; {suicides} deaths by a task, \
         {refused} starts refused; {} acknowledged triggers, {} clears, {} task instances, {starts} starts, \
         {interruptions} interruptions, {requests} requests for {} effects",
        acknowledged.len(),
        clears.count(),
        tasks.len(),
        effects.len(),
    );
    // What is held above is held of nothing, else.
    let all = tasks.iter().map(|task| task.interruptions + clears.of_task(&task.name).1).sum::<u64>();
    assert!(storm.end == End::Drain || all > 0, "nothing was interrupted");
    assert!(effects.keys().any(|call| call.generation > 0), "nothing was asked for anew");
}

impl Books<'_> {
    /// How many events of this kind each task instance has.
    fn count(&self, which: &str) -> BTreeMap<Name, u64> {
        let sql = format!(
            "SELECT run, task_id, map_index, count(*) FROM event WHERE task_id IS NOT NULL AND {which}
             GROUP BY run, task_id, map_index"
        );
        let mut statement = self.look.0.prepare(&sql).unwrap();
        let rows = statement
            .query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get::<_, u64>(3)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn tasks(&self) -> Vec<Task> {
        let sql =
            "SELECT r.dag_id, r.uuid, t.run, t.task_id, t.map_index, t.state, t.try_number, t.interruptions,
                          t.generation, t.error
                   FROM task_instance t JOIN dag_run r ON r.id = t.run WHERE r.end_date IS NOT NULL";
        let mut statement = self.look.0.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            Ok(Task {
                biz: row.get(0)?,
                run: row.get(1)?,
                name: (row.get(2)?, row.get(3)?, row.get(4)?),
                state: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
                try_number: row.get(6)?,
                interruptions: row.get(7)?,
                generation: row.get(8)?,
                error: row.get(9)?,
            })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// No acknowledged run is lost, none is there twice, and there are no others.
    fn runs(&self, acknowledged: &BTreeMap<String, Asked>) {
        for (key, Asked { biz, conf, run_id }) in acknowledged {
            let sql = "SELECT run_id, conf FROM dag_run WHERE dag_id = ? AND idempotency_key = ?";
            let mut statement = self.look.0.prepare_cached(sql).unwrap();
            let rows = statement.query_map([*biz, key], |row| Ok((row.get(0)?, row.get(1)?)));
            let rows: Vec<(String, String)> = rows.unwrap().map(Result::unwrap).collect();
            assert_eq!(rows.len(), 1, "{biz} {key}");
            assert_eq!(&rows[0].0, run_id, "{biz} {key}");
            assert_eq!(&serde_json::from_str::<Value>(&rows[0].1).unwrap(), conf);
        }
        let triggered = |biz: &str| acknowledged.values().filter(|asked| asked.biz == biz).count() as u64;
        for biz in super::BIZ {
            let mut expected = triggered(biz);
            if biz == "storm_chain" {
                // Each parent has had one of its own.
                expected += triggered("storm_parent");
            }
            assert_eq!(
                self.look.number("SELECT count(*) FROM dag_run WHERE dag_id = ?", [biz]),
                expected,
                "{biz}"
            );
        }
        let between = "SELECT count(*) FROM dag_run WHERE dag_id = 'ticking' AND logical_date % 1000000 != 0";
        assert_eq!(self.look.number(between, []), 0, "a tick is one of the schedule");
    }

    /// What has ended has done so once.
    fn ends(&self, tasks: &[Task]) {
        let clears = &self.storm.clears;
        // The last tick may be under way.
        let sql = "SELECT r.id, (SELECT count(*) FROM event e WHERE e.id BETWEEN r.id << 32 AND r.id << 32 | 4294967295
                   AND e.task_id IS NULL AND e.state IN ('success', 'failed')) FROM dag_run r WHERE r.end_date IS NOT NULL";
        let mut statement = self.look.0.prepare(sql).unwrap();
        let runs = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for (number, times) in runs.map(Result::<(i64, u64), _>::unwrap) {
            assert_eq!(times, 1 + clears.of_run(number), "run {number} ends once, and once for each clear");
        }
        let ends = self.count("state IN ('success', 'failed', 'skipped', 'upstream_failed')");
        for Task { name, generation, .. } in tasks {
            assert_eq!(*generation, clears.of_task(name).0, "{name:?} was cleared so often");
            let times = *generation as u64 + 1;
            assert_eq!(ends.get(name), Some(&times), "{name:?} ends once, and once for each clear");
        }
        let not_over = self
            .look
            .number("SELECT count(*) FROM dag_run WHERE end_date IS NULL AND dag_id != 'ticking'", []);
        assert_eq!(not_over, 0);
    }

    /// Interruptions are none of the tries, and harm only who brings them about.
    fn tries(&self, tasks: &[Task]) {
        for task in tasks {
            let Task { name, state, try_number, interruptions, generation, error, .. } = task;
            // Tries go on after a clear; of interruptions the last generation alone is told.
            let (times, all) = (*generation as u64 + 1, interruptions + self.storm.clears.of_task(name).1);
            let starts = self.starts.get(name).copied().unwrap_or(0);
            let what = format!(
                "{} {name:?}: {state}, try {try_number}, {interruptions} interruptions, {starts} starts, {error:?}",
                task.biz
            );
            let id = name.1.as_str();
            match (id, state.as_str()) {
                ("deadly", "failed") => {
                    assert_eq!((*try_number, *interruptions, starts), (1, 5, 5), "{what}");
                    assert!(error.as_ref().unwrap().starts_with("the process died 5 times"), "{what}");
                    continue;
                }
                (_, "success") => {}
                (_, "skipped") => {
                    assert_eq!((*try_number, *interruptions, starts), (0, 0, 0), "{what}");
                    continue;
                }
                _ => panic!("{what}\n{}", self.storm.told()),
            }
            let most = if self.storm.end == End::Drain { 0 } else { 4 };
            assert!(*interruptions <= most, "{what}");
            match id {
                // It fails twice, but not where it was cut off when it had heard so.
                "flaky" => assert!((times..=3 * times).contains(try_number), "{what}"),
                _ => assert_eq!(*try_number, times, "{what}"),
            }
            match id {
                // They start again each time after they have waited.
                "there" | "run" => assert!(starts >= try_number + all, "{what}"),
                _ if id.ends_with(".wait") => assert!(starts >= try_number + all, "{what}"),
                _ => assert_eq!(starts, try_number + all, "{what}"),
            }
        }
    }

    /// What services were asked for: what is recorded, and in each generation once, where it is told by its key.
    fn effects(&self, tasks: &[Task]) {
        let effects = self.storm.server.effects();
        let mut left: BTreeSet<&Call> = effects.keys().collect();
        let calls = ["second", "fourth", "sent", "reply", "refused", "flaky", "there", "beside", "counted"];
        for Task { run, name, state, generation, .. } in tasks {
            let is_call = calls.contains(&&*name.1) || name.1.ends_with(".call");
            // Who was cleared had succeeded before.
            for generation in (0..=*generation).filter(|_| is_call && state == "success") {
                let (_, task_id, map_index) = name.clone();
                let call = Call { run: run.clone(), task_id, map_index, generation };
                assert!(left.remove(&call), "{call:?} has succeeded, and nobody was called");
            }
        }
        left.retain(|call| call.task_id != "counted");
        assert!(left.is_empty(), "nobody wanted these: {left:?}");
    }

    /// What functions have begun is recorded, too.
    fn beginnings(&self, tasks: &[Task]) {
        let mut begun: BTreeMap<Name, u64> = BTreeMap::new();
        for line in std::fs::read_to_string(self.storm.world.path("begun")).unwrap_or_default().lines() {
            let [run, task, index, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            *begun.entry((run.parse().unwrap(), task.into(), index.parse().unwrap())).or_default() += 1;
        }
        for (name, times) in &begun {
            let starts = self.starts.get(name).copied().unwrap_or(0);
            assert!(*times <= starts, "{name:?} has begun {times} times, and {starts} starts are recorded");
        }
        for Task { name, .. } in
            tasks.iter().filter(|task| task.name.1 == "last" && task.biz == "storm_chain")
        {
            assert!(begun.contains_key(name), "{name:?} has never begun");
        }
    }

    /// What came out at the end of a run.
    fn values(&self, key: &str, Asked { biz, conf, .. }: &Asked) {
        let (task, value) = outcome(biz, conf);
        let size = conf["size"].as_u64().unwrap();
        let sql = "SELECT x.value FROM xcom x JOIN dag_run r ON r.id = x.run
                   WHERE r.idempotency_key = ? AND x.task_id = ? AND x.key = 'return_value'";
        let found = self.look.0.query_row(sql, [key, task], |row| row.get::<_, String>(0));
        let nothing = size == 0 && matches!(*biz, "storm_fan" | "storm_later");
        if nothing {
            assert!(found.is_err(), "{biz} {key} has no items");
            return;
        }
        let found: Value = serde_json::from_str(&found.unwrap()).unwrap();
        match *biz {
            "storm_parent" => {
                let sql = "SELECT count(*) FROM dag_run WHERE dag_id = 'storm_chain' AND run_id = ?";
                assert_eq!(self.look.number(sql, [found.as_str().unwrap()]), 1, "{biz} {key}");
            }
            _ => assert_eq!(found, value, "{biz} {key}"),
        }
        // Who kills the process all the time has failed, and so has his run.
        let state =
            self.look.0.query_row("SELECT state FROM dag_run WHERE idempotency_key = ?", [key], |row| {
                row.get::<_, String>(0)
            });
        let sql = "SELECT t.state FROM task_instance t JOIN dag_run r ON r.id = t.run
                   WHERE r.idempotency_key = ? AND t.task_id = 'deadly'";
        let deadly = self.look.0.query_row(sql, [key], |row| row.get::<_, String>(0));
        if *biz == "storm_poison" && size >= 5 {
            assert_eq!(deadly.as_deref(), Ok("failed"));
        }
        assert_eq!(state.unwrap(), deadly.unwrap_or("success".into()), "{biz} {key}");
    }
}

/// The task at the end of a run, and what it puts out.
pub fn outcome(biz: &str, conf: &Value) -> (&'static str, Value) {
    let (id, size) = (conf["id"].as_u64().unwrap(), conf["size"].as_u64().unwrap());
    match biz {
        "storm_chain" => ("last", json!(id + 5)),
        "storm_fan" => ("total", json!((0..size).map(|n| n + 2).sum::<u64>())),
        "storm_branch" => ("after", json!([2, id + 3, 411][id as usize % 3])),
        "storm_later" => ("total", json!((0..size).map(|n| id + n + 2).sum::<u64>())),
        "storm_retry" | "storm_sense" | "storm_poison" => ("last", json!(id + 2)),
        "storm_bulk" => ("lengths", json!([1000, size, size, 100])),
        "storm_parent" => ("last", Value::Null),
        other => unreachable!("{other}"),
    }
}

/// Large and small values are what was put out.
async fn large(storm: &Storm, Asked { conf, run_id, .. }: &Asked) {
    let shown = storm.world.run(&["show", run_id, "--biz", "storm_bulk", "--output", "json"]).await;
    let run = Run(shown.json());
    let of = conf["id"].as_u64().unwrap();
    for (task, size) in [("small", 1_000), ("large", conf["size"].as_u64().unwrap())] {
        let text: String = (0..size).map(|n| (b'a' + ((n * n + of + n / 7) % 26) as u8) as char).collect();
        assert!(run.value(task) == &Value::from(text), "{task} of {run_id} is another");
    }
    let pushed = run.task("many")["xcom"].as_object().unwrap();
    assert_eq!(pushed.len(), 101);
    assert!((0..100).all(|n| pushed[&format!("key {n}")] == of + n));
}

/// The file is whole, and beside it is what its rows name.
async fn files(storm: &Storm) {
    let verified = storm.world.run(&["db", "verify", "--output", "json"]).await;
    assert_eq!((verified.code(), &verified.json()["damage"]), (0, &json!([])), "{verified:?}");
    let look = storm.server.look();
    let mut statement = look.0.prepare("SELECT DISTINCT blob FROM xcom WHERE blob IS NOT NULL").unwrap();
    let named: BTreeSet<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let there = std::fs::read_dir(storm.world.path(".coworks-biz/biz.db.blobs")).into_iter().flatten();
    let there: BTreeSet<_> =
        there.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let left: Vec<_> = there.difference(&named).collect();
    assert!(left.is_empty(), "{} files of values that nobody names: {left:?}", left.len());
}

/// Nobody has written the secret that calls carry: what each file here holds, and what was said, has it not.
fn secret(storm: &Storm) {
    let said = |text| {
        let sql = "SELECT count(*) FROM event WHERE instr(records, ?1) OR instr(detail, ?1)";
        storm.server.look().number(sql, [text])
    };
    let is_refused = storm.server.effects().keys().any(|call| call.task_id == "flaky");
    assert!(said("with ***") > 0, "no log was to be without it");
    assert!(!is_refused || said("not for ***") > 0, "no error was to be without it");
    let mut folders = vec![storm.world.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let found = std::fs::read(&path).unwrap();
                assert!(
                    !String::from_utf8_lossy(&found).contains(TOKEN),
                    "{} has the secret",
                    path.display()
                );
            }
        }
    }
    // A long text is in pieces in its file.
    assert_eq!(said(TOKEN), 0, "the database has the secret");
}
