//! Deleting what calls leave in S3: answers that were read, and those that nobody waits for any more.
//!
//! An answer may be written once more after it was deleted, by a call that is late or delivered twice. So it
//! is deleted again, for as long as that can be; S3 takes nothing for it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::Mode;
use super::alarms::Alarm;
use super::core::{BATCH, Core};
use super::message::Message;
use crate::run::{Key, State};
use crate::store::{Deletion, StoreError, Write};
use crate::task::{Body, Member};
use crate::value::Object;

/// A function runs for no longer than this: what it was given twice, it has written twice by then.
const TWICE: TimeDelta = TimeDelta::minutes(15);

/// A call that was accepted is kept for no longer than this, if it can never be run.
const LATE: TimeDelta = TimeDelta::hours(6);

/// How far apart the deletions of what may be late are.
const AGAIN: TimeDelta = TimeDelta::hours(1);

/// How long S3 is left alone when it does not delete.
const TROUBLE: TimeDelta = TimeDelta::minutes(1);

/// Where deleting stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Some of it may be due.
    pub(super) due: bool,
    pub(super) under_way: bool,
    /// What was last said of S3 not deleting.
    trouble: Option<String>,
}

impl Core {
    /// Deletes answers that were read.
    pub(super) fn delete_read(&mut self, objects: Vec<Object>) {
        self.delete(objects, TWICE);
    }

    /// Deletes answers that nobody waits for any more, whenever they come.
    pub(super) fn delete_late(&mut self, objects: Vec<Object>) {
        self.delete(objects, LATE);
    }

    fn delete(&mut self, objects: Vec<Object>, late: TimeDelta) {
        let due_at = self.now();
        for object in objects {
            self.writes.push(Write::Delete(Deletion { object, due_at, until: due_at + late }));
            self.sweep.due = true;
        }
    }

    /// Deletes the answer of a call that was sent and that nobody waits for any more.
    pub(super) fn give_up(&mut self, run: i64, key: Key) {
        let Some(live) = self.runs.get(&run) else { return };
        let Body::Group { member, call, submit, .. } = live.definition.bodies[key.task as usize] else {
            return;
        };
        let sent = Key { task: submit, ..key };
        let was_sent = live.instance(sent).try_number > 0;
        // What `call` did not get through is not waited for by the others.
        let accepted = member == Member::Submit || live.instance(sent).state == Some(State::Success);
        if call.keep || !was_sent || !accepted {
            return;
        }
        let bucket = call.bucket.unwrap_or(self.shared.services.bucket());
        let submit_id = live.definition.dag.tasks[submit as usize].task_id;
        let name = live.dag_run.call_name(submit_id, key.map_index, live.generation(key));
        // `read` asks again at keys of its own.
        let asked = if member == Member::Read { live.instance(key).try_number } else { 1 };
        let engine_id = self.shared.engine_id();
        let first = Object::of_call(bucket, engine_id, &name);
        self.delete_late((1..=asked.max(1)).map(|asking| first.asked_by(asking)).collect());
    }

    /// Deletes what is due, in one request for a thousand.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        if self.mode == Mode::Orders || self.sweep.under_way || !std::mem::take(&mut self.sweep.due) {
            return Ok(());
        }
        let due = self.writer.deletions(self.now(), BATCH)?;
        if due.is_empty() {
            if let Some(next) = self.writer.next_deletion()? {
                self.alarm(next, Alarm::Sweep);
            }
            return Ok(());
        }
        self.sweep.under_way = true;
        let (shared, busy) = (Arc::clone(&self.shared), self.clock.busy());
        self.tokio.spawn(async move {
            let objects: Vec<_> = due.iter().map(|deletion| &deletion.object).collect();
            let deleted = deleted(&shared, &objects).await;
            let done = due.into_iter().zip(deleted).collect();
            shared.tell(Message::Swept { done });
            drop(busy);
        });
        Ok(())
    }

    /// Some were deleted, or could not be.
    pub(super) fn swept(&mut self, done: Vec<(Deletion, Result<(), String>)>) {
        (self.sweep.under_way, self.sweep.due) = (false, true);
        let now = self.now();
        let mut trouble = None;
        for (deletion, deleted) in done {
            let again = match deleted {
                Ok(()) => next(&deletion, now),
                Err(error) => {
                    trouble = Some(error);
                    Some(now + TROUBLE)
                }
            };
            self.writes.push(Write::Deleted { deletion, again });
        }
        // Each of them meets it, and one line tells it.
        if let Some(error) = trouble.as_ref().filter(|_| self.sweep.trouble != trouble) {
            tracing::warn!(target: "coworks_biz::engine", "answers stay in S3 for now: {error}");
        }
        self.sweep.trouble = trouble;
    }

    /// Whether something is being deleted, or will be at once.
    pub(super) fn sweeps(&self) -> bool {
        self.sweep.under_way || (self.sweep.due && self.mode != Mode::Orders)
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
