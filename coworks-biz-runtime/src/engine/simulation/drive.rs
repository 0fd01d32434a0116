//! One simulation: rounds of the engine, with the world between them, until all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;

use super::attempts::Working;
use super::coverage::Coverage;
use super::ledger::{Ledger, Name};
use super::machine::{Machine, Process};
use super::operator::{self, Asked};
use super::plan::{Program, program};
use super::power::{Power, Unsynced};
use super::random::Random;
use super::world::World;
use crate::engine::core::{Core, Phase, TURN};
use crate::engine::message::Message;
use crate::engine::waiter::Plan;
use crate::engine::{Mode, Order, RunHandle};
use crate::run::Mark;

/// More rounds than this are no progress.
const ROUNDS: u32 = 60_000;

/// All that is left after the last fault has ended after so long: what is late is deleted for six hours,
/// and a delay may have doubled.
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// What came of a simulation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) trace: u64,
    pub(super) attempts: u64,
    pub(super) seen: Coverage,
}

pub(super) struct Simulation {
    pub(super) program: &'static Program,
    pub(super) machine: Machine,
    pub(super) process: Option<Process>,
    pub(super) world: World,
    pub(super) ledger: Ledger,
    pub(super) working: BTreeMap<u64, Working>,
    pub(super) looker: Plan,
    pub(super) asked: Vec<Asked>,
    /// Triggers that were answered: the run, and its uuid.
    pub(super) acknowledged: BTreeMap<i64, String>,
    pub(super) keys: BTreeMap<(String, String), i64>,
    pub(super) mode: Mode,
    /// Whether the clock was ever set: then ticks may be without a run.
    pub(super) clock_set: bool,
    pub(super) faults: Faults,
    /// Attempts that had been cut off when they came to their end.
    pub(super) stale: BTreeSet<String>,
    /// Those whose attempt has come to an end that counts, and that is not committed.
    pub(super) ended: BTreeSet<Name>,
    /// How long attempts have asked to be left alone, by their serial numbers.
    pub(super) delays: BTreeMap<String, Duration>,
    pub(super) power: Power,
    pub(super) unsynced: Unsynced,
    /// Who was told that a run exists, and wants to know how it ends.
    pub(super) handles: BTreeMap<i64, RunHandle>,
    /// How often which run had ended where somebody was told so.
    pub(super) told: BTreeMap<i64, u32>,
    /// Whether something that was committed has been lost.
    pub(super) dark: bool,
    /// Whether there may be messages that nobody has taken.
    pub(super) more: bool,
    pub(super) story: Story,
    pub(super) tell: bool,
}

/// What goes wrong in this one, and how often, in a thousand.
pub(super) struct Faults {
    pub(super) crashes: u64,
    pub(super) orders: u64,
    pub(super) clock: u64,
    pub(super) drains: u64,
    /// How many crashes of a hundred are a loss of power.
    pub(super) power: u64,
    pub(super) acts: u32,
}

/// Runs the simulation of a seed; with `tell`, what happens is printed.
pub(super) fn simulate(seed: u64, tell: bool) -> Result<Story, String> {
    let mut random = Random::new(seed);
    let program = program(seed);
    let machine = Machine::new(program, &mut random);
    let faults = Faults {
        crashes: [0, 2, 5, 15, 40][random.below(5) as usize],
        orders: [5, 30, 100, 200][random.below(4) as usize],
        clock: [0, 0, 0, 10][random.below(4) as usize],
        drains: [0, 0, 3, 10][random.below(4) as usize],
        power: [0, 0, 50][random.below(3) as usize],
        acts: 30 + random.below(200) as u32,
    };
    let looker = Plan::new(machine.s3_rate(), machine.clock().instant());
    let mut simulation = Simulation {
        program,
        machine,
        process: None,
        world: World::new(random),
        ledger: Ledger::default(),
        working: BTreeMap::new(),
        looker,
        asked: Vec::new(),
        acknowledged: BTreeMap::new(),
        keys: BTreeMap::new(),
        mode: Mode::Serve,
        clock_set: false,
        stale: BTreeSet::new(),
        ended: BTreeSet::new(),
        delays: BTreeMap::new(),
        power: Power::default(),
        unsynced: Unsynced::default(),
        handles: BTreeMap::new(),
        told: BTreeMap::new(),
        dark: false,
        more: false,
        faults,
        story: Story::default(),
        tell,
    };
    simulation.say(|this| this.program.to_string());
    simulation.live()?;
    simulation.come_to_rest()?;
    Ok(simulation.story)
}

impl Simulation {
    pub(super) fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.tell {
            println!("{:>10.3} {}", self.world.elapsed.as_secs_f64(), what(self));
        }
    }

    pub(super) fn see(&mut self, what: &'static str) {
        self.story.seen.see(what);
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.faults.acts {
            self.round()?;
        }
        Ok(())
    }

    pub(super) fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.machine.clock().now()
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether something that was committed has been lost.
    pub(super) fn was_dark(&self) -> bool {
        self.dark
    }

    /// One turn of the engine, as its thread takes it, and what the world does until the next one.
    pub(super) fn round(&mut self) -> Result<(), String> {
        if self.process.is_none() {
            self.open()?;
        }
        let mut written = BTreeSet::new();
        for phase in TURN {
            if self.dies() {
                return self.crash(phase);
            }
            if phase == Phase::Release && self.dies() {
                return self.crash_in_release();
            }
            let runs = if phase == Phase::Commit { self.expect_commit()? } else { None };
            let Some(Process { core, mailbox, .. }) = &mut self.process else { return Ok(()) };
            if !core.phase(phase, mailbox).map_err(|error| error.to_string())? {
                return Err(format!("it stops by itself in {phase:?}"));
            }
            if let Some(runs) = runs {
                self.committed(&runs)?;
                written.extend(runs);
            }
            self.hear(Some(phase))?;
            self.hear_answers(false, Some(phase))?;
        }
        self.check_memory()?;
        self.check_outputs(&written)?;
        self.act()?;
        let Some(Process { core, mailbox, drained, .. }) = &mut self.process else { return Ok(()) };
        *drained = core.draining;
        let (random, mut taken, mut more) = (&mut self.world.random, 0, false);
        let first = mailbox.try_recv().ok();
        let next = |_: &mut Core| {
            taken += 1;
            more = taken > 20 || random.chance(30);
            if more { None } else { mailbox.try_recv().ok() }
        };
        core.take(first, next).map_err(|error| error.to_string())?;
        self.more = more;
        self.hear(None)?;
        self.hear_answers(false, None)
    }

    /// Something happens, or time passes.
    fn act(&mut self) -> Result<(), String> {
        self.look_around();
        self.hear_of_triggered();
        let dice = self.world.random.below(1000);
        if !self.world.calm {
            let Faults { orders, clock, drains, .. } = self.faults;
            if dice < orders {
                self.order_something();
            } else if dice < orders + clock {
                let minutes = self.world.random.below(240) as i64 - 60;
                self.say(|_| format!("the clock is set by {minutes} minutes"));
                self.machine.clock().set(TimeDelta::minutes(minutes));
                self.clock_set = true;
                self.see(if minutes < 0 { "the clock is set back" } else { "the clock is set forward" });
            } else if dice < orders + clock + drains {
                return self.drain();
            }
        }
        if let Some(what) = self.world.happens() {
            self.happens(what)?;
            // Others may come in the same batch.
            while self.world.random.chance(40)
                && let Some(what) = self.world.happens()
            {
                self.happens(what)?;
            }
            return Ok(());
        }
        self.pass();
        Ok(())
    }

    /// Lets time pass until something is due, where nothing is now. `false` where nothing ever is.
    fn pass(&mut self) -> bool {
        let Some(Process { core, .. }) = &mut self.process else { return true };
        if self.more || core.is_busy() || core.sweeps() && !core.sweep.under_way {
            return true;
        }
        let now = self.machine.clock().instant();
        let looks = self.looker.next_question(now).into_iter().chain(self.looker.next_end()).min();
        let looks = looks.map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)));
        let next = self.world.next().map(|at| at.saturating_sub(self.world.elapsed));
        let Some(leap) = core.rest().into_iter().chain(looks).chain(next).min() else { return false };
        self.machine.clock().leap(leap);
        self.world.elapsed += leap;
        true
    }

    pub(super) fn post(&self, message: Message) {
        if let Some(process) = &self.process {
            // It is taken by the next round.
            let _ = process.post.send(message);
        }
    }

    /// No faults any more: all comes to its end.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.say(|_| "calm".to_owned());
        self.world.calm = true;
        if self.mode == Mode::Orders {
            self.process = None;
            self.gone()?;
        }
        self.round()?;
        for definition in &self.program.definitions {
            let dag_id = definition.dag.dag_id.to_owned();
            self.ask(Order::Pause { dag_id, paused: false });
        }
        self.settle()?;
        // Each that is cancelled lets others go on, which then wait for others in turn.
        for _ in 0..100 {
            let open: Vec<_> = self.open_runs();
            if open.is_empty() {
                break;
            }
            for run in open {
                let why = self.reason(&run)?;
                self.say(|_| format!("run {} does not go on: {why}", run.number));
                let name = operator::name(&run);
                let order = match (run.stopped.is_some(), self.held_back(run.number)) {
                    // A teardown waits for its past too: somebody has to say how that ends.
                    (true, Some(task)) => Order::Mark { run: name, task, state: Mark::Success },
                    _ => Order::Cancel { run: name },
                };
                self.ask(order);
                self.asked_of(run.number);
            }
            self.settle()?;
        }
        self.check_the_end(&self.acknowledged.clone())?;
        self.process = None;
        self.gone()?;
        self.check_events()
    }

    /// Goes on until nothing is left to happen.
    fn settle(&mut self) -> Result<(), String> {
        let end = self.world.elapsed + LONGEST;
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            self.round()?;
            if self.world.elapsed > end {
                let open: Vec<_> = self.open_runs().iter().map(|run| run.number).collect();
                return Err(format!("it does not come to rest; runs {open:?} have not ended"));
            }
            // A message may still be on its way.
            quiet = if self.is_quiet() && !self.more { quiet + 1 } else { 0 };
            if quiet > 2 {
                return Ok(());
            }
        }
        Err("it goes on for ever".to_owned())
    }

    fn is_quiet(&mut self) -> bool {
        let Some(Process { core, .. }) = &mut self.process else { return false };
        let idle = !core.is_busy() && !core.sweeps() && core.rest().is_none() && self.asked.is_empty();
        idle && self.working.is_empty() && self.world.next().is_none() && self.looker.waiting().is_empty()
    }

    pub(super) fn database(&self) -> &std::path::Path {
        self.machine.database()
    }
}
