//! Task instances: how they are addressed, and where each of them stands.

use std::fmt;

use super::State;
use super::rule::Tally;

/// The address of a task instance in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The task, as its index in [`Dag::tasks`](crate::dag::Dag::tasks).
    pub task: u32,
    /// The index in a mapping; -1 when the task is not mapped.
    pub map_index: i32,
}

impl Key {
    /// The only instance of a task that is not mapped.
    pub fn plain(task: u32) -> Self {
        Self { task, map_index: -1 }
    }

    /// The instance of another task at the same place.
    pub fn beside(self, task: u32) -> Self {
        Self { task, ..self }
    }
}

/// The name of a task instance as people read it: `send[3]`, and `send` where it is not mapped.
#[derive(Debug, Clone, Copy)]
pub struct InstanceName<'a>(pub &'a str, pub i32);

impl<'a> InstanceName<'a> {
    /// Reads a name: the task, and the map index where one is named.
    pub fn read(name: &'a str) -> (&'a str, Option<i32>) {
        let parts = name.strip_suffix(']').and_then(|name| name.split_once('['));
        match parts.map(|(task, index)| (task, index.parse())) {
            Some((task, Ok(index))) => (task, Some(index)),
            _ => (name, None),
        }
    }
}

impl fmt::Display for InstanceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            index @ 0.. => f.pad(&format!("{}[{index}]", self.0)),
            _ => f.pad(self.0),
        }
    }
}

/// Where one task instance stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instance {
    /// `None` while it waits for its upstreams.
    pub state: Option<State>,
    /// The current try, from 1; 0 before the first.
    pub try_number: u32,
    /// How many of its tries were before it was last cleared: they no longer count against its retries.
    pub tries_before: u32,
    /// How often a dying process cut an attempt of it off.
    pub interruptions: u32,
    /// What its success means beyond itself: the arm of a branch, the number of items of a list.
    pub outcome: Option<u32>,
    /// What is known of its upstreams.
    pub(super) tally: Tally,
    /// What is known of those that it is bound to beside them.
    pub(super) bound: Tally,
}

impl Instance {
    /// An instance that stands as it was recorded. It has no state where it was cleared and waits again.
    pub fn recorded(
        state: Option<State>,
        try_number: u32,
        tries_before: u32,
        interruptions: u32,
        outcome: Option<u32>,
    ) -> Self {
        Self { state, try_number, tries_before, interruptions, outcome, ..Self::default() }
    }

    /// An instance that was cleared after so many tries.
    pub(super) fn after(tries: u32) -> Self {
        Self { try_number: tries, tries_before: tries, ..Self::default() }
    }

    /// How many tries it had since it was last cleared.
    pub(super) fn tries(&self) -> u32 {
        self.try_number.saturating_sub(self.tries_before)
    }
}

/// Something of each task instance of a run. Most tasks are not mapped, and cost no more for those that are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instances<T> {
    plain: Vec<T>,
    /// By task, then by map index; empty as long as nothing is mapped.
    mapped: Vec<Vec<T>>,
}

impl<T: Clone + Default> Instances<T> {
    /// One of each task, mapped or not.
    pub fn new(plain: Vec<T>) -> Self {
        Self { plain, mapped: Vec::new() }
    }

    /// How many mapped ones the task has; 0 as long as it is not expanded.
    pub fn mapped(&self, task: u32) -> i32 {
        self.mapped.get(task as usize).map_or(0, |list| list.len() as i32)
    }

    /// That of this key.
    pub fn get(&self, key: Key) -> Option<&T> {
        match usize::try_from(key.map_index) {
            Ok(index) => self.mapped.get(key.task as usize)?.get(index),
            Err(_) => self.plain.get(key.task as usize),
        }
    }

    /// That of this key.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match usize::try_from(key.map_index) {
            Ok(index) => self.mapped.get_mut(key.task as usize)?.get_mut(index),
            Err(_) => self.plain.get_mut(key.task as usize),
        }
    }

    /// Gives a task so many mapped ones, where it has fewer.
    pub fn expand(&mut self, task: u32, count: usize, new: &T) {
        if self.mapped.is_empty() {
            self.mapped.resize(self.plain.len(), Vec::new());
        }
        let list = &mut self.mapped[task as usize];
        list.resize(list.len().max(count), new.clone());
    }

    /// Those of a task, mapped or not.
    pub fn of(&self, task: u32) -> &[T] {
        match self.mapped.get(task as usize) {
            Some(list) if !list.is_empty() => list,
            _ => &self.plain[task as usize..=task as usize],
        }
    }

    /// The keys of a task, mapped or not.
    pub fn keys(&self, task: u32) -> impl Iterator<Item = Key> + use<T> {
        let indexes = match self.mapped(task) {
            0 => -1..0,
            count => 0..count,
        };
        indexes.map(move |map_index| Key { task, map_index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_with_its_index_where_it_has_one() {
        assert_eq!(format!("{:<8}|", InstanceName("send", 3)), "send[3] |");
        assert_eq!(InstanceName("send", -1).to_string(), "send");
        assert_eq!(InstanceName::read("send[3]"), ("send", Some(3)));
        assert_eq!(InstanceName::read("send"), ("send", None));
        assert_eq!(InstanceName::read("send[x]"), ("send[x]", None));
    }

    #[test]
    fn a_task_has_one_until_it_is_expanded() {
        let mut all = Instances::new(vec!['a', 'b']);
        assert_eq!(all.of(1), ['b']);
        assert_eq!(all.keys(1).collect::<Vec<_>>(), [Key::plain(1)]);
        all.expand(1, 2, &'x');
        assert_eq!((all.of(0), all.of(1)), (&['a'][..], &['x', 'x'][..]));
        assert_eq!(all.keys(1).map(|key| key.map_index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(all.get(Key { task: 1, map_index: 2 }), None);
        assert_eq!(all.get(Key::plain(1)), Some(&'b'));
    }
}
