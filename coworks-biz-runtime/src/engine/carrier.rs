//! What carries attempts: a tokio task for each, or the one of an attempt that has just ended.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;

use super::gap::Gap;

/// How many attempts follow each other in one tokio task: it has to make room for others.
const RELAY: usize = 16;

/// An attempt from its start to the message of its end.
pub(super) type Work = BoxFuture<'static, ()>;

/// Where a carrier whose attempt has ended waits for a moment, awake: where one attempt follows another at
/// once, falling asleep and being woken takes longer than waiting. While others are under way nobody does.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    /// How soon after the end of an attempt another one starts.
    pub(super) gap: Gap,
    /// How many attempts are under way.
    under_way: Arc<AtomicUsize>,
    place: Mutex<Place>,
    /// Whether something is given there, for who does not take the lock.
    given: AtomicBool,
}

#[derive(Default)]
enum Place {
    #[default]
    Empty,
    /// The carrier of the attempt of this number waits.
    Waiting(u64),
    /// The attempt of this number is given to it.
    Given(Work, u64),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Waiting(last) => f.debug_tuple("Waiting").field(last).finish(),
            Self::Given(_, number) => f.debug_tuple("Given").field(number).finish(),
        }
    }
}

/// An attempt is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Carriers {
    /// Counts an attempt.
    pub(super) fn count(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// Gives an attempt to the carrier of the `last` one, which has ended. Back where it does not wait.
    pub(super) fn give(&self, work: Work, number: u64, last: u64) -> Result<(), Work> {
        let mut place = self.place();
        match *place {
            Place::Waiting(waits) if waits == last => {
                *place = Place::Given(work, number);
                self.given.store(true, Ordering::Release);
                Ok(())
            }
            _ => Err(work),
        }
    }

    /// Carries an attempt, and those that follow it at once.
    pub(super) async fn carry(&self, mut work: Work, mut number: u64) {
        for _ in 0..RELAY {
            work.await;
            match self.next(number) {
                Some(next) => (work, number) = next,
                None => return,
            }
        }
        work.await;
    }

    /// What is given to the carrier of this attempt, where that comes so soon that it is worth to wait for it.
    /// The thread does nothing else meanwhile: another task on it could keep what is given from its start.
    fn next(&self, last: u64) -> Option<(Work, u64)> {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let mut awake = self.gap.awake(None)?;
        if !self.wait(last) {
            return None;
        }
        while !self.given.load(Ordering::Acquire) && awake.go_on() {}
        let given = self.leave();
        if given.is_some() {
            awake.worth_it();
        }
        given
    }

    /// The carrier of this attempt waits. `false` where another one does.
    fn wait(&self, last: u64) -> bool {
        let mut place = self.place();
        let is_empty = matches!(*place, Place::Empty);
        if is_empty {
            *place = Place::Waiting(last);
        }
        is_empty
    }

    /// Who waits does so no more, and takes what was given. Called once by who waits: what is there then is its own.
    fn leave(&self) -> Option<(Work, u64)> {
        let mut place = self.place();
        self.given.store(false, Ordering::Relaxed);
        match std::mem::take(&mut *place) {
            Place::Given(work, number) => Some((work, number)),
            Place::Empty | Place::Waiting(_) => None,
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::ready;

    use super::*;

    fn work() -> Work {
        ready(()).boxed()
    }

    #[test]
    fn what_is_given_to_who_waits_is_carried_and_else_it_comes_back() {
        let carriers = Carriers::default();
        assert!(carriers.give(work(), 2, 1).is_err(), "nobody waits");
        assert!(carriers.wait(1));
        assert!(carriers.give(work(), 2, 7).is_err(), "another one");
        assert!(!carriers.wait(5), "one waits at a time");
        assert!(carriers.give(work(), 2, 1).is_ok());
        assert!(carriers.give(work(), 3, 1).is_err(), "it is taken");
        assert_eq!(carriers.leave().map(|(_, number)| number), Some(2));
        assert!(carriers.give(work(), 4, 2).is_err(), "nobody waits any more");
    }

    #[test]
    fn nobody_waits_while_something_is_under_way_and_who_waits_in_vain_goes() {
        let carriers = Carriers::default();
        // One attempt has followed another at once, often.
        (0..30).for_each(|_| carriers.gap.note(Duration::from_micros(50)));
        let other = carriers.count();
        assert!(carriers.next(1).is_none());
        drop(other);
        assert!(carriers.next(1).is_none());
        assert!(carriers.wait(2), "the last one has gone");
    }

    #[test]
    fn whatever_is_given_is_carried_by_somebody() {
        let carriers = Carriers::default();
        let (given, carried) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for first in [1, 2] {
                let (carriers, carried) = (&carriers, &carried);
                scope.spawn(move || {
                    for number in (first..1_000_000).step_by(2) {
                        if carriers.wait(number) && carriers.leave().is_some() {
                            carried.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let (carriers, given) = (&carriers, &given);
            scope.spawn(move || {
                for _ in 0..1_000_000 {
                    let last = match *carriers.place() {
                        Place::Waiting(last) => last,
                        _ => continue,
                    };
                    if carriers.give(work(), 0, last).is_ok() {
                        given.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        assert_eq!(carried.into_inner(), given.into_inner());
    }
}
