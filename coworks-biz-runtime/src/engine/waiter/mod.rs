//! Waiting for results without holding anything: one task looks for all of them.

mod budget;
mod plan;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(super) use self::plan::Watch;
#[cfg(test)]
pub(super) use self::plan::{Ask, Heard, Listed, Plan};
#[cfg(not(test))]
use self::plan::{Ask, Heard, Listed, Plan};
use super::Waiting;
use super::host::Shared;
use super::message::Message;
use crate::clock::{Busy, Clock};
use crate::run::Key;
use crate::store::WaitsFor;
use crate::task::Resume;
use crate::tech::{Look, Page};
use crate::value::Object;

/// How many questions are under way at once.
const AT_ONCE: usize = 32;

/// What the waiter is told.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Waits for an object from now on.
    Watch(Watch),
    /// Waits for it no more.
    Forget((i64, Key)),
    /// It may be there.
    Hint(Object),
}

/// Where watches are left.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    sender: mpsc::UnboundedSender<(Wanted, Busy)>,
    clock: Clock,
}

/// Whoever looks, before it has begun.
pub(super) struct Looker(mpsc::UnboundedReceiver<(Wanted, Busy)>);

/// A waiter, and who looks for it.
pub(super) fn waiter(clock: &Clock) -> (Waiter, Looker) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Waiter { sender, clock: clock.clone() }, Looker(receiver))
}

impl Waiter {
    pub(super) fn tell(&self, wanted: Wanted) {
        // It ends only with the runtime, and then nothing is waited for any more.
        let _ = self.sender.send((wanted, self.clock.busy()));
    }
}

/// What was heard, and of whom.
enum Answer {
    Head(u64, Heard),
    List(Arc<str>, Listed),
}

impl Looker {
    /// Looks until nobody is left to tell what to look for.
    pub(super) async fn look_around(mut self, shared: Arc<Shared>) {
        let clock = shared.clock.clone();
        let mut plan = Plan::new(shared.s3_rate, clock.instant());
        let mut asking = JoinSet::new();
        let mut waiting = Waiting::default();
        let mut awake = clock.busy();
        loop {
            let now = clock.instant();
            for (who, object) in plan.overdue(now) {
                // The task itself looks once more, and says what it found.
                tell(&shared, who, object, Resume::Overdue);
            }
            while asking.len() < AT_ONCE
                && let Some(ask) = plan.ask(now)
            {
                match ask {
                    Ask::Head { .. } => waiting.heads += 1,
                    Ask::List { .. } => waiting.lists += 1,
                }
                asking.spawn(question(Arc::clone(&shared), ask, clock.busy()));
            }
            waiting.answers = plan.len();
            *shared.waiting.lock().unwrap_or_else(|e| e.into_inner()) = waiting;
            let question = plan.next_question(now).filter(|_| asking.len() < AT_ONCE);
            let next = question.into_iter().chain(plan.next_end()).min();
            let sleep = next.map(|next| {
                // A timer may be early by a little, and would be asked again and again.
                let pause = next.saturating_duration_since(now).max(Duration::from_millis(1));
                clock.sleep(pause)
            });
            drop(awake);
            tokio::select! {
                wanted = self.0.recv() => {
                    let Some((wanted, busy)) = wanted else { return };
                    awake = busy;
                    // It may have slept for days.
                    let now = clock.instant();
                    take_in(&mut plan, wanted, now);
                    while let Ok((wanted, _)) = self.0.try_recv() {
                        take_in(&mut plan, wanted, now);
                    }
                }
                Some(answer) = asking.join_next() => {
                    awake = clock.busy();
                    // It catches its panics: the runtime is going.
                    let Ok((answer, _busy)) = answer else { return };
                    let now = clock.instant();
                    let arrived = match answer {
                        Answer::Head(id, heard) => plan.heard(id, heard, now).into_iter().collect(),
                        Answer::List(bucket, listed) => plan.listed(&bucket, listed, now),
                    };
                    for (who, object) in arrived {
                        tell(&shared, who, object, Resume::Arrived);
                    }
                }
                Some(busy) = OptionFuture::from(sleep) => awake = busy,
            }
        }
    }
}

fn take_in(plan: &mut Plan, wanted: Wanted, now: std::time::Instant) {
    match wanted {
        Wanted::Watch(watch) => plan.add(watch, now),
        Wanted::Forget(who) => plan.forget(who),
        Wanted::Hint(object) => plan.hint(&object, now),
    }
}

fn tell(shared: &Shared, (run, key): (i64, Key), object: Object, resume: Resume) {
    shared.tell(Message::Due { run, key, of: WaitsFor::Object(object), resume });
}

/// Asks. What panics on the way is an error of the SDK's, and no reason to wait for ever.
async fn question(shared: Arc<Shared>, ask: Ask, busy: Busy) -> (Answer, Busy) {
    let asked = AssertUnwindSafe(put(&shared, &ask)).catch_unwind().await;
    let answer = asked.unwrap_or(match ask {
        Ask::Head { id, .. } => Answer::Head(id, Heard::Trouble),
        Ask::List { bucket, .. } => Answer::List(bucket, Listed::Trouble),
    });
    (answer, busy)
}

async fn put(shared: &Shared, ask: &Ask) -> Answer {
    let results = shared.services.results().await;
    match ask {
        Ask::Head { id, object } => {
            let heard = match results.look(object).await {
                Ok(Look::There) => Heard::There,
                Ok(Look::Missing | Look::Forbidden) => Heard::Missing,
                Err(error) => trouble(shared, &error.to_string(), Heard::Trouble),
            };
            answered(shared, heard != Heard::Trouble);
            Answer::Head(*id, heard)
        }
        Ask::List { bucket, prefix, after } => {
            let listed = match results.page(bucket, prefix, after).await {
                Ok(Page::Keys { keys, more }) => Listed::Keys(keys, more),
                Ok(Page::Forbidden) => Listed::Forbidden,
                Err(error) => trouble(shared, &error.to_string(), Listed::Trouble),
            };
            answered(shared, listed != Listed::Trouble);
            Answer::List(Arc::clone(bucket), listed)
        }
    }
}

/// An outage of S3 is waited out. Every look meets it, and one line tells it.
fn trouble<T>(shared: &Shared, error: &str, heard: T) -> T {
    let mut last = shared.outage.lock().unwrap_or_else(|e| e.into_inner());
    if last.is_none() {
        tracing::warn!(target: "coworks_biz::engine", "waiting on: {error}");
    }
    *last = Some(error.to_owned());
    heard
}

fn answered(shared: &Shared, answered: bool) {
    if answered && shared.outage.lock().unwrap_or_else(|e| e.into_inner()).take().is_some() {
        tracing::info!(target: "coworks_biz::engine", "S3 answers again");
    }
}
