//! How soon something comes after what came before: whether it is worth to stay awake for it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nobody stays awake for longer. To be woken costs a thread some tens of microseconds.
const LONGEST: Duration = Duration::from_micros(100);

/// To be woken for what comes so soon, a moment before it does, is worth it.
const SOON: Duration = Duration::from_micros(200);

/// What is as late as this is not to be waited for, however much later it is.
const LATE: Duration = Duration::from_micros(250);

/// Who loses its processor for so long while it waits awake was put aside for others.
const PUT_ASIDE: Duration = Duration::from_micros(50);

/// How often nobody then waits awake, at least and at most: who spends its share of a busy processor on waiting
/// gets none when it is needed. Each time it is twice as often, and one less for each wait that was worth it.
const ASLEEP: (u64, u64) = (10, 20_000);

/// On a machine with one processor, who waits awake keeps others from what is waited for.
static ALONE: LazyLock<bool> =
    LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1));

/// How soon something comes.
#[derive(Debug)]
pub(super) struct Gap {
    /// The time that it took lately, in nanoseconds; more than [`LONGEST`] to begin with.
    lately: AtomicU64,
    /// How often nobody waits awake for it from now on.
    asleep: AtomicU64,
    /// How often that was the last time.
    before: AtomicU64,
}

impl Default for Gap {
    fn default() -> Self {
        Self { lately: AtomicU64::new(u64::MAX / 8), asleep: AtomicU64::new(0), before: AtomicU64::new(0) }
    }
}

/// Somebody waits awake.
#[derive(Debug)]
pub(super) struct Awake<'a> {
    gap: &'a Gap,
    until: Instant,
    looked: Instant,
}

impl Awake<'_> {
    /// Looks at the clock. `false` where it is time to fall asleep.
    pub(super) fn go_on(&mut self) -> bool {
        std::hint::spin_loop();
        let now = Instant::now();
        if now - self.looked > PUT_ASIDE {
            let asleep = (2 * self.gap.before.load(Ordering::Relaxed)).clamp(ASLEEP.0, ASLEEP.1);
            self.gap.before.store(asleep, Ordering::Relaxed);
            self.gap.asleep.store(asleep, Ordering::Relaxed);
            return false;
        }
        self.looked = now;
        now < self.until
    }

    /// It has come.
    pub(super) fn worth_it(self) {
        let before = self.gap.before.load(Ordering::Relaxed);
        self.gap.before.store(before.saturating_sub(1), Ordering::Relaxed);
    }
}

impl Gap {
    /// It has come, after so long.
    pub(super) fn note(&self, took: Duration) {
        let took = took.min(LATE).as_nanos() as u64;
        let lately = self.lately.load(Ordering::Relaxed).min(LATE.as_nanos() as u64);
        // One that was late does not count for much, nor does one that was early.
        self.lately.store((3 * lately + took) / 4, Ordering::Relaxed);
    }

    /// Stays awake, no longer than `at_most`; `None` where it is not worth it.
    pub(super) fn awake(&self, at_most: Option<Duration>) -> Option<Awake<'_>> {
        let lately = Duration::from_nanos(self.lately.load(Ordering::Relaxed));
        let is_worth_it = lately < LONGEST && self.may();
        is_worth_it.then(|| self.start(at_most.unwrap_or(LONGEST).min(lately * 2)))
    }

    /// Whether it comes so soon that it is worth to be [roused](Self::roused) for it.
    pub(super) fn is_soon(&self) -> bool {
        let lately = Duration::from_nanos(self.lately.load(Ordering::Relaxed));
        lately < SOON && self.may()
    }

    /// Stays awake, for what is said to come in a moment.
    pub(super) fn roused(&self) -> Option<Awake<'_>> {
        let is_asleep = self.asleep.load(Ordering::Relaxed) > 0;
        (!is_asleep && !*ALONE).then(|| self.start(LONGEST))
    }

    /// Whether somebody may wait awake.
    fn may(&self) -> bool {
        let asleep = self.asleep.load(Ordering::Relaxed);
        self.asleep.store(asleep.saturating_sub(1), Ordering::Relaxed);
        asleep == 0 && !*ALONE
    }

    fn start(&self, at_most: Duration) -> Awake<'_> {
        let looked = Instant::now();
        Awake { gap: self, until: looked + at_most, looked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_awake(gap: &Gap) -> bool {
        *ALONE || gap.awake(None).is_some()
    }

    #[test]
    fn nobody_stays_awake_for_what_is_rare() {
        let gap = Gap::default();
        assert!(gap.awake(None).is_none());
        (0..20).for_each(|_| gap.note(Duration::from_micros(10)));
        assert!(is_awake(&gap));
        gap.note(Duration::from_secs(3600));
        assert!(is_awake(&gap), "once is not often");
        (0..20).for_each(|_| gap.note(Duration::from_millis(1)));
        assert!(gap.awake(None).is_none());
    }

    #[test]
    fn who_is_put_aside_for_others_sleeps_from_then_on_and_tries_again() {
        let gap = Gap::default();
        (0..20).for_each(|_| gap.note(Duration::from_micros(10)));
        let Some(mut awake) = gap.awake(None) else { return };
        for times in [ASLEEP.0, 2 * ASLEEP.0, 4 * ASLEEP.0 - 2] {
            awake.looked -= PUT_ASIDE;
            assert!(!awake.go_on());
            assert!((0..times).all(|_| gap.awake(None).is_none()), "{times}");
            if times == 2 * ASLEEP.0 {
                gap.awake(None).unwrap().worth_it();
            }
            awake = gap.awake(None).unwrap();
        }
    }
}
