//! Who may start: slots, pools, limits and services. The higher priority goes first, then who was ready first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::gate::{Claim, Gate, Need};
use super::lines::{Id, Limit, Limits, Lines, Place};
use super::{Map, Set};
use crate::run::Key;
use crate::task::Resume;

/// How long one waits for its slot before its row says so. Most wait for less.
const SOON: Duration = Duration::from_millis(250);

/// The room of a queue for more than this many is given back when it is empty.
const ROOMY: usize = 8192;

/// A task instance that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) run: i64,
    pub(super) key: Key,
    pub(super) resume: Option<Resume>,
    /// The process died more than once while it was running: it runs alone.
    pub(super) alone: bool,
    /// The DAG, by its place in the program.
    pub(super) dag: usize,
    /// The higher goes first.
    pub(super) priority: i32,
    /// The pool, by its place in [`Slots::new`]; `None` where all slots are its own.
    pub(super) pool: Option<usize>,
    /// How many tasks of its run may be under way at once.
    pub(super) of_run: Option<u32>,
    /// How many instances of its task may be under way at once, over all runs.
    pub(super) of_task: Option<u32>,
    /// What it needs of the service that it calls.
    pub(super) claim: Option<Claim>,
}

/// The slots and the queue for them.
///
/// Those that meet a limit are parked with it, and come back when one that the limit counts has ended:
/// however many wait for a pool, nobody looks at them meanwhile.
#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    /// The sizes of the pools.
    pools: Vec<usize>,
    paused: Set<usize>,
    running: Map<Id, Ready>,
    /// How many run under each limit.
    taken: Map<Limit, usize>,
    /// The one that runs has all slots.
    exclusive: bool,
    waiting: Map<Id, (Ready, Place)>,
    lines: Lines,
    /// The services.
    gates: Vec<Gate>,
    /// The asynchronous calls under way that have a place of their service, by who sends them.
    placed: BTreeMap<Id, usize>,
    /// The services that may have room for one more.
    stirred: Vec<usize>,
    /// When which service is to be looked at again.
    alarms: Vec<(usize, DateTime<Utc>)>,
    /// The services for which calls wait, where that is new.
    full: Vec<usize>,
    /// When somebody was last to start.
    now: DateTime<Utc>,
    /// How often one of the queue was looked at.
    #[cfg(test)]
    looked: usize,
    serial: u64,
    /// Those whose rows do not say yet that they are queued, and some that have started meanwhile.
    unrecorded: VecDeque<(Place, Id)>,
    /// Since when there are some, at the latest.
    behind: Option<Instant>,
    draining: bool,
}

impl Ready {
    fn id(&self) -> Id {
        (self.run, self.key)
    }

    fn limits(&self) -> Limits {
        Limits {
            dag: self.dag,
            pool: self.pool,
            of_run: self.of_run.map(|limit| (self.run, limit)),
            of_task: self.of_task.map(|limit| (self.key.task, limit)),
            service: self.claim.map(|claim| (claim.service, claim.need)),
        }
    }
}

impl Slots {
    pub(super) fn new(total: usize, pools: Vec<usize>) -> Self {
        Self {
            total,
            pools,
            paused: Set::default(),
            running: Map::default(),
            taken: Map::default(),
            exclusive: false,
            waiting: Map::default(),
            lines: Lines::default(),
            gates: Vec::new(),
            placed: BTreeMap::new(),
            stirred: Vec::new(),
            alarms: Vec::new(),
            full: Vec::new(),
            now: DateTime::UNIX_EPOCH,
            #[cfg(test)]
            looked: 0,
            serial: 0,
            unrecorded: VecDeque::new(),
            behind: None,
            draining: false,
        }
    }

    pub(super) fn push(&mut self, ready: Ready) {
        self.forget(ready.run, ready.key);
        let place = (Reverse(ready.priority), self.serial);
        self.serial += 1;
        self.waiting.insert(ready.id(), (ready, place));
        self.lines.insert(place, ready.id(), ready.limits());
        self.unrecorded.push_back((place, ready.id()));
    }

    /// The next to start, which then has its slot.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> Option<Ready> {
        if now < self.now {
            let back = self.now - now;
            self.gates.iter_mut().for_each(|gate| gate.put_back(back, now));
        }
        self.now = now;
        loop {
            while let Some(service) = self.stirred.pop() {
                self.stir(service);
            }
            let (place, id, limits) = self.lines.first()?;
            let &(ready, _) = self.waiting.get(&id)?;
            let slots = if ready.alone { 1 } else { self.total };
            if self.draining || self.exclusive || self.running.len() >= slots {
                return None;
            }
            #[cfg(test)]
            {
                self.looked += 1;
            }
            match self.full(limits) {
                Some(limit) => {
                    self.lines.park(limit);
                    if let Limit::Service(service, need) = limit {
                        self.meet(service, need);
                    }
                    // What has been freed for it elsewhere is for the next one there.
                    for other in limits.all().filter(|other| *other != limit) {
                        self.pass_on(other, limits);
                    }
                }
                None => {
                    self.waiting.remove(&id);
                    if self.waiting.is_empty() && self.waiting.capacity() > ROOMY {
                        self.waiting.shrink_to_fit();
                    }
                    self.lines.remove(place, limits);
                    for limit in limits.counted() {
                        *self.taken.entry(limit).or_default() += 1;
                    }
                    if let Some(Claim { service, need, keeps }) = ready.claim {
                        self.gates[service].begin(self.now);
                        match (need, keeps) {
                            (Need::Open, _) => {}
                            (_, true) => self.place(id.0, id.1, service),
                            (_, false) => self.gates[service].take(),
                        }
                        // There may be room for another one.
                        self.stirred.push(service);
                    }
                    self.exclusive = ready.alone;
                    self.running.insert(id, ready);
                    return Some(ready);
                }
            }
        }
    }

    /// An attempt has ended, or was cut off.
    pub(super) fn release(&mut self, run: i64, key: Key) {
        let Some(ready) = self.running.remove(&(run, key)) else { return };
        self.exclusive = false;
        for limit in ready.limits().counted() {
            match self.taken.get_mut(&limit) {
                Some(taken) if *taken > 1 => *taken -= 1,
                _ => drop(self.taken.remove(&limit)),
            }
            self.lines.unpark(limit);
        }
        if let Some(Claim { service, need: Need::Place | Need::Both, keeps: false }) = ready.claim {
            self.gates[service].free();
            self.stirred.push(service);
        }
    }

    /// It is not ready any more.
    pub(super) fn forget(&mut self, run: i64, key: Key) {
        let Some((ready, place)) = self.waiting.remove(&(run, key)) else { return };
        let limits = ready.limits();
        if self.lines.remove(place, limits) {
            // What was freed for it is for the next one there.
            for limit in limits.all() {
                self.pass_on(limit, limits);
            }
        }
    }

    /// Nothing of a DAG starts, or all of it again.
    pub(super) fn pause(&mut self, dag: usize, paused: bool) {
        match paused {
            true => drop(self.paused.insert(dag)),
            false => {
                self.paused.remove(&dag);
                self.lines.unpark_all(Limit::Paused(dag));
            }
        }
    }

    fn room(&self, limit: Limit, limits: Limits) -> bool {
        let size = match limit {
            Limit::Paused(dag) => return !self.paused.contains(&dag),
            Limit::Service(service, need) => return self.gates[service].admits(need, self.now),
            Limit::Pool(pool) => self.pools.get(pool).copied(),
            Limit::Run(_) => limits.of_run.map(|(_, limit)| limit as usize),
            Limit::Task(..) => limits.of_task.map(|(_, limit)| limit as usize),
        };
        let taken = self.taken.get(&limit).copied().unwrap_or(0);
        size.is_none_or(|size| taken < size)
    }

    /// The first of these limits that has no room for one more.
    fn full(&self, limits: Limits) -> Option<Limit> {
        limits.all().find(|&limit| !self.room(limit, limits))
    }

    /// A line that had its turn does not go on: what there is of a limit is for the next one that waits for it.
    fn pass_on(&mut self, limit: Limit, limits: Limits) {
        if self.room(limit, limits) {
            self.lines.unpark(limit);
        }
    }

    /// The services, of which those that are ready name one by its place.
    pub(super) fn serve(&mut self, gates: Vec<Gate>) {
        self.gates = gates;
    }

    pub(super) fn gates(&self) -> &[Gate] {
        &self.gates
    }

    /// Lets the first one of each kind that waits for a service try again, where the service lets it.
    fn stir(&mut self, service: usize) {
        for need in Need::ALL {
            let limit = Limit::Service(service, need);
            match self.gates[service].admits(need, self.now) {
                true => self.lines.unpark(limit),
                false if self.lines.is_parked(limit) => self.meet(service, need),
                false => {}
            }
        }
    }

    /// One waits for a service that does not let it start.
    fn meet(&mut self, service: usize, need: Need) {
        let gate = &mut self.gates[service];
        if need != Need::Open && gate.is_full_first() {
            self.full.push(service);
        }
        if let Some(at) = gate.alarm(need, self.now) {
            self.alarms.push((service, at));
        }
    }

    /// The services of which for the first time as many calls are under way as may be, and others wait.
    pub(super) fn newly_full(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.full)
    }

    /// When which service is to be [looked at](Slots::look) again.
    pub(super) fn alarms(&mut self) -> Vec<(usize, DateTime<Utc>)> {
        std::mem::take(&mut self.alarms)
    }

    /// It is the moment to look at a service again.
    pub(super) fn look(&mut self, service: usize, at: DateTime<Utc>) {
        self.gates[service].look(at);
        self.stirred.push(service);
    }

    /// A service wants to be left alone.
    pub(super) fn close(&mut self, service: usize, until: DateTime<Utc>) {
        self.gates[service].close(until);
        self.stirred.push(service);
    }

    /// An asynchronous call is under way, whether or not there is a place for it.
    pub(super) fn place(&mut self, run: i64, key: Key, service: usize) {
        if self.placed.insert((run, key), service).is_none() {
            self.gates[service].take();
        }
    }

    pub(super) fn has_place(&self, run: i64, key: Key) -> bool {
        self.placed.contains_key(&(run, key))
    }

    /// An asynchronous call is not under way any more.
    pub(super) fn unplace(&mut self, run: i64, key: Key) {
        if let Some(service) = self.placed.remove(&(run, key)) {
            self.gates[service].free();
            self.stirred.push(service);
        }
    }

    /// None of the asynchronous calls of a run are under way any more.
    pub(super) fn unplace_all(&mut self, run: i64) {
        let first = Key { task: 0, map_index: i32::MIN };
        while let Some((&(of, key), _)) = self.placed.range((run, first)..).next()
            && of == run
        {
            self.unplace(run, key);
        }
    }

    /// Up to `limit` of those in the queue that wait for a while and whose rows do not say so yet; from now on
    /// they do.
    pub(super) fn record(&mut self, limit: usize, at: Instant) -> Vec<Ready> {
        let mut new = Vec::new();
        while self.behind_from(at).is_some_and(|from| from <= at)
            && new.len() < limit
            && let Some((_, id)) = self.unrecorded.pop_front()
        {
            new.extend(self.waiting.get(&id).map(|(ready, _)| *ready));
        }
        new
    }

    /// From when on there are some to [record](Self::record), unless they have started before; asked now.
    pub(super) fn behind_from(&mut self, at: Instant) -> Option<Instant> {
        let waits = |(place, id): &(Place, Id)| self.waiting.get(id).is_some_and(|(_, is)| is == place);
        while self.unrecorded.front().is_some_and(|first| !waits(first)) {
            self.unrecorded.pop_front();
        }
        if self.unrecorded.is_empty() {
            self.behind = None;
            return None;
        }
        // What a process that stops leaves behind is not left for later.
        Some(if self.draining { at } else { *self.behind.get_or_insert(at) + SOON })
    }

    /// Starts nothing more from now on.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Who runs and who waits, which asynchronous calls have a place, and how much is counted as taken.
    #[cfg(test)]
    pub(super) fn census(&self) -> (Vec<Id>, Vec<Id>, Vec<Id>, usize) {
        let placed = self.placed.keys().copied().collect();
        let taken: usize = self.taken.values().copied().chain(self.gates.iter().map(Gate::taken)).sum();
        (self.running.keys().copied().collect(), self.waiting.keys().copied().collect(), placed, taken)
    }

    #[cfg(test)]
    pub(super) fn looked(&self) -> usize {
        self.looked
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests;
