//! What is done to the disk, call by call. Each of them fails in one run of the program, and is its last in another;
//! and behind each of them the power may go, with all that was not synced.
//!
//! `disk.c` stands between the program and the system. What it writes down is played to a disk that loses what it
//! may lose (`power.rs`); the program itself goes on from what is left.

mod power;
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::power::Disk;
use self::record::Event;
use crate::harness::{Ended, PATIENCE, Running, World, until};
use crate::kill::check::outcome;
use crate::kill::server::{Call, Look, Server};
use crate::kill::{Chance, seed};

/// `disk.c`, built.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/disk/disk.c");
        let mut cc = Command::new("cc");
        let cc = cc.args(["-shared", "-fPIC", "-O1", "-o"]).args([&built, &source]);
        assert!(cc.status().unwrap().success(), "{cc:?}");
        built
    })
}

/// What happens at a call that changes the disk; they are numbered from 1.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It fails, and so do the next ones of its kind: the number of the error, and how often.
    Error(u64, i32, u64),
    /// The process is killed in its place.
    Death(u64),
    /// No sync of the database file itself succeeds.
    Checkpoints,
}

/// Who wants what: a biz, and its conf.
type Wanted = (&'static str, Value);

fn wanted(of: &[(&'static str, u64)]) -> Vec<Wanted> {
    of.iter().zip(1..).map(|((biz, size), id)| (*biz, json!({ "id": id, "size": size }))).collect()
}

/// A machine: its disk, and what it calls.
struct Machine {
    dir: TempDir,
    world: Arc<World>,
    server: Server,
    durability: &'static str,
}

impl Machine {
    async fn new(durability: &'static str) -> Self {
        let server = Server::new(Chance(7));
        let world = Arc::new(World::new(server.entries()).await);
        let machine = Self { dir: tempfile::tempdir().unwrap(), world, server, durability };
        machine.server.open(&machine.folder().join("biz.db"));
        machine
    }

    /// Another disk in its place.
    fn after(&self) -> Self {
        let (world, server) = (Arc::clone(&self.world), self.server.clone());
        Self { dir: tempfile::tempdir().unwrap(), world, server, durability: self.durability }
    }

    /// Where its files are, without links.
    fn folder(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(".coworks-biz")
    }

    fn record(&self) -> PathBuf {
        self.dir.path().join("record")
    }

    /// A process of the program, whose calls are written down.
    fn command(&self, arguments: &[&str], fault: Option<Fault>) -> Command {
        let mut command = self.world.command(arguments);
        command
            .current_dir(self.dir.path())
            .env("COWORKS_BIZ_DURABILITY", self.durability)
            .env("LD_PRELOAD", library())
            .env("DISK_UNDER", self.folder())
            .env("DISK_RECORD", self.record());
        match fault {
            None => {}
            Some(Fault::Error(at, error, times)) => {
                command.env("DISK_AT", at.to_string()).env("DISK_FAILS", error.to_string());
                command.env("DISK_FAILS_FOR", times.to_string());
            }
            Some(Fault::Checkpoints) => {
                command.env("DISK_AT", "1").env("DISK_FAILS", "5").env("DISK_FAILS_FOR", "1000000");
                command.env("DISK_ON", self.folder().join("biz.db"));
            }
            Some(Fault::Death(at)) => drop(command.env("DISK_AT", at.to_string()).env("DISK_DIES", "yes")),
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        Running::spawn(&mut self.command(arguments, None)).ended().await
    }

    /// A process that serves, until it ends by itself or all that is wanted was acknowledged and has ended; then it
    /// is asked to. What was acknowledged, by its key, and how the process has ended.
    async fn serve(
        &self,
        wanted: &[Wanted],
        told: &mut BTreeMap<String, String>,
        fault: Option<Fault>,
    ) -> Ended {
        let socket = self.folder().join("biz.db.sock");
        // Of one that was killed.
        let _ = std::fs::remove_file(&socket);
        let mut serving = Running::spawn(&mut self.command(&["--quiet", "serve"], fault));
        until("it serves, or has ended", || socket.exists() || serving.over().is_some()).await;
        let begin = Instant::now();
        for (at, (biz, conf)) in wanted.iter().enumerate() {
            let key = format!("key-{at}");
            let conf = conf.to_string();
            let trigger = ["trigger", biz, "--conf", &conf, "--idempotency-key", &key, "--output", "json"];
            while !told.contains_key(&key) {
                let ended = self.run(&trigger).await;
                match ended.code() {
                    0 => drop(told.insert(key.clone(), ended.json()["run_id"].as_str().unwrap().to_owned())),
                    // It may have ended, or say that there is no room.
                    3 | 5 if begin.elapsed() < PATIENCE => {}
                    _ => panic!("{fault:?} {ended:?}"),
                }
            }
        }
        while serving.over().is_none() && self.look().open_runs() > 0 {
            assert!(begin.elapsed() < PATIENCE, "{fault:?}: it does not come to its end");
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
        if serving.over().is_none() {
            serving.signal("-TERM");
        }
        serving.ended().await
    }

    fn look(&self) -> Look {
        Look::at(&self.folder().join("biz.db"))
    }

    /// All that was wanted was done once, and the file is whole.
    async fn has_done(&self, wanted: &[Wanted], told: &BTreeMap<String, String>, what: &str) {
        assert_eq!(self.server.wrong(), [""; 0], "{what}");
        let look = self.look();
        for (at, (biz, conf)) in wanted.iter().enumerate() {
            let key = format!("key-{at}");
            let sql = "SELECT run_id, state FROM dag_run WHERE idempotency_key = ? AND dag_id = ?";
            let found: Result<(String, String), _> =
                look.0.query_row(sql, [&key, *biz], |row| Ok((row.get(0)?, row.get(1)?)));
            assert_eq!(found, Ok((told[&key].clone(), "success".into())), "{what}: {biz}");
            let (task, value) = outcome(biz, conf);
            let sql = "SELECT x.value FROM xcom x JOIN dag_run r ON r.id = x.run
                       WHERE r.idempotency_key = ? AND x.task_id = ? AND x.key = 'return_value'";
            let put_out: String = look.0.query_row(sql, [&*key, task], |row| row.get(0)).unwrap();
            // That is the name of another run, whatever it is.
            if *biz != "storm_parent" {
                assert_eq!(serde_json::from_str::<Value>(&put_out).unwrap(), value, "{what}: {biz}");
            }
        }
        let runs = look.number("SELECT count(*) FROM dag_run WHERE idempotency_key LIKE 'key-%'", []);
        assert_eq!(runs, wanted.len() as u64, "{what}");
        let verified = self.run(&["db", "verify", "--output", "json"]).await;
        assert_eq!((verified.code(), &verified.json()["damage"]), (0, &json!([])), "{what}: {verified:?}");
        // Half of a value is not left.
        let named = look.number("SELECT count(DISTINCT blob) FROM xcom WHERE blob IS NOT NULL", []);
        let there = std::fs::read_dir(self.folder().join("biz.db.blobs")).map_or(0, Iterator::count);
        assert_eq!(there as u64, named, "{what}: files of values");
    }

    fn events(&self) -> Vec<Event> {
        record::read(&self.record())
    }
}

/// What was said to others until a moment.
#[derive(Default)]
struct Said {
    /// Runs that were acknowledged.
    runs: Vec<String>,
    /// Runs of which the end was told.
    ended: Vec<String>,
    /// How often each call was sent.
    calls: BTreeMap<Call, u64>,
}

impl Said {
    /// Whether that is anything new.
    fn take(&mut self, bytes: &[u8], runs: &[String]) -> bool {
        let before = (self.runs.len(), self.ended.len(), self.calls.values().sum::<u64>());
        let text = String::from_utf8_lossy(bytes);
        for run in runs.iter().filter(|run| text.contains(run.as_str())) {
            if !self.runs.contains(run) {
                self.runs.push(run.clone());
            }
            if text.contains(r#""state": "success""#) && !self.ended.contains(run) {
                self.ended.push(run.clone());
            }
        }
        for line in text.lines() {
            if let Some(("idempotency-key", key)) = line.split_once(": ") {
                *self.calls.entry(Call::of(key, false)).or_default() += 1;
            }
        }
        before != (self.runs.len(), self.ended.len(), self.calls.values().sum())
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.calls.is_empty()
    }

    /// All of it is in this database.
    fn is_kept(&self, database: &Path, durability: &str, what: &str) {
        let look = Look(Connection::open(database).unwrap());
        let told = |sql: &str, run: &String| look.number(sql, [run]);
        for run in &self.runs {
            assert_eq!(
                told("SELECT count(*) FROM dag_run WHERE run_id = ?", run),
                1,
                "{what}: {run} is lost"
            );
        }
        for run in self.ended.iter().filter(|_| durability != "relaxed") {
            let sql = "SELECT count(*) FROM dag_run WHERE run_id = ? AND state = 'success'";
            assert_eq!(told(sql, run), 1, "{what}: the end of {run} is lost");
        }
        // Who calls behind a run that was waited for says that it has ended.
        for call in self.calls.keys().filter(|_| durability != "relaxed") {
            let child = format!("{}/run.-1.0", call.run);
            let sql = "SELECT count(*) FROM dag_run WHERE idempotency_key = ? AND state = 'success'";
            let is_parent = "SELECT count(*) FROM dag_run WHERE uuid = ? AND dag_id = 'storm_parent'";
            if call.task_id == "sent" && told(is_parent, &call.run) > 0 {
                assert_eq!(told(sql, &child), 1, "{what}: the end of {child} is lost");
            }
        }
        // The others begin before the disk has it.
        for (call, sent) in self.calls.iter().filter(|_| durability == "step") {
            let starts = look.starts(call);
            assert!(starts >= *sent, "{what}: {call:?} was sent {sent} times, and {starts} starts are left");
        }
    }
}

/// The power goes at so many moments of what was done: all that was said is left, and at some of them the program goes
/// on from there.
async fn cuts(machine: &Machine, runs: Vec<String>, cuts: u64, seed: u64, what: &str) {
    let (events, mut chance) = (machine.events(), Chance(seed));
    assert!(events.iter().any(|event| matches!(event, Event::Synced(_))));
    let moments: Vec<usize> = {
        let mut moments: Vec<_> = (0..cuts).map(|_| chance.below(events.len() as u64 + 1) as usize).collect();
        // There are few calls at the start, and much hangs on each.
        moments.extend((0..cuts / 4).map(|_| chance.below(60).min(events.len() as u64) as usize));
        // What was just said is what may be lost.
        let mut said = Said::default();
        let is_told = |event: &Event| match event {
            Event::Said(bytes) => said.take(bytes, &runs),
            _ => false,
        };
        let told: Vec<_> = (1..).zip(events.iter().map(is_told)).filter(|(_, told)| *told).collect();
        moments.extend((0..cuts / 2).map(|_| told[chance.below(told.len() as u64) as usize].0));
        moments.sort_unstable();
        moments
    };
    let (mut disk, mut said, mut at) = (Disk::default(), Said::default(), 0);
    disk.take(&Event::MadeFolder(machine.folder().parent().unwrap().to_owned()));
    for (number, moment) in moments.into_iter().enumerate() {
        for event in &events[at..moment] {
            disk.take(event);
            if let Event::Said(bytes) = event {
                said.take(bytes, &runs);
            }
        }
        at = moment;
        let what =
            format!("{}, {what}, seed {seed}, the power goes behind call {moment}", machine.durability);
        let after = machine.after();
        disk.lose_power(&mut chance, &machine.folder(), &after.folder());
        let database = after.folder().join("biz.db");
        // Where it was being made there is nothing to read yet.
        let goes_on = number % 6 == 0 || said.is_empty();
        if goes_on {
            let ended = after.serve(&[], &mut BTreeMap::new(), None).await;
            assert_eq!(ended.code(), 0, "{what}: {ended:?}");
            let sql = "SELECT count(*) FROM dag_run WHERE idempotency_key IS NOT NULL AND state != 'success'";
            assert_eq!(after.look().number(sql, []), 0, "{what}");
        }
        let verified = after.run(&["db", "verify", "--output", "json"]).await;
        assert_eq!(verified.code(), 0, "{what}: {verified:?}");
        said.is_kept(&database, machine.durability, &what);
    }
}

/// How many calls change the disk, of a process of which nothing fails.
fn changes(events: &[Event]) -> u64 {
    events.iter().filter(|event| !matches!(event, Event::Said(_))).count() as u64
}

async fn a_power_cut_takes_nothing_that_was_told(durability: &'static str, many: u64) {
    let (machine, seed) = (Machine::new(durability).await, seed());
    let wanted =
        wanted(&[("storm_chain", 0), ("storm_bulk", 70_000), ("storm_retry", 0), ("storm_parent", 0)]);
    let mut told = BTreeMap::new();
    let ended = machine.serve(&wanted, &mut told, None).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let mut runs: Vec<_> = told.values().cloned().collect();
    // The end of this one is told.
    let alone =
        machine.run(&["run", "storm_chain", "--conf", r#"{"id": 9, "size": 0}"#, "--output", "json"]).await;
    runs.push(alone.json()["run_id"].as_str().unwrap().to_owned());
    machine.has_done(&wanted, &told, durability).await;
    cuts(&machine, runs, many, seed, "no fault").await;
}

/// A process meets these, another one goes on, and all that was wanted is done once. Whatever the first one had said
/// is kept when the power goes, too, then or later.
async fn is_survived(fault: Fault, cut: u64, seed: u64) {
    let what = format!("{fault:?}");
    let machine = Machine::new("step").await;
    let wanted = wanted(&[("storm_chain", 0), ("storm_bulk", 70_000)]);
    let mut told = BTreeMap::new();
    let first = machine.serve(&wanted, &mut told, Some(fault)).await;
    match (fault, first.status.code()) {
        (Fault::Death(_), None) => {}
        // Where that was not needed for anything, or room was waited for.
        (_, Some(0)) => {}
        (Fault::Error(..) | Fault::Checkpoints, Some(3)) if first.stderr.contains("error: ") => {}
        _ => panic!("{what}, seed {seed}: {first:?}"),
    }
    let next = machine.serve(&wanted, &mut told, None).await;
    assert_eq!(next.code(), 0, "{what}: {next:?}");
    machine.has_done(&wanted, &told, &what).await;
    if cut > 0 {
        cuts(&machine, told.into_values().collect(), cut, seed, &what).await;
    }
}

/// Of so many calls some: all those whose number leaves this rest.
async fn faults_are_survived(each: impl Fn(u64) -> Fault, step: u64, cut: u64) {
    let (machine, seed) = (Machine::new("step").await, seed());
    let ended = machine
        .serve(&wanted(&[("storm_chain", 0), ("storm_bulk", 70_000)]), &mut BTreeMap::new(), None)
        .await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let most = changes(&machine.events());
    for at in (1 + seed % step..=most).step_by(step as usize) {
        is_survived(each(at), cut, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_that_was_told_with_step() {
    a_power_cut_takes_nothing_that_was_told("step", 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_that_was_told_with_run() {
    a_power_cut_takes_nothing_that_was_told("run", 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_that_was_told_with_relaxed() {
    a_power_cut_takes_nothing_that_was_told("relaxed", 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_survived() {
    faults_are_survived(|at| Fault::Error(at, 5, 1), 60, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_a_while_is_survived() {
    faults_are_survived(|at| Fault::Error(at, 28, 3), 60, 0).await;
}

/// SQLite itself would go on, and one day take its log for brought into the file that is not.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_bring_the_log_into_the_file_stops() {
    let machine = Machine::new("run").await;
    let mut serve = machine.command(&["--quiet", "serve"], Some(Fault::Checkpoints));
    let mut serving = Running::spawn(&mut serve);
    until("it serves", || machine.folder().join("biz.db.sock").exists()).await;
    // A run has a log of a megabyte, and the log of the database comes into the file when it has sixteen.
    let mut told = 0;
    let begin = Instant::now();
    while serving.over().is_none() {
        assert!(begin.elapsed() < PATIENCE, "after {told} runs it has not stopped");
        told += u64::from(machine.run(&["trigger", "noisy", "--conf", "9000"]).await.code() == 0);
    }
    let ended = serving.ended().await;
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.stderr.contains("error: ") && ended.stderr.contains("disk I/O error"), "{ended:?}");
    let next = machine.serve(&[], &mut BTreeMap::new(), None).await;
    assert_eq!(next.code(), 0, "{next:?}");
    let ran = machine
        .look()
        .number("SELECT count(*) FROM dag_run WHERE dag_id = 'noisy' AND state = 'success'", []);
    assert!(ran >= told && told > 5, "{told} were acknowledged, and {ran} have run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_a_call_is_survived() {
    faults_are_survived(Fault::Death, 60, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `tests/disk.sh` runs it"]
async fn each_call_and_many_moments() {
    for durability in ["step", "run", "relaxed"] {
        a_power_cut_takes_nothing_that_was_told(durability, 400).await;
    }
    faults_are_survived(Fault::Death, 1, 2).await;
    for (error, times) in [(5, 1), (5, 1 << 40), (28, 3)] {
        faults_are_survived(|at| Fault::Error(at, error, times), 1, 2).await;
    }
}
