//! What begins once the changes it follows from are committed.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::SecondsFormat;
use tokio::sync::oneshot;

use super::core::Core;
use super::host::RunHost;
use super::message::{Message, Reply};
use super::outputs::Outputs;
use super::{Answer, EngineError, RunHandle};
use crate::run::{Key, RunState, State};
use crate::store::{StoreError, Stored, WaitsFor};
#[cfg(feature = "s3")]
use crate::task::Body;
use crate::task::{Attempt, Resume};

/// One of these.
pub(super) enum Effect {
    Begun {
        run: i64,
        resumed: bool,
    },
    Answer {
        reply: Reply,
        answer: Result<RunHandle, EngineError>,
    },
    Done {
        reply: oneshot::Sender<Result<Answer, EngineError>>,
        answer: Result<Answer, EngineError>,
    },
    Start {
        attempt: Attempt,
        host: RunHost,
    },
    Keep {
        outputs: Arc<Outputs>,
        task: &'static str,
        map_index: i32,
        xcoms: Vec<(Cow<'static, str>, Stored)>,
    },
    Forget {
        outputs: Arc<Outputs>,
        task: &'static str,
        /// `None` is for all.
        map_index: Option<i32>,
    },
    Watch {
        run: i64,
        key: Key,
    },
    Tell(i64),
    Say {
        run: i64,
        key: Key,
        state: State,
    },
    End {
        run: i64,
    },
    /// It has ended without having been in memory.
    Over {
        run: i64,
        state: RunState,
    },
}

impl Core {
    /// Lets begin what was committed.
    pub(super) fn release(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Begun { run, resumed } => {
                    let Some(live) = self.runs.get(&run) else { continue };
                    tracing::info!(
                        target: "coworks_biz::engine",
                        dag_id = live.dag_run.dag_id, number = run, run_id = %live.dag_run.run_id,
                        "{}", if resumed { "run goes on" } else { "run begins" }
                    );
                }
                // The run goes on, whether or not somebody waits for it.
                Effect::Answer { reply, answer } => drop(reply.send(answer)),
                Effect::Done { reply, answer } => drop(reply.send(answer)),
                Effect::Start { attempt, host } => self.start(attempt, host),
                Effect::Keep { outputs, task, map_index, xcoms } => outputs.keep(task, map_index, xcoms),
                Effect::Forget { outputs, task, map_index } => outputs.forget(task, map_index),
                Effect::Watch { run, key } => self.watch(run, key),
                Effect::Tell(id) => self.tell(id),
                Effect::Say { run, key, state } => self.say(run, key, state),
                Effect::End { run } => self.let_go(run),
                Effect::Over { run, state } => {
                    for (waiting, key) in self.awaited.remove(&run).unwrap_or_default() {
                        let of = WaitsFor::Run { run };
                        self.shared.tell(Message::Due { run: waiting, key, of, resume: Resume::Arrived });
                    }
                    self.tell_end(run, state);
                }
            }
        }
    }

    /// Tells those who wait for that, once nothing is under way.
    pub(super) fn tell_drained(&mut self) -> Result<(), StoreError> {
        let is_recorded = self.slots.behind_from(self.clock.instant()).is_none();
        let is_over = self.slots.running() == 0 && is_recorded && !self.sweeps();
        if is_over && self.outbox.under_way == 0 && !self.drained.is_empty() {
            // Who ends well has left what it has told.
            self.writer.stays()?;
            for drained in self.drained.drain(..) {
                let _ = drained.send(());
            }
        }
        Ok(())
    }

    /// A run has ended, and is recorded so.
    fn let_go(&mut self, run: i64) {
        // It was cleared in the same moment, and goes on.
        if self.runs.get(&run).is_none_or(|live| !live.run.state().is_final()) {
            return;
        }
        let Some(live) = self.runs.remove(&run) else { return };
        // What was marked in that moment may have had it end once more, otherwise.
        let state = live.run.state();
        if let Some(before) = live.follows
            && let Some(followers) = self.followers.get_mut(&before)
        {
            followers.retain(|follower| *follower != run);
            if followers.is_empty() {
                self.followers.remove(&before);
            }
        }
        tracing::info!(
            target: "coworks_biz::engine",
            dag_id = live.dag_run.dag_id, number = run, run_id = %live.dag_run.run_id, state = %state, "run ends"
        );
        self.tell_end(run, state);
    }

    fn tell_end(&mut self, run: i64, state: RunState) {
        if let Some(ended) = self.ends.remove(&run) {
            // Whether or not somebody still waits for it.
            let _ = ended.send(Some(state));
        }
    }

    #[cfg(feature = "s3")]
    fn watch(&self, run: i64, key: Key) {
        if let Some((object, since, until)) = self.runs.get(&run).and_then(|live| live.wait(key)) {
            let now = self.now();
            let (waited, left) = ((now - since).to_std(), (until - now).to_std());
            let (waited, left) = (waited.unwrap_or_default(), left.unwrap_or_default());
            let watch = super::waiter::Watch { who: (run, key), object, waited, left };
            self.hands.look(super::waiter::Wanted::Watch(watch));
            self.put_away(run, key);
        }
    }

    /// What was sent is in the database, and nobody asks for it before the answer is there.
    #[cfg(feature = "s3")]
    fn put_away(&self, run: i64, key: Key) {
        let Some(live) = self.runs.get(&run) else { return };
        if let Body::Group { submit, .. } = live.definition.bodies[key.task as usize] {
            live.outputs.forget(live.node(Key { task: submit, ..key }).task_id, Some(key.map_index));
        }
    }

    /// Without S3 nothing waits for an object; a run of a program that had it is told at its first look.
    #[cfg(not(feature = "s3"))]
    fn watch(&self, run: i64, key: Key) {
        if let Some(of) = self.runs.get(&run).and_then(|live| live.waits_for(key)).cloned() {
            self.shared.tell(Message::Due { run, key, of, resume: Resume::Interrupted });
        }
    }

    fn say(&self, run: i64, key: Key, state: State) {
        let Some(live) = self.runs.get(&run) else { return };
        let (dag_id, task_id, map_index) = (live.dag_run.dag_id, live.node(key).task_id, key.map_index);
        let try_number = live.instance(key).try_number;
        let duration = live.duration(key).map(|d| d.as_micros() as u64);
        let due = live.due_at(key).map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        // A wait for an object may end before it is due.
        let latest = live.waits_for(key).is_some();
        // The start of an attempt shows in what it says itself.
        match state {
            State::Queued | State::Running => tracing::debug!(
                target: "coworks_biz::engine", dag_id, number = run, task_id, map_index, state = state.as_str(), try_number, "task"
            ),
            _ => tracing::info!(
                target: "coworks_biz::engine",
                dag_id, number = run, task_id, map_index, state = state.as_str(), try_number, duration, due, latest, "task"
            ),
        }
    }
}
