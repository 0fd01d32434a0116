//! Waiting for results without holding anything: one task looks for all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::host::Shared;
use super::message::Message;
use crate::run::Key;
use crate::store::WaitsFor;
use crate::task::Resume;
use crate::tech::Look;
use crate::value::Object;

/// The first look comes this soon.
const SOONEST: Duration = Duration::from_millis(100);

/// Looks are never further apart than this.
const LATEST: Duration = Duration::from_secs(10);

/// How many looks are under way at once.
const AT_ONCE: usize = 32;

/// What a task waits for.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) run: i64,
    pub(super) key: Key,
    pub(super) object: Object,
    pub(super) since: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

/// Where watches are left.
#[derive(Debug)]
pub(super) struct Waiter(mpsc::UnboundedSender<Watch>);

impl Waiter {
    /// Starts the task that looks. It ends with the engine.
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(look_around(shared, sender.downgrade(), receiver));
        Self(sender)
    }

    pub(super) fn watch(&self, watch: Watch) {
        // It ends only with the runtime, and then nothing is waited for any more.
        let _ = self.0.send(watch);
    }
}

/// The pause before the next look. It follows from how long the wait has
/// lasted, not from how often it was looked, so that a restart does not reset it.
fn pause(since: DateTime<Utc>, until: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    let waited = (now - since).to_std().unwrap_or_default();
    let left = (until - now).to_std().unwrap_or_default();
    (waited / 8).clamp(SOONEST, LATEST).min(left)
}

async fn look_around(
    shared: Arc<Shared>,
    again: mpsc::WeakUnboundedSender<Watch>,
    mut watches: mpsc::UnboundedReceiver<Watch>,
) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut due: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut waiting = std::collections::HashMap::new();
    let mut serial = 0u64;
    loop {
        let next = due.peek().map(|Reverse((at, _))| *at);
        let watch = tokio::select! {
            watch = watches.recv() => watch,
            () = async { tokio::time::sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {
                if let Some(watch) = due.pop().and_then(|Reverse((_, serial))| waiting.remove(&serial)) {
                    let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                    let (shared, again) = (Arc::clone(&shared), again.clone());
                    tokio::spawn(async move {
                        look(&shared, &again, watch).await;
                        drop(slot);
                    });
                }
                continue;
            }
        };
        let Some(watch) = watch else { return };
        due.push(Reverse((Instant::now() + pause(watch.since, watch.until, Utc::now()), serial)));
        waiting.insert(serial, watch);
        serial += 1;
    }
}

async fn look(shared: &Shared, again: &mpsc::WeakUnboundedSender<Watch>, watch: Watch) {
    let (run, key, of) = (watch.run, watch.key, WaitsFor::Object(watch.object.clone()));
    let wanted = shared.watched.lock().unwrap_or_else(|e| e.into_inner()).get(&(run, key)).cloned();
    if wanted.as_ref() != Some(&watch.object) {
        return;
    }
    let found = shared.services.results().await.look(&watch.object).await;
    match found {
        Ok(Look::There) => return shared.tell(Message::Due { run, key, of, resume: Resume::Arrived }),
        // The task itself looks once more, and says what it found.
        _ if Utc::now() >= watch.until => {
            return shared.tell(Message::Due { run, key, of, resume: Resume::Overdue });
        }
        Ok(Look::Missing | Look::Forbidden) => {}
        // An outage of S3 is waited out.
        Err(error) => {
            let error = error.to_string();
            let mut last = shared.outage.lock().unwrap_or_else(|e| e.into_inner());
            // Every look meets it, and one line tells it.
            if last.as_ref() != Some(&error) {
                tracing::warn!(target: "coworks_biz::engine", "waiting on: {error}");
                *last = Some(error);
            }
        }
    }
    if let Some(again) = again.upgrade() {
        let _ = again.send(watch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_begin_soon_grow_apart_and_never_miss_the_deadline() {
        let since = DateTime::from_timestamp(1_000, 0).unwrap();
        let until = DateTime::from_timestamp(1_900, 0).unwrap();
        let after = |seconds: i64| pause(since, until, DateTime::from_timestamp(1_000 + seconds, 0).unwrap());
        assert_eq!(after(0), SOONEST);
        assert_eq!(after(4), Duration::from_millis(500));
        assert_eq!(after(400), LATEST);
        assert_eq!(after(895), Duration::from_secs(5));
        assert_eq!(after(1000), Duration::ZERO);
    }
}
