//! The machine that an engine runs on: its clock, its disk, and its process, which dies and is started again.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use chrono::DateTime;

use super::super::alarms::Alarm;
use super::attempts::{BUCKET, ENGINE};
use super::hands::Noted;
use super::plan::{BEGIN, Program};
use super::random::Random;
use crate::clock::Clock;
use crate::config::{Config, Durability, Environment, Flags};
use crate::engine::Mode;
use crate::engine::core::Core;
use crate::engine::host::Shared;
use crate::engine::mailbox::{self, Mailbox, Post};
use crate::engine::outbox::Ways;
use crate::store::Writer;
use crate::tech::{Client, http};

/// A process: an engine and its mailbox.
pub(super) struct Process {
    pub(super) core: Core,
    pub(super) mailbox: Mailbox,
    pub(super) post: Post,
    /// Whether it drained before it took its last messages: what it has begun before one of them said so, it has.
    pub(super) drained: bool,
}

pub(super) struct Machine {
    dir: PathBuf,
    config: Config,
    program: &'static Program,
    pub(super) noted: Noted,
}

/// A database that is new, and has a name of its own; made once, as that takes longer than all the rest.
fn fresh() -> &'static [u8] {
    static FRESH: OnceLock<Vec<u8>> = OnceLock::new();
    FRESH.get_or_init(|| {
        let dir = folder();
        let path = dir.join("biz.db");
        drop(Writer::open(&path, Durability::Relaxed).expect("a new database"));
        let connection = rusqlite::Connection::open(&path).expect("it is there");
        connection.execute("UPDATE engine SET id = ?", [ENGINE]).expect("it has a name");
        drop(connection);
        let fresh = std::fs::read(&path).expect("it is there");
        let _ = std::fs::remove_dir_all(&dir);
        fresh
    })
}

/// A folder in memory, where there is one: nothing is lost with it but what a simulation has.
fn folder() -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    base.join(format!("biz-simulation-{}-{number}", std::process::id()))
}

impl Machine {
    pub(super) fn new(program: &'static Program, random: &mut Random) -> Self {
        let dir = folder();
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("biz.db"), fresh()).expect("a database");
        let (concurrency, rate) = (program.concurrency.map(|limit| limit.to_string()), program.rate);
        let environment = Environment::from(move |name| match name {
            "COWORKS_BIZ_SERVICE_CONCURRENCY" => concurrency.clone(),
            "COWORKS_BIZ_SERVICE_RATE" => rate.map(str::to_owned),
            _ => None,
        });
        let flags = Flags { db: Some(dir.join("biz.db")), parallelism: Some(program.parallelism) };
        let mut config = Config::from(flags, &environment, &dir.join("none.toml")).expect("a configuration");
        config.pools = program.pools.clone();
        config.retention = None;
        config.bucket = BUCKET.to_owned();
        config.durability = match random.below(3) {
            0 => Durability::Step,
            1 => Durability::Run,
            _ => Durability::Relaxed,
        };
        config.clock = Clock::still(DateTime::from_timestamp(BEGIN, 0).expect("a moment"));
        let noted = Noted::new(Random::new(random.next()));
        Self { dir, config, program, noted }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.config.clock
    }

    pub(super) fn durability(&self) -> Durability {
        self.config.durability
    }

    pub(super) fn s3_rate(&self) -> u32 {
        self.config.s3_rate
    }

    pub(super) fn database(&self) -> &Path {
        &self.config.db
    }

    /// Starts the process.
    pub(super) fn start(&self, mode: Mode) -> Process {
        let writer = Writer::open(&self.config.db, self.config.durability).expect("the database opens");
        static HTTP: OnceLock<reqwest::Client> = OnceLock::new();
        let http = HTTP.get_or_init(|| http(&self.config).expect("a client"));
        let services = Client::over(http.clone(), &self.config);
        let (post, mailbox) = mailbox::mailbox(&self.config.clock);
        let ways = Ways::new(&self.config).expect("no ways");
        let shared = Arc::new(Shared::new(&self.config, services, ways, &writer, post.clone()));
        let hands = Box::new(self.noted.clone());
        let core = Core::new(mode, writer, &self.program.definitions, shared, hands, &self.config);
        let mut core = core.expect("it takes stock");
        // Nobody moves the files of this world away.
        core.alarms.retain(|Reverse((_, alarm))| *alarm != Alarm::Stays);
        Process { core, mailbox, post, drained: false }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is left is left in memory, until the machine is.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
