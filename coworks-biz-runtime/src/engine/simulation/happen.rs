//! What the engine wants of the world, and what happens there.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::oneshot::error::TryRecvError;

use super::attempts::Working;
use super::drive::Simulation;
use super::hands::Wish;
use super::machine::Process;
use super::world::Happening;
use crate::engine::core::Phase;
use crate::engine::hands::Errand;
use crate::engine::message::Message;
use crate::engine::waiter::{Ask, Heard, Listed, Wanted};
use crate::engine::{EngineError, Refusal};
use crate::error::{Error, Retry};
use crate::run::Ending;
use crate::store::WaitsFor;
use crate::task::{Body, Resume};

impl Simulation {
    /// What the engine wants of its hands, behind this part of its turn, or behind what it was told.
    pub(super) fn hear(&mut self, behind: Option<Phase>) -> Result<(), String> {
        // What is not under way for the engine any more was cut off, and may go on for a while.
        let Some(Process { core, .. }) = &self.process else { return Ok(()) };
        for (number, working) in &mut self.working {
            if core.under_way.get(&working.id()).is_none_or(|(of, _)| of != number) {
                working.cut = true;
            }
        }
        let now = self.machine.clock().instant();
        for wish in self.machine.noted.take() {
            // A try to tell again, and what makes up for an end, need no commit of their own.
            let anytime =
                matches!(&wish, Wish::Go(Errand::Tell(_)) | Wish::Look(Wanted::Forget(_) | Wanted::Hint(_)));
            let released = match behind {
                Some(Phase::Release) => true,
                Some(Phase::LookAfter) => matches!(wish, Wish::Go(_)),
                _ => false,
            };
            if !released && !anytime {
                return Err(format!(
                    "the hands are asked for {wish:?} in {behind:?}, and nothing was committed for it"
                ));
            }
            match wish {
                Wish::Begin(number, attempt, host) => {
                    let working = Working::new(*attempt, host, self.story.attempts);
                    self.check_start(&working)?;
                    self.see("an attempt");
                    self.story.attempts += 1;
                    let (first, second) = (self.world.while_(), self.world.while_());
                    self.world.later(first, Happening::Acts(number));
                    self.world.later(first + second, Happening::Ends(number));
                    self.working.insert(number, working);
                }
                Wish::Go(Errand::Tell(id)) => {
                    if !self.ledger.notices.contains_key(&id) {
                        return Err(format!("somebody is told of {id}, which no row says"));
                    }
                    let after = self.world.while_();
                    self.world.later(after, Happening::Told(id));
                }
                Wish::Go(Errand::Delete(due)) => {
                    self.check_deletion(&due)?;
                    let after = self.world.while_();
                    self.world.later(after, Happening::Swept(due));
                }
                Wish::Look(Wanted::Watch(watch)) => {
                    self.see("a wait for an answer");
                    self.check_watch(&watch)?;
                    self.looker.add(watch, now);
                }
                Wish::Look(Wanted::Forget(who)) => self.looker.forget(who),
                Wish::Look(Wanted::Hint(object)) => self.looker.hint(&object, now),
            }
        }
        Ok(())
    }

    pub(super) fn happens(&mut self, what: Happening) -> Result<(), String> {
        match what {
            Happening::Arrives(key, readable) => {
                self.say(|_| format!("arrives {key} {readable}"));
                self.see(if readable {
                    "an answer arrives"
                } else {
                    "an answer arrives that cannot be read"
                });
                if self.world.objects.insert(key, readable).is_some() {
                    self.see("an answer arrives twice");
                }
            }
            Happening::Told(id) => {
                let error = self.world.goes_wrong(20).then(|| Error::msg("drawn"));
                self.post(Message::Told { id, later: Vec::new(), error });
            }
            Happening::Swept(due) => {
                let trouble = self.world.goes_wrong(20);
                if trouble {
                    self.see("S3 does not delete");
                }
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
                let Some(working) = self.working.get_mut(&number) else { return Ok(()) };
                self.world.knows(&working.call_name(), working.effect())?;
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
                    self.see("a run triggers another");
                    self.post(Message::Start { dag_id, conf: None, key, reply });
                }
            }
            Happening::Ends(number) => {
                let Some(working) = self.working.get(&number) else { return Ok(()) };
                if working.triggers.is_some() {
                    self.world.later(Duration::from_secs(1), Happening::Ends(number));
                    return Ok(());
                }
                let end = working.ends(&mut self.world, &self.ledger);
                if let Ending::Failed(Retry::After(delay)) = end.ending {
                    self.delays.insert(working.serial.to_string(), delay);
                }
                let ended = working.message(number, end);
                let now = self.process.as_ref().and_then(|process| process.core.under_way.get(&working.id()));
                if now.is_none_or(|(of, _)| *of != number) {
                    self.stale.insert(working.serial.to_string());
                    self.story.seen.see("an attempt that was cut off comes to its end");
                } else {
                    let ((run, key), task) = (working.id(), working.attempt.node().task_id);
                    self.ended.insert((run, task.to_owned(), key.map_index));
                }
                self.working.remove(&number);
                // A service may want to be left alone.
                if self.world.goes_wrong(2) {
                    let until = self.now() + TimeDelta::seconds(self.world.random.below(100) as i64 + 1);
                    let service = ["one", "two"][self.world.random.below(2) as usize];
                    self.see("a service wants to be left alone");
                    self.post(Message::Closed { service: format!("{service}-dev"), until });
                }
                self.post(Message::Ended(ended));
            }
        }
        Ok(())
    }

    /// Looks in S3 for what is waited for.
    pub(super) fn look_around(&mut self) {
        let now = self.machine.clock().instant();
        let mut due = Vec::new();
        for ((run, key), object) in self.looker.overdue(now) {
            self.see("an answer is overdue");
            due.push((run, key, object, Resume::Overdue));
        }
        while let Some(ask) = self.looker.ask(now) {
            let trouble = self.world.goes_wrong(5);
            if trouble {
                self.see("S3 does not answer");
            }
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
            self.post(Message::Due { run, key, of: WaitsFor::Object(object), resume });
        }
    }

    /// What attempts have triggered.
    pub(super) fn hear_of_triggered(&mut self) {
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
}
