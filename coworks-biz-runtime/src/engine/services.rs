//! What tasks ask of services: who calls which, what is under way, and who is told that calls wait.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;

use chrono::{DateTime, Local, Utc};

use super::core::Core;
use super::gate::{Claim, Gate, Need};
use super::live::Live;
use super::slots::Ready;
use crate::config::ServiceLimits;
use crate::run::{Instance, Key, State};
use crate::task::{Body, Definition, Member};

/// The services that the DAGs of this program call.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// By their places.
    names: Vec<String>,
    places: HashMap<String, usize>,
    /// Who calls, by DAG and task; empty where nobody does.
    callers: Vec<Vec<Option<Caller>>>,
}

/// A task that calls a service.
#[derive(Debug, Clone, Copy)]
struct Caller {
    service: usize,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Call,
    Sensor,
    Group(Member, Members),
}

/// The members of an asynchronous call, by their places in the DAG.
#[derive(Debug, Clone, Copy)]
struct Members {
    submit: u32,
    wait: Option<u32>,
    read: Option<u32>,
}

impl Services {
    pub(super) fn of(definitions: &[&'static Definition]) -> Self {
        let mut services = Self::default();
        for definition in definitions {
            let mut members: HashMap<u32, Members> = HashMap::new();
            for (task, body) in (0..).zip(definition.bodies) {
                let Body::Group { member, submit, .. } = body else { continue };
                let of =
                    members.entry(*submit).or_insert(Members { submit: *submit, wait: None, read: None });
                match member {
                    Member::Submit => {}
                    Member::Wait => of.wait = Some(task),
                    Member::Read => of.read = Some(task),
                }
            }
            let mut callers = Vec::new();
            for (task, body) in definition.bodies.iter().enumerate() {
                let (call, how) = match body {
                    Body::Call { call, .. } => (*call, How::Call),
                    Body::Sensor { call, .. } => (&call.call, How::Sensor),
                    Body::Group { member, call, submit, .. } => {
                        (&call.call, How::Group(*member, members[submit]))
                    }
                    _ => continue,
                };
                // The user's code. Where it panics, so does the call, and says so.
                let name = std::panic::catch_unwind(AssertUnwindSafe(|| call.service.name()));
                let Ok(name) = name else { continue };
                let service = *services.places.entry(name).or_insert_with_key(|name| {
                    services.names.push(name.clone());
                    services.names.len() - 1
                });
                callers.resize(definition.bodies.len(), None);
                callers[task] = Some(Caller { service, how });
            }
            services.callers.push(callers);
        }
        services
    }

    pub(super) fn gates(&self, limits: &ServiceLimits) -> Vec<Gate> {
        self.names.iter().map(|name| Gate::new(limits.of(name))).collect()
    }

    fn caller(&self, dag: usize, task: u32) -> Option<Caller> {
        *self.callers.get(dag)?.get(task as usize)?
    }

    /// The member that sends, where this is a member of an asynchronous call.
    pub(super) fn call_of(&self, dag: usize, key: Key) -> Option<Key> {
        match self.caller(dag, key.task)?.how {
            How::Group(_, members) => Some(key.beside(members.submit)),
            How::Call | How::Sensor => None,
        }
    }
}

impl Core {
    /// What one that is ready needs of a service.
    pub(super) fn claim(&self, live: &Live, ready: &Ready) -> Option<Claim> {
        let Caller { service, how } = self.services.caller(live.dag, ready.key.task)?;
        let (need, keeps) = match how {
            How::Call => (Need::Both, false),
            // It must not wait here beyond its time.
            How::Sensor => (Need::Place, false),
            // What has been sent before is counted already.
            How::Group(Member::Submit, _) => match self.slots.has_place(ready.run, ready.key) {
                true => (Need::Open, true),
                false => (Need::Both, true),
            },
            // Who finishes a call never waits for a place. Only another try asks.
            How::Group(Member::Wait | Member::Read, _) => {
                let Instance { try_number, tries_before, .. } = live.instance(ready.key);
                let asks = ready.resume.is_none() && try_number > tries_before + 1;
                return asks.then_some(Claim { service, need: Need::Open, keeps: false });
            }
        };
        Some(Claim { service, need, keeps })
    }

    /// Has an asynchronous call counted as long as it is under way. `key` is that of who sends it.
    pub(super) fn settle(&mut self, run: i64, key: Key) {
        let Some(live) = self.runs.get(&run) else { return };
        let Some(Caller { service, how: How::Group(_, members) }) = self.services.caller(live.dag, key.task)
        else {
            return;
        };
        match under_way(live, key, members) {
            Some(true) => self.slots.place(run, key, service),
            Some(false) => self.slots.unplace(run, key),
            None => {}
        }
    }

    /// The same for all calls that these are members of.
    pub(super) fn settle_all(&mut self, run: i64, keys: impl Iterator<Item = Key>) {
        let Some(dag) = self.runs.get(&run).map(|live| live.dag) else { return };
        let calls: BTreeSet<Key> = keys.filter_map(|key| self.services.call_of(dag, key)).collect();
        for call in calls {
            self.settle(run, call);
        }
    }

    /// A service wants to be left alone: none of its calls starts before.
    pub(super) fn leave_alone(&mut self, service: &str, until: DateTime<Utc>) {
        // One that only a function of the user's knows by this name is left alone by who calls it.
        let Some(&place) = self.services.places.get(service) else { return };
        let before = self.slots.gates()[place].closed_until();
        self.slots.close(place, until);
        // Those that were under way are refused too, each a little later.
        match before.is_some_and(|before| before > self.now()) {
            true => {
                tracing::debug!(target: "coworks_biz::engine", "`{service}` still wants to be left alone")
            }
            false => tracing::info!(target: "coworks_biz::engine", "{}", alone(service, until)),
        }
    }

    /// Says once of a service that as many of its calls are under way as may be.
    pub(super) fn tell_of_full(&mut self) {
        for service in self.slots.newly_full() {
            let (name, gate) = (&self.services.names[service], &self.slots.gates()[service]);
            tracing::info!(target: "coworks_biz::engine", "{}", full(name, gate));
        }
    }

    /// A sentence for each service whose calls wait for it.
    pub(super) fn held_up(&self) -> Vec<String> {
        let now = self.now();
        let sentence = |(name, gate): (&String, &Gate)| match gate.closed_until() {
            Some(until) if until > now => Some(alone(name, until)),
            _ if gate.is_full() => Some(full(name, gate)),
            _ => gate
                .paced_until(now)
                .map(|_| format!("calls of `{name}` begin at its rate, and wait for their turn")),
        };
        self.services.names.iter().zip(self.slots.gates()).filter_map(sentence).collect()
    }
}

fn alone(service: &str, until: DateTime<Utc>) -> String {
    let until = until.with_timezone(&Local).format("%H:%M:%S");
    format!("`{service}` asked to be left alone until {until}: its calls wait")
}

fn full(service: &str, gate: &Gate) -> String {
    let (taken, size) = (gate.taken(), gate.size().unwrap_or_default());
    format!("{taken} calls of `{service}` are under way, and its `concurrency` is {size}: others wait")
}

/// Whether an asynchronous call is under way; `None` where that is as it was.
fn under_way(live: &Live, call: Key, members: Members) -> Option<bool> {
    let state = |task: Option<u32>| task.and_then(|task| live.instance(call.beside(task)).state);
    match live.instance(call).state {
        // The first time it has no place yet, and before another try it has one.
        Some(State::Queued) => None,
        // A try that failed may have been taken all the same.
        Some(State::Running | State::UpForRetry | State::UpForReschedule) => Some(true),
        Some(State::Success) => Some(match state(members.wait) {
            // It may be held back by the run before; the service is at work.
            None => true,
            Some(wait) if !wait.is_final() => true,
            // Its answer was there, and then it was asked again.
            Some(_) => {
                let read = members.read.map(|read| call.beside(read));
                let asked_again = |read: &Key| {
                    let state = live.instance(*read).state;
                    live.waits_for(*read).is_some() && state.is_some_and(|state| !state.is_final())
                };
                read.as_ref().is_some_and(asked_again)
            }
        }),
        _ => Some(false),
    }
}
