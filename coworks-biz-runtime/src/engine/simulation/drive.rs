//! One simulation: rounds of the engine, with the world between them, until all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::oneshot::error::TryRecvError;

use super::attempts::Working;
use super::hands::Wish;
use super::ledger::{Around, Ledger};
use super::machine::{Machine, Process};
use super::operator::{self, Asked};
use super::plan::{Program, program};
use super::power::Power;
use super::random::Random;
use super::world::{Happening, World};
use crate::config::Durability;
use crate::engine::hands::Errand;
use crate::engine::message::Message;
use crate::engine::waiter::{Ask, Heard, Listed, Plan, Wanted};
use crate::engine::{EngineError, Mode, Order, Refusal};
use crate::error::Error;
use crate::run::{Mark, State};
use crate::store::{Stored, WaitsFor, Write};
use crate::task::{Body, Resume};
use crate::value::{Object, RETURN_VALUE};

/// More rounds than this are no progress.
const ROUNDS: u32 = 60_000;

/// All that is left after the last fault has ended after so long: what is late is deleted for six hours,
/// and a delay may have doubled.
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// What came of a simulation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) trace: u64,
    pub(super) commits: u32,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    pub(super) runs: u32,
    pub(super) orders: u32,
    pub(super) deferred: u32,
}

pub(super) struct Simulation {
    pub(super) program: &'static Program,
    machine: Machine,
    pub(super) process: Option<Process>,
    pub(super) world: World,
    pub(super) ledger: Ledger,
    pub(super) working: BTreeMap<u64, Working>,
    pub(super) looker: Plan,
    pub(super) asked: Vec<Asked>,
    /// Triggers that were answered: the run, and its uuid.
    acknowledged: BTreeMap<i64, String>,
    keys: BTreeMap<(String, String), i64>,
    mode: Mode,
    clock_set: bool,
    faults: Faults,
    /// Attempts that had been cut off when they came to their end.
    stale: BTreeSet<String>,
    power: Power,
    /// Whether something that was committed has been lost.
    dark: bool,
    /// Whether there may be messages that nobody has taken.
    more: bool,
    story: Story,
    tell: bool,
}

/// What goes wrong in this one, and how often, in a thousand.
struct Faults {
    crashes: u64,
    orders: u64,
    clock: u64,
    drains: u64,
    /// How many crashes of a hundred are a loss of power.
    power: u64,
    acts: u32,
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
        power: Power::default(),
        dark: false,
        more: false,
        faults,
        story: Story::default(),
        tell,
    };
    simulation.say(|this| this.program.to_string());
    simulation.live()?;
    simulation.come_to_rest()?;
    simulation.story.runs = simulation.ledger.runs.len() as u32;
    Ok(simulation.story)
}

impl Simulation {
    fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.tell {
            println!("{:>10.3} {}", self.world.elapsed.as_secs_f64(), what(self));
        }
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

    /// Whether ticks may be without a run: the runs of a backfill were taken back.
    pub(super) fn took_back(&self) -> bool {
        self.clock_set
    }

    /// Starts the process, in whichever way it is started.
    fn open(&mut self) {
        self.mode = if self.world.goes_wrong(10) { Mode::Orders } else { Mode::Serve };
        self.say(|this| format!("starts as {:?}", this.mode));
        self.looker = Plan::new(self.machine.s3_rate(), self.machine.clock().instant());
        let process = self.machine.start(self.mode);
        if self.faults.power > 0 {
            self.power.on(self.machine.database(), &process, &self.ledger);
        }
        self.process = Some(process);
    }

    /// The process dies.
    fn crash(&mut self, when: &str) -> Result<(), String> {
        self.say(|_| format!("dies {when}"));
        self.story.crashes += 1;
        // What was acknowledged before has to be there.
        self.hear_answers(true)?;
        let dark = self.world.random.chance(self.faults.power);
        let disk = dark.then(|| Power::disk(self.machine.database()));
        self.process = None;
        if let Some(disk) = disk {
            self.say(|_| "and the power is gone".to_owned());
            let left = self.power.off(self.machine.database(), disk, &mut self.world.random);
            self.ledger = left.unwrap_or_default();
            self.dark |= self.machine.durability() != Durability::Step;
            for number in self.acknowledged.keys() {
                if !self.ledger.runs.contains_key(number) {
                    return Err(format!("run {number} was acknowledged, and is gone with the power"));
                }
            }
        }
        self.gone()?;
        self.ledger.crash();
        Ok(())
    }

    /// There is no process any more.
    fn gone(&mut self) -> Result<(), String> {
        self.machine.noted.take();
        self.working.clear();
        self.world.crash();
        self.asked.clear();
        self.compare_with_rows()
    }

    fn dies(&mut self) -> bool {
        let crashes = self.faults.crashes;
        !self.world.calm && self.world.random.below(1000) < crashes
    }

    /// One turn of the engine, and what the world does until the next one.
    fn round(&mut self) -> Result<(), String> {
        if self.process.is_none() {
            self.open();
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        process.core.decide();
        if self.dies() {
            return self.crash("before a commit");
        }
        self.commit()?;
        if self.dies() {
            return self.crash("behind a commit");
        }
        if self.dies() {
            // What is released before that happens.
            let Some(Process { core, .. }) = &mut self.process else { return Ok(()) };
            let all = core.effects.len() as u64;
            core.effects.truncate(self.world.random.below(all + 1) as usize);
            core.release();
            self.hear()?;
            self.hear_answers(true)?;
            return self.crash("while it releases");
        }
        let Some(Process { core, .. }) = &mut self.process else { return Ok(()) };
        core.release();
        core.look_after().map_err(|error| error.to_string())?;
        self.hear()?;
        self.hear_answers(false)?;
        self.check_memory()?;
        self.act()?;
        let Some(Process { core, mailbox, .. }) = &mut self.process else { return Ok(()) };
        let mut taken = 0;
        self.more = false;
        while let Ok(message) = mailbox.try_recv() {
            core.handle(message).map_err(|error| error.to_string())?;
            taken += 1;
            if taken > 20 || self.world.random.chance(30) {
                self.more = true;
                break;
            }
        }
        core.fire().map_err(|error| error.to_string())?;
        core.tick().map_err(|error| error.to_string())
    }

    fn commit(&mut self) -> Result<(), String> {
        let Some(Process { core, mailbox, .. }) = &mut self.process else { return Ok(()) };
        if core.writes.is_empty() {
            return Ok(());
        }
        let touched: BTreeSet<i64> = self
            .asked
            .iter()
            .filter_map(|asked| match asked {
                Asked::Order(touched, _) => Some(touched),
                Asked::Trigger(..) => None,
            })
            .flatten()
            .copied()
            .collect();
        let around = Around {
            program: self.program,
            now: self.machine.clock().now(),
            clock_set: self.clock_set,
            starts_nothing: core.draining || self.mode == Mode::Orders,
            orders: &touched,
        };
        if self.tell {
            for write in &core.writes {
                println!("{:>10.3}   {}", self.world.elapsed.as_secs_f64(), brief(write));
            }
        }
        let mut hasher = DefaultHasher::new();
        (self.story.trace, self.world.elapsed, core.writes.len()).hash(&mut hasher);
        for write in &core.writes {
            brief(write).hash(&mut hasher);
        }
        self.story.trace = hasher.finish();
        for write in &core.writes {
            let stale = match write {
                Write::XCom { key, value: Stored::Inline(by), .. } if key == RETURN_VALUE => {
                    self.stale.contains(by.as_str())
                }
                Write::Task { record, .. } => {
                    let by = record.error.as_deref().and_then(|error| error.strip_prefix("drawn by "));
                    by.is_some_and(|by| self.stale.contains(by))
                }
                _ => false,
            };
            if stale {
                return Err(format!("what an attempt comes to that was cut off counts: {}", brief(write)));
            }
        }
        self.ledger.take(&core.writes, &around)?;
        let runs: BTreeSet<i64> = core.writes.iter().filter_map(run_of).collect();
        core.commit(mailbox).map_err(|error| error.to_string())?;
        self.story.commits += 1;
        if self.faults.power > 0
            && let Some(process) = &self.process
        {
            let open = self.power.committed(self.machine.database(), process, &self.ledger);
            if open > 0 && self.machine.durability() == Durability::Step {
                return Err("what is committed is not on the disk".to_owned());
            }
        }
        self.check_rows(&runs)
    }

    /// What the engine wants of its hands.
    fn hear(&mut self) -> Result<(), String> {
        // What is not under way for the engine any more was cut off, and may go on for a while.
        let Some(Process { core, .. }) = &self.process else { return Ok(()) };
        for (number, working) in &mut self.working {
            if core.under_way.get(&working.id()).is_none_or(|(of, _)| of != number) {
                working.cut = true;
            }
        }
        let now = self.machine.clock().instant();
        for wish in self.machine.noted.take() {
            match wish {
                Wish::Begin(number, attempt, host) => {
                    let working = Working::new(*attempt, host, u64::from(self.story.attempts));
                    self.check_start(&working)?;
                    self.story.attempts += 1;
                    let (first, second) = (self.world.while_(), self.world.while_());
                    self.world.later(first, Happening::Acts(number));
                    self.world.later(first + second, Happening::Ends(number));
                    self.working.insert(number, working);
                }
                Wish::Go(Errand::Tell(id)) => {
                    let after = self.world.while_();
                    self.world.later(after, Happening::Told(id));
                }
                Wish::Go(Errand::Delete(due)) => {
                    let after = self.world.while_();
                    self.world.later(after, Happening::Swept(due));
                }
                Wish::Look(Wanted::Watch(watch)) => {
                    self.story.deferred += 1;
                    self.looker.add(watch, now);
                }
                Wish::Look(Wanted::Forget(who)) => self.looker.forget(who),
                Wish::Look(Wanted::Hint(object)) => self.looker.hint(&object, now),
            }
        }
        Ok(())
    }

    /// Answers that have come.
    fn hear_answers(&mut self, dying: bool) -> Result<(), String> {
        for asked in std::mem::take(&mut self.asked) {
            match asked {
                Asked::Trigger(key, mut answer) => match answer.try_recv() {
                    Ok(Ok(handle)) => {
                        let (number, uuid) = (handle.run.number, handle.run.uuid.clone());
                        let row = self.ledger.runs.get(&number);
                        if row.is_none_or(|row| row.uuid != uuid) {
                            return Err(format!("run {number} was acknowledged, and is not there"));
                        }
                        if let Some(key) = key {
                            let first =
                                *self.keys.entry((handle.run.dag_id.to_owned(), key)).or_insert(number);
                            if first != number {
                                return Err(format!("the key of run {first} gave run {number}"));
                            }
                        }
                        self.acknowledged.insert(number, uuid);
                    }
                    Ok(Err(error)) => refused(error)?,
                    Err(TryRecvError::Empty) => self.asked.push(Asked::Trigger(key, answer)),
                    Err(TryRecvError::Closed) if dying => {}
                    Err(TryRecvError::Closed) => return Err("a trigger was never answered".to_owned()),
                },
                Asked::Order(touched, mut answer) => match answer.try_recv() {
                    Ok(Ok(answer)) => self.say(|_| format!("answers {answer:?}")),
                    Ok(Err(error)) => {
                        self.say(|_| format!("refuses: {error}"));
                        refused(error)?;
                    }
                    Err(TryRecvError::Empty) => self.asked.push(Asked::Order(touched, answer)),
                    Err(TryRecvError::Closed) if dying => {}
                    Err(TryRecvError::Closed) => return Err("an order was never answered".to_owned()),
                },
            }
        }
        Ok(())
    }

    /// Something happens, or time passes.
    fn act(&mut self) -> Result<(), String> {
        self.look_around();
        self.hear_of_triggered();
        let dice = self.world.random.below(1000);
        if !self.world.calm {
            let Faults { orders, clock, drains, .. } = self.faults;
            if dice < orders {
                self.order();
            } else if dice < orders + clock {
                let minutes = self.world.random.below(240) as i64 - 60;
                self.say(|_| format!("the clock is set by {minutes} minutes"));
                self.machine.clock().set(TimeDelta::minutes(minutes));
                self.clock_set = true;
            } else if dice < orders + clock + drains {
                return self.drain();
            }
        }
        if let Some(what) = self.world.happens() {
            self.happens(what);
            // Others may come in the same batch.
            while self.world.random.chance(40)
                && let Some(what) = self.world.happens()
            {
                self.happens(what);
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

    fn post(&self, message: Message) {
        if let Some(process) = &self.process {
            // It is taken by the next round.
            let _ = process.post.send(message);
        }
    }

    fn order(&mut self) {
        let now = self.now();
        let (message, asked) = operator::order(&mut self.world, &self.ledger, self.program, now);
        self.story.orders += 1;
        self.say(|_| match &message {
            Message::Order { order, .. } => format!("asks: {order:?}"),
            Message::Trigger { definition, trigger, .. } => {
                format!("asks: {} {trigger:?}", definition.dag.dag_id)
            }
            _ => String::new(),
        });
        self.asked.push(asked);
        self.post(message);
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Arrives(key, readable) => {
                self.say(|_| format!("arrives {key} {readable}"));
                self.world.objects.insert(key, readable);
            }
            Happening::Told(id) => {
                let error = self.world.goes_wrong(20).then(|| Error::msg("drawn"));
                self.post(Message::Told { id, later: Vec::new(), error });
            }
            Happening::Swept(due) => {
                let trouble = self.world.goes_wrong(20);
                let done = due.into_iter().map(|deletion| {
                    let fails =
                        trouble && (deletion.object.key.len() % 2 == 0 || deletion.until > deletion.due_at);
                    if !fails {
                        self.world.objects.remove(&deletion.object.key);
                    }
                    (deletion, if fails { Err("drawn".to_owned()) } else { Ok(()) })
                });
                let done = done.collect();
                self.post(Message::Swept { done });
            }
            Happening::Acts(number) => {
                let Some(working) = self.working.get_mut(&number) else { return };
                working.acts(&mut self.world);
                if let Body::Group { call, .. } =
                    &working.attempt.definition.bodies[working.attempt.task as usize]
                    && call.keep
                {
                    let stays = working.call_name();
                    self.world.kept.insert(stays);
                }
                let (run, key) = working.id();
                let target = self
                    .program
                    .definitions
                    .iter()
                    .position(|definition| definition.dag.dag_id == working.attempt.run.dag_id);
                let target = target.and_then(|dag| self.program.targets[dag].get(&key.task));
                if let (Some(&target), None) = (target, working.attempt.resume) {
                    let (reply, answer) = tokio::sync::oneshot::channel();
                    working.triggers = Some(answer);
                    let dag_id = self.program.definitions[target].dag.dag_id.to_owned();
                    let key = working.call_name();
                    self.say(|_| format!("run {run} triggers {dag_id}"));
                    self.post(Message::Start { dag_id, conf: None, key, reply });
                }
            }
            Happening::Ends(number) => {
                let Some(working) = self.working.get(&number) else { return };
                if working.triggers.is_some() {
                    self.world.later(Duration::from_secs(1), Happening::Ends(number));
                    return;
                }
                let end = working.ends(&mut self.world, &self.ledger);
                let ended = working.message(number, end);
                let now = self.process.as_ref().and_then(|process| process.core.under_way.get(&working.id()));
                if now.is_none_or(|(of, _)| *of != number) {
                    self.stale.insert(working.serial.to_string());
                }
                self.working.remove(&number);
                // A service may want to be left alone.
                if self.world.goes_wrong(2) {
                    let until = self.now() + TimeDelta::seconds(self.world.random.below(100) as i64 + 1);
                    let service = ["one", "two"][self.world.random.below(2) as usize];
                    self.post(Message::Closed { service: format!("{service}-dev"), until });
                }
                self.post(Message::Ended(ended));
            }
        }
    }

    /// Looks in S3 for what is waited for.
    fn look_around(&mut self) {
        let now = self.machine.clock().instant();
        let mut due = Vec::new();
        for ((run, key), object) in self.looker.overdue(now) {
            due.push((run, key, object, Resume::Overdue));
        }
        while let Some(ask) = self.looker.ask(now) {
            let trouble = self.world.goes_wrong(5);
            let found: Vec<_> = match ask {
                Ask::Head { id, object } => {
                    let heard = match self.world.objects.contains_key(&object.key) {
                        _ if trouble => Heard::Trouble,
                        true => Heard::There,
                        false => Heard::Missing,
                    };
                    self.looker.heard(id, heard, now).into_iter().collect()
                }
                Ask::List { bucket, prefix, after } => {
                    let keys = self.world.objects.keys();
                    let keys =
                        keys.filter(|key| **key > after && key.starts_with(&prefix)).cloned().collect();
                    let listed = if trouble { Listed::Trouble } else { Listed::Keys(keys, false) };
                    self.looker.listed(&bucket, listed, now)
                }
            };
            due.extend(found.into_iter().map(|((run, key), object)| (run, key, object, Resume::Arrived)));
        }
        for (run, key, object, resume) in due {
            let Object { .. } = &object;
            self.post(Message::Due { run, key, of: WaitsFor::Object(object), resume });
        }
    }

    /// What attempts have triggered.
    fn hear_of_triggered(&mut self) {
        for working in self.working.values_mut() {
            let Some(answer) = &mut working.triggers else { continue };
            let triggered = match answer.try_recv() {
                Ok(Ok(handle)) => Ok(handle.run.number),
                Ok(Err(EngineError::Refused(refusal))) => Err(!matches!(refusal, Refusal::Trouble(_))),
                Ok(Err(_)) | Err(TryRecvError::Closed) => Err(false),
                Err(TryRecvError::Empty) => continue,
            };
            (working.triggers, working.triggered) = (None, Some(triggered));
        }
    }

    /// Stops as one who is asked to, and starts again.
    fn drain(&mut self) -> Result<(), String> {
        self.say(|_| "is drained".to_owned());
        let (reply, mut drained) = tokio::sync::oneshot::channel();
        self.post(Message::Drain { reply });
        // It has no end of its own: what runs comes to its end.
        for _ in 0..20_000 {
            let before = self.process.is_some();
            let calm = std::mem::replace(&mut self.faults.drains, 0);
            self.round()?;
            self.faults.drains = calm;
            if !before || self.process.is_none() {
                return Ok(());
            }
            match drained.try_recv() {
                Ok(()) => {
                    if let Some(number) =
                        self.working.iter().find(|(_, working)| !working.cut).map(|(n, _)| n)
                    {
                        return Err(format!("attempt {number} is under way after the drain"));
                    }
                    let runs = self.ledger.tasks.iter().find(|(name, task)| {
                        task.state == Some(State::Running) && !self.ledger.cut_off.contains(*name)
                    });
                    if let Some((name, _)) = runs {
                        return Err(format!("{name:?} runs after the drain"));
                    }
                    // Who stops drops what nobody has taken.
                    self.process = None;
                    return self.gone();
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => return Err("the drain was never answered".to_owned()),
            }
        }
        Err("it is never drained".to_owned())
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

    fn ask(&mut self, order: Order) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.post(Message::Order { order, reply });
        self.asked.push(Asked::Order(BTreeSet::new(), answer));
    }

    fn asked_of(&mut self, run: i64) {
        if let Some(Asked::Order(touched, _)) = self.asked.last_mut() {
            touched.insert(run);
        }
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

/// A refusal is an answer; anything else is not.
fn refused(error: EngineError) -> Result<(), String> {
    match error {
        EngineError::Refused(_) => Ok(()),
        error => Err(format!("an order fails: {error}")),
    }
}

fn run_of(write: &Write) -> Option<i64> {
    match write {
        Write::RunMade(run) => Some(run.number),
        Write::Run { record, .. } => Some(record.number),
        Write::Task { record, .. } => Some(record.run),
        _ => None,
    }
}

/// A change in few words.
fn brief(write: &Write) -> String {
    match write {
        Write::RunMade(run) => format!("run {} {} {} {}", run.number, run.run_id, run.state, run.uuid),
        Write::Run { record, event, .. } => format!("run {} {event} {}", record.number, record.state),
        Write::Task { record, .. } => format!(
            "run {} {}[{}] {:?} try {} of {} cut {} gen {} due {:?} for {:?}",
            record.run,
            record.task_id,
            record.map_index,
            record.state,
            record.try_number,
            record.tries_before,
            record.interruptions,
            record.generation,
            record.due_at,
            record.waits_for
        ),
        Write::XCom { run, task_id, map_index, key, .. } => {
            format!("xcom {run} {task_id}[{map_index}] {key}")
        }
        Write::Log { run, piece } => format!("log {run} {}", piece.task_id),
        other => format!("{other:?}"),
    }
}
