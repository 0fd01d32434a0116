//! The pace at which calls of a service begin: evenly, with a small burst. Pure: whoever asks says what time it is.

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Rate;

/// What may begin at once after a rest: what the rate gives in this time, and one call at least.
const BURST: TimeDelta = TimeDelta::milliseconds(100);

/// So many in a time, one after the other.
///
/// ```
/// use std::time::Duration;
///
/// use chrono::{DateTime, TimeDelta};
/// use coworks_biz_runtime::config::Rate;
/// use coworks_biz_runtime::tech::Pace;
///
/// let mut pace = Pace::new(Rate { calls: 120, per: Duration::from_secs(60) });
/// let now = DateTime::UNIX_EPOCH;
/// assert_eq!(pace.opens(now), now);
/// pace.begin(now);
/// assert_eq!(pace.opens(now), now + TimeDelta::milliseconds(500));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// From one call to the next.
    interval: TimeDelta,
    /// How much sooner than that one may begin.
    ahead: TimeDelta,
    /// When the next one would begin, did they come evenly.
    due: Option<DateTime<Utc>>,
}

impl Pace {
    /// A pace at which nothing has begun yet.
    pub fn new(rate: Rate) -> Self {
        let nanos = (rate.per.as_nanos() / u128::from(rate.calls.max(1))).max(1);
        let interval = TimeDelta::nanoseconds(i64::try_from(nanos).unwrap_or(i64::MAX));
        Self { interval, ahead: (BURST - interval).max(TimeDelta::zero()), due: None }
    }

    /// The first moment from now on at which one may begin.
    pub fn opens(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.due(now).map_or(now, |due| now.max(due - self.ahead))
    }

    /// One begins.
    pub fn begin(&mut self, now: DateTime<Utc>) {
        self.due = Some(self.due(now).map_or(now, |due| due.max(now)) + self.interval);
    }

    /// The clock was put back, and is at `now`: from here on it is waited no longer than for one call.
    pub fn put_back(&mut self, now: DateTime<Utc>) {
        self.due = self.due(now);
    }

    /// Should the clock have been put back, it is not waited until it has caught up.
    fn due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.due.map(|due| due.min(now + self.ahead + self.interval))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pace(calls: u32, seconds: u64) -> Pace {
        Pace::new(Rate { calls, per: Duration::from_secs(seconds) })
    }

    fn at(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    /// When they begin, in microseconds, where there is always one that wants to.
    fn beginnings(pace: &mut Pace, from: i64, count: usize) -> Vec<i64> {
        let mut now = at(from);
        let mut all = Vec::new();
        for _ in 0..count {
            now = pace.opens(now);
            pace.begin(now);
            all.push(now.timestamp_micros());
        }
        all
    }

    #[test]
    fn a_slow_one_lets_one_begin_after_the_other() {
        assert_eq!(beginnings(&mut pace(2, 1), 0, 4), [0, 500_000, 1_000_000, 1_500_000]);
        assert_eq!(beginnings(&mut pace(600, 60), 7, 3), [7, 100_007, 200_007]);
    }

    #[test]
    fn a_fast_one_begins_with_a_small_burst_and_has_it_again_after_a_rest() {
        let mut pace = pace(50, 1);
        assert_eq!(beginnings(&mut pace, 0, 7), [0, 0, 0, 0, 0, 20_000, 40_000]);
        assert_eq!(beginnings(&mut pace, 50_000, 2), [60_000, 80_000], "no rest");
        let after = 10_000_000;
        assert_eq!(beginnings(&mut pace, after, 6)[..5], [after; 5]);
    }

    #[test]
    fn in_no_time_more_begin_than_the_rate_and_the_burst() {
        for (calls, seconds, burst) in [(50, 1, 5), (600, 60, 1), (3, 3600, 1), (7_000, 1, 700)] {
            let mut pace = pace(calls, seconds);
            // With rests of any length between them.
            let mut seed = 3u64;
            let (mut now, mut all) = (at(0), Vec::new());
            for _ in 0..3_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if seed >> 60 == 0 {
                    now += TimeDelta::microseconds((seed >> 40) as i64 % 400_000);
                }
                now = pace.opens(now);
                pace.begin(now);
                all.push(now);
            }
            let interval = TimeDelta::seconds(seconds as i64) / calls as i32;
            for (first, &from) in all.iter().enumerate().step_by(13) {
                for (count, &to) in all[first..].iter().enumerate().step_by(7) {
                    let even = ((to - from).num_microseconds().unwrap()
                        / interval.num_microseconds().unwrap().max(1))
                        as usize;
                    // What is cut off of the interval may let one more.
                    assert!(count <= even + burst + 1 + even / 1000, "{count} in {:?} at {calls}", to - from);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_put_back_holds_up_nobody() {
        let mut pace = pace(2, 1);
        beginnings(&mut pace, 3_600_000_000, 5);
        assert_eq!(beginnings(&mut pace, 0, 2), [500_000, 1_000_000]);
    }

    #[test]
    fn the_fastest_that_can_be_written_does_no_harm() {
        assert_eq!(beginnings(&mut pace(u32::MAX, 1), 0, 100), [0; 100]);
    }
}
