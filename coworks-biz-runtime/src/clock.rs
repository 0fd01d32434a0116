//! What time it is: the machine's time, or a test's, in which waiting takes none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::oneshot;

/// The clock of an engine and of what it works with.
///
/// The default is the machine's. One that [skips](Clock::skipping) goes on as the machine's does while
/// something is [under way](Clock::busy), and leaps to whatever is waited for while nothing is.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Skipping>>);

#[derive(Debug)]
struct Skipping {
    /// From the machine's time to this one's, before anything was skipped.
    offset: TimeDelta,
    /// The moment at which the machine's time stands still, for who moves time by hand.
    #[cfg(test)]
    still: Option<(DateTime<Utc>, Instant)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    skipped: Duration,
    /// How far it was set, forward or back.
    #[cfg(test)]
    set: TimeDelta,
    /// How much is under way that takes time by itself; less what only looks so, and waits.
    busy: isize,
    sleepers: BTreeMap<(Instant, u64), oneshot::Sender<Busy>>,
    serial: u64,
    /// Nothing is skipped beyond it.
    horizon: Option<Instant>,
}

/// Something is under way: time passes as it does. Until this is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Busy(Option<Arc<Skipping>>);

/// What seems under way is only waiting. Until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Idle(Option<Arc<Skipping>>);

/// The last moment that there is for anybody here: what is due later is due then.
pub const LAST: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(at) => at,
    None => DateTime::UNIX_EPOCH,
};

/// So long behind a moment.
pub fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(by).map_or(LAST, |at| at.min(LAST))
}

impl Clock {
    /// The clock of a test, at this moment.
    pub fn skipping(at: DateTime<Utc>) -> Self {
        Self(Some(Arc::new(Skipping {
            offset: at - Utc::now(),
            #[cfg(test)]
            still: None,
            state: Mutex::default(),
        })))
    }

    /// The clock of a simulation, at this moment: it stands still, but for who [moves](Self::leap) it.
    #[cfg(test)]
    pub(crate) fn still(at: DateTime<Utc>) -> Self {
        let still = Some((at, Instant::now()));
        Self(Some(Arc::new(Skipping { offset: TimeDelta::zero(), still, state: Mutex::default() })))
    }

    /// Lets so much time pass.
    #[cfg(test)]
    pub(crate) fn leap(&self, by: Duration) {
        if let Some(skipping) = &self.0 {
            skipping.lock().skipped += by;
        }
    }

    /// Sets the clock forward or back by so much: no time passes by that.
    #[cfg(test)]
    pub(crate) fn set(&self, by: TimeDelta) {
        if let Some(skipping) = &self.0 {
            skipping.lock().set += by;
        }
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        let Some(skipping) = &self.0 else { return Utc::now() };
        let state = skipping.lock();
        let skipped = TimeDelta::from_std(state.skipped).unwrap_or(TimeDelta::MAX);
        #[cfg(test)]
        let skipped = skipped + state.set;
        let (now, _) = skipping.machine();
        (now + skipping.offset).checked_add_signed(skipped).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Now, on a clock that is never set back.
    pub fn instant(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(skipping) => skipping.instant(&skipping.lock()),
        }
    }

    /// Has time pass as it does until what is returned is dropped.
    pub fn busy(&self) -> Busy {
        if let Some(skipping) = &self.0 {
            skipping.lock().busy += 1;
        }
        Busy(self.0.clone())
    }

    /// Takes one of those who are [`busy`](Self::busy) out of the count: it waits for the caller, who waits.
    pub fn idle(&self) -> Idle {
        if let Some(skipping) = &self.0 {
            skipping.lock().busy -= 1;
        }
        Idle(self.0.clone())
    }

    /// Sleeps. It counts from this call, and who wakes is busy.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = Busy> + use<> {
        let woken = self.0.as_ref().map(|skipping| {
            let (sender, woken) = oneshot::channel();
            let mut state = skipping.lock();
            let until = skipping.instant(&state).checked_add(duration).unwrap_or_else(far_future);
            let place = (until, state.serial);
            state.serial += 1;
            state.sleepers.insert(place, sender);
            (Sleeper { skipping: Arc::clone(skipping), place }, woken)
        });
        let clock = self.clone();
        async move {
            let Some((_sleeper, woken)) = woken else {
                tokio::time::sleep(duration).await;
                return Busy(None);
            };
            tokio::select! {
                biased;
                Ok(busy) = woken => busy,
                () = tokio::time::sleep(duration) => clock.busy(),
            }
        }
    }

    /// Whether time can be skipped.
    pub fn skips(&self) -> bool {
        self.0.is_some()
    }

    /// Nothing is skipped beyond this moment, if there is one.
    pub fn stop_at(&self, horizon: Option<DateTime<Utc>>) {
        let Some(skipping) = &self.0 else { return };
        let ahead = horizon.map(|horizon| (horizon - self.now()).to_std().unwrap_or_default());
        let mut state = skipping.lock();
        let now = skipping.instant(&state);
        state.horizon = ahead.map(|ahead| now.checked_add(ahead).unwrap_or_else(far_future));
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.0.as_ref().is_some_and(|skipping| skipping.lock().busy <= 0)
    }

    /// Leaps to what comes first: the end of somebody's sleep, `next`, or the horizon. `false` where something is
    /// under way but the caller itself, or there is nothing to leap to.
    pub fn skip(&self, _caller: &Busy, next: Option<Duration>) -> bool {
        let Some(skipping) = &self.0 else { return false };
        let mut state = skipping.lock();
        if state.busy > 1 {
            return false;
        }
        let now = skipping.instant(&state);
        let sleeper = state.sleepers.first_key_value().map(|((until, _), _)| *until);
        let next = next.map(|pause| now.checked_add(pause).unwrap_or_else(far_future));
        let Some(to) = sleeper.into_iter().chain(next).chain(state.horizon).min() else { return false };
        let leap = to.saturating_duration_since(now);
        if leap.is_zero() && state.horizon.is_some_and(|horizon| horizon <= now) {
            return false;
        }
        state.skipped += leap;
        while let Some(first) = state.sleepers.first_entry()
            && first.key().0 <= to
        {
            let sender = first.remove();
            state.busy += 1;
            // Where nobody sleeps any more, nobody is busy: what comes back is dropped below.
            let unheard = sender.send(Busy(Some(Arc::clone(skipping)))).err();
            if let Some(mut busy) = unheard {
                busy.0 = None;
                state.busy -= 1;
            }
        }
        true
    }
}

/// A moment that a process does not live to see: delays beyond what a clock can hold.
pub fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600)
}

impl Skipping {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The machine's time.
    fn machine(&self) -> (DateTime<Utc>, Instant) {
        #[cfg(test)]
        if let Some(still) = self.still {
            return still;
        }
        (Utc::now(), Instant::now())
    }

    fn instant(&self, state: &State) -> Instant {
        let (_, now) = self.machine();
        now.checked_add(state.skipped).unwrap_or_else(far_future)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(skipping) = &self.0 {
            skipping.lock().busy -= 1;
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(skipping) = &self.0 {
            skipping.lock().busy += 1;
        }
    }
}

/// A place among those who sleep; given up when it is dropped.
#[derive(Debug)]
struct Sleeper {
    skipping: Arc<Skipping>,
    place: (Instant, u64),
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.skipping.lock().sleepers.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn clock() -> (Clock, DateTime<Utc>) {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        (Clock::skipping(at), at)
    }

    fn hours(clock: &Clock, since: DateTime<Utc>) -> i64 {
        (clock.now() - since).num_hours()
    }

    #[tokio::test]
    async fn it_leaps_to_what_comes_first_and_who_wakes_is_busy() {
        let (clock, at) = clock();
        let caller = clock.busy();
        let (soon, late) = (clock.sleep(HOUR), clock.sleep(5 * HOUR));
        assert!(clock.skip(&caller, Some(2 * HOUR)));
        assert_eq!(hours(&clock, at), 1);
        assert!(!clock.skip(&caller, None), "who was woken has not had its turn");
        drop(soon.await);
        assert!(clock.skip(&caller, Some(2 * HOUR)));
        assert_eq!(hours(&clock, at), 3);
        assert!(clock.skip(&caller, None));
        let awake = late.await;
        assert_eq!(hours(&clock, at), 5);
        assert!(!clock.skip(&caller, Some(HOUR)));
        drop(awake);
        assert!(!clock.skip(&caller, None), "there is nothing to leap to");
    }

    #[tokio::test]
    async fn it_does_not_leap_while_something_is_under_way_unless_that_only_waits() {
        let (clock, at) = clock();
        let caller = clock.busy();
        let call = clock.busy();
        assert!(!clock.skip(&caller, Some(HOUR)));
        let waits = clock.idle();
        let sleep = clock.sleep(HOUR);
        assert!(clock.skip(&caller, None));
        let awake = sleep.await;
        drop(waits);
        drop(awake);
        assert!(!clock.skip(&caller, Some(HOUR)), "the call goes on");
        drop((call, caller));
        assert!(clock.is_idle());
        assert_eq!(hours(&clock, at), 1);
    }

    #[test]
    fn a_sleep_that_is_given_up_holds_nobody_up() {
        let (clock, at) = clock();
        let caller = clock.busy();
        drop(clock.sleep(HOUR));
        assert!(!clock.skip(&caller, None));
        let kept = clock.sleep(HOUR);
        assert!(clock.skip(&caller, Some(2 * HOUR)));
        drop((kept, caller));
        assert!(clock.is_idle(), "it was woken, and is gone");
        assert_eq!(hours(&clock, at), 1);
    }

    #[test]
    fn nothing_is_skipped_beyond_the_horizon() {
        let (clock, at) = clock();
        let caller = clock.busy();
        clock.stop_at(Some(at + TimeDelta::hours(3)));
        assert!(clock.skip(&caller, Some(2 * HOUR)) && clock.skip(&caller, Some(2 * HOUR)));
        assert_eq!(hours(&clock, at), 3);
        assert!(!clock.skip(&caller, Some(HOUR)));
        // Also where nothing is waited for.
        clock.stop_at(Some(at + TimeDelta::hours(4)));
        assert!(clock.skip(&caller, None) && !clock.skip(&caller, None));
        assert_eq!(hours(&clock, at), 4);
        clock.stop_at(None);
        assert!(clock.skip(&caller, Some(HOUR)));
    }

    #[test]
    fn the_machines_clock_skips_nothing() {
        let clock = Clock::default();
        let caller = clock.busy();
        assert!(!clock.skips() && !clock.is_idle() && !clock.skip(&caller, Some(HOUR)));
        assert!((clock.now() - Utc::now()).abs() < TimeDelta::seconds(5));
    }
}
