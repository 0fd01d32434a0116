//! How soon something comes after what came before: whether it is worth to stay awake for it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nobody stays awake for longer. To be woken costs a thread some tens of microseconds.
const LONGEST: Duration = Duration::from_micros(400);

/// On a machine with one processor, who waits awake keeps others from what is waited for.
static ALONE: LazyLock<bool> =
    LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1));

/// The time that something lately took to come, in nanoseconds; more than [`LONGEST`] to begin with.
#[derive(Debug)]
pub(super) struct Gap(AtomicU64);

impl Default for Gap {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX / 8))
    }
}

impl Gap {
    /// It has come, after so long.
    pub(super) fn note(&self, took: Duration) {
        let took = took.min(2 * LONGEST).as_nanos() as u64;
        let lately = self.0.load(Ordering::Relaxed).min(2 * LONGEST.as_nanos() as u64);
        // One that was late does not count for much, nor does one that was early.
        self.0.store((3 * lately + took) / 4, Ordering::Relaxed);
    }

    /// For how long it is worth to stay awake; `None` where it is not.
    pub(super) fn awake(&self) -> Option<Duration> {
        let lately = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        (lately < LONGEST && !*ALONE).then(|| lately * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_stays_awake_for_what_is_rare() {
        let gap = Gap::default();
        assert_eq!(gap.awake(), None);
        (0..20).for_each(|_| gap.note(Duration::from_micros(10)));
        assert!(*ALONE || gap.awake().is_some_and(|awake| awake < Duration::from_micros(60)));
        gap.note(Duration::from_secs(3600));
        assert!(*ALONE || gap.awake().is_some(), "once is not often");
        (0..20).for_each(|_| gap.note(Duration::from_millis(1)));
        assert_eq!(gap.awake(), None);
    }
}
