//! The thread that owns the database and the live runs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::RunHandle;
use super::attempts::List;
use super::host::{Outputs, RunHost, Shared};
use super::live::Live;
use super::message::{Message, Reply};
use super::slots::{Ready, Slots};
use crate::run::{ALONE_AFTER, Command, Event, Key, MAX_INTERRUPTIONS, RunState, State};
use crate::store::{StoreError, Stored, Write, Writer};
use crate::task::{Attempt, Definition, Resume};
use crate::value::Object;

/// How many changes one transaction takes, so that a large one cannot hold up a trigger.
pub(super) const BATCH: usize = 1000;

/// What begins once the changes it follows from are committed.
pub(super) enum Effect {
    Begun { reply: Reply, handle: RunHandle, resumed: bool },
    Start { attempt: Attempt, host: RunHost },
    Keep { outputs: Arc<Outputs>, task: &'static str, map_index: i32, xcoms: Vec<(String, Stored)> },
    Watch { run: i64, key: Key },
    Delete(Object),
    Say { run: i64, key: Key, state: State },
    End { run: i64, state: RunState },
}

pub(super) struct Core {
    pub(super) writer: Writer,
    pub(super) definitions: Vec<&'static Definition>,
    pub(super) shared: Arc<Shared>,
    pub(super) tokio: Handle,
    pub(super) runs: HashMap<i64, Live>,
    pub(super) next_run: i64,
    pub(super) slots: Slots,
    /// When which task is tried again.
    timers: BinaryHeap<Reverse<(Instant, i64, Key)>>,
    /// Lists whose items are not all written.
    pub(super) lists: VecDeque<List>,
    pub(super) writes: Vec<Write>,
    pub(super) effects: Vec<Effect>,
    commands: Vec<Command>,
    /// The attempts under way; cut off when the engine goes.
    pub(super) attempts: JoinSet<()>,
    deleting: usize,
    drained: Vec<oneshot::Sender<()>>,
    pub(super) failure: Arc<OnceLock<String>>,
    #[cfg(feature = "s3")]
    waiter: super::waiter::Waiter,
}

impl Core {
    pub(super) fn new(
        writer: Writer,
        definitions: Vec<&'static Definition>,
        shared: Arc<Shared>,
        parallelism: usize,
    ) -> Result<Self, StoreError> {
        let next_run = writer.next_run()?;
        let mut core = Self {
            writer,
            definitions,
            tokio: Handle::current(),
            runs: HashMap::new(),
            next_run,
            slots: Slots::new(parallelism),
            timers: BinaryHeap::new(),
            lists: VecDeque::new(),
            writes: Vec::new(),
            effects: Vec::new(),
            commands: Vec::new(),
            attempts: JoinSet::new(),
            deleting: 0,
            drained: Vec::new(),
            failure: Arc::default(),
            #[cfg(feature = "s3")]
            waiter: super::waiter::Waiter::start(Arc::clone(&shared)),
            shared,
        };
        for object in core.writer.to_delete()? {
            core.effects.push(Effect::Delete(object));
        }
        Ok(core)
    }

    /// Works until it is stopped, or until the database fails, which is left in `failure`.
    pub(super) fn run(mut self, receiver: &Receiver<Message>, failure: &Arc<OnceLock<String>>) {
        self.failure = Arc::clone(failure);
        let worked = std::panic::catch_unwind(AssertUnwindSafe(|| self.work(receiver)));
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
            self.assign();
            if !self.writes.is_empty() {
                self.writer.commit(&self.writes)?;
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
        }
    }

    /// The next message; `Some(None)` when a timer is due first, `None` when nobody is left to send one.
    fn receive(&self, receiver: &Receiver<Message>) -> Option<Option<Message>> {
        if self.slots.is_behind() || !self.lists.is_empty() {
            return match receiver.try_recv() {
                Ok(message) => Some(Some(message)),
                Err(TryRecvError::Empty) => Some(None),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        let Some(Reverse((at, ..))) = self.timers.peek() else { return receiver.recv().ok().map(Some) };
        match receiver.recv_timeout(at.saturating_duration_since(Instant::now())) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), StoreError> {
        match message {
            Message::Trigger { definition, trigger, reply } => {
                // A caller that is gone does not want the run any more; there is nobody to tell.
                if let Err((reply, error)) = self.trigger(definition, trigger, reply) {
                    let _ = reply.send(Err(error));
                }
            }
            Message::Resume { dag_id, run_id, reply } => match self.recorded(dag_id.as_deref(), run_id) {
                Ok((record, definition)) => self.resume(record, definition, reply)?,
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
            Message::Drain { reply } => {
                self.slots.drain();
                self.drained.push(reply);
            }
            Message::Stop => unreachable!("the caller takes it"),
        }
        Ok(())
    }

    fn due(&mut self, run: i64, key: Key, resume: Option<Resume>) {
        // A run that has ended meanwhile waits for nothing.
        if self.runs.contains_key(&run) {
            self.step(run, Event::Due(key), resume);
        }
    }

    /// Has a task instance called again at this moment.
    pub(super) fn wake(&mut self, run: i64, key: Key, at: DateTime<Utc>) {
        let after = (at - now()).to_std().unwrap_or_default();
        let at = Instant::now().checked_add(after).unwrap_or_else(far_future);
        self.timers.push(Reverse((at, run, key)));
    }

    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, run, key))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.due(run, key, None);
        }
    }

    /// Feeds an event to a run, and turns what it commands into changes and effects.
    pub(super) fn step(&mut self, run: i64, event: Event, resume: Option<Resume>) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        let mut commands = std::mem::take(&mut self.commands);
        if let Err(misfit) = live.step(event, &mut commands) {
            // Not the user's fault, and nothing has changed: tell whoever can mend it.
            tracing::error!(target: "coworks_biz::engine", run_id = %live.dag_run.run_id, "{misfit}");
        }
        for command in commands.drain(..) {
            let now = now();
            let Some(live) = self.runs.get_mut(&run) else { break };
            match command {
                Command::Set { key, state: State::Queued, .. } => {
                    live.note(key, State::Queued, now);
                    let resume = match event {
                        Event::Interrupted(_) => None,
                        _ => resume,
                    };
                    self.enqueue(run, key, resume);
                }
                Command::Set { key, state, .. } => {
                    if let (Event::Interrupted(_), State::Failed) = (event, state) {
                        live.note_error(key, &format!(
                            "the process died {MAX_INTERRUPTIONS} times while this task ran: it is not tried again"
                        ));
                    }
                    live.note(key, state, now);
                    // The time of a retry is part of the row; its command comes next.
                    if state == State::UpForRetry {
                        continue;
                    }
                    self.record(run, key, state, now);
                }
                Command::Wake { key, after } => {
                    let delay = chrono::TimeDelta::from_std(after).unwrap_or(chrono::TimeDelta::MAX);
                    live.note_due(key, now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC));
                    let at = Instant::now().checked_add(after).unwrap_or_else(far_future);
                    self.timers.push(Reverse((at, run, key)));
                    self.record(run, key, State::UpForRetry, now);
                }
                // Nothing is cleared, marked or stopped by this engine.
                Command::Cut { .. } | Command::Clear { .. } | Command::Reopen => {}
                Command::End(state) => {
                    self.writes.push(Write::RunEnded { run, state, at: now });
                    self.effects.push(Effect::End { run, state });
                }
            }
        }
        self.commands = commands;
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
        let resume = resume.or_else(|| live.was_deferred(key).then_some(Resume::Interrupted));
        let alone = live.instance(key).interruptions >= ALONE_AFTER;
        self.slots.push(Ready { run, key, resume, alone });
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
                Effect::Begun { reply, handle, resumed } => {
                    tracing::info!(
                        target: "coworks_biz::engine",
                        dag_id = handle.run.dag_id, run_id = %handle.run.run_id, "{}", if resumed { "run goes on" } else { "run begins" }
                    );
                    // The run goes on, whether or not somebody waits for it.
                    let _ = reply.send(Ok(handle));
                }
                Effect::Start { attempt, host } => self.start(attempt, host),
                Effect::Keep { outputs, task, map_index, xcoms } => outputs.keep(task, map_index, xcoms),
                Effect::Watch { run, key } => self.watch(run, key),
                Effect::Delete(object) => self.delete(object),
                Effect::Say { run, key, state } => self.say(run, key, state),
                Effect::End { run, state } => {
                    let Some(live) = self.runs.remove(&run) else { continue };
                    tracing::info!(
                        target: "coworks_biz::engine",
                        dag_id = live.dag_run.dag_id, run_id = %live.dag_run.run_id, state = %state, "run ends"
                    );
                    // Whether or not somebody waits for it.
                    let _ = live.ended.send(Some(state));
                }
            }
        }
        if self.slots.running() == 0 && self.deleting == 0 {
            for drained in self.drained.drain(..) {
                let _ = drained.send(());
            }
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
        let latest = live.was_deferred(key);
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
