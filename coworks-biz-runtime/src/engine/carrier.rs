//! What carries attempts: a tokio task for each, or the one of an attempt that has just ended.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use futures_util::future::BoxFuture;

use super::gap::Gap;

/// After how many attempts a carrier makes room for other tasks of its thread.
const RELAY: usize = 16;

/// An attempt from its start to the message of its end.
pub(super) type Work = BoxFuture<'static, ()>;

/// Where the carrier of the last attempt waits for the next one: falling asleep and being woken takes longer than
/// most commits. So it is woken before there is something for it, and waits awake where that comes in a moment.
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
    /// The carrier of the attempt of this number waits; asleep, where it can be woken.
    Waiting(u64, Option<Waker>),
    /// This attempt of another number is given to it.
    Given(u64, (Work, u64)),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Waiting(last, waker) => f.debug_tuple("Waiting").field(last).field(waker).finish(),
            Self::Given(last, (_, number)) => f.debug_tuple("Given").field(last).field(number).finish(),
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
        match &mut *place {
            Place::Waiting(waits, waker) if *waits == last => {
                let waker = waker.take();
                *place = Place::Given(last, (work, number));
                self.given.store(true, Ordering::Release);
                drop(place);
                if let Some(waker) = waker {
                    waker.wake();
                }
                Ok(())
            }
            _ => Err(work),
        }
    }

    /// Something is about to be given to the carrier of the `last` one.
    pub(super) fn rouse(&self, last: u64) {
        if !self.gap.is_soon() {
            return;
        }
        let waker = match &mut *self.place() {
            Place::Waiting(waits, waker) if *waits == last => waker.take(),
            _ => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Carries an attempt, and those that follow it.
    pub(super) async fn carry(&self, mut work: Work, mut number: u64) {
        for carried in 1.. {
            work.await;
            match self.next(number, carried % RELAY == 0).await {
                Some(next) => (work, number) = next,
                None => return,
            }
        }
    }

    /// What is given to the carrier of this attempt; `None` where another one waits for that. It may make room for
    /// others first.
    async fn next(&self, last: u64, makes_room: bool) -> Option<(Work, u64)> {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let waiting = Waiting::enter(self, last)?;
        if makes_room {
            // Who gives it something meanwhile has it woken: this thread may be kept by another task.
            if let Poll::Ready(next) = poll_fn(|context| Poll::Ready(waiting.take(context.waker()))).await {
                return next;
            }
            tokio::task::yield_now().await;
        }
        let mut roused = false;
        poll_fn(|context| {
            self.stay_awake(roused);
            // Who is woken is either given something, or told that it will not be long.
            roused = true;
            waiting.take(context.waker())
        })
        .await
    }

    /// Waits awake for what comes in a moment. The thread does nothing else meanwhile: another task on it
    /// could keep what is given from its start.
    fn stay_awake(&self, roused: bool) {
        let is_given = || self.given.load(Ordering::Acquire);
        let awake = if roused { self.gap.roused() } else { self.gap.awake(None) };
        let Some(mut awake) = awake.filter(|_| !is_given()) else { return };
        while !is_given() && awake.go_on() {}
        if is_given() {
            awake.worth_it();
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(|e| e.into_inner())
    }
}
/// The carrier of an attempt that waits for the next one. Where it is dropped, with the engine, nobody does any more.
struct Waiting<'a> {
    carriers: &'a Carriers,
    last: u64,
}

impl<'a> Waiting<'a> {
    /// In the place of another one that waits; `None` where that was given something.
    fn enter(carriers: &'a Carriers, last: u64) -> Option<Self> {
        let before = {
            let mut place = carriers.place();
            if matches!(*place, Place::Given(..)) {
                return None;
            }
            mem::replace(&mut *place, Place::Waiting(last, None))
        };
        // It finds out that it waits no more.
        if let Place::Waiting(_, Some(waker)) = before {
            waker.wake();
        }
        Some(Self { carriers, last })
    }

    /// What was given; `None` where another one waits in its place.
    fn take(&self, waker: &Waker) -> Poll<Option<(Work, u64)>> {
        let mut place = self.carriers.place();
        match mem::take(&mut *place) {
            Place::Given(last, given) if last == self.last => {
                self.carriers.given.store(false, Ordering::Relaxed);
                Poll::Ready(Some(given))
            }
            Place::Waiting(last, _) if last == self.last => {
                *place = Place::Waiting(last, Some(waker.clone()));
                Poll::Pending
            }
            others => {
                *place = others;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut place = self.carriers.place();
        if let Place::Waiting(last, _) | Place::Given(last, _) = *place
            && last == self.last
        {
            self.carriers.given.store(false, Ordering::Relaxed);
            *place = Place::Empty;
        }
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

    fn number(next: Option<Option<(Work, u64)>>) -> Option<Option<u64>> {
        next.map(|next| next.map(|(_, number)| number))
    }

    #[test]
    fn what_is_given_to_who_waits_is_carried_and_else_it_comes_back() {
        let carriers = Carriers::default();
        assert!(carriers.give(work(), 2, 1).is_err(), "nobody waits");
        let mut next = Box::pin(carriers.next(1, false));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(carriers.give(work(), 2, 7).is_err(), "another one");
        assert!(carriers.give(work(), 2, 1).is_ok());
        assert!(carriers.give(work(), 3, 1).is_err(), "it has something");
        assert_eq!(number(carriers.next(5, false).now_or_never()), Some(None), "and has not taken it yet");
        assert_eq!(number(next.now_or_never()), Some(Some(2)));
        assert!(carriers.give(work(), 4, 2).is_err(), "nobody waits any more");
    }

    #[test]
    fn the_last_one_waits_and_nobody_does_while_something_is_under_way() {
        let carriers = Carriers::default();
        let other = carriers.count();
        assert_eq!(number(carriers.next(1, false).now_or_never()), Some(None));
        drop(other);
        let mut first = Box::pin(carriers.next(1, false));
        assert!(first.as_mut().now_or_never().is_none());
        let second = Box::pin(carriers.next(2, false));
        let mut second = second;
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(number(first.now_or_never()), Some(None));
        assert!(carriers.give(work(), 3, 1).is_err());
        assert!(carriers.give(work(), 3, 2).is_ok());
        drop(second);
        assert!(!carriers.given.load(Ordering::Relaxed) && carriers.give(work(), 4, 2).is_err());
    }

    #[test]
    fn who_sleeps_is_roused_and_woken_for_what_is_given() {
        let carriers = Arc::new(Carriers::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (sender, ends) = std::sync::mpsc::channel();
        let carried = |number: u64| {
            let sender = sender.clone();
            async move { sender.send(number).unwrap() }.boxed()
        };
        let mut last = 0;
        for number in 1..=20_000 {
            if number % 3 == 0 {
                carriers.rouse(last);
            }
            if let Err(work) = carriers.give(carried(number), number, last) {
                let carriers = Arc::clone(&carriers);
                runtime.spawn(async move { carriers.carry(work, number).await });
            }
            let ended = ends.recv_timeout(Duration::from_secs(30));
            assert_eq!(ended, Ok(number), "what was given is lost");
            carriers.gap.note(Duration::from_micros(number % 150));
            last = number;
        }
    }
}
