//! When a failed task is tried again.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::dag::Options;

/// No doubled delay is longer: Airflow's `max_task_retry_delay`.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The delay after so many tries, as in Airflow. With a back-off it is drawn, in whole seconds, between the
/// doubled delay and twice as much, so that what failed together does not come back together.
pub(super) fn delay(options: &Options, tries: u32, draw: u64) -> Duration {
    if !options.retry_exponential_backoff {
        return options.retry_delay;
    }
    let doubled =
        options.retry_delay.saturating_mul(2u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST);
    let least = (doubled.as_secs() + u64::from(doubled.subsec_nanos() > 0)).max(1);
    let drawn = Duration::from_secs(least + draw % least).min(LONGEST);
    options.max_retry_delay.map_or(drawn, |ceiling| drawn.min(ceiling))
}

/// What the delay of this try is drawn by: the same whenever it is asked, also after a restart.
pub(super) fn draw(seed: u64, task_id: &str, map_index: i32, try_number: u32) -> u64 {
    let hash = Sha256::digest(format!("{seed}#{task_id}#{map_index}#{try_number}"));
    hash.iter().take(8).fold(0, |draw, &byte| draw << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    fn backoff(seconds: u64, ceiling: Option<u64>) -> Options {
        Options {
            retry_delay: SECONDS(seconds),
            retry_exponential_backoff: true,
            max_retry_delay: ceiling.map(SECONDS),
            ..Options::DEFAULT
        }
    }

    #[test]
    fn a_delay_is_as_it_is_written_without_a_backoff() {
        let options = Options { retry_exponential_backoff: false, ..backoff(100_000, Some(5)) };
        assert_eq!(delay(&options, 7, 99), SECONDS(100_000));
    }

    #[test]
    fn a_backoff_doubles_and_is_drawn_from_as_much_again() {
        for (tries, least) in [(1, 10), (2, 20), (3, 40), (9, 2560)] {
            let delays = [0, 1, least - 1, least, u64::MAX - u64::MAX % least]
                .map(|draw| delay(&backoff(10, None), tries, draw));
            assert_eq!(delays, [least, least + 1, 2 * least - 1, least, least].map(SECONDS));
        }
        // Whole seconds, and at least one.
        assert_eq!(delay(&backoff(0, None), 1, 77), SECONDS(1));
        let fraction = Options { retry_delay: Duration::from_millis(1500), ..backoff(0, None) };
        assert_eq!([0, 1].map(|draw| delay(&fraction, 1, draw)), [2, 3].map(SECONDS));
    }

    #[test]
    fn a_backoff_has_a_ceiling() {
        assert_eq!(delay(&backoff(10, Some(60)), 3, 39), SECONDS(60));
        assert_eq!(delay(&backoff(10, Some(60)), 3, 5), SECONDS(45));
        for tries in [20, 33, u32::MAX] {
            assert_eq!(delay(&backoff(10, None), tries, 0), LONGEST);
            assert_eq!(delay(&backoff(10, Some(60)), tries, 0), SECONDS(60));
        }
        // Airflow's own ceiling is above the one that is given.
        assert_eq!(delay(&backoff(80_000, Some(1_000_000)), 1, 79_999), LONGEST);
    }

    #[test]
    fn what_it_is_drawn_by_tells_instances_and_tries_apart() {
        let draws = [(1, "a", -1, 1), (2, "a", -1, 1), (1, "b", -1, 1), (1, "a", 0, 1), (1, "a", -1, 2)]
            .map(|(seed, task, index, number)| draw(seed, task, index, number));
        let different: std::collections::HashSet<_> = draws.iter().collect();
        assert_eq!(different.len(), draws.len());
        // Never another one: delays that were told stay as they are.
        assert_eq!(draw(7, "simple.read", 3, 2), 5_363_499_143_323_746_795);
    }
}
