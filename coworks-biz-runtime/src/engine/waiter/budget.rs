//! How much may be asked of S3.

use std::time::{Duration, Instant};

/// So much a second, with some in hand after a rest.
#[derive(Debug)]
pub(super) struct Budget {
    rate: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate.max(1));
        // Four seconds' worth, and enough for one `LIST` however little it is.
        let most = (rate * 4.0).max(25.0);
        Self { rate, most, left: most, at: now }
    }

    /// Spends, where there is enough.
    pub(super) fn take(&mut self, cost: f64, now: Instant) -> bool {
        self.left = self.at(now);
        self.at = now;
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }

    /// When there is enough.
    pub(super) fn ready(&self, cost: f64, now: Instant) -> Instant {
        let missing = (cost - self.at(now)).max(0.0);
        // Rounded up: who comes at that moment finds enough.
        now + Duration::from_secs_f64(missing / self.rate) + Duration::from_millis(u64::from(missing > 0.0))
    }

    fn at(&self, now: Instant) -> f64 {
        (self.left + self.rate * now.saturating_duration_since(self.at).as_secs_f64()).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::new(10, start);
        assert!((0..40).all(|_| budget.take(1.0, start)) && !budget.take(1.0, start));
        assert!(!budget.take(1.0, after(50)) && budget.take(1.0, after(101)));
        let ready = budget.ready(12.5, after(101));
        assert!((after(1340)..after(1360)).contains(&ready), "{:?}", ready - start);
        assert!(budget.take(12.5, ready));
        assert_eq!(budget.ready(1.0, after(60_000)), after(60_000));
    }
}
