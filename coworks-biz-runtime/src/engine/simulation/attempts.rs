//! What attempts come to. As bodies do, but that it is drawn what they find outside.

use std::time::Duration;

use tokio::sync::oneshot;

use super::ledger::Ledger;
use super::world::{Effect, World};
use crate::dag::Kind;
use crate::engine::core::exact;
use crate::engine::host::RunHost;
use crate::engine::message::Ended;
use crate::engine::{EngineError, RunHandle};
use crate::error::Retry;
use crate::run::{Ending, Key, RunState};
use crate::store::Stored;
use crate::task::{Attempt, Awaited, Body, End, Member, Resume, TRIGGER_RUN_ID, TriggerCall, Wait};
use crate::tech::AsyncCall;
use crate::value::{Json, Object, RETURN_VALUE};

/// The name of the bucket.
pub(super) const BUCKET: &str = "bucket";

/// The name of the engine in keys.
pub(super) const ENGINE: &str = "simulated";

/// An attempt that is under way.
pub(super) struct Working {
    pub(super) attempt: Attempt,
    pub(super) host: RunHost,
    /// Of all attempts of all processes: what it puts out names it.
    pub(super) serial: u64,
    /// The engine has cut it off, and it goes on for a while.
    pub(super) cut: bool,
    /// Where the answer to what it has triggered comes.
    pub(super) triggers: Option<oneshot::Receiver<Result<RunHandle, EngineError>>>,
    /// A service has answered at once that it will not.
    refused: bool,
    /// What it has triggered; `Err` where it could not.
    pub(super) triggered: Option<Result<i64, bool>>,
}

impl Working {
    pub(super) fn new(attempt: Attempt, host: RunHost, serial: u64) -> Self {
        Self { attempt, host, serial, cut: false, triggers: None, refused: false, triggered: None }
    }

    pub(super) fn id(&self) -> (i64, Key) {
        (self.attempt.run.number, self.attempt.key())
    }

    fn body(&self) -> &'static Body {
        &self.attempt.definition.bodies[self.attempt.task as usize]
    }

    /// The call of a member of a group.
    fn group(&self) -> Option<(Member, &'static AsyncCall, &'static str)> {
        let Body::Group { member, call, submit, .. } = self.body() else { return None };
        Some((*member, call, self.attempt.definition.dag.tasks[*submit as usize].task_id))
    }

    /// The `Idempotency-Key` of what it asks for.
    pub(super) fn call_name(&self) -> String {
        let task = self.group().map_or(self.attempt.node().task_id, |(_, _, submit)| submit);
        self.attempt.run.call_name(task, self.attempt.map_index, self.attempt.generation)
    }

    /// What it wants of whom it calls or triggers.
    pub(super) fn effect(&self) -> Effect {
        let Attempt { run, map_index, generation, .. } = &self.attempt;
        let task = self.group().map_or(self.attempt.node().task_id, |(_, _, submit)| submit);
        (run.uuid.clone(), task, *map_index, *generation)
    }

    fn object(&self) -> Object {
        Object::of_call(BUCKET, ENGINE, &self.call_name())
    }

    /// Does what it does outside, some time before its end.
    pub(super) fn acts(&mut self, world: &mut World) {
        self.refused = world.goes_wrong(8);
        match self.body() {
            _ if self.refused => {}
            Body::Call { .. } => drop(world.ask(&self.call_name())),
            Body::Group { .. } => {
                if let Some(object) = self.sends(world) {
                    world.submit(&self.call_name(), &object.key);
                }
            }
            _ => {}
        }
    }

    /// Where the answer is to be left, if this attempt asks for one.
    fn sends(&self, world: &World) -> Option<Object> {
        let (member, call, _) = self.group()?;
        let (first, nth) = (self.object(), self.attempt.nth());
        let object = match (member, self.attempt.resume) {
            (Member::Submit, _) => Some(first),
            (Member::Wait, None) if nth > 1 && !world.objects.contains_key(&first.key) => Some(first),
            (Member::Read, None) if nth > 1 && self.newest(world).is_none_or(|readable| !readable) => {
                Some(first.asked_by(nth))
            }
            _ => None,
        };
        object.filter(|_| !call.keep || world.objects.len() < 1_000)
    }

    /// Whether the answer that was asked for last can be read, of those that are there.
    fn newest(&self, world: &World) -> Option<bool> {
        let (first, nth) = (self.object(), self.attempt.nth());
        (1..nth.max(2)).rev().find_map(|asked| world.objects.get(&first.asked_by(asked).key).copied())
    }

    /// How it ends.
    pub(super) fn ends(&self, world: &mut World, ledger: &Ledger) -> End {
        match self.body() {
            Body::Function(_) | Body::Join { .. } => self.function(world),
            Body::Branch(_) => {
                let arms = match self.attempt.node().kind {
                    Kind::Branch { arms } => arms.len() as u64,
                    _ => 1,
                };
                let chosen = Ending::Chosen(world.random.below(arms) as u32);
                if world.goes_wrong(8) { failed(Retry::AsConfigured) } else { well(chosen) }
            }
            Body::Map(_) => {
                if world.goes_wrong(8) {
                    return failed(Retry::AsConfigured);
                }
                let items = world.random.below(4);
                let items =
                    (0..items).map(|item| Json::from_stored(format!("\"item {item}\""))).collect::<Vec<_>>();
                End { items: items.clone(), ..well(Ending::Mapped(items.len() as u32)) }
            }
            Body::Call { .. } => match world.random.below(10) {
                _ if self.refused => End { answered: Some(400), ..failed(Retry::Never) },
                0 | 1 if !world.calm => failed(Retry::AsConfigured),
                _ => value(),
            },
            Body::Sensor { call, .. } => {
                let clock = self.host.shared.clock.now();
                let over = clock >= self.attempt.started + call.timeout;
                match world.random.below(10) {
                    0..=4 => value(),
                    5 if !world.calm => failed(Retry::AsConfigured),
                    _ if over => failed(Retry::AsConfigured),
                    _ => waits(Awaited::Moment, Some(exact(clock + call.poke_interval))),
                }
            }
            Body::Trigger { call, .. } => self.trigger(call, ledger),
            Body::Group { call, .. } => self.member(call, world, ledger),
        }
    }

    fn function(&self, world: &mut World) -> End {
        match world.random.below(40) {
            0..=5 if !world.calm => failed(Retry::AsConfigured),
            6..=7 if !world.calm => failed(Retry::Never),
            8 if !world.calm => failed(Retry::After(Duration::from_secs(world.random.below(100)))),
            9..=10 if !world.calm => well(Ending::Skipped),
            _ => value(),
        }
    }

    fn trigger(&self, call: &TriggerCall, ledger: &Ledger) -> End {
        let number = match (&self.triggered, self.attempt.resume) {
            (Some(Ok(number)), _) => *number,
            (Some(Err(true)), _) => return failed(Retry::Never),
            (Some(Err(false)) | None, None) => return failed(Retry::AsConfigured),
            (_, Some(_)) => {
                let name =
                    (self.attempt.run.number, self.attempt.node().task_id.to_owned(), self.attempt.map_index);
                let xcom = ledger.xcoms.get(&(name, "trigger_run_number".to_owned()));
                let Some(number) = xcom.and_then(|number| number.parse().ok()) else {
                    return failed(Retry::Never);
                };
                number
            }
        };
        let mut end = value();
        end.xcoms.push((TRIGGER_RUN_ID.into(), Json::from_stored("\"run\"")));
        end.xcoms.push(("trigger_run_number".into(), Json::from_stored(number.to_string())));
        if !call.wait_for_completion {
            return end;
        }
        match ledger.runs.get(&number).map(|run| run.state) {
            Some(RunState::Success) => end,
            Some(RunState::Failed) | None => failed(Retry::Never),
            Some(RunState::Queued | RunState::Running) => {
                if let (Some(Resume::Overdue), Some(_)) = (self.attempt.resume, call.timeout) {
                    return failed(Retry::AsConfigured);
                }
                let timeout = call.timeout.map(|timeout| self.attempt.started + timeout);
                End { xcoms: end.xcoms, ..waits(Awaited::Run(number), timeout) }
            }
        }
    }

    fn member(&self, call: &AsyncCall, world: &mut World, ledger: &Ledger) -> End {
        let Some((member, _, submit)) = self.group() else { return failed(Retry::Never) };
        let (first, nth) = (self.object(), self.attempt.nth());
        let until = Some(self.attempt.started + call.timeout);
        let defer = |object: &Object| waits(Awaited::Object(object.clone()), until);
        if member == Member::Submit {
            // The answer to it may be lost, and it has come about all the same.
            return match world.random.below(12) {
                _ if self.refused => End { answered: Some(400), ..failed(Retry::Never) },
                0 | 1 if !world.calm => failed(Retry::AsConfigured),
                _ => {
                    let mut end = value();
                    end.xcoms.push(("key".into(), Json::from_stored(format!("\"{}\"", first.key))));
                    end
                }
            };
        }
        let name = (self.attempt.run.number, submit.to_owned(), self.attempt.map_index);
        if !ledger.xcoms.contains_key(&(name, "key".to_owned())) {
            return failed(Retry::Never); // It was marked, and has no answer.
        }
        if world.goes_wrong(4) {
            return failed(Retry::AsConfigured);
        }
        let there = |object: &Object| world.objects.get(&object.key).copied();
        if member == Member::Wait {
            return match self.attempt.resume {
                Some(Resume::Arrived) => value(),
                Some(Resume::Interrupted) => defer(&first),
                Some(Resume::Overdue) if there(&first).is_some() => value(),
                Some(Resume::Overdue) => failed(Retry::AsConfigured),
                None if nth > 1 && there(&first).is_some() => value(),
                None => defer(&first),
            };
        }
        let served = || match call.keep {
            true => Vec::new(),
            false => (1..=nth).map(|asked| first.asked_by(asked)).collect(),
        };
        let now = first.asked_by(nth);
        match self.attempt.resume {
            Some(Resume::Interrupted) => defer(&now),
            Some(_) => match there(&now) {
                None => failed(Retry::AsConfigured),
                Some(true) => End { delete: served(), ..value() },
                Some(false) => End { delete: served(), ..failed(Retry::AsConfigured) },
            },
            None => match self.newest(world) {
                Some(true) => End { delete: served(), ..value() },
                found if nth == 1 => {
                    let delete = if found.is_some() { served() } else { Vec::new() };
                    End { delete, ..failed(Retry::AsConfigured) }
                }
                _ => defer(&now),
            },
        }
    }

    /// Its end as a message.
    pub(super) fn message(&self, number: u64, mut end: End) -> Ended {
        let (run, key) = self.id();
        for (_, value) in end.xcoms.iter_mut().filter(|(key, _)| key == RETURN_VALUE) {
            *value = Json::from_stored(self.serial.to_string());
        }
        end.error = end.error.map(|error| format!("{error} by {}", self.serial));
        let xcoms = std::mem::take(&mut end.xcoms).into_iter().map(|(key, json)| (key, Stored::Inline(json)));
        let items = std::mem::take(&mut end.items).into_iter().map(Stored::Inline);
        Ended { run, key, number, xcoms: xcoms.collect(), items: items.collect(), end: Box::new(end) }
    }
}

fn well(ending: Ending) -> End {
    End { ending, error: None, ..End::failed("") }
}

pub(super) fn value() -> End {
    End { xcoms: vec![(RETURN_VALUE.into(), Json::from_stored("1"))], ..well(Ending::Success) }
}

pub(super) fn failed(retry: Retry) -> End {
    End { ending: Ending::Failed(retry), ..End::failed("drawn") }
}

fn waits(what: Awaited, until: Option<chrono::DateTime<chrono::Utc>>) -> End {
    End { wait: Some(Wait { what, until }), ..well(Ending::Deferred) }
}
