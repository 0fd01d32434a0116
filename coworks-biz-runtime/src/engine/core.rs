//! The thread that owns the database and the live runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::alarms::Alarm;
use super::attempts::List;
use super::dags::Dags;
use super::effects::Effect;
use super::hands::Hands;
use super::host::Shared;
use super::live::Live;
use super::mailbox::Mailbox;
use super::message::Message;
use super::outbox::Outbox;
use super::services::Services;
use super::slots::Slots;
use super::sweep::Sweep;
use super::{Answer, Map, Mode, Order, Refusal};
use crate::clock::Clock;
use crate::config::Config;
use crate::run::{Command, Key, RunState};
use crate::store::{RunRecord, StoreError, Write, Writer};
use crate::task::Definition;

/// How many changes one transaction takes, so that a large one cannot hold up a trigger.
pub(super) const BATCH: usize = 1000;

/// How often the clock is looked at while a schedule waits for it: it may be set.
const CLOCK: Duration = Duration::from_secs(1);

/// What a commit takes for which it is worth to wait for what comes in a moment.
const SLOW: Duration = Duration::from_micros(50);

/// How long a full disk is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// What a turn of the engine is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// What follows from all that was taken in.
    Decide,
    Commit,
    /// What was committed begins.
    Release,
    /// What is to be done now and then.
    LookAfter,
}

/// A turn, in its order: nothing begins before what it follows from is committed.
pub(super) const TURN: [Phase; 4] = [Phase::Decide, Phase::Commit, Phase::Release, Phase::LookAfter];

pub(super) struct Core {
    pub(super) mode: Mode,
    pub(super) writer: Writer,
    pub(super) dags: Dags,
    /// The pools, by name.
    pub(super) pools: BTreeMap<String, usize>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) hands: Box<dyn Hands>,
    pub(super) runs: Map<i64, Live>,
    pub(super) next_run: i64,
    pub(super) slots: Slots,
    pub(super) services: Services,
    pub(super) alarms: BinaryHeap<Reverse<(Instant, Alarm)>>,
    /// When the ticks of which DAG are looked at again.
    pub(super) looks: BTreeSet<(DateTime<Utc>, usize)>,
    /// The latest that the clock has been.
    pub(super) latest: Option<DateTime<Utc>>,
    /// The DAGs of which a run may begin that could not before.
    pub(super) stirred: BTreeSet<usize>,
    /// Lists whose items are not all written.
    pub(super) lists: VecDeque<List>,
    pub(super) writes: Vec<Write>,
    /// The runs that these make, by DAG and logical date.
    pub(super) made: Map<usize, BTreeMap<DateTime<Utc>, RunRecord>>,
    pub(super) prune_due: bool,
    /// How many alarms there were for somebody when that was last counted.
    pub(super) awake: usize,
    pub(super) effects: Vec<Effect>,
    pub(super) commands: Vec<Command>,
    /// The attempts under way, with their numbers.
    pub(super) under_way: Map<(i64, Key), (u64, Option<AbortHandle>)>,
    pub(super) next_attempt: u64,
    /// Who wants to know how a run ends.
    pub(super) ends: Map<i64, watch::Sender<Option<RunState>>>,
    /// Which task instances wait for the end of a run.
    pub(super) awaited: Map<i64, Vec<(i64, Key)>>,
    /// Which runs look at one that came before them.
    pub(super) followers: Map<i64, Vec<i64>>,
    pub(super) passes: Vec<(i64, Vec<u32>)>,
    /// How long runs are kept.
    pub(super) retention: Option<TimeDelta>,
    pub(super) outbox: Outbox,
    pub(super) sweep: Sweep,
    pub(super) draining: bool,
    /// Whether the last commit has taken longer than it is worth to wait for what comes in a moment.
    slow: bool,
    /// Why nothing goes on, where it does not, and what was told meanwhile.
    trouble: Option<String>,
    backlog: VecDeque<Message>,
    pub(super) drained: Vec<oneshot::Sender<()>>,
    stayed: Vec<oneshot::Sender<()>>,
    pub(super) failure: Arc<OnceLock<String>>,
}

impl Core {
    pub(super) fn new(
        mode: Mode,
        writer: Writer,
        definitions: &[&'static Definition],
        shared: Arc<Shared>,
        hands: Box<dyn Hands>,
        config: &Config,
    ) -> Result<Self, StoreError> {
        let next_run = writer.next_run()?;
        let dags = Dags::new(definitions, writer.dags()?);
        let pools = (0..).zip(config.pools.keys()).map(|(place, name)| (name.clone(), place)).collect();
        let mut slots = Slots::new(config.parallelism, config.pools.values().copied().collect());
        // Who executes one run was asked for that.
        for dag in (0..dags.len()).filter(|&dag| mode == Mode::Serve && dags[dag].record.paused) {
            slots.pause(dag, true);
        }
        let services = match mode {
            // Who executes nothing calls nobody.
            Mode::Orders => Services::default(),
            Mode::OneRun | Mode::Serve => Services::of(definitions),
        };
        slots.serve(services.gates(&config.services));
        if mode == Mode::Orders {
            slots.drain();
        }
        let mut core = Self {
            mode,
            writer,
            dags,
            pools,
            hands,
            runs: Map::default(),
            next_run,
            slots,
            services,
            alarms: BinaryHeap::new(),
            looks: BTreeSet::new(),
            latest: None,
            stirred: BTreeSet::new(),
            lists: VecDeque::new(),
            writes: Vec::new(),
            made: Map::default(),
            prune_due: false,
            awake: 0,
            effects: Vec::new(),
            commands: Vec::new(),
            under_way: Map::default(),
            next_attempt: 0,
            ends: Map::default(),
            awaited: Map::default(),
            followers: Map::default(),
            passes: Vec::new(),
            clock: config.clock.clone(),
            retention: config.retention.and_then(|retention| TimeDelta::from_std(retention).ok()),
            outbox: Outbox::default(),
            sweep: Sweep::default(),
            draining: false,
            slow: false,
            trouble: None,
            backlog: VecDeque::new(),
            drained: Vec::new(),
            stayed: Vec::new(),
            failure: Arc::default(),
            shared,
        };
        core.take_stock()?;
        Ok(core)
    }

    /// Takes in what an earlier process has left: deletions in any case, and all runs where this one serves.
    fn take_stock(&mut self) -> Result<(), StoreError> {
        for backfill in self.writer.backfills()? {
            if let Some(dag) = self.dags.place(&backfill.dag_id) {
                self.dags[dag].begin_backfill(backfill);
                // All of its runs may have ended.
                if self.mode == Mode::Serve {
                    self.stirred.insert(dag);
                }
            }
        }
        self.take_notices()?;
        if self.mode != Mode::Orders {
            if let Err(error) = self.writer.sweep_drafts() {
                tracing::warn!(target: "coworks_biz::engine", "what was half written of large values stays: {error}");
            }
            self.sweep.due = true;
        }
        if self.mode == Mode::Serve {
            self.warn_of_mail(&self.shared);
            self.take_over()?;
            self.look_at_all()?;
            self.alarm(self.now(), Alarm::Prune);
        }
        if self.mode != Mode::Orders {
            self.alarm(self.now(), Alarm::Stays);
        }
        Ok(())
    }

    /// Works until it is stopped, or until the database fails, which is left in `failure`.
    pub(super) fn run(mut self, mailbox: &mut Mailbox, failure: &Arc<OnceLock<String>>) {
        self.failure = Arc::clone(failure);
        let worked = std::panic::catch_unwind(AssertUnwindSafe(|| self.work(mailbox)));
        // The last connection that closes brings the log into the file.
        self.shared.close_readers();
        // Told before the handles of the runs are dropped, which is how the callers notice.
        let _ = match worked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failure.set(error.to_string()),
            Err(_) => failure.set("its thread panicked: an error of coworks-biz".to_owned()),
        };
    }

    fn work(&mut self, mailbox: &mut Mailbox) -> Result<(), StoreError> {
        loop {
            for phase in TURN {
                if !self.phase(phase, mailbox)? {
                    return Ok(());
                }
            }
            let Some(message) = self.receive(mailbox) else { return Ok(()) };
            if !self.take(message, |core| core.next(mailbox))? {
                return Ok(());
            }
        }
    }

    /// A part of a turn. `false` where the engine is to stop.
    pub(super) fn phase(&mut self, phase: Phase, mailbox: &mut Mailbox) -> Result<bool, StoreError> {
        match phase {
            Phase::Decide => self.decide(),
            Phase::Commit => return self.commit(mailbox),
            Phase::Release => self.release(),
            Phase::LookAfter => self.look_after()?,
        }
        Ok(true)
    }

    /// Takes in what is told, as far as a batch goes, and what is due. `false` where the engine is to stop.
    pub(super) fn take(
        &mut self,
        first: Option<Message>,
        mut next: impl FnMut(&mut Self) -> Option<Message>,
    ) -> Result<bool, StoreError> {
        let mut message = first;
        while let Some(told) = message {
            if matches!(told, Message::Stop) {
                return Ok(false);
            }
            self.handle(told)?;
            message = match self.writes.len() < BATCH {
                true => next(self),
                false => None,
            };
        }
        self.fire()?;
        self.tick()?;
        Ok(true)
    }

    /// The next message, if there is one. While others are under way, one that comes in a moment too: where
    /// a commit takes its time, fewer of them with more in each are faster.
    fn next(&mut self, mailbox: &Mailbox) -> Option<Message> {
        let there = self.backlog.pop_front().or_else(|| mailbox.try_recv().ok());
        let wait = self.slow && !self.under_way.is_empty() && !self.writes.is_empty();
        there.or_else(|| wait.then(|| mailbox.in_a_moment())?)
    }

    /// What follows from all that was taken in, as far as a batch goes.
    fn decide(&mut self) {
        self.write_items();
        self.pass_on();
        self.assign();
    }

    /// What is to be done now and then, behind a commit.
    fn look_after(&mut self) -> Result<(), StoreError> {
        // Of what is removed, nothing is uncommitted here: rows are the truth.
        if std::mem::take(&mut self.prune_due) {
            self.prune()?;
        }
        self.sweep()?;
        self.tell_drained()?;
        self.begin_stirred()
    }

    /// Commits what has come about. A full disk is waited out: nothing is lost, nothing goes on, and
    /// who asks for something is told. `false` when the engine was stopped meanwhile.
    fn commit(&mut self, mailbox: &mut Mailbox) -> Result<bool, StoreError> {
        while !self.writes.is_empty() {
            let begin = Instant::now();
            let starts = self.effects.iter().any(|effect| matches!(effect, Effect::Start { .. }));
            let meanwhile = || {
                if starts {
                    self.hands.soon();
                }
            };
            match self.writer.commit_and(&self.writes, meanwhile) {
                Ok(()) => {
                    self.slow = begin.elapsed() > SLOW;
                    self.writes.clear();
                    self.made.clear();
                    if self.trouble.take().is_some() {
                        tracing::info!(target: "coworks_biz::engine", "there is room on the disk again: it goes on");
                    }
                }
                Err(error) if error.is_full() => {
                    let trouble = format!("{error}: nothing goes on until there is room on the disk");
                    if self.trouble.as_ref() != Some(&trouble) {
                        tracing::error!(target: "coworks_biz::engine", "{trouble}");
                    }
                    self.trouble = Some(trouble);
                    self.shared.is_full();
                    if !self.wait_out(mailbox) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits a while and keeps what is told for later; refuses what wants an answer now.
    fn wait_out(&mut self, mailbox: &mut Mailbox) -> bool {
        let until = Instant::now() + PAUSE;
        loop {
            let refusal = || Refusal::Trouble(self.trouble.clone().unwrap_or_default()).into();
            match mailbox.recv(Some(until.saturating_duration_since(Instant::now())), true) {
                Ok(Message::Trigger { reply, .. } | Message::Resume { reply, .. }) => {
                    drop(reply.send(Err(refusal())));
                }
                #[cfg(test)]
                Ok(Message::Pages(most)) => self.writer.limit(most),
                Ok(Message::Order { order: Order::Status, reply }) => drop(reply.send(Ok(self.status()))),
                Ok(Message::Order { reply, .. }) => drop(reply.send(Err(refusal()))),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(message) => self.backlog.push_back(message),
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    /// Now, as exactly as it is stored: a run is the same before and after a restart.
    pub(super) fn now(&self) -> DateTime<Utc> {
        exact(self.clock.now())
    }

    pub(super) fn status(&self) -> Answer {
        let (running, runs) = (self.slots.running(), self.runs.len());
        #[cfg(feature = "s3")]
        let waiting = *self.shared.waiting.lock().unwrap_or_else(|e| e.into_inner());
        #[cfg(not(feature = "s3"))]
        let waiting = super::Waiting::default();
        Answer::Status { trouble: self.trouble.clone(), running, runs, waiting, services: self.held_up() }
    }

    /// The next message; `Some(None)` when something else is due first, `None` when nobody is left to send one.
    fn receive(&mut self, mailbox: &mut Mailbox) -> Option<Option<Message>> {
        if let Some(message) = self.backlog.pop_front() {
            return Some(Some(message));
        }
        if self.is_busy() {
            return match mailbox.try_recv() {
                Ok(message) => Some(Some(message)),
                Err(TryRecvError::Empty) => Some(None),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        // Who executes one run has nothing to wait for after it.
        let stays = self.mode == Mode::OneRun && self.runs.is_empty();
        match mailbox.recv(self.rest(), !stays) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether there is more to do before anything else happens.
    pub(super) fn is_busy(&mut self) -> bool {
        let at = self.clock.instant();
        let behind = self.slots.behind_from(at).is_some_and(|from| from <= at);
        let busy = !self.lists.is_empty() || !self.stirred.is_empty() || !self.passes.is_empty();
        busy || behind || !self.writes.is_empty() || !self.effects.is_empty()
    }

    /// How long nothing is to be done, if nothing happens.
    pub(super) fn rest(&mut self) -> Option<Duration> {
        let at = self.clock.instant();
        let alarm = self.alarms.peek().map(|Reverse((alarm, _))| *alarm);
        let alarm = alarm.into_iter().chain(self.slots.behind_from(at)).min();
        let alarm = alarm.map(|alarm| alarm.saturating_duration_since(at));
        let look = self.looks.first().map(|(at, _)| (*at - self.clock.now()).to_std().unwrap_or_default());
        // The machine's clock may be set.
        let look = look.map(|look| if self.clock.skips() { look } else { look.min(CLOCK) });
        alarm.into_iter().chain(look).min()
    }

    /// Takes in one message. Whoever asks is answered behind the commit: what the answer tells is recorded by then,
    /// and so is what a refusal is built on.
    fn handle(&mut self, message: Message) -> Result<(), StoreError> {
        match message {
            Message::Trigger { definition, trigger, reply } => {
                let answer = self.trigger(definition, trigger);
                self.effects.push(Effect::Answer { reply, answer });
            }
            Message::Start { dag_id, conf, key, reply } => {
                let answer = self.start_for_task(&dag_id, conf, key);
                self.effects.push(Effect::Answer { reply, answer });
            }
            Message::Resume { dag_id, run_id, reply } => {
                let answer = self.resume(dag_id.as_deref(), run_id);
                self.effects.push(Effect::Answer { reply, answer });
            }
            // Nothing is recorded by that, and so nothing is to be waited for.
            Message::Order { order: Order::Status, reply } => drop(reply.send(Ok(self.status()))),
            Message::Order { order, reply } => {
                let answer = self.order(order);
                self.effects.push(Effect::Done { reply, answer });
            }
            Message::Ended(ended) => self.take_in(ended),
            Message::Log { run, piece } => self.writes.push(Write::Log { run, piece }),
            Message::Due { run, key, of, resume } => self.arrived(run, key, &of, resume),
            Message::Look { reply } => {
                self.writer.stays()?;
                let _ = reply.send(());
            }
            Message::Broken(error) => {
                self.writer.stays()?;
                return Err(error);
            }
            Message::Swept { done } => self.swept(done),
            Message::Closed { service, until } => self.leave_alone(&service, until),
            Message::Told { id, later, error } => self.told(id, later, error),
            #[cfg(test)]
            Message::Pages(most) => self.writer.limit(most),
            Message::Stay { reply } => self.stayed.push(reply),
            Message::Drain { reply } => {
                self.slots.drain();
                self.draining = true;
                self.looks.clear();
                self.drained.push(reply);
            }
            Message::Stop => unreachable!("the caller takes it"),
        }
        Ok(())
    }
}

/// A moment as exactly as it is stored.
pub(super) fn exact(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}
