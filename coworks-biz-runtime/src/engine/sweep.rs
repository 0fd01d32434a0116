//! Deleting what calls leave in S3: answers that were read, and those that nobody waits for any more.
//!
//! An answer may be written once more after it was deleted, by a call that is late or delivered twice. So it
//! is deleted again, for as long as that can be; S3 takes nothing for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;

use super::Mode;
use super::alarms::Alarm;
use super::core::{BATCH, Core};
use super::hands::Errand;
use super::live::Live;
use super::message::Message;
use crate::run::{Key, State};
use crate::store::{Deletion, StoreError, Write};
use crate::task::{Body, Member};
use crate::tech::AsyncCall;
use crate::value::Object;

/// A function runs for no longer than this: what it was given twice, it has written twice by then.
const TWICE: TimeDelta = TimeDelta::minutes(15);

/// A call that was accepted is kept for no longer than this, if it can never be run.
const LATE: TimeDelta = TimeDelta::hours(6);

/// How far apart the deletions of what may be late are.
const AGAIN: TimeDelta = TimeDelta::hours(1);

/// How long S3 is left alone when it does not delete, at first; twice as long each time, up to [`AGAIN`].
const TROUBLE: TimeDelta = TimeDelta::minutes(1);

/// Where deleting stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Some of it may be due.
    pub(super) due: bool,
    pub(super) under_way: bool,
    /// When it goes on by itself.
    alarm: Option<DateTime<Utc>>,
    /// What was last said of S3 not deleting, how long it is left alone for that, and until when.
    trouble: Option<(String, TimeDelta, DateTime<Utc>)>,
}

impl Core {
    /// Deletes answers that were read.
    pub(super) fn delete_read(&mut self, objects: Vec<Object>) {
        self.delete(objects, TWICE);
    }

    fn delete(&mut self, objects: Vec<Object>, late: TimeDelta) {
        let due_at = self.now();
        for object in objects {
            self.writes.push(Write::Delete(Deletion { object, due_at, until: due_at + late }));
            self.sweep.due = true;
        }
    }

    /// Deletes the answers of members of calls that are about to be cleared: of what they are doing, not of
    /// what they have done.
    pub(super) fn give_up_all(&mut self, run: i64, keys: &[Key]) {
        for &key in keys {
            let state = self.runs.get(&run).and_then(|live| live.instance(key).state);
            if state.is_none_or(|state| !state.is_final()) {
                self.give_up(run, key);
            }
        }
    }

    /// Deletes the answer of a call that was sent and that nobody waits for any more, whenever it comes.
    pub(super) fn give_up(&mut self, run: i64, key: Key) {
        let Some((live, member, call, submit)) = self.member(run, key) else { return };
        let (own, sent) = (live.instance(key), live.instance(key.beside(submit)));
        let was_sent = match member {
            Member::Submit => sent.try_number > sent.tries_before,
            // What `call` did not get through is not waited for by the others.
            Member::Wait => sent.state == Some(State::Success),
            // It may be held back by the run before, with an answer that is there.
            Member::Read => own.try_number > own.tries_before || sent.state == Some(State::Success),
        };
        if !call.keep && was_sent {
            self.delete(self.answers(run, key), LATE);
        }
    }

    /// Whether it is the member of a call that waits: what it is said to have waited for is read next.
    pub(super) fn is_wait(&self, run: i64, key: Key) -> bool {
        matches!(self.member(run, key), Some((_, Member::Wait, ..)))
    }

    /// An operator says that its answer is there: it is not deleted before it is read.
    pub(super) fn spare(&mut self, run: i64, key: Key) {
        if self.is_wait(run, key) {
            self.writes.extend(self.answers(run, key).into_iter().map(Write::Spare));
        }
    }

    /// Where a member of a call has asked for answers.
    fn answers(&self, run: i64, key: Key) -> Vec<Object> {
        let Some((live, member, call, submit)) = self.member(run, key) else { return Vec::new() };
        let bucket = call.bucket.unwrap_or(self.shared.services.bucket());
        let name = live.dag_run.call_name(
            live.node(key.beside(submit)).task_id,
            key.map_index,
            live.generation(key),
        );
        let first = Object::of_call(bucket, self.shared.engine_id(), &name);
        // `read` asks again at keys of its own.
        let own = live.instance(key);
        let asked = if member == Member::Read { own.try_number - own.tries_before } else { 1 };
        (1..=asked.max(1)).map(|asking| first.asked_by(asking)).collect()
    }

    /// Which member of which asynchronous call a task instance is, with the index of the one that sends.
    fn member(&self, run: i64, key: Key) -> Option<(&Live, Member, &'static AsyncCall, u32)> {
        let live = self.runs.get(&run)?;
        match live.definition.bodies.get(key.task as usize)? {
            Body::Group { member, call, submit, .. } => Some((live, *member, call, *submit)),
            _ => None,
        }
    }

    /// Deletes what is due, in one request for a thousand.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        if !self.may_sweep() || self.sweep.under_way || !std::mem::take(&mut self.sweep.due) {
            return Ok(());
        }
        let now = self.now();
        if let Some(&(.., until)) = self.sweep.trouble.as_ref().filter(|(.., until)| *until > now) {
            self.sweep_at(until);
            return Ok(());
        }
        let due = self.writer.deletions(now, BATCH)?;
        if due.is_empty() {
            if let Some(next) = self.writer.next_deletion()? {
                self.sweep_at(next);
            }
            return Ok(());
        }
        self.sweep.under_way = true;
        let (shared, busy) = (Arc::clone(&self.shared), self.clock.busy());
        let errand = Errand::Delete(due.clone());
        let work = async move {
            let objects: Vec<_> = due.iter().map(|deletion| &deletion.object).collect();
            // A panic is an error of the SDK's, and no reason never to delete again.
            let deleted = AssertUnwindSafe(deleted(&shared, &objects)).catch_unwind().await;
            let deleted =
                deleted.unwrap_or_else(|_| vec![Err("deleting has panicked".to_owned()); objects.len()]);
            let done = due.into_iter().zip(deleted).collect();
            shared.tell(Message::Swept { done });
            drop(busy);
        };
        self.hands.go(errand, work.boxed());
        Ok(())
    }

    /// Goes on at this moment, unless it does so before.
    fn sweep_at(&mut self, at: DateTime<Utc>) {
        if self.sweep.alarm.is_none_or(|set| at < set) {
            self.sweep.alarm = Some(at);
            self.alarm(at, Alarm::Sweep);
        }
    }

    /// The moment has come.
    pub(super) fn sweep_now(&mut self) {
        (self.sweep.due, self.sweep.alarm) = (true, None);
    }

    /// Some were deleted, or could not be.
    pub(super) fn swept(&mut self, done: Vec<(Deletion, Result<(), String>)>) {
        (self.sweep.under_way, self.sweep.due) = (false, true);
        let now = self.now();
        let all = done.iter().all(|(_, deleted)| deleted.is_err());
        let mut trouble = None;
        for (deletion, deleted) in done {
            let again = match deleted {
                Ok(()) => next(&deletion, now),
                Err(error) => {
                    trouble = Some(error);
                    // Where nothing was deleted, it is S3 that is left alone; else this one makes way for others.
                    if all {
                        continue;
                    }
                    Some(now + AGAIN)
                }
            };
            self.writes.push(Write::Deleted { deletion, again });
        }
        let Some(error) = trouble else {
            self.sweep.trouble = None;
            return;
        };
        // Each of them meets it, and one line tells it.
        if self.sweep.trouble.as_ref().is_none_or(|(told, ..)| *told != error) {
            tracing::warn!(target: "coworks_biz::engine", "answers stay in S3 for now: {error}");
        }
        let before = self.sweep.trouble.take().map(|(_, pause, _)| pause);
        let pause = before.map_or(TROUBLE, |pause| (pause * 2).min(AGAIN));
        let until = if all { now + pause } else { now };
        self.sweep.trouble = Some((error, pause, until));
    }

    /// Who ends does not wait for an S3 that does not delete: what is to be deleted is in the database.
    fn may_sweep(&self) -> bool {
        self.mode != Mode::Orders && !(self.draining && self.sweep.trouble.is_some())
    }

    /// Whether something is being deleted, or will be at once.
    pub(super) fn sweeps(&self) -> bool {
        self.sweep.under_way || (self.sweep.due && self.may_sweep())
    }
}

/// The next time, if it is to be deleted again.
fn next(deletion: &Deletion, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (deletion.until > now).then(|| (now + AGAIN).min(deletion.until))
}

#[cfg(feature = "s3")]
async fn deleted(shared: &super::host::Shared, objects: &[&Object]) -> Vec<Result<(), String>> {
    shared.services.results().await.delete(objects).await
}

#[cfg(not(feature = "s3"))]
async fn deleted(_: &super::host::Shared, objects: &[&Object]) -> Vec<Result<(), String>> {
    objects.iter().map(|_| Err("this program was built without S3".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_deleted_twice_and_what_may_be_late_for_hours() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let times = |late| {
            let object = Object { bucket: "b".into(), key: "k".into() };
            let deletion = Deletion { object, due_at: start, until: start + late };
            let all = std::iter::successors(Some(start), |at| next(&deletion, *at));
            all.map(|at| (at - start).num_minutes()).collect::<Vec<_>>()
        };
        assert_eq!(times(TWICE), [0, 15]);
        assert_eq!(times(LATE), [0, 60, 120, 180, 240, 300, 360]);
    }
}
