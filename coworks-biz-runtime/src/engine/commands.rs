//! What follows from an event: a run commands, and that becomes changes, and effects of them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::alarms::Alarm;
use super::core::{BATCH, Core};
use super::effects::Effect;
use super::host::RunHost;
use super::live::{Live, word_of};
use super::slots::Ready;
use crate::clock::later;
use crate::dag::Kind;
use crate::run::{ALONE_AFTER, Command, Event, Key, MAX_INTERRUPTIONS, RunState, State};
use crate::store::{WaitsFor, Write};
use crate::task::{Definition, Resume};

impl Core {
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
    pub(super) fn pass_on(&mut self) {
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
        let mut touched = Vec::new();
        let now = self.now();
        for command in commands.drain(..) {
            let Some(live) = self.runs.get_mut(&run) else { break };
            let call = key_of(&command).and_then(|key| self.services.call_of(live.dag, key));
            touched.extend(call);
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
                    // One that ends without an attempt of its own is not ready, and waits for nothing any more.
                    if state.is_final() {
                        // What an attempt ends with says for itself what is left of its answer.
                        if !matches!(event, Some(Event::Ended(..))) {
                            if state != State::Success || !self.is_wait(run, key) {
                                self.give_up(run, key);
                            }
                            self.unwatch(run, key);
                        }
                        self.slots.forget(run, key);
                        self.tell_followers(run, key.task);
                    }
                    let Some(live) = self.runs.get_mut(&run) else { break };
                    live.note(key, state, now);
                    // The time of a retry is part of the row; its command comes next.
                    if state == State::UpForRetry {
                        continue;
                    }
                    self.record(run, key, state, now);
                }
                Command::Wake { key, after } => {
                    let at = later(now, after);
                    live.note_due(key, at);
                    self.wake(run, key, at);
                    self.record(run, key, State::UpForRetry, now);
                }
                // An end or a clear comes next, and gives up what it waits for.
                Command::Cut { key } => self.cut(run, key),
                Command::Clear { key } => {
                    self.unwatch(run, key);
                    self.slots.forget(run, key);
                    if let Some(call) = call {
                        self.slots.unplace(run, call);
                    }
                    let Some(live) = self.runs.get_mut(&run) else { break };
                    live.note_cleared(key);
                    let record = live.record_of_cleared(key);
                    // The items of a list are under its own name.
                    let is_list = matches!(live.node(key).kind, Kind::Map { .. });
                    let map_index = (!is_list).then_some(key.map_index);
                    let task_id = record.task_id.clone();
                    let (outputs, task) = (Arc::clone(&live.outputs), live.node(key).task_id);
                    // Behind what an end in the same batch has it keep.
                    self.effects.push(Effect::Forget { outputs, task, map_index });
                    self.writes.push(Write::Forget { run, task_id, map_index });
                    self.writes.push(Write::Task { record, at: now });
                }
                Command::Reopen => self.reopen(run, now),
                Command::End(state) => self.end(run, state, now),
            }
        }
        for call in touched {
            self.settle(run, call);
        }
    }

    /// Nobody waits for an object any more, if one was waited for.
    fn unwatch(&self, run: i64, key: Key) {
        let waits_for = self.runs.get(&run).and_then(|live| live.waits_for(key));
        let Some(WaitsFor::Object(_)) = waits_for else { return };
        #[cfg(feature = "s3")]
        self.hands.look(super::waiter::Wanted::Forget((run, key)));
    }

    fn reopen(&mut self, run: i64, at: DateTime<Utc>) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        let had_ended = live.record.state.is_final();
        live.record.state = RunState::Running;
        (live.record.end_date, live.record.stopped) = (None, None);
        if had_ended {
            // What it may take counts from now on.
            live.record.start_date = Some(at);
            self.dags[live.dag].began(&live.record);
        }
        let record = live.record.clone();
        self.limit_run(run);
        self.writes.push(Write::Run { record: Box::new(record), event: "running", detail: None, at });
    }

    fn end(&mut self, run: i64, state: RunState, at: DateTime<Utc>) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        live.record.state = state;
        live.record.end_date = Some(at);
        live.record.stopped = live.run.standing().stopped.map(|stop| word_of(stop).to_owned());
        let (record, dag) = (live.record.clone(), live.dag);
        self.slots.unplace_all(run);
        self.dags[dag].ended(&record);
        self.stirred.insert(dag);
        self.writes.push(Write::Run { record: Box::new(record), event: state.as_str(), detail: None, at });
        self.announce_run(run, state);
        self.effects.push(Effect::End { run });
        self.look_after_end(dag);
        for (waiting, key) in self.awaited.remove(&run).unwrap_or_default() {
            self.arrived(waiting, key, &WaitsFor::Run { run }, Resume::Arrived);
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
            self.writes.push(Write::Task { record: live.record(key), at: self.now() });
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
            claim: None,
        };
        let claim = self.claim(live, &ready);
        self.slots.push(Ready { claim, ..ready });
    }

    /// The pools that tasks of this DAG name and that there are not.
    pub(super) fn missing_pools(&self, definition: &Definition) -> Vec<String> {
        super::missing_pools(definition, &self.pools)
    }

    /// Hands out slots. Those that get none for a while are recorded as queued, as far as the batch has
    /// room: what is not recorded follows from what is, should the process die.
    pub(super) fn assign(&mut self) {
        let now = self.now();
        while let Some(Ready { run, key, resume, .. }) = self.slots.next(now) {
            let now = self.now();
            let is_ready = |live: &Live| live.instance(key).state == Some(State::Queued);
            if !self.runs.get(&run).is_some_and(is_ready) {
                self.slots.release(run, key);
                self.slots.unplace(run, key);
                continue;
            }
            self.step(run, Event::Started(key), None);
            let Some(live) = self.runs.get(&run) else { continue };
            let attempt = live.attempt(key, resume, now);
            let host = RunHost { shared: Arc::clone(&self.shared), outputs: Arc::clone(&live.outputs) };
            self.effects.push(Effect::Start { attempt, host });
        }
        for (service, at) in self.slots.alarms() {
            self.alarm(at, Alarm::Service(service, at));
        }
        self.tell_of_full();
        let now = self.now();
        for Ready { run, key, .. } in self.slots.record(BATCH, self.clock.instant()) {
            if let Some(live) = self.runs.get(&run) {
                self.writes.push(Write::Task { record: live.record(key), at: now });
            }
        }
    }
}

/// The task instance that a command is about.
fn key_of(command: &Command) -> Option<Key> {
    match *command {
        Command::Set { key, .. } | Command::Wake { key, .. } => Some(key),
        Command::Cut { key } | Command::Clear { key } => Some(key),
        Command::Reopen | Command::End(_) => None,
    }
}
