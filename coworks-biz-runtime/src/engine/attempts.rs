//! An attempt from its start to the commit of its end.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::core::{BATCH, Core};
use super::effects::Effect;
use super::host::{RunHost, Shared};
use super::live::Live;
use super::message::{Ended, Message};
use super::outlook::outlook;
use crate::dag::Kind;
use crate::run::{Ending, Event, Key, State};
use crate::store::{Blobs, LogRecord, StoreError, Stored, TaskRecord, Write};
use crate::task::{Attempt, Awaited, End, Wait, log_line};
use crate::value::{Json, RETURN_VALUE};

/// A list whose end waits until its items are written.
pub(super) struct List {
    ended: Ended,
    items: VecDeque<Stored>,
    written: i32,
}

impl Core {
    pub(super) fn start(&mut self, what: Attempt, host: RunHost) {
        let number = self.next_attempt;
        self.next_attempt += 1;
        let id = (what.run.number, what.key());
        let abort = self.hands.begin(number, what, host);
        self.under_way.insert(id, (number, abort));
    }

    /// Cuts an attempt off: whatever it still comes to does not count.
    pub(super) fn cut(&mut self, run: i64, key: Key) {
        if let Some((_, Some(abort))) = self.under_way.remove(&(run, key)) {
            abort.abort();
        }
        self.slots.release(run, key);
        self.slots.forget(run, key);
        self.lists.retain(|list| (list.ended.run, list.ended.key) != (run, key));
    }

    /// Takes in the end of an attempt; that of a list once its items are written.
    pub(super) fn take_in(&mut self, mut ended: Ended) {
        let id = (ended.run, ended.key);
        if self.under_way.get(&id).is_none_or(|(number, _)| *number != ended.number) {
            return;
        }
        if let Some((number, handle)) = self.under_way.remove(&id)
            && self.under_way.is_empty()
        {
            self.hands.last_ended(number, handle);
        }
        match std::mem::take(&mut ended.items) {
            none if none.is_empty() => self.ended(ended),
            items => self.lists.push_back(List { ended, items: items.into(), written: 0 }),
        }
    }

    /// Writes items of lists, as far as the batch has room. An item that is written counts for
    /// nothing until the end of its list is: should the process die before, the list is tried again.
    pub(super) fn write_items(&mut self) {
        while self.writes.len() < BATCH
            && let Some(mut list) = self.lists.pop_front()
        {
            let Ended { run, key: Key { task, .. }, .. } = list.ended;
            let Some(live) = self.runs.get(&run) else {
                self.ended(list.ended);
                continue;
            };
            let task = live.definition.dag.tasks[task as usize].task_id;
            let room = BATCH - self.writes.len();
            for value in list.items.drain(..room.min(list.items.len())) {
                let (task_id, map_index, key) = (task.into(), list.written, RETURN_VALUE.into());
                let xcoms = vec![(RETURN_VALUE.into(), value.clone())];
                let outputs = Arc::clone(&live.outputs);
                self.writes.push(Write::XCom { run, task_id, map_index, key, value });
                self.effects.push(Effect::Keep { outputs, task, map_index, xcoms });
                list.written += 1;
            }
            match list.items.is_empty() {
                true => self.ended(list.ended),
                false => self.lists.push_front(list),
            }
        }
    }

    fn ended(&mut self, Ended { run, key, end, xcoms, .. }: Ended) {
        self.slots.release(run, key);
        let Some(live) = self.runs.get_mut(&run) else { return };
        let record = live.record(key);
        if let Some(error) = &end.error {
            live.note_error(key, error);
        }
        if let Some(wait) = &end.wait {
            live.note_wait(key, wait);
        }
        let outputs = Arc::clone(&live.outputs);
        let task = live.node(key).task_id;
        let (tries, submits) =
            (record.try_number - record.tries_before, matches!(live.node(key).kind, Kind::Submit));
        let TaskRecord { task_id, map_index, try_number, interruptions, .. } = record;
        let mut log = end.log;
        for (key, value) in &xcoms {
            let (task_id, key, value) = (task_id.clone(), key.clone(), value.clone());
            self.writes.push(Write::XCom { run, task_id, map_index, key, value });
        }
        self.effects.push(Effect::Keep { outputs, task, map_index, xcoms });
        self.step(run, Event::Ended(key, end.ending), None);
        if let Some(live) = self.runs.get(&run)
            && let Some(outlook) = outlook(live, key, end.ending, end.answered)
        {
            log.push_str(&log_line(&outlook));
        }
        self.announce(run, key, &log);
        if !log.is_empty() {
            let piece = LogRecord { task_id, map_index, try_number, records: log };
            self.writes.push(Write::Log { run, piece });
        }
        match end.wait {
            Some(Wait { what: Awaited::Object(_), .. }) => self.effects.push(Effect::Watch { run, key }),
            Some(Wait { what: Awaited::Moment, until: Some(until) }) => self.wake(run, key, until),
            Some(Wait { what: Awaited::Run(awaited), until }) => self.await_run(run, key, awaited, until),
            Some(Wait { what: Awaited::Moment, until: None }) | None => {}
        }
        // A try to come may still want what this one did not take.
        let over = |live: &Live| live.instance(key).state.is_some_and(State::is_final);
        if self.runs.get(&run).is_some_and(over) {
            self.delete_read(end.delete);
            // Who was refused at once has begun nothing; one that was cut off before may have been taken.
            let refused = end.answered.is_some() && tries == 1 && interruptions == 0 && submits;
            if matches!(end.ending, Ending::Failed(_)) && !end.kept && !refused {
                self.give_up(run, key);
            }
        }
    }
}

/// The values of an end as the database takes them: XComs, and the items of a list.
pub(super) type Values = (Vec<(Cow<'static, str>, Stored)>, Vec<Stored>);

/// Brings large values to disk before the rows that name them. Where that fails the engine stops: it is no failure of
/// the task, and no try of it.
pub(super) async fn store(shared: &Arc<Shared>, end: &mut End) -> Values {
    let (xcoms, items) = (std::mem::take(&mut end.xcoms), std::mem::take(&mut end.items));
    let large = xcoms.iter().map(|(_, json)| json).chain(&items).any(Blobs::is_large);
    let host = Arc::clone(shared);
    let save = move || -> Result<Values, StoreError> {
        let xcom = |(key, json): (Cow<'static, str>, Json)| Ok((key, patiently(&host, &json)?));
        let xcoms = xcoms.into_iter().map(xcom).collect::<Result<_, StoreError>>()?;
        Ok((xcoms, items.iter().map(|json| patiently(&host, json)).collect::<Result<_, _>>()?))
    };
    let stored = match large {
        true => tokio::task::spawn_blocking(save).await.map_err(|e| e.to_string()),
        false => Ok(save()),
    };
    match stored {
        Ok(Ok(values)) => values,
        Ok(Err(error)) => {
            shared.tell(Message::Broken(error));
            std::future::pending().await
        }
        Err(error) => {
            let log = std::mem::take(&mut end.log);
            *end = End { log, ..End::failed(format!("the output cannot be stored: {error}")) };
            Values::default()
        }
    }
}

/// Stores a value; where the disk is full, once there is room.
fn patiently(shared: &Shared, json: &Json) -> Result<Stored, StoreError> {
    let mut told = false;
    loop {
        match shared.blobs.store(json) {
            Err(error) if error.is_full() => {
                shared.is_full();
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(target: "coworks_biz::engine", "an output waits for room on the disk: {error}");
                }
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            stored => return stored,
        }
    }
}
