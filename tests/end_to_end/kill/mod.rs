//! A process that serves is killed at random moments, many times, while it is told what to do; and then
//! nothing is lost, nothing was done twice, and nothing was begun that is not recorded.
//!
//! `tests/kill.sh` has it go on for as long as one likes. A seed gives the same moments again, as far
//! as the machine is as fast.

pub mod check;
mod clear;
pub mod server;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::clear::Clears;
use self::server::Server;
use crate::harness::{Ended, PATIENCE, Running, World};

/// Chance that can be had again.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, most: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }

    fn one_in(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }
}

/// What was asked for, until it was acknowledged, and then how.
#[derive(Debug, Clone)]
pub struct Asked {
    biz: &'static str,
    conf: Value,
    run_id: String,
}

/// By the key of the trigger.
type Acknowledged = Arc<Mutex<BTreeMap<String, Asked>>>;

const BIZ: [&str; 9] = [
    "storm_chain",
    "storm_fan",
    "storm_branch",
    "storm_later",
    "storm_retry",
    "storm_sense",
    "storm_bulk",
    "storm_poison",
    "storm_parent",
];

fn conf(biz: &str, id: u64, chance: &mut Chance) -> Value {
    let size = match biz {
        "storm_fan" => chance.below(30),
        "storm_later" => chance.below(4),
        "storm_bulk" => [100, 70_000, 300_000, 2_000_000][chance.below(4) as usize],
        // Most of them are over it before they have failed for it.
        "storm_poison" => [1, 1, 1, 2, 2, 3, 9][chance.below(7) as usize],
        _ => 0,
    };
    json!({ "id": id, "size": size })
}

/// How processes come to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By `kill -9`, and by tasks that kill them.
    Kill,
    /// By SIGTERM.
    Drain,
}

pub struct Storm {
    world: Arc<World>,
    end: End,
    durability: &'static str,
    server: Server,
    chance: Chance,
    clears: Clears,
    kills: u64,
    /// Kills while attempts were under way, and while some that were cleared before were.
    at_work: u64,
    cleared_at_work: u64,
    suicides: u64,
    refused: u64,
}

impl Storm {
    /// A process that serves, or tries to.
    fn serve(&self, standby: bool) -> Running {
        let arguments = if standby { &["serve", "--standby"][..] } else { &["serve"] };
        let mut command = self.world.command(arguments);
        command.env("COWORKS_BIZ_DURABILITY", self.durability);
        let said = || said(&self.world, "serve.log");
        Running::spawn(command.stdout(said()).stderr(said()))
    }

    /// So many ends, and further ones until they have met what they are there for.
    async fn rounds(&mut self, least: u64) {
        let patience = Instant::now() + PATIENCE + Duration::from_secs(3 * least);
        while self.kills < least || !self.has_met_all() {
            assert!(
                Instant::now() < patience,
                "after {} ends, {} at work, {} at work on what was cleared, and {} starts refused: too few\n{}",
                self.kills,
                self.at_work,
                self.cleared_at_work,
                self.refused,
                self.told()
            );
            // The last of those that must be are of this kind, as long as there was none.
            let clear = self.kills % 3 == 2 || self.kills >= least;
            self.round(clear).await;
        }
    }

    fn has_met_all(&self) -> bool {
        self.at_work > 0 && self.cleared_at_work > 0
    }

    /// One process, from its start to its end. Of one that begins with a clear that end comes when what was
    /// cleared is under way.
    async fn round(&mut self, clear: bool) {
        let cleared = clear && self.clear().await;
        let standby = !self.chance.one_in(4);
        let begun = self.server.look().begun();
        let mut child = self.serve(standby);
        let moment = match self.chance.below(4) {
            0 => self.chance.below(60),
            1 => self.chance.below(250),
            _ => self.chance.below(900),
        };
        let begin = Instant::now();
        loop {
            if let Some(status) = child.over() {
                self.ended(status.signal(), status.code());
                return;
            }
            let look = self.server.look();
            let is_time = match cleared {
                true => look.at_work(begun).1 > 0 || begin.elapsed() > Duration::from_secs(5),
                false => begin.elapsed() >= Duration::from_millis(moment),
            };
            // A task that others have cut off several times is not given the last one by the test: then
            // only who kills the process himself comes to its end that way.
            if is_time && look.most_interrupted() < 3 {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "what was cut off does not go on\n{}", self.told());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.kills += 1;
        if self.end == End::Drain {
            self.meets(begun);
            return self.drain(child).await;
        }
        let status = child.kill().await;
        if status.signal() != Some(9) {
            return self.ended(status.signal(), status.code());
        }
        // Nobody goes on before the next one.
        self.meets(begun);
    }

    /// Notes what was under way in a process before which so many attempts had begun.
    fn meets(&mut self, begun: u64) {
        let (at_work, cleared) = self.server.look().at_work(begun);
        self.at_work += u64::from(at_work > 0);
        self.cleared_at_work += u64::from(cleared > 0);
    }

    /// Asks it to come to its end, which it does without cutting anything off.
    async fn drain(&self, mut child: Running) {
        child.signal("-TERM");
        let status = child.ends("a process that was asked to has ended").await;
        // It has begun nothing where it does not listen yet.
        let early = status.signal() == Some(15) || status.code() == Some(3);
        assert!(early || status.code() == Some(0), "{status:?}\n{}", self.told());
    }

    /// It ended by itself: by a task that kills it, or because an order had the database when it began.
    fn ended(&mut self, signal: Option<i32>, code: Option<i32>) {
        match (signal, code) {
            (Some(6), None) => self.suicides += 1,
            (None, Some(3)) => self.refused += 1,
            other => panic!("the process ended with {other:?}\n{}", self.told()),
        }
    }

    /// What processes said last.
    fn told(&self) -> String {
        let all = std::fs::read_to_string(self.world.path("serve.log")).unwrap_or_default();
        let lines: Vec<_> = all.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Lets all there is come to its end, and a last process too.
    async fn finish(&mut self) {
        let patience = Instant::now() + Duration::from_secs(100);
        let mut child = self.serve(true);
        while self.server.look().open_runs() > 0 {
            assert!(Instant::now() < patience, "it does not come to its end\n{}", self.told());
            if let Some(status) = child.over() {
                self.ended(status.signal(), status.code());
                child = self.serve(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.signal("-TERM");
        let status = child.ends("the last process has ended").await;
        assert_eq!(status.code(), Some(0), "{}", self.told());
    }
}

/// Where processes say what they say.
fn said(world: &World, log: &str) -> File {
    OpenOptions::new().append(true).create(true).open(world.path(log)).unwrap()
}

/// Asks for something in a process of its own, which is killed after this time where there is one.
async fn ask(world: &World, arguments: &[&str], dies_after: Option<Duration>) -> Ended {
    let mut command = world.command(arguments);
    let mut child = Running::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    match dies_after {
        Some(after) => {
            tokio::time::sleep(after).await;
            child.signal("-KILL");
        }
        None => drop(child.ends(&format!("{arguments:?} was answered")).await),
    }
    let ended = child.ended().await;
    said(world, "asked.log").write_all(format!("{}{}", ended.stdout, ended.stderr).as_bytes()).unwrap();
    ended
}

/// Triggers runs until it is told to stop, each as often as it takes until it is acknowledged.
async fn client(
    (world, server, end): (&World, &Server, End),
    number: u64,
    mut chance: Chance,
    stop: &AtomicBool,
    done: &Acknowledged,
) {
    let mut id = number * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        // Else there would be more of those that kill the process than it can outlive.
        if server.look().open_runs() > 15 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        id += 1;
        let biz = BIZ[chance.below(BIZ.len() as u64) as usize];
        if end == End::Drain && biz == "storm_poison" {
            continue;
        }
        let conf = conf(biz, id, &mut chance);
        let key = format!("key-{id}");
        let text = conf.to_string();
        let arguments = ["trigger", biz, "--conf", &text, "--idempotency-key", &key, "--output", "json"];
        let begin = Instant::now();
        let run_id = loop {
            // Who asks may die, too.
            let dies_after = chance.one_in(8).then(|| Duration::from_millis(chance.below(150)));
            let ended = ask(world, &arguments, dies_after).await;
            match ended.code() {
                0 => break ended.json()["run_id"].as_str().unwrap().to_owned(),
                // Killed, or the one that served was, or two wanted the database at once.
                -1 | 3 if begin.elapsed() < PATIENCE => {}
                _ => panic!("{ended:?}"),
            }
        };
        done.lock().unwrap().insert(key, Asked { biz, conf, run_id });
        tokio::time::sleep(Duration::from_millis(chance.below(200))).await;
    }
}

/// So many kills, and what must hold after them.
async fn storm(end: End, durability: &'static str, rounds: u64, seed: u64) {
    println!("seed {seed}: {rounds} ends ({end:?}), durability {durability}");
    let mut chance = Chance(seed);
    let server = Server::new(Chance(chance.below(u64::MAX)));
    let world = Arc::new(World::new(server.entries()).await);
    assert_eq!(world.run(&["unpause", "ticking"]).await.code(), 0);
    server.open(&world.path(".coworks-biz/biz.db"));
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Acknowledged::default());
    let clients = [1, 2].map(|number| {
        let (world, stop, acknowledged) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&acknowledged));
        let server = server.clone();
        let chance = Chance(chance.below(u64::MAX));
        tokio::spawn(
            async move { client((&world, &server, end), number, chance, &stop, &acknowledged).await },
        )
    });
    let (kills, at_work, cleared_at_work, suicides, refused) = (0, 0, 0, 0, 0);
    let clears = Clears::default();
    let mut storm = Storm {
        world,
        end,
        durability,
        server,
        chance,
        clears,
        kills,
        at_work,
        cleared_at_work,
        suicides,
        refused,
    };
    storm.rounds(rounds).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    storm.finish().await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    check::check(&storm, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_done_twice_by_kills() {
    storm(End::Kill, "step", 8, seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_only_the_ends_of_runs_are_synced() {
    storm(End::Kill, "run", 5, seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_nothing_but_triggers_is_synced() {
    storm(End::Kill, "relaxed", 5, seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_end_cuts_nothing_off() {
    storm(End::Drain, "step", 6, seed()).await;
}

/// Another one each time: what must hold does so at whichever moments.
pub fn seed() -> u64 {
    let given = std::env::var("KILL_SEED").ok().map(|seed| seed.parse().expect("KILL_SEED is a number"));
    given.unwrap_or_else(now)
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_nanos() as u64 % 1_000_000_007
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `tests/kill.sh` runs it"]
async fn as_long_as_one_likes() {
    let rounds = std::env::var("KILL_ROUNDS").map_or(300, |rounds| rounds.parse().expect("a number"));
    let durability = std::env::var("KILL_DURABILITY").unwrap_or_else(|_| "step".into());
    let end = if std::env::var("KILL_BY").as_deref() == Ok("TERM") { End::Drain } else { End::Kill };
    storm(end, durability.leak(), rounds, seed()).await;
}
