//! Those that are ready, in lines: all of one line meet the same limits, and so only its first is looked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Map;
use super::gate::Need;
use crate::run::Key;

/// What can keep a task instance from starting while there are free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Limit {
    Paused(usize),
    Pool(usize),
    Run(i64),
    Task(usize, u32),
    Service(usize, Need),
}

/// The limits that those of a line meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Limits {
    pub(super) dag: usize,
    pub(super) pool: Option<usize>,
    /// The run, and how many of it.
    pub(super) of_run: Option<(i64, u32)>,
    /// The task, and how many of it.
    pub(super) of_task: Option<(u32, u32)>,
    pub(super) service: Option<(usize, Need)>,
}

impl Limits {
    /// Those that count who runs.
    pub(super) fn counted(self) -> impl Iterator<Item = Limit> {
        let of_task = self.of_task.map(|(task, _)| Limit::Task(self.dag, task));
        let limits = [self.pool.map(Limit::Pool), self.of_run.map(|(run, _)| Limit::Run(run)), of_task];
        limits.into_iter().flatten()
    }

    pub(super) fn all(self) -> impl Iterator<Item = Limit> {
        let service = self.service.map(|(service, need)| Limit::Service(service, need));
        std::iter::once(Limit::Paused(self.dag)).chain(self.counted()).chain(service)
    }
}

/// The place of one that is ready: by priority, then by age.
pub(super) type Place = (Reverse<i32>, u64);

pub(super) type Id = (i64, Key);

/// The lines by the place of their first.
type Shelf = BTreeMap<Place, usize>;

/// Those that are ready. A line that meets a limit is parked with it as a whole, and nobody looks at it
/// until there may be room.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    names: Map<Limits, usize>,
    /// Lines that stand for nothing any more.
    free: Vec<usize>,
    open: Shelf,
    parked: Map<Limit, Shelf>,
}

#[derive(Debug)]
struct Line {
    limits: Limits,
    queue: BTreeMap<Place, Id>,
    /// Where it is parked.
    at: Option<Limit>,
}

impl Lines {
    pub(super) fn insert(&mut self, place: Place, id: Id, limits: Limits) {
        let number = match self.names.get(&limits) {
            Some(&number) => number,
            None => {
                let line = Line { limits, queue: BTreeMap::new(), at: None };
                let number = self.free.pop().unwrap_or(self.lines.len());
                match self.lines.get_mut(number) {
                    Some(free) => *free = line,
                    None => self.lines.push(line),
                }
                self.names.insert(limits, number);
                number
            }
        };
        let line = &mut self.lines[number];
        let first = line.queue.first_key_value().map(|(first, _)| *first);
        line.queue.insert(place, id);
        if first.is_none_or(|first| place < first) {
            let at = line.at;
            self.reshelve(at, first, number);
        }
    }

    /// Takes one out. Says whether it was the last of a line that was not parked.
    pub(super) fn remove(&mut self, place: Place, limits: Limits) -> bool {
        let Some(&number) = self.names.get(&limits) else { return false };
        let line = &mut self.lines[number];
        let first = line.queue.first_key_value().map(|(first, _)| *first);
        line.queue.remove(&place);
        let (at, is_empty) = (line.at, line.queue.is_empty());
        if first == Some(place) {
            self.reshelve(at, first, number);
        }
        is_empty && at.is_none()
    }

    /// The first of those that nothing is known to hold up.
    pub(super) fn first(&self) -> Option<(Place, Id, Limits)> {
        let (_, &number) = self.open.first_key_value()?;
        let line = &self.lines[number];
        line.queue.first_key_value().map(|(&place, &id)| (place, id, line.limits))
    }

    /// The line of the first meets a limit.
    pub(super) fn park(&mut self, limit: Limit) {
        if let Some((place, number)) = self.open.pop_first() {
            self.lines[number].at = Some(limit);
            self.parked.entry(limit).or_default().insert(place, number);
        }
    }

    pub(super) fn is_parked(&self, limit: Limit) -> bool {
        self.parked.contains_key(&limit)
    }

    /// Lets the first line that waits for a limit try again.
    pub(super) fn unpark(&mut self, limit: Limit) {
        let Some(shelf) = self.parked.get_mut(&limit) else { return };
        if let Some((place, number)) = shelf.pop_first() {
            self.lines[number].at = None;
            self.open.insert(place, number);
        }
        if shelf.is_empty() {
            self.parked.remove(&limit);
        }
    }

    /// Lets all of them.
    pub(super) fn unpark_all(&mut self, limit: Limit) {
        while self.is_parked(limit) {
            self.unpark(limit);
        }
    }

    /// Puts a line where its first says now; one without any is gone.
    fn reshelve(&mut self, at: Option<Limit>, before: Option<Place>, number: usize) {
        let line = &mut self.lines[number];
        let first = line.queue.first_key_value().map(|(first, _)| *first);
        let shelf = match at {
            None => &mut self.open,
            Some(limit) => self.parked.entry(limit).or_default(),
        };
        if let Some(before) = before {
            shelf.remove(&before);
        }
        if let Some(first) = first {
            shelf.insert(first, number);
        }
        if let (Some(limit), true) = (at, shelf.is_empty()) {
            self.parked.remove(&limit);
        }
        if first.is_none() {
            line.at = None;
            // Of a program there are only so many kinds of tasks, and they come again; of runs there is no end.
            if line.limits.of_run.is_some() {
                self.names.remove(&line.limits);
                self.free.push(number);
            }
        }
    }

    /// Whether nobody is ready.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.parked.is_empty() && self.lines.iter().all(|line| line.queue.is_empty())
    }
}
