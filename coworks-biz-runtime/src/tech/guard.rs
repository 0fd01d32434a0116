//! Which services have asked to be left alone, and until when: `Retry-After`, for all calls of a process.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Is told of a service and until when it wants to be left alone.
type Told = dyn Fn(&str, DateTime<Utc>) + Send + Sync;

/// The services that want to be left alone, by the names that they are recorded by.
#[derive(Default)]
pub struct Guard {
    /// Whether there has been one: until then nobody has to look.
    any: AtomicBool,
    closed: Mutex<HashMap<String, Closed>>,
    told: OnceLock<Box<Told>>,
}

/// Until when, by a clock that was last seen at a moment.
#[derive(Debug, Clone, Copy)]
struct Closed {
    until: DateTime<Utc>,
    seen: DateTime<Utc>,
}

impl Guard {
    /// Has this called, from now on, whenever a service asks to be left alone. There is room for one.
    pub fn on_close(&self, told: impl Fn(&str, DateTime<Utc>) + Send + Sync + 'static) {
        // A second one is a second host, which there is not.
        let _ = self.told.set(Box::new(told));
    }

    /// A service asks to be left alone for so long. What it has asked for before is not made shorter.
    pub fn close(&self, service: &str, delay: Duration, now: DateTime<Utc>) {
        let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        let Some(until) = now.checked_add_signed(delay).filter(|until| *until > now) else { return };
        let longer = {
            let mut closed = self.closed();
            closed.retain(|_, closed| closed.left(now).is_some());
            let longer = closed.get(service).is_none_or(|before| before.until < until);
            if longer {
                closed.insert(service.to_owned(), Closed { until, seen: now });
            }
            longer
        };
        self.any.store(true, Ordering::Release);
        if let (true, Some(told)) = (longer, self.told.get()) {
            told(service, until);
        }
    }

    /// Until when a service is to be left alone; `None` where it may be called.
    pub fn closed_until(&self, service: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.closed().get_mut(service)?.left(now)
    }

    /// Whether no service has ever asked for it.
    pub(super) fn is_idle(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    fn closed(&self) -> MutexGuard<'_, HashMap<String, Closed>> {
        self.closed.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Closed {
    /// Should the clock have been put back, it does not take longer for that.
    fn left(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if now < self.seen {
            self.until -= self.seen - now;
        }
        self.seen = now;
        (self.until > now).then_some(self.until)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("closed", &self.closed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_service_is_left_alone_as_long_as_it_asked_at_most() {
        let guard = Guard::default();
        type Seen = Vec<(String, DateTime<Utc>)>;
        let told: Arc<Mutex<Seen>> = Arc::default();
        let kept = Arc::clone(&told);
        guard.on_close(move |service, until| kept.lock().unwrap().push((service.to_owned(), until)));
        assert!(guard.is_idle());
        for (delay, now) in [(20, 100), (5, 101), (0, 102), (30, 103)] {
            guard.close("a", Duration::from_secs(delay), at(now));
        }
        assert_eq!(guard.closed_until("a", at(104)), Some(at(133)));
        assert_eq!(guard.closed_until("a", at(133)), None);
        assert_eq!(guard.closed_until("b", at(104)), None);
        assert_eq!(*told.lock().unwrap(), [("a".to_owned(), at(120)), ("a".to_owned(), at(133))]);
    }

    #[test]
    fn a_clock_that_is_put_back_makes_nothing_longer() {
        let guard = Guard::default();
        guard.close("a", Duration::from_secs(20), at(1_000));
        assert_eq!(guard.closed_until("a", at(1_005)), Some(at(1_020)));
        assert_eq!(guard.closed_until("a", at(10)), Some(at(25)));
        assert_eq!(guard.closed_until("a", at(24)), Some(at(25)));
        assert_eq!(guard.closed_until("a", at(25)), None);
    }
}
