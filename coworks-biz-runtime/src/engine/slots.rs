//! Who may start: a fixed number of slots, handed out in order.

use std::collections::VecDeque;

use crate::run::Key;
use crate::task::Resume;

/// A task instance that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) run: i64,
    pub(super) key: Key,
    pub(super) resume: Option<Resume>,
    /// It was running while the process died more than once, and runs alone.
    pub(super) alone: bool,
}

/// The slots and the queue for them.
#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    running: usize,
    /// The one that runs has all slots.
    exclusive: bool,
    queue: VecDeque<Ready>,
    /// How many at the front of the queue have rows that say that they are queued.
    recorded: usize,
    draining: bool,
}

impl Slots {
    pub(super) fn new(total: usize) -> Self {
        Self { total, running: 0, exclusive: false, queue: VecDeque::new(), recorded: 0, draining: false }
    }

    pub(super) fn push(&mut self, ready: Ready) {
        self.queue.push_back(ready);
    }

    /// The next to start, which then has its slot.
    pub(super) fn next(&mut self) -> Option<Ready> {
        let alone = self.queue.front()?.alone;
        let free = !self.draining && !self.exclusive && self.running < if alone { 1 } else { self.total };
        if !free {
            return None;
        }
        self.running += 1;
        self.exclusive = alone;
        self.recorded = self.recorded.saturating_sub(1);
        self.queue.pop_front()
    }

    /// An attempt has ended.
    pub(super) fn release(&mut self) {
        self.running -= 1;
        self.exclusive = false;
    }

    /// Up to `limit` of those in the queue whose rows do not say so yet; from now on they do.
    pub(super) fn record(&mut self, limit: usize) -> Vec<Ready> {
        let new: Vec<_> = self.queue.iter().skip(self.recorded).take(limit).copied().collect();
        self.recorded += new.len();
        new
    }

    /// Whether there are some in the queue whose rows do not say so yet.
    pub(super) fn is_behind(&self) -> bool {
        self.recorded < self.queue.len()
    }

    /// Starts nothing more from now on.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(task: u32, alone: bool) -> Ready {
        Ready { run: 1, key: Key::plain(task), resume: None, alone }
    }

    fn next(slots: &mut Slots) -> Option<u32> {
        slots.next().map(|ready| ready.key.task)
    }

    #[test]
    fn slots_are_handed_out_in_order_up_to_their_number() {
        let mut slots = Slots::new(2);
        (1..=3).for_each(|task| slots.push(ready(task, false)));
        assert_eq!([next(&mut slots), next(&mut slots), next(&mut slots)], [Some(1), Some(2), None]);
        assert!(slots.is_behind());
        assert_eq!(slots.record(9), [ready(3, false)]);
        assert!(!slots.is_behind());
        assert_eq!(slots.record(9), []);
        slots.release();
        assert_eq!(next(&mut slots), Some(3));
    }

    #[test]
    fn a_long_queue_is_recorded_in_pieces() {
        let mut slots = Slots::new(1);
        (1..=5).for_each(|task| slots.push(ready(task, false)));
        assert_eq!(slots.record(2), [ready(1, false), ready(2, false)]);
        assert_eq!(next(&mut slots), Some(1));
        assert_eq!(slots.record(2), [ready(3, false), ready(4, false)]);
        assert_eq!(slots.record(2), [ready(5, false)]);
    }

    #[test]
    fn one_that_runs_alone_waits_for_all_and_all_wait_for_it() {
        let mut slots = Slots::new(4);
        for (task, alone) in [(1, false), (2, true), (3, false)] {
            slots.push(ready(task, alone));
        }
        assert_eq!([next(&mut slots), next(&mut slots)], [Some(1), None]);
        slots.release();
        assert_eq!([next(&mut slots), next(&mut slots)], [Some(2), None]);
        slots.release();
        assert_eq!(next(&mut slots), Some(3));
    }

    #[test]
    fn while_draining_nothing_starts() {
        let mut slots = Slots::new(2);
        slots.push(ready(1, false));
        slots.drain();
        assert_eq!(next(&mut slots), None);
    }
}
