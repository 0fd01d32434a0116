//! What comes after a failed attempt, in words for its log.

use std::time::Duration;

use super::live::Live;
use crate::error::Retry;
use crate::run::{Ending, Key, State};

/// Whether and when a task is tried again whose attempt has failed; nothing where it has not failed, or
/// where that does not follow from its failure.
pub(super) fn outlook(live: &Live, key: Key, ending: Ending, answered: Option<u16>) -> Option<String> {
    let Ending::Failed(retry) = ending else { return None };
    let instance = live.instance(key);
    let (tries, all) = (instance.try_number - instance.tries_before, live.node(key).options.retries + 1);
    let last = live.run.is_last_try(key);
    match instance.state? {
        State::UpForRetry => {
            let at = live.due_at(key)?;
            let (clock, delay) = live.ended(key).map_or(("%F %T UTC", None), |ended| {
                let delay = (at - ended).to_std().ok();
                // Below half a day the time alone is enough.
                let near = delay.is_some_and(|delay| delay < Duration::from_secs(12 * 3600));
                (if near { "%T UTC" } else { "%F %T UTC" }, delay)
            });
            let delay = delay.map(|delay| format!(" (in {})", humantime::format_duration(rounded(delay))));
            Some(format!("try {tries} of {all}, again at {}{}", at.format(clock), delay.unwrap_or_default()))
        }
        State::Failed => Some(match (retry, answered) {
            (Retry::Never, _) if all == 1 => "no other try: its `retries` are 0".to_owned(),
            (Retry::Never, _) if last => format!("try {tries} of {all}: no other"),
            (Retry::Never, Some(status)) => format!("no other try: {status} would be the same next time"),
            (Retry::Never, None) => "no other try: this error would be the same next time".to_owned(),
            _ if all == 1 => "no other try: its `retries` are 0".to_owned(),
            _ if tries < all && all == 2 => {
                "no other try: the tasks of its call share 1 retry, and have had it".to_owned()
            }
            _ if tries < all => {
                format!("no other try: the tasks of its call share {} retries, and have had them", all - 1)
            }
            _ => format!("try {tries} of {all}: no other"),
        }),
        _ => None,
    }
}

/// As long as it is for people.
fn rounded(delay: Duration) -> Duration {
    match delay {
        short if short < Duration::from_secs(10) => Duration::from_millis(short.as_millis() as u64),
        long => Duration::from_secs(long.as_secs()),
    }
}
