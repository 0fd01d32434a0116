//! The thread that owns the database and the live runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::attempts::List;
use super::dags::Dags;
use super::host::{Outputs, RunHost, Shared};
use super::live::{Live, word_of};
use super::message::{Message, Reply};
use super::outbox::Outbox;
use super::slots::{Ready, Slots};
use super::{Answer, EngineError, Mode, Order, Refusal, RunHandle};
use crate::config::Config;
use crate::run::{ALONE_AFTER, Command, Event, Key, MAX_INTERRUPTIONS, RunState, State};
use crate::store::{StoreError, Stored, WaitsFor, Write, Writer};
use crate::task::{Attempt, Definition, Resume};
use crate::value::Object;

/// How many changes one transaction takes, so that a large one cannot hold up a trigger.
pub(super) const BATCH: usize = 1000;

/// How often the clock is looked at while a schedule waits for it: it may be set.
const CLOCK: Duration = Duration::from_secs(1);

/// How often it is looked for runs that are older than the retention, and how far the pieces of
/// what is found are apart.
const PRUNE_EVERY: TimeDelta = TimeDelta::hours(1);
const PRUNE_PIECES: TimeDelta = TimeDelta::milliseconds(50);

/// How long a full disk is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// What begins once the changes it follows from are committed.
pub(super) enum Effect {
    Begun { run: i64, resumed: bool },
    Answer { reply: Reply, handle: RunHandle },
    Done { reply: oneshot::Sender<Result<Answer, EngineError>>, answer: Answer },
    Start { attempt: Attempt, host: RunHost },
    Keep { outputs: Arc<Outputs>, task: &'static str, map_index: i32, xcoms: Vec<(String, Stored)> },
    Watch { run: i64, key: Key },
    Delete(Object),
    Tell(i64),
    Say { run: i64, key: Key, state: State },
    End { run: i64, state: RunState },
}

/// What is to be done at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A task instance is called again, if this is still when.
    Task(i64, Key, DateTime<Utc>),
    /// A run has had its time.
    Run(i64),
    /// Somebody is told of something, again.
    Notice(i64),
    /// Runs that ended long ago are removed.
    Prune,
}

pub(super) struct Core {
    pub(super) mode: Mode,
    pub(super) writer: Writer,
    pub(super) dags: Dags,
    /// The pools, by name.
    pools: BTreeMap<String, usize>,
    pub(super) shared: Arc<Shared>,
    pub(super) tokio: Handle,
    pub(super) runs: HashMap<i64, Live>,
    pub(super) next_run: i64,
    pub(super) slots: Slots,
    alarms: BinaryHeap<Reverse<(Instant, Alarm)>>,
    /// When the ticks of which DAG are looked at again.
    pub(super) looks: BTreeSet<(DateTime<Utc>, usize)>,
    /// The latest that the clock has been.
    pub(super) clock: Option<DateTime<Utc>>,
    /// The DAGs of which a run may begin that could not before.
    pub(super) stirred: HashSet<usize>,
    /// Lists whose items are not all written.
    pub(super) lists: VecDeque<List>,
    pub(super) writes: Vec<Write>,
    pub(super) effects: Vec<Effect>,
    commands: Vec<Command>,
    /// The attempts under way; cut off when the engine goes.
    pub(super) attempts: JoinSet<()>,
    /// Each of them, with its number.
    pub(super) under_way: HashMap<(i64, Key), (u64, AbortHandle)>,
    pub(super) next_attempt: u64,
    /// Who wants to know how a run ends.
    pub(super) ends: HashMap<i64, watch::Sender<Option<RunState>>>,
    /// Which task instances wait for the end of a run.
    pub(super) awaited: HashMap<i64, Vec<(i64, Key)>>,
    /// Which runs look at one that came before them.
    pub(super) followers: HashMap<i64, Vec<i64>>,
    pub(super) passes: Vec<(i64, Vec<u32>)>,
    /// How long runs are kept.
    retention: Option<TimeDelta>,
    pub(super) outbox: Outbox,
    deleting: usize,
    pub(super) draining: bool,
    /// Why nothing goes on, where it does not, and what was told meanwhile.
    trouble: Option<String>,
    backlog: VecDeque<Message>,
    drained: Vec<oneshot::Sender<()>>,
    stayed: Vec<oneshot::Sender<()>>,
    pub(super) failure: Arc<OnceLock<String>>,
    #[cfg(feature = "s3")]
    waiter: super::waiter::Waiter,
}

impl Core {
    pub(super) fn new(
        mode: Mode,
        writer: Writer,
        definitions: &[&'static Definition],
        shared: Arc<Shared>,
        config: &Config,
    ) -> Result<Self, StoreError> {
        let next_run = writer.next_run()?;
        let dags = Dags::new(definitions, writer.dags()?);
        let pools = (0..).zip(config.pools.keys()).map(|(place, name)| (name.clone(), place)).collect();
        let mut slots = Slots::new(config.parallelism, config.pools.values().copied().collect());
        for dag in (0..dags.len()).filter(|&dag| dags[dag].record.paused) {
            slots.pause(dag, true);
        }
        if mode == Mode::Orders {
            slots.drain();
        }
        let mut core = Self {
            mode,
            writer,
            dags,
            pools,
            tokio: Handle::current(),
            runs: HashMap::new(),
            next_run,
            slots,
            alarms: BinaryHeap::new(),
            looks: BTreeSet::new(),
            clock: None,
            stirred: HashSet::new(),
            lists: VecDeque::new(),
            writes: Vec::new(),
            effects: Vec::new(),
            commands: Vec::new(),
            attempts: JoinSet::new(),
            under_way: HashMap::new(),
            next_attempt: 0,
            ends: HashMap::new(),
            awaited: HashMap::new(),
            followers: HashMap::new(),
            passes: Vec::new(),
            retention: config.retention.and_then(|retention| TimeDelta::from_std(retention).ok()),
            outbox: Outbox::default(),
            deleting: 0,
            draining: false,
            trouble: None,
            backlog: VecDeque::new(),
            drained: Vec::new(),
            stayed: Vec::new(),
            failure: Arc::default(),
            #[cfg(feature = "s3")]
            waiter: super::waiter::Waiter::start(Arc::clone(&shared)),
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
        if self.mode != Mode::Orders {
            for object in self.writer.to_delete()? {
                self.effects.push(Effect::Delete(object));
            }
            self.take_notices()?;
        }
        if self.mode == Mode::Serve {
            self.warn_of_mail(&self.shared);
            self.take_over()?;
            self.look_at_all()?;
            self.alarm(now(), Alarm::Prune);
        }
        Ok(())
    }

    /// Works until it is stopped, or until the database fails, which is left in `failure`.
    pub(super) fn run(mut self, receiver: &Receiver<Message>, failure: &Arc<OnceLock<String>>) {
        self.failure = Arc::clone(failure);
        let worked = std::panic::catch_unwind(AssertUnwindSafe(|| self.work(receiver)));
        // The last connection that closes brings the log into the file.
        self.shared.close_readers();
        // Told before the handles of the runs are dropped, which is how the callers notice.
        let _ = match worked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failure.set(error.to_string()),
            Err(_) => failure.set("its thread panicked: an error of coworks-biz".to_owned()),
        };
    }

    fn work(&mut self, receiver: &Receiver<Message>) -> Result<(), StoreError> {
        loop {
            self.write_items();
            self.begin_stirred()?;
            self.pass_on();
            self.assign();
            if !self.writes.is_empty() {
                if !self.commit(receiver)? {
                    return Ok(());
                }
                self.writes.clear();
            }
            self.release();
            let Some(message) = self.receive(receiver) else { return Ok(()) };
            let mut next = message;
            while let Some(message) = next {
                if matches!(message, Message::Stop) {
                    return Ok(());
                }
                self.handle(message)?;
                next = if self.writes.len() < BATCH { receiver.try_recv().ok() } else { None };
            }
            self.fire();
            self.tick()?;
        }
    }

    /// Commits what has come about. A full disk is waited out: nothing is lost, nothing goes on, and
    /// who asks for something is told. `false` when the engine was stopped meanwhile.
    fn commit(&mut self, receiver: &Receiver<Message>) -> Result<bool, StoreError> {
        loop {
            match self.writer.commit(&self.writes) {
                Ok(()) => {
                    if self.trouble.take().is_some() {
                        tracing::info!(target: "coworks_biz::engine", "there is room on the disk again: it goes on");
                    }
                    return Ok(true);
                }
                Err(error) if error.is_full() => {
                    let trouble = format!("{error}: nothing goes on until there is room on the disk");
                    if self.trouble.as_ref() != Some(&trouble) {
                        tracing::error!(target: "coworks_biz::engine", "{trouble}");
                    }
                    self.trouble = Some(trouble);
                    if !self.wait_out(receiver) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits a while and keeps what is told for later; refuses what wants an answer now.
    fn wait_out(&mut self, receiver: &Receiver<Message>) -> bool {
        let until = Instant::now() + PAUSE;
        loop {
            let refusal = || Refusal::Trouble(self.trouble.clone().unwrap_or_default()).into();
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(
                    Message::Trigger { reply, .. }
                    | Message::Start { reply, .. }
                    | Message::Resume { reply, .. },
                ) => {
                    drop(reply.send(Err(refusal())));
                }
                Ok(Message::Order { order: Order::Status, reply }) => drop(reply.send(Ok(self.status()))),
                Ok(Message::Order { reply, .. }) => drop(reply.send(Err(refusal()))),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(message) => self.backlog.push_back(message),
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }

    pub(super) fn status(&self) -> Answer {
        let (running, runs) = (self.slots.running(), self.runs.len());
        Answer::Status { trouble: self.trouble.clone(), running, runs }
    }

    /// The next message; `Some(None)` when something else is due first, `None` when nobody is left to send one.
    fn receive(&mut self, receiver: &Receiver<Message>) -> Option<Option<Message>> {
        if let Some(message) = self.backlog.pop_front() {
            return Some(Some(message));
        }
        if self.slots.is_behind() || !self.lists.is_empty() || !self.stirred.is_empty() {
            return match receiver.try_recv() {
                Ok(message) => Some(Some(message)),
                Err(TryRecvError::Empty) => Some(None),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        let alarm = self.alarms.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let look =
            self.looks.first().map(|(at, _)| (*at - Utc::now()).to_std().unwrap_or_default().min(CLOCK));
        let Some(pause) = alarm.into_iter().chain(look).min() else { return receiver.recv().ok().map(Some) };
        match receiver.recv_timeout(pause) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), StoreError> {
        match message {
            Message::Trigger { definition, trigger, reply } => {
                let answer = self.trigger(definition, trigger);
                self.answer(reply, answer);
            }
            Message::Start { dag_id, conf, key, reply } => {
                let answer = self.start_for_task(&dag_id, conf, key);
                self.answer(reply, answer);
            }
            Message::Resume { dag_id, run_id, reply } => {
                let answer = self.resume(dag_id.as_deref(), run_id);
                self.answer(reply, answer);
            }
            Message::Order { order, reply } => match self.order(order) {
                Ok(answer) => self.effects.push(Effect::Done { reply, answer }),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Ended(ended) => self.take_in(ended),
            Message::Log { run, piece } => self.writes.push(Write::Log { run, piece }),
            Message::Due { run, key, resume } => self.due(run, key, Some(resume)),
            #[cfg(feature = "s3")]
            Message::Deleted { object, done } => {
                self.deleting -= 1;
                if done {
                    self.writes.push(Write::Deleted(object));
                }
            }
            Message::Told { id, error } => self.told(id, error),
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

    /// Answers once what the answer tells is committed; a refusal at once.
    fn answer(&mut self, reply: Reply, answer: Result<RunHandle, EngineError>) {
        match answer {
            Ok(handle) => self.effects.push(Effect::Answer { reply, handle }),
            // A caller that is gone does not want the run any more; there is nobody to tell.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn due(&mut self, run: i64, key: Key, resume: Option<Resume>) {
        // A run that has ended meanwhile waits for nothing, and neither does a task that was cut off.
        let waits = |live: &Live| {
            matches!(live.instance(key).state, Some(State::UpForRetry | State::UpForReschedule))
        };
        if self.runs.get(&run).is_some_and(waits) {
            self.step(run, Event::Due(key), resume);
        }
    }

    /// Has a task instance called again at this moment.
    pub(super) fn wake(&mut self, run: i64, key: Key, at: DateTime<Utc>) {
        self.alarm(at, Alarm::Task(run, key, at));
    }

    /// Has something done at this moment.
    pub(super) fn alarm(&mut self, at: DateTime<Utc>, what: Alarm) {
        let after = (at - now()).to_std().unwrap_or_default();
        let at = Instant::now().checked_add(after).unwrap_or_else(far_future);
        self.alarms.push(Reverse((at, what)));
    }

    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, alarm))) = self.alarms.peek() {
            if at > now {
                break;
            }
            self.alarms.pop();
            match alarm {
                Alarm::Task(run, key, due) => {
                    let Some(live) = self.runs.get(&run) else { continue };
                    // It was cleared meanwhile, and waits for something else.
                    if live.due_at(key) != Some(due) {
                        continue;
                    }
                    let overdue = matches!(live.waits_for(key), Some(WaitsFor::Run { .. }));
                    self.due(run, key, overdue.then_some(Resume::Overdue));
                }
                Alarm::Run(run) => self.out_of_time(run),
                Alarm::Notice(id) => self.tell(id),
                Alarm::Prune => self.prune(),
            }
        }
    }

    /// Removes a piece of what is older than the retention; the next one soon, or what is then old in a while.
    fn prune(&mut self) {
        let Some(before) = self.retention.and_then(|retention| now().checked_sub_signed(retention)) else {
            return;
        };
        let pause = match self.writer.prune(before, BATCH) {
            Ok(pruned) if pruned.more => PRUNE_PIECES,
            Ok(_) => PRUNE_EVERY,
            Err(error) => {
                tracing::warn!(target: "coworks_biz::engine", "old runs stay for now: {error}");
                PRUNE_EVERY
            }
        };
        self.alarm(now() + pause, Alarm::Prune);
    }

    /// Feeds an event to a run, and turns what it commands into changes and effects.
    pub(super) fn step(&mut self, run: i64, event: Event, resume: Option<Resume>) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        let mut commands = std::mem::take(&mut self.commands);
        if let Err(misfit) = live.step(event, &mut commands) {
            // Not the user's fault, and nothing has changed: tell whoever can mend it.
            tracing::error!(target: "coworks_biz::engine", run_id = %live.dag_run.run_id, "{misfit}");
        }
        self.obey(run, &mut commands, Some(event), resume);
        self.commands = commands;
    }

    /// Lets those go on that follow a run of which a task has ended.
    fn pass_on(&mut self) {
        while let Some((run, tasks)) = self.passes.pop() {
            self.let_pass(run, tasks);
        }
    }

    /// Turns what a run commands into changes and effects.
    pub(super) fn obey(
        &mut self,
        run: i64,
        commands: &mut Vec<Command>,
        event: Option<Event>,
        resume: Option<Resume>,
    ) {
        for command in commands.drain(..) {
            let now = now();
            let Some(live) = self.runs.get_mut(&run) else { break };
            match command {
                Command::Set { key, state: State::Queued, .. } => {
                    live.note(key, State::Queued, now);
                    let resume = match event {
                        Some(Event::Interrupted(_)) => None,
                        _ => resume,
                    };
                    self.enqueue(run, key, resume);
                }
                Command::Set { key, state, .. } => {
                    if let (Some(Event::Interrupted(_)), State::Failed) = (event, state) {
                        live.note_error(key, &format!(
                            "the process died {MAX_INTERRUPTIONS} times while this task ran: it is not tried again"
                        ));
                    }
                    live.note(key, state, now);
                    if state.is_final() {
                        self.tell_followers(run, key.task);
                    }
                    // The time of a retry is part of the row; its command comes next.
                    if state == State::UpForRetry {
                        continue;
                    }
                    self.record(run, key, state, now);
                }
                Command::Wake { key, after } => {
                    let delay = TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
                    let at = now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC);
                    live.note_due(key, at);
                    self.wake(run, key, at);
                    self.record(run, key, State::UpForRetry, now);
                }
                Command::Cut { key } => {
                    let was = live.waits_for(key).cloned();
                    self.cut(run, key);
                    if let Some(WaitsFor::Object(object)) = was {
                        self.sweep(object);
                    }
                }
                Command::Clear { key } => {
                    live.note_cleared(key);
                    let record = live.record_of_cleared(key);
                    let (task_id, map_index) = (record.task_id.clone(), key.map_index);
                    self.writes.push(Write::Forget { run, task_id, map_index });
                    self.writes.push(Write::Task { record, at: now });
                    live.outputs.forget(live.node(key).task_id, map_index);
                }
                Command::Reopen => self.reopen(run, now),
                Command::End(state) => self.end(run, state, now),
            }
        }
    }

    /// An object that may still come is not wanted any more.
    pub(super) fn sweep(&mut self, object: Object) {
        self.writes.push(Write::Delete(object.clone()));
        self.effects.push(Effect::Delete(object));
    }

    fn reopen(&mut self, run: i64, at: DateTime<Utc>) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        let had_ended = live.record.state.is_final();
        live.record.state = RunState::Running;
        (live.record.end_date, live.record.stopped) = (None, None);
        let (record, dag) = (live.record.clone(), live.dag);
        if had_ended {
            self.dags[dag].began(&record);
        }
        self.writes.push(Write::Run { record: Box::new(record), event: "running", detail: None, at });
    }

    fn end(&mut self, run: i64, state: RunState, at: DateTime<Utc>) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        live.record.state = state;
        live.record.end_date = Some(at);
        live.record.stopped = live.run.standing().stopped.map(|stop| word_of(stop).to_owned());
        let (record, dag) = (live.record.clone(), live.dag);
        self.dags[dag].ended(&record);
        self.stirred.insert(dag);
        self.writes.push(Write::Run { record: Box::new(record), event: state.as_str(), detail: None, at });
        self.announce_run(run, state);
        self.effects.push(Effect::End { run, state });
        self.look_after_end(dag);
        for (waiting, key) in self.awaited.remove(&run).unwrap_or_default() {
            self.due(waiting, key, Some(Resume::Arrived));
        }
    }

    fn record(&mut self, run: i64, key: Key, state: State, at: DateTime<Utc>) {
        if let Some(live) = self.runs.get(&run) {
            self.writes.push(Write::Task { record: live.record(key), at });
            self.effects.push(Effect::Say { run, key, state });
        }
    }

    /// Records what is known of a task that stays in its state.
    pub(super) fn count(&mut self, run: i64, key: Key) {
        if let Some(live) = self.runs.get(&run) {
            self.writes.push(Write::Task { record: live.record(key), at: now() });
        }
    }

    pub(super) fn enqueue(&mut self, run: i64, key: Key, resume: Option<Resume>) {
        let Some(live) = self.runs.get(&run) else { return };
        let (dag, options) = (live.definition.dag, live.node(key).options);
        let ready = Ready {
            run,
            key,
            resume: resume.or_else(|| live.waits_for(key).map(|_| Resume::Interrupted)),
            alone: live.instance(key).interruptions >= ALONE_AFTER,
            dag: live.dag,
            priority: options.priority_weight,
            pool: self.pools.get(options.pool).copied(),
            of_run: dag.max_active_tasks,
            of_task: options.max_active_tis_per_dag,
        };
        self.slots.push(ready);
    }

    /// The pools that tasks of this DAG name and that there are not.
    pub(super) fn missing_pools(&self, definition: &Definition) -> Vec<String> {
        super::missing_pools(definition, &self.pools)
    }

    /// Hands out slots. Those that get none are recorded as queued, as far as the batch has room:
    /// what is not recorded yet follows from what is, should the process die.
    fn assign(&mut self) {
        while let Some(Ready { run, key, resume, .. }) = self.slots.next() {
            let now = now();
            self.step(run, Event::Started(key), None);
            let Some(live) = self.runs.get(&run) else { continue };
            let attempt = live.attempt(key, resume, now);
            let host = RunHost { shared: Arc::clone(&self.shared), outputs: Arc::clone(&live.outputs) };
            self.effects.push(Effect::Start { attempt, host });
        }
        let now = now();
        for Ready { run, key, .. } in self.slots.record(BATCH) {
            if let Some(live) = self.runs.get(&run) {
                self.writes.push(Write::Task { record: live.record(key), at: now });
            }
        }
    }

    /// Lets begin what was committed.
    fn release(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Begun { run, resumed } => {
                    let Some(live) = self.runs.get(&run) else { continue };
                    tracing::info!(
                        target: "coworks_biz::engine",
                        dag_id = live.dag_run.dag_id, run_id = %live.dag_run.run_id,
                        "{}", if resumed { "run goes on" } else { "run begins" }
                    );
                }
                // The run goes on, whether or not somebody waits for it.
                Effect::Answer { reply, handle } => drop(reply.send(Ok(handle))),
                Effect::Done { reply, answer } => drop(reply.send(Ok(answer))),
                Effect::Start { attempt, host } => self.start(attempt, host),
                Effect::Keep { outputs, task, map_index, xcoms } => outputs.keep(task, map_index, xcoms),
                Effect::Watch { run, key } => self.watch(run, key),
                Effect::Delete(object) => self.delete(object),
                Effect::Tell(id) => self.tell(id),
                Effect::Say { run, key, state } => self.say(run, key, state),
                Effect::End { run, state } => self.let_go(run, state),
            }
        }
        if self.slots.running() == 0 && self.deleting == 0 && self.outbox.under_way == 0 {
            for drained in self.drained.drain(..) {
                let _ = drained.send(());
            }
        }
    }

    /// A run has ended, and is recorded so.
    fn let_go(&mut self, run: i64, state: RunState) {
        // It was cleared in the same moment, and goes on.
        if self.runs.get(&run).is_none_or(|live| !live.run.state().is_final()) {
            return;
        }
        let Some(live) = self.runs.remove(&run) else { return };
        if !self.followers.is_empty() {
            self.followers.retain(|_, followers| {
                followers.retain(|follower| *follower != run);
                !followers.is_empty()
            });
        }
        tracing::info!(
            target: "coworks_biz::engine",
            dag_id = live.dag_run.dag_id, run_id = %live.dag_run.run_id, state = %state, "run ends"
        );
        if let Some(ended) = self.ends.remove(&run) {
            // Whether or not somebody still waits for it.
            let _ = ended.send(Some(state));
        }
    }

    #[cfg(feature = "s3")]
    fn watch(&self, run: i64, key: Key) {
        if let Some((object, since, until)) = self.runs.get(&run).and_then(|live| live.wait(key)) {
            self.waiter.watch(super::waiter::Watch { run, key, object, since, until });
        }
    }

    /// Without S3 nothing waits for an object; a run of a program that had it is told at its first look.
    #[cfg(not(feature = "s3"))]
    fn watch(&self, run: i64, key: Key) {
        self.shared.tell(Message::Due { run, key, resume: Resume::Interrupted });
    }

    #[cfg(feature = "s3")]
    fn delete(&mut self, object: Object) {
        self.deleting += 1;
        let shared = Arc::clone(&self.shared);
        self.tokio.spawn(async move {
            let _few = shared.sweepers.acquire().await;
            let done = match shared.services.results().await.delete(&object).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(target: "coworks_biz::engine", "not deleted, and tried again at the next start: {error}");
                    false
                }
            };
            shared.tell(Message::Deleted { object, done });
        });
    }

    #[cfg(not(feature = "s3"))]
    fn delete(&mut self, object: Object) {
        tracing::warn!(target: "coworks_biz::engine", "{object} stays: this program was built without S3");
    }

    fn say(&self, run: i64, key: Key, state: State) {
        let Some(live) = self.runs.get(&run) else { return };
        let (task_id, map_index) = (live.node(key).task_id, key.map_index);
        let try_number = live.instance(key).try_number;
        let duration = live.duration(key).map(|d| d.as_micros() as u64);
        let due = live.due_at(key).map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        // A wait for an object may end before it is due.
        let latest = live.waits_for(key).is_some();
        // The start of an attempt shows in what it says itself.
        match state {
            State::Queued | State::Running => tracing::debug!(
                target: "coworks_biz::engine", task_id, map_index, state = state.as_str(), try_number, "task"
            ),
            _ => tracing::info!(
                target: "coworks_biz::engine",
                task_id, map_index, state = state.as_str(), try_number, duration, due, latest, "task"
            ),
        }
    }
}

/// Now, as exactly as it is stored: a run is the same before and after a restart.
pub(super) fn now() -> DateTime<Utc> {
    exact(Utc::now())
}

/// A moment as exactly as it is stored.
pub(super) fn exact(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// A moment that a process does not live to see: delays beyond what a clock can hold.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600)
}
