//! What carries attempts: a tokio task for each, or the one of an attempt that has just ended.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::gap::Gap;

/// For how long at a time a thread is kept from all else that it may have to do.
const SPIN: Duration = Duration::from_micros(30);

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
            match self.next(number).await {
                Some(next) => (work, number) = next,
                None => return,
            }
        }
        work.await;
    }

    /// What is given to the carrier of this attempt, where that comes so soon that it is worth to wait for it.
    async fn next(&self, last: u64) -> Option<(Work, u64)> {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let mut awake = self.gap.awake(None)?;
        let waiting = Waiting::enter(self, last)?;
        let mut others = Instant::now();
        while !self.given.load(Ordering::Acquire) && awake.go_on() {
            if others.elapsed() >= SPIN {
                tokio::task::yield_now().await;
                others = Instant::now();
            }
        }
        let given = waiting.leave();
        if given.is_some() {
            awake.worth_it();
        }
        given
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A carrier that waits. Where it is dropped meanwhile, with the engine, or because what was given to it is
/// cut off, nobody waits any more.
struct Waiting<'a>(&'a Carriers);

impl<'a> Waiting<'a> {
    /// `None` where another one waits.
    fn enter(carriers: &'a Carriers, last: u64) -> Option<Self> {
        let mut place = carriers.place();
        match *place {
            Place::Empty => {
                *place = Place::Waiting(last);
                Some(Self(carriers))
            }
            Place::Waiting(_) | Place::Given(..) => None,
        }
    }

    /// Waits no more, and takes what was given.
    fn leave(self) -> Option<(Work, u64)> {
        match self.empty() {
            Place::Given(work, number) => Some((work, number)),
            Place::Empty | Place::Waiting(_) => None,
        }
    }

    fn empty(&self) -> Place {
        let mut place = self.0.place();
        self.0.given.store(false, Ordering::Relaxed);
        std::mem::take(&mut *place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.empty());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::ready;

    use super::*;

    /// One attempt has followed another at once, often.
    fn hasty() -> Carriers {
        let carriers = Carriers::default();
        (0..30).for_each(|_| carriers.gap.note(Duration::from_micros(50)));
        carriers
    }

    #[test]
    fn what_is_given_to_who_waits_is_carried_and_else_it_comes_back() {
        let carriers = hasty();
        if carriers.gap.awake(None).is_none() {
            return; // One processor.
        }
        assert!(carriers.give(ready(()).boxed(), 2, 1).is_err(), "nobody waits");
        let mut next = Box::pin(carriers.next(1));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(carriers.give(ready(()).boxed(), 2, 7).is_err(), "another one");
        assert!(carriers.next(5).now_or_never().is_some_and(|next| next.is_none()), "one waits at a time");
        assert!(carriers.give(ready(()).boxed(), 2, 1).is_ok());
        assert!(carriers.give(ready(()).boxed(), 3, 1).is_err(), "it is taken");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(next).map(|(_, number)| number), Some(2));
        // Nobody waits any more, and nobody does while something is under way.
        assert!(carriers.give(ready(()).boxed(), 4, 2).is_err());
        let other = carriers.count();
        assert!(carriers.next(2).now_or_never().is_some_and(|next| next.is_none()));
        drop(other);
        assert!(carriers.next(2).now_or_never().is_none());
    }

    #[test]
    fn who_waits_in_vain_goes_and_so_does_who_is_dropped() {
        let carriers = hasty();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(carriers.next(1)).is_none());
        let waiting = Waiting::enter(&carriers, 1).unwrap();
        assert!(carriers.give(ready(()).boxed(), 2, 1).is_ok());
        drop(waiting);
        assert!(!carriers.given.load(Ordering::Relaxed));
        assert!(Waiting::enter(&carriers, 3).is_some());
    }
}
