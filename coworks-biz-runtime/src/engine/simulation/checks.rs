//! What holds between rounds, where an attempt starts, when a process is gone, and when all is quiet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;

use super::attempts::Working;
use super::drive::Simulation;
use super::ledger::{Held, Name, must};
use super::machine::Process;
use super::rules;
use crate::dag::{Kind, Schedule};
use crate::engine::Mode;
use crate::engine::alarms::Alarm;
use crate::engine::live::Live;
use crate::engine::waiter::Watch;
use crate::run::{InstanceName, Key, RunState, State};
use crate::schedule::Timetable;
use crate::store::{Deletion, Reader, RunRecord, WaitsFor};
use crate::task::Body;

impl Simulation {
    /// Its start is committed, as what it is.
    pub(super) fn check_start(&self, working: &Working) -> Held {
        let attempt = &working.attempt;
        let (run, key) = working.id();
        let name = (run, attempt.node().task_id.to_owned(), key.map_index);
        let Some(row) = self.ledger.tasks.get(&name) else {
            return Err(format!("{name:?} starts without a row"));
        };
        must!(row.state == Some(State::Running), "{name:?} starts, and its row says {:?}", row.state);
        must!(row.try_number == attempt.try_number, "{name:?} starts with try {}", attempt.try_number);
        must!(row.tries_before == attempt.tries_before, "{name:?} starts after other tries");
        must!(row.start_date == Some(attempt.started), "{name:?} began at another time");
        let owner = match attempt.definition.bodies[key.task as usize] {
            Body::Group { submit, .. } => attempt.definition.dag.tasks[submit as usize].task_id,
            _ => attempt.node().task_id,
        };
        let of = self.ledger.tasks.get(&(run, owner.to_owned(), key.map_index));
        let generation = of.map_or(0, |row| row.generation);
        must!(generation == attempt.generation, "{name:?} calls with generation {}", attempt.generation);
        let uuid = self.ledger.runs.get(&run).map(|run| run.uuid.as_str());
        must!(uuid == Some(attempt.run.uuid.as_str()), "{name:?} calls as another run");
        let other = self.working.values().find(|other| other.id() == (run, key) && !other.cut);
        must!(other.is_none(), "{name:?} is under way twice");
        must!(
            attempt.resume.is_some() == (row.waits_for.is_some()),
            "{name:?} goes on with {:?}, and waited for {:?}",
            attempt.resume,
            row.waits_for
        );
        // Its item is the one of its index.
        if let (Some(list), index @ 0..) = (attempt.node().map, key.map_index) {
            let list = attempt.definition.dag.tasks[list as usize].task_id;
            let item = self.ledger.xcoms.get(&((run, list.to_owned(), index), "return_value".to_owned()));
            must!(
                item.is_some_and(|item| *item == format!("\"item {index}\"")),
                "{name:?} starts, and its item is {item:?}"
            );
            let kept = working.host.outputs.get(list, index, "return_value");
            must!(
                kept.as_ref().is_none_or(|kept| item.is_some_and(|item| item == kept.as_str())),
                "{name:?} starts with the item {kept:?}"
            );
        }
        // What is kept in memory is what is in the rows, and what it takes is there.
        for &above in attempt.definition.dag.tasks[key.task as usize].upstream {
            let node = &attempt.definition.dag.tasks[above as usize];
            let index = if node.map == attempt.node().map { key.map_index } else { -1 };
            let there =
                self.ledger.xcoms.get(&((run, node.task_id.to_owned(), index), "return_value".to_owned()));
            let kept = working.host.outputs.get(node.task_id, index, "return_value");
            if let Some(kept) = kept {
                must!(
                    there.is_some_and(|there| there == kept.as_str()),
                    "the output of `{}` is {kept:?}, and {there:?} in its row",
                    node.task_id
                );
            }
            let row = self.ledger.tasks.get(&(run, node.task_id.to_owned(), index));
            let succeeded =
                row.is_some_and(|row| row.state == Some(State::Success) && row.try_number > row.tries_before);
            if succeeded && matches!(node.kind, Kind::Function) && !self.ledger.marked.contains(&run) {
                must!(there.is_some(), "`{}` has succeeded, and its output is not there", node.task_id);
            }
        }
        Ok(())
    }

    /// Who waits for an answer does so since it was sent and until it is late, however often the process began anew.
    pub(super) fn check_watch(&self, watch: &Watch) -> Held {
        let Some(Process { core, .. }) = &self.process else { return Ok(()) };
        let (run, key) = watch.who;
        let Some(live) = core.runs.get(&run) else { return Err(format!("nobody in run {run} waits")) };
        let name = (run, live.node(key).task_id.to_owned(), key.map_index);
        let row = self.ledger.tasks.get(&name);
        let moments = row.and_then(|row| row.start_date.zip(row.due_at));
        let Some((since, until)) = moments else { return Err(format!("{name:?} waits, and no row says so")) };
        let now = self.now();
        for (what, told, is) in
            [("has waited", watch.waited, now - since), ("may wait for another", watch.left, until - now)]
        {
            let is = is.to_std().unwrap_or_default();
            must!(told.abs_diff(is) < Duration::from_millis(1), "{name:?} {what} {is:?}, and not {told:?}");
        }
        Ok(())
    }

    /// What is deleted is so by a row that is on the disk, and nobody waits for it any more, or is to read it.
    pub(super) fn check_deletion(&self, due: &[Deletion]) -> Held {
        for deletion in due {
            let key = &deletion.object.key;
            must!(self.ledger.deletions.get(key) == Some(deletion), "{key} is deleted, and no row says so");
            must!(
                !self.unsynced.deletions.contains(key),
                "{key} is deleted by a row that is not on the disk"
            );
            must!(deletion.due_at <= self.now(), "{key} is deleted before {}", deletion.due_at);
            let waits = self.ledger.tasks.iter().find(|(_, task)| {
                let is_of = matches!(&task.waits_for, Some(WaitsFor::Object(object)) if object.key == *key);
                // Who marks `call` says that there is no answer, whatever else waits for it.
                let marked = self.ledger.marked.contains(&task.run);
                is_of && !marked && task.state.is_some_and(|state| !state.is_final())
            });
            must!(waits.is_none(), "{key} is deleted, and {:?} waits for it", waits.map(|(name, _)| name));
            let reads = self.is_to_read(key);
            must!(reads.is_none(), "{key} is deleted, and {reads:?} has not read it");
        }
        Ok(())
    }

    /// Who has not read this answer yet, which is there: the first that was asked for by its call.
    fn is_to_read(&self, key: &str) -> Option<Name> {
        let (uuid, call) = key.strip_prefix("s3/biz-")?.split_once('/')?.1.split_once('/')?;
        let run = self.ledger.runs.values().find(|run| run.uuid == uuid)?;
        let is_as_planned = !run.state.is_final() && !self.ledger.stopped.contains(&run.number);
        if !is_as_planned || self.ledger.marked.contains(&run.number) {
            return None;
        }
        let rows = self.ledger.tasks.range((run.number, String::new(), i32::MIN)..);
        let mut rows = rows.take_while(|((of, ..), _)| *of == run.number);
        let ((_, submit, index), row) =
            rows.find(|((_, task, index), row)| call == format!("{task}.{index}.{}", row.generation))?;
        let group = submit.strip_suffix(".call")?;
        let member = |member: &str| (run.number, format!("{group}.{member}"), *index);
        let state = |name: &Name| self.ledger.tasks.get(name).and_then(|row| row.state);
        if (row.state, state(&member("wait"))) != (Some(State::Success), Some(State::Success)) {
            return None;
        }
        let read = member("read");
        let is_over = self.ledger.tasks.get(&read).is_some_and(|row| {
            // Who has refused it asks for another one.
            row.state.is_some_and(State::is_final) || row.try_number > row.tries_before + 1
        });
        (!is_over).then_some(read)
    }

    /// Right behind a commit: what memory says of these runs is what was written.
    pub(super) fn check_rows(&self, runs: &BTreeSet<i64>) -> Held {
        let Some(Process { core, .. }) = &self.process else { return Ok(()) };
        let (_, waiting, ..) = core.slots.census();
        for &number in runs {
            let Some(live) = core.runs.get(&number) else { continue };
            let row = self.ledger.runs.get(&number);
            must!(
                row == Some(&live.record),
                "run {number} is {:?} in memory, and {row:?} in its row",
                live.record
            );
            for key in keys(live) {
                let memory = live.record(key);
                let name = (number, memory.task_id.to_string(), key.map_index);
                let ready = waiting.contains(&(number, key)) && memory.state == Some(State::Queued);
                match self.ledger.tasks.get(&name) {
                    _ if ready => {}
                    Some(row) => must!(*row == memory, "in memory {memory:?}, in the row {row:?}"),
                    None => must!(memory.state.is_none(), "{name:?} is {:?}, and has no row", memory.state),
                }
            }
        }
        Ok(())
    }

    /// Behind what a commit has let begin: the values that these runs have in memory are in their rows.
    pub(super) fn check_outputs(&self, runs: &BTreeSet<i64>) -> Held {
        let Some(Process { core, .. }) = &self.process else { return Ok(()) };
        for (&run, live) in runs.iter().filter_map(|run| core.runs.get_key_value(run)) {
            for (task, index) in live.outputs.kept() {
                let name = (run, task.to_owned(), index);
                let mut rows = self.ledger.xcoms.range((name.clone(), String::new())..);
                let is_there = rows.next().is_some_and(|((of, _), _)| *of == name);
                must!(is_there, "{name:?} has pushed something in memory, and nothing in its rows");
            }
        }
        Ok(())
    }

    /// Between rounds: all that is under way, ready or waits belongs to somebody, and somebody comes back to it.
    pub(super) fn check_memory(&self) -> Held {
        let Some(Process { core, .. }) = &self.process else { return Ok(()) };
        if self.mode() == Mode::Orders {
            must!(core.under_way.is_empty(), "who takes orders executes something");
            return Ok(());
        }
        let (running, waiting, placed, _) = core.slots.census();
        let (running, waiting): (BTreeSet<_>, BTreeSet<_>) =
            (running.into_iter().collect(), waiting.into_iter().collect());
        let alarms: BTreeSet<_> = core.alarms.iter().map(|Reverse((_, alarm))| *alarm).collect();
        let watched: BTreeSet<_> = self.looker.waiting().into_iter().collect();
        let (mut is_running, mut is_queued, mut is_watched) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (&number, live) in &core.runs {
            if live.run.state().is_final() {
                continue;
            }
            if let Some(until) = live.times_out() {
                let limit = live.definition.dag.dagrun_timeout.unwrap_or_default();
                // As its row will have it, where it has just begun.
                let began = live.record.start_date;
                must!(
                    began
                        .is_some_and(|began| until - began == TimeDelta::from_std(limit).unwrap_or_default()),
                    "run {number} began {began:?}, and is out of time {until}, not {limit:?} later"
                );
                must!(
                    alarms.contains(&Alarm::Run(number, until)),
                    "run {number} has no alarm at its timeout"
                );
            }
            for key in keys(live) {
                let Some(state) = live.instance(key).state else { continue };
                let alarm = live.due_at(key).map(|due| Alarm::Task(number, key, due));
                let has_alarm = alarm.is_some_and(|alarm| alarms.contains(&alarm));
                match state {
                    State::Running => drop(is_running.insert((number, key))),
                    State::Queued => drop(is_queued.insert((number, key))),
                    State::UpForRetry => must!(has_alarm, "nobody comes back to {key:?} of run {number}"),
                    State::UpForReschedule => match live.waits_for(key) {
                        Some(WaitsFor::Object(_)) => drop(is_watched.insert((number, key))),
                        Some(WaitsFor::Run { run }) => {
                            let awaited = core.awaited.get(run);
                            let waits = awaited.is_some_and(|all| all.contains(&(number, key)));
                            // Where that has ended, it is told by a message.
                            let over = core.runs.get(run).is_none_or(|live| live.run.state().is_final());
                            must!(
                                waits || over,
                                "nobody tells {key:?} of run {number} of the end of run {run}"
                            );
                            must!(
                                live.due_at(key).is_none() || has_alarm || over,
                                "{key:?} of run {number} has no end"
                            );
                        }
                        None => must!(has_alarm, "nobody comes back to {key:?} of run {number}"),
                    },
                    _ => {}
                }
            }
        }
        must!(running == is_running, "{running:?} have a slot, and {is_running:?} run");
        must!(waiting == is_queued, "{waiting:?} wait for a slot, and {is_queued:?} are ready");
        let under_way: BTreeSet<_> = core.under_way.keys().copied().collect();
        must!(under_way.is_subset(&is_running), "{under_way:?} are under way, and {is_running:?} run");
        must!(
            core.lists.len() + under_way.len() >= is_running.len(),
            "{is_running:?} run, and nobody is at it"
        );
        // One that has come is told by a message before it is seen here.
        must!(watched.is_subset(&is_watched), "{watched:?} are looked for, and {is_watched:?} wait");
        for (run, key) in placed {
            let live = core.runs.get(&run).filter(|live| !live.run.state().is_final());
            must!(live.is_some(), "{key:?} of run {run}, which has ended, keeps its place at a service");
        }
        Ok(())
    }

    /// The runs that have not ended, and are not held.
    pub(super) fn open_runs(&self) -> Vec<RunRecord> {
        self.ledger.runs.values().filter(|run| !run.state.is_final()).cloned().collect()
    }

    /// Why a run does not go on where all is quiet: only what another run decides.
    pub(super) fn reason(&self, run: &RunRecord) -> Result<String, String> {
        let Some(Process { core, .. }) = &self.process else { return Err("there is no process".to_owned()) };
        if let Some(why) = &run.held {
            return Ok(format!("it is held: {why}"));
        }
        let open = |number: i64| self.ledger.runs.get(&number).is_some_and(|run| !run.state.is_final());
        let Some(live) = core.runs.get(&run.number) else {
            let others = self.open_runs().into_iter();
            let others =
                others.filter(|other| other.dag_id == run.dag_id && other.state == RunState::Running);
            return match (run.state, others.count()) {
                (RunState::Queued, 1..) => Ok("others of its DAG have not ended".to_owned()),
                _ => Err(format!("run {} is {}, and nobody has it", run.number, run.state)),
            };
        };
        let mut why = None;
        for key in keys(live) {
            match live.instance(key).state {
                Some(State::UpForReschedule) => match live.waits_for(key) {
                    Some(WaitsFor::Run { run }) if open(*run) => {
                        why = Some(format!("it waits for run {run}"))
                    }
                    other => return Err(format!("{key:?} of run {} waits for {other:?}", run.number)),
                },
                Some(State::Queued) if self.keeps_places().is_some() => {
                    let other = self.keeps_places().unwrap_or_default();
                    why = Some(format!("{key:?} waits for a place that a call of run {other} keeps"));
                }
                Some(state) if !state.is_final() => {
                    return Err(format!("{key:?} of run {} is {state}, and stays so", run.number));
                }
                None if live.run.waits_for_past(key.task) => {
                    let Some(before) = live.follows else { continue };
                    let lets_go = rules::past_allows(&self.ledger, live.definition.dag, before, key.task);
                    if lets_go {
                        return Err(format!(
                            "{key:?} of run {} waits for run {before}, which lets it go",
                            run.number
                        ));
                    }
                    why.get_or_insert(format!("{key:?} waits for its past in run {before}"));
                }
                _ => {}
            }
        }
        why.ok_or_else(|| format!("run {} has not ended, and nothing is left to do", run.number))
    }

    /// A task instance of a run that waits for its past.
    pub(super) fn held_back(&self, run: i64) -> Option<String> {
        let live = self.process.as_ref()?.core.runs.get(&run)?;
        let is_held = |key: &Key| live.instance(*key).state.is_none() && live.run.waits_for_past(key.task);
        let key = keys(live).into_iter().find(is_held)?;
        Some(InstanceName(live.node(key).task_id, key.map_index).to_string())
    }

    /// A run that waits for its past with a call that was sent, and that counts as long as nobody reads it.
    fn keeps_places(&self) -> Option<i64> {
        let Some(Process { core, .. }) = &self.process else { return None };
        let (_, _, placed, _) = core.slots.census();
        let is_held_back = |(run, key): &(i64, Key)| {
            core.runs.get(run).is_some_and(|live| {
                let wait = key.beside(key.task + 1);
                live.instance(wait).state.is_none() && live.run.waits_for_past(wait.task)
            })
        };
        placed.into_iter().find(is_held_back).map(|(run, _)| run)
    }

    /// All is quiet, and has been cancelled where it waited for others.
    pub(super) fn check_the_end(&mut self, acknowledged: &BTreeMap<i64, String>) -> Held {
        let open: Vec<_> = self.open_runs().iter().map(|run| run.number).collect();
        must!(open.is_empty(), "runs {open:?} have not ended");
        for (number, uuid) in acknowledged {
            let there = self.ledger.runs.get(number).is_some_and(|run| run.uuid == *uuid);
            must!(there, "run {number} was acknowledged, and is gone");
        }
        let Some(Process { core, .. }) = &self.process else { return Err("there is no process".to_owned()) };
        let (running, waiting, placed, taken) = core.slots.census();
        must!(running.is_empty() && waiting.is_empty(), "{running:?} have slots, {waiting:?} wait");
        must!(placed.is_empty() && taken == 0, "{placed:?} have places, {taken} are taken");
        must!(core.runs.is_empty(), "runs stay: {:?}", core.runs.keys());
        must!(core.under_way.is_empty() && core.lists.is_empty(), "attempts stay: {:?}", core.under_way);
        must!(core.ends.is_empty(), "who waits for the end of {:?} is never told", core.ends.keys());
        must!(core.awaited.is_empty(), "{:?} are waited for", core.awaited);
        must!(core.followers.is_empty() && core.passes.is_empty(), "{:?} are followed", core.followers);
        must!(core.alarms.is_empty(), "alarms stay: {:?}", core.alarms);
        must!(core.outbox.under_way == 0, "somebody is being told");
        let notices = core.writer.notices().map_err(|error| error.to_string())?;
        must!(notices.is_empty(), "somebody is still to be told: {notices:?}");
        let deletions = core.writer.next_deletion().map_err(|error| error.to_string())?;
        must!(deletions.is_none(), "something is still to be deleted at {deletions:?}");
        let stays: Vec<_> = self.world.objects.keys().filter(|key| !self.is_kept(key)).collect();
        // A call that was sent again by a clear that is lost is known to nobody.
        must!(stays.is_empty() || self.was_dark(), "answers stay in S3: {stays:?}");
        let backfills = core.writer.backfills().map_err(|error| error.to_string())?;
        must!(backfills.is_empty(), "backfills stay: {backfills:?}");
        self.check_ticks()
    }

    fn is_kept(&self, object: &str) -> bool {
        // Whoever marks a member of a call says that it is not to be read, or that it is not there.
        let marked = |run: &RunRecord| object.contains(&run.uuid) && self.ledger.marked.contains(&run.number);
        let kept = self.world.kept.iter().any(|call| object.contains(call.as_str()));
        // Until when late answers are swept is a time of the clock.
        let late = self.clock_set && self.ledger.swept.contains(object);
        kept || late || self.ledger.runs.values().any(marked)
    }

    /// Where ticks are caught up on, each has its run; and no run of the schedule has none.
    fn check_ticks(&self) -> Held {
        let now = self.now();
        for definition in &self.program.definitions {
            let dag = definition.dag;
            if !matches!(dag.schedule, Some(Schedule::Every(_) | Schedule::Cron(_))) {
                continue;
            }
            let timetable = Timetable::of(dag).map_err(|error| error.to_string())?;
            let (Some(from), Some(to)) = (dag.start_date, dag.end_date) else { continue };
            let moment = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            let ticks: BTreeSet<_> = timetable.between(moment(from), moment(to)).collect();
            let of_dag = self.ledger.runs.values().filter(|run| run.dag_id == dag.dag_id);
            let of_dag: Vec<_> = of_dag.collect();
            for run in of_dag.iter().filter(|run| run.run_type == crate::store::RunType::Scheduled) {
                must!(ticks.contains(&run.logical_date), "run {} has no tick", run.run_id);
            }
            let dates: BTreeSet<_> = of_dag.iter().map(|run| run.logical_date).collect();
            let is_taken_back = |tick: chrono::DateTime<chrono::Utc>| {
                self.ledger.taken_back.contains(&(dag.dag_id.to_owned(), tick))
            };
            let lost = ticks.range(..=now).filter(|tick| !dates.contains(*tick) && !is_taken_back(**tick));
            let lost: Vec<_> = lost.collect();
            must!(
                !dag.catchup || lost.is_empty() || self.clock_set,
                "ticks of {} have no run: {lost:?}",
                dag.dag_id
            );
        }
        Ok(())
    }

    /// The events of each run are a walk, and end where the row is.
    pub(super) fn check_events(&self) -> Held {
        let reader = Reader::open(self.database()).map_err(|error| error.to_string())?;
        for run in self.ledger.runs.values() {
            let mut last: BTreeMap<(Option<String>, i32), String> = BTreeMap::new();
            let mut tries: BTreeMap<(String, i32), u32> = BTreeMap::new();
            for event in reader.events(run.number).map_err(|error| error.to_string())? {
                if let Some(task) = &event.task_id {
                    let before = tries.insert((task.clone(), event.map_index), event.try_number).unwrap_or(0);
                    must!(before <= event.try_number, "the tries of `{task}` go back from {before}");
                }
                let of_run = ["queued", "running", "success", "failed"].contains(&event.state.as_str());
                if event.task_id.is_some() || of_run {
                    last.insert((event.task_id, event.map_index), event.state);
                }
            }
            let state = last.get(&(None, -1)).map(String::as_str);
            must!(
                state == Some(run.state.as_str()),
                "run {} is {}, and its last event {state:?}",
                run.number,
                run.state
            );
            for ((of, task, index), row) in &self.ledger.tasks {
                if *of == run.number {
                    let state = row.state.map_or("cleared", State::as_str);
                    let event = last.get(&(Some(task.clone()), *index)).map(String::as_str);
                    must!(event == Some(state), "{task} is {state}, and its last event {event:?}");
                }
            }
        }
        Ok(())
    }
}

/// The task instances of a run.
fn keys(live: &Live) -> Vec<Key> {
    let tasks = 0..live.definition.dag.tasks.len() as u32;
    tasks.flat_map(|task| live.run.instances().keys(task)).collect()
}
