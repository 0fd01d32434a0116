//! What the rows have to say: kept beside the database from what is committed, and held to the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::plan::Program;
use super::rules;
use crate::dag::Dag;
use crate::run::{Key, MAX_INTERRUPTIONS, RunState, State};
use crate::store::{
    BackfillRecord, DagRecord, Deletion, NoticeRecord, RunRecord, RunType, TaskRecord, Write,
};
use crate::task::Definition;

/// A task instance: its run, its task and its map index.
pub(super) type Name = (i64, String, i32);

/// The rows.
#[derive(Debug, Default, Clone)]
pub(super) struct Ledger {
    pub(super) runs: BTreeMap<i64, RunRecord>,
    pub(super) tasks: BTreeMap<Name, TaskRecord>,
    /// The ticks whose run a backfill had made, and somebody has taken back with it.
    pub(super) taken_back: BTreeSet<(String, DateTime<Utc>)>,
    /// How often each run has ended.
    pub(super) ends: BTreeMap<i64, u32>,
    /// By task instance and key.
    pub(super) xcoms: BTreeMap<(Name, String), String>,
    pub(super) deletions: BTreeMap<String, Deletion>,
    /// What was deleted for the last time.
    pub(super) swept: BTreeSet<String>,
    pub(super) dags: BTreeMap<String, DagRecord>,
    pub(super) backfills: BTreeMap<i64, BackfillRecord>,
    pub(super) notices: BTreeMap<i64, NoticeRecord>,
    pub(super) versions: BTreeMap<(String, String), Arc<str>>,
    /// What has come about in each run, and what was logged there.
    pub(super) events: BTreeMap<i64, Trail>,
    pub(super) logs: BTreeMap<i64, Trail>,
    /// Runs in which not all follows from what is above it: somebody has cleared, marked or stopped.
    pub(super) meddled: BTreeSet<i64>,
    /// Runs of which a task instance was marked.
    pub(super) marked: BTreeSet<i64>,
    /// Runs that were cancelled or out of time once: what was left out then may stay so.
    pub(super) stopped: BTreeSet<i64>,
    /// Those whose rule has let them run since they were last cleared: what is ready stays so, whatever somebody
    /// clears or marks above it.
    let_in: BTreeSet<Name>,
    /// Those that this commit clears.
    cleared: BTreeSet<Name>,
    /// Those that ran when the process died, and are not counted yet.
    pub(super) cut_off: BTreeSet<Name>,
    /// When a retry is due, on the clock that is never set, as long as that is not set.
    retries: BTreeMap<Name, DateTime<Utc>>,
}

/// What there is to know beside the rows.
pub(super) struct Around<'a> {
    pub(super) program: &'static Program,
    pub(super) now: DateTime<Utc>,
    /// Whether the clock was set: then a delay is not to be told from its rows.
    pub(super) clock_set: bool,
    /// Whether no task may start.
    pub(super) starts_nothing: bool,
    /// Whether it only takes orders.
    pub(super) only_orders: bool,
    /// Whether no run may begin.
    pub(super) begins_nothing: bool,
    /// Those whose attempt has come to an end that counts.
    pub(super) ended: &'a BTreeSet<Name>,
    /// How long attempts have asked to be left alone, by their serial numbers.
    pub(super) delays: &'a BTreeMap<String, Duration>,
    /// What a run waits for that is to be cancelled or cleared, by an order that was just taken.
    pub(super) orders: &'a BTreeSet<i64>,
}

/// A list, as its length and a sum of it: it is only ever compared.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Trail {
    count: u32,
    sum: u64,
}

impl Trail {
    /// The next of a list that is in order.
    pub(super) fn push(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        (self.sum, what).hash(&mut hasher);
        (self.count, self.sum) = (self.count + 1, hasher.finish());
    }

    /// One of a list that is in no order.
    pub(super) fn add(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        (self.count, self.sum) = (self.count + 1, self.sum.wrapping_add(hasher.finish()));
    }
}

/// Something that has come about, as its row has it.
pub(super) type Event<'a> = (Option<(&'a str, i32, u32)>, DateTime<Utc>, &'a str, Option<&'a str>);

macro_rules! must {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use must;

pub(super) type Held = Result<(), String>;

impl Ledger {
    pub(super) fn definition(around: &Around, run: &RunRecord) -> Option<&'static Definition> {
        let mut all = around.program.definitions.iter().copied();
        all.find(|definition| definition.dag.dag_id == run.dag_id)
    }

    pub(super) fn dag(around: &Around, run: &RunRecord) -> &'static Dag {
        Self::definition(around, run).map_or(&Dag::EMPTY, |definition| definition.dag)
    }

    /// Takes in what is about to be committed.
    pub(super) fn take(&mut self, writes: &[Write], around: &Around) -> Held {
        self.check_notices(writes, around)?;
        self.cleared.clear();
        for write in writes {
            self.take_one(write, around).map_err(|why| format!("{why}\nby {write:?}"))?;
        }
        self.check_limits(around)
    }

    fn take_one(&mut self, write: &Write, around: &Around) -> Held {
        match write {
            Write::RunMade(run) => {
                for other in self.runs.values().filter(|other| other.dag_id == run.dag_id) {
                    let same = other.logical_date == run.logical_date
                        || other.run_id == run.run_id
                        || (run.idempotency_key.is_some() && other.idempotency_key == run.idempotency_key);
                    must!(!same, "two runs for one moment or key: {} and {}", other.number, run.number);
                }
                must!(self.runs.keys().all(|&number| number < run.number), "a number is used again");
                must!(self.runs.values().all(|other| other.uuid != run.uuid), "a uuid is used again");
                if run.state == RunState::Running {
                    self.may_begin(run, around)?;
                }
                let begun = run.start_date.unwrap_or(run.queued_at);
                self.event(run.number, (None, begun, run.state.as_str(), None));
                self.runs.insert(run.number, run.clone());
            }
            Write::RunUnmade { run } => {
                let begun = self.tasks.keys().any(|(of, ..)| of == run);
                must!(!begun, "run {run} has begun, and is taken back");
                if let Some(gone) = self.runs.remove(run) {
                    self.taken_back.insert((gone.dag_id, gone.logical_date));
                }
                self.events.remove(run);
            }
            Write::Run { record, event, detail, at } => {
                self.run(record, event, around)?;
                self.event(record.number, (None, *at, event, detail.as_deref()));
            }
            Write::Task { record, at } => {
                self.task(record, *at, around)?;
                let of = Some((&*record.task_id, record.map_index, record.try_number));
                let state = record.state.map_or("cleared", State::as_str);
                self.event(record.run, (of, *at, state, record.error.as_deref()));
            }
            Write::XCom { run, task_id, map_index, key, value } => {
                let name = ((*run, task_id.to_string(), *map_index), key.to_string());
                let crate::store::Stored::Inline(json) = value else { return Err("a blob".to_owned()) };
                self.xcoms.insert(name, json.as_str().to_owned());
            }
            Write::Forget { run, task_id, map_index } => {
                self.xcoms.retain(|((of, task, index), _), _| {
                    of != run || task != task_id || map_index.is_some_and(|gone| gone != *index)
                });
            }
            Write::Delete(deletion) => {
                self.swept.remove(&deletion.object.key);
                let new =
                    self.deletions.entry(deletion.object.key.clone()).or_insert_with(|| deletion.clone());
                (new.due_at, new.until) = (new.due_at.min(deletion.due_at), new.until.max(deletion.until));
            }
            Write::Spare(object) => drop(self.deletions.remove(&object.key)),
            Write::Deleted { deletion, again } => {
                let key = &deletion.object.key;
                // What is to be deleted for longer by now stays.
                let same = self.deletions.get_mut(key).filter(|now| now.until == deletion.until);
                match (same, again) {
                    (Some(now), Some(again)) => now.due_at = *again,
                    (Some(_), None) => {
                        self.deletions.remove(key);
                        self.swept.insert(key.clone());
                    }
                    (None, _) => {}
                }
            }
            Write::Dag(dag) => drop(self.dags.insert(dag.dag_id.clone(), dag.clone())),
            Write::Log { run, piece } => {
                must!(self.runs.contains_key(run), "a log of no run");
                let of = (&*piece.task_id, piece.map_index, piece.try_number);
                self.logs.entry(*run).or_default().add((of, &piece.records));
            }
            Write::Version { dag_id, version, structure } => {
                let name = (dag_id.clone(), version.clone());
                self.versions.entry(name).or_insert_with(|| structure.as_str().into());
            }
            Write::Backfill(backfill) => {
                let mut others = self.backfills.values();
                let other = others.find(|other| {
                    other.dag_id == backfill.dag_id && other.id != backfill.id && other.completed_at.is_none()
                });
                must!(other.is_none(), "two backfills of `{}` are under way", backfill.dag_id);
                self.backfills.insert(backfill.id, backfill.clone());
            }
            Write::Notice(notice) => drop(self.notices.insert(notice.id, notice.clone())),
            Write::Told { id } => drop(self.notices.remove(id)),
        }
        Ok(())
    }

    fn event(&mut self, run: i64, event: Event) {
        self.events.entry(run).or_default().push(event);
    }

    pub(super) fn is_paused(&self, dag_id: &str) -> bool {
        self.dags.get(dag_id).is_some_and(|dag| dag.paused)
    }

    fn run(&mut self, new: &RunRecord, event: &str, around: &Around) -> Held {
        let number = new.number;
        let Some(old) = self.runs.get(&number) else { return Err(format!("there is no run {number}")) };
        let kept =
            |run: &RunRecord| (run.uuid.clone(), run.run_id.clone(), run.logical_date, run.dag_id.clone());
        must!(kept(old) == kept(new), "run {number} has become another");
        must!(new.end_date.is_some() == new.state.is_final(), "run {number} ends without an end");
        let by_order = around.orders.contains(&number);
        let was = (old.state, old.start_date);
        match (old.state, new.state) {
            (RunState::Queued, RunState::Running) if !by_order => self.may_begin(new, around)?,
            (RunState::Queued | RunState::Running, to) if to.is_final() => {
                must!(event == to.as_str(), "run {number} ends by `{event}`");
                let open = self
                    .tasks
                    .range((number, String::new(), i32::MIN)..)
                    .take_while(|((of, ..), _)| *of == number);
                let open = open.filter(|(_, task)| task.state.is_some_and(|state| !state.is_final()));
                let open: Vec<_> = open.map(|(name, task)| (name, task.state)).collect();
                must!(open.is_empty(), "run {number} ends, and {open:?} have not");
                if new.stopped.is_some() {
                    self.meddled.insert(number);
                    self.stopped.insert(number);
                }
                must!(
                    new.stopped.is_none() || to == RunState::Failed,
                    "run {number} was stopped, and succeeds"
                );
                if !self.marked.contains(&number) && !self.stopped.contains(&number) {
                    rules::end_holds(self, Self::dag(around, new), new)?;
                }
            }
            (from, to) if from == to => {
                must!(!to.is_final() || event == "marked", "run {number} ends twice: `{event}`");
            }
            (from, _) if from.is_final() => {
                must!(by_order, "run {number} goes on by itself after its end: `{event}`");
            }
            (RunState::Queued, RunState::Running) => {}
            (RunState::Running, RunState::Queued) => return Err(format!("run {number} waits again")),
            _ => {}
        }
        if was.1.is_some() && matches!(event, "success" | "failed") {
            must!(new.start_date == was.1, "run {number} began at another time");
        }
        if matches!(event, "cancelled" | "timed_out" | "marked" | "goes on" | "cleared") {
            self.meddled.insert(number);
        }
        if matches!(event, "cancelled" | "timed_out") {
            self.stopped.insert(number);
        }
        if event == "marked" {
            self.marked.insert(number);
        }
        if event == "cleared" && new.start_date.is_none() && new.backfill.is_some() {
            let backfill = new.backfill.and_then(|id| self.backfills.get(&id));
            let Some(backfill) = backfill else { return Err("there is no such backfill".to_owned()) };
            let wanted = match backfill.reprocess.as_str() {
                "all" => old.state.is_final(),
                "failed" => old.state == RunState::Failed,
                _ => false,
            };
            let tick = new.logical_date;
            must!(
                wanted && (backfill.from_date..=backfill.to_date).contains(&tick),
                "run {number} of {tick} is {}, and is run again by {backfill:?}",
                old.state
            );
        }
        if event == "timed_out" {
            let limit = Self::dag(around, new).dagrun_timeout.unwrap_or(Duration::MAX);
            let taken = new.start_date.map(|began| around.now - began).unwrap_or_default();
            // As exactly as moments are stored.
            let taken = (taken + TimeDelta::milliseconds(1)).to_std().unwrap_or_default();
            must!(
                around.clock_set || taken >= limit,
                "run {number} is out of time after {taken:?} of {limit:?}"
            );
        }
        if new.state.is_final() && !was.0.is_final() {
            *self.ends.entry(number).or_default() += 1;
        }
        self.runs.insert(number, new.clone());
        Ok(())
    }

    fn task(&mut self, new: &TaskRecord, at: DateTime<Utc>, around: &Around) -> Held {
        let name = (new.run, new.task_id.to_string(), new.map_index);
        let Some(run) = self.runs.get(&new.run) else { return Err("there is no such run".to_owned()) };
        let dag = Self::dag(around, run);
        let Some(task) = dag.task(&new.task_id) else { return Err("there is no such task".to_owned()) };
        let (node, key) = (&dag.tasks[task as usize], Key { task, map_index: new.map_index });
        let empty = nothing(new);
        let old = self.tasks.get(&name).unwrap_or(&empty).clone();
        if new.state.is_none() {
            must!(around.orders.contains(&new.run), "{name:?} is cleared by nobody");
            must!(new.generation == old.generation + 1, "{name:?} is cleared, and its generation stays");
            must!(new.tries_before == new.try_number, "{name:?} is cleared, and its tries still count");
            must!(new.try_number >= old.try_number, "{name:?} is cleared, and its tries are lost");
            must!(new.interruptions == 0, "{name:?} is cleared, and its interruptions stay");
            let left = self.xcoms.keys().any(|(of, _)| *of == name);
            must!(!left, "{name:?} is cleared, and its output stays");
            self.cleared.insert(name.clone());
            let ready = rules::ready(self, dag, run).into_iter().filter(|ready| {
                // What is ready in memory alone is nowhere where somebody only takes orders.
                let is_recorded = self.tasks.get(ready).is_some_and(|task| task.state.is_some());
                !self.cleared.contains(ready) && (is_recorded || !around.only_orders)
            });
            let ready: Vec<_> = ready.collect();
            self.let_in.extend(ready);
            self.let_in.remove(&name);
            self.meddled.insert(new.run);
            self.cut_off.remove(&name);
            self.retries.remove(&name);
            self.tasks.insert(name, new.clone());
            return Ok(());
        }
        let to = new.state.unwrap_or(State::Removed);
        must!(new.generation == old.generation, "{name:?} has a new generation without a clear");
        must!(new.tries_before == old.tries_before, "{name:?} has other tries before");
        let active = matches!(to, State::Queued | State::Running);
        let interrupted = new.interruptions == old.interruptions + 1;
        must!(
            new.interruptions == old.interruptions || (interrupted && self.cut_off.contains(&name)),
            "{name:?} was interrupted {} times, and the process did not die meanwhile",
            new.interruptions
        );
        must!(
            (new.interruptions < MAX_INTERRUPTIONS)
                || (new.interruptions == MAX_INTERRUPTIONS && to.is_final()),
            "{name:?} goes on after {} interruptions",
            new.interruptions
        );
        if self.cut_off.contains(&name) {
            // Somebody may have ended it before anybody has counted.
            let ended = to.is_final() && self.meddled.contains(&new.run);
            must!(interrupted || ended, "{name:?} was cut off, and that is not counted");
            self.cut_off.remove(&name);
        }
        let legal = match (old.state, to) {
            (None, to) => to != State::UpForRetry && to != State::UpForReschedule,
            (Some(State::Queued), to) => {
                !matches!(to, State::UpForRetry | State::UpForReschedule | State::UpstreamFailed)
            }
            (Some(State::Running), State::Queued) => interrupted,
            (Some(State::Running), to) => !matches!(to, State::UpstreamFailed | State::Running),
            (Some(State::UpForRetry | State::UpForReschedule), to) => {
                !matches!(to, State::UpForRetry | State::UpForReschedule | State::UpstreamFailed)
            }
            (Some(end), to) => to.is_final() && (self.marked.contains(&new.run) || end == to),
        };
        must!(legal, "{name:?} goes from {:?} to {to}", old.state);
        if old.state == Some(State::Running) && !interrupted {
            let by_somebody = around.orders.contains(&new.run) || self.stopped.contains(&new.run);
            must!(
                around.ended.contains(&name) || by_somebody,
                "{name:?} is {to}, and no attempt of it that counts has ended"
            );
        }
        let tries = match old.state {
            None if active => old.tries_before + 1,
            Some(State::UpForRetry) if active => old.try_number + 1,
            _ => old.try_number,
        };
        // One that was ready, and ends before that is recorded, has had its try all the same.
        let ready = match old.state {
            None => old.tries_before + 1,
            Some(State::UpForRetry) => old.try_number + 1,
            _ => tries,
        };
        let known = new.try_number == tries || (to.is_final() && new.try_number == ready);
        must!(known, "{name:?} has its try {}, and not {tries}", new.try_number);
        let spent: u32 = std::iter::once(new.try_number - new.tries_before)
            .chain(node.shares.iter().map(|&other| {
                let other = (new.run, dag.tasks[other as usize].task_id.to_owned(), new.map_index);
                self.tasks
                    .get(&other)
                    .map_or(0, |task| (task.try_number - task.tries_before).saturating_sub(1))
            }))
            .sum();
        must!(
            spent <= node.options.retries + 1,
            "{name:?} has had {spent} tries of {}",
            node.options.retries + 1
        );
        if to == State::UpForRetry {
            let due = new.due_at.ok_or_else(|| format!("{name:?} is never tried again"))?;
            let asked = new.error.as_deref().and_then(|error| error.strip_prefix("drawn by "));
            let asked = asked.and_then(|serial| around.delays.get(serial)).copied();
            let tries = new.try_number - new.tries_before;
            must!(
                rules::delay_holds(node.options, tries, asked, due - at),
                "{name:?} is tried again after {}, for the {tries}. time",
                due - at
            );
            self.retries.insert(name.clone(), around.now + (due - at));
        } else if let Some(due) = self.retries.remove(&name)
            && active
        {
            let early = TimeDelta::milliseconds(1);
            must!(around.clock_set || around.now + early >= due, "{name:?} is tried again before its time");
        }
        if to == State::Running {
            must!(run.state == RunState::Running, "{name:?} starts, and its run is {}", run.state);
            must!(!around.starts_nothing, "{name:?} starts, and nothing may");
            must!(!self.is_paused(dag.dag_id), "{name:?} starts while `{}` is paused", dag.dag_id);
            must!(
                self.cut_off.is_empty(),
                "{name:?} starts before all interruptions are counted: {:?}",
                self.cut_off
            );
            if !self.marked.contains(&new.run)
                && run.stopped.is_none()
                && new.try_number == new.tries_before + 1
                && old.state != Some(State::UpForReschedule)
                && !self.let_in.contains(&name)
            {
                rules::start_holds(self, dag, run, key)?;
                self.let_in.insert(name.clone());
            }
        }
        if !matches!(to, State::UpForReschedule | State::Queued | State::Running) {
            must!(new.waits_for.is_none(), "{name:?} is {to}, and waits for something");
        }
        self.tasks.insert(name, new.clone());
        Ok(())
    }

    /// Where an attempt fails whose DAG wants to be told, that is in the same commit.
    fn check_notices(&self, writes: &[Write], around: &Around) -> Held {
        let mut wanted: BTreeMap<i64, i32> = BTreeMap::new();
        for write in writes {
            match write {
                Write::Notice(notice) if notice.tries == 0 => *wanted.entry(notice.run).or_default() -= 1,
                Write::Task { record, .. } => {
                    let Some(run) = self.runs.get(&record.run) else { continue };
                    let name = (record.run, record.task_id.to_string(), record.map_index);
                    let before = self.tasks.get(&name).and_then(|old| old.error.as_ref());
                    let by_itself = record.error.as_deref().is_some_and(|error| {
                        error.starts_with("drawn by ") || record.interruptions == MAX_INTERRUPTIONS
                    });
                    let fails = matches!(record.state, Some(State::Failed | State::UpForRetry));
                    let tells = Self::definition(around, run).is_some_and(|of| !of.callbacks.is_empty());
                    if tells && fails && by_itself && before != record.error.as_ref() {
                        *wanted.entry(record.run).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        let silent = wanted.into_iter().find(|(_, count)| *count > 0).map(|(run, _)| run);
        must!(silent.is_none(), "an attempt of run {silent:?} fails, and nobody is to be told");
        Ok(())
    }

    /// The process has died.
    pub(super) fn crash(&mut self) {
        let running = self.tasks.iter().filter(|(_, task)| task.state == Some(State::Running));
        self.cut_off = running.map(|(name, _)| name.clone()).collect();
        // What was ready, and not recorded, is asked again.
        let tasks = &self.tasks;
        self.let_in.retain(|name| tasks.get(name).is_some_and(|task| task.state.is_some()));
    }

    /// The run before this one, of those that were there when it was made, and of all.
    pub(super) fn before(&self, dag: &Dag, run: &RunRecord) -> [Option<&RunRecord>; 2] {
        let counts = |other: &&RunRecord| {
            other.dag_id == run.dag_id
                && other.logical_date < run.logical_date
                && (!dag.catchup || other.run_type != RunType::Manual)
        };
        let last = |earlier: bool| {
            let all = self.runs.values().filter(counts).filter(|other| !earlier || other.number < run.number);
            all.max_by_key(|other| other.logical_date)
        };
        [last(true), last(false)]
    }
}

fn nothing(of: &TaskRecord) -> TaskRecord {
    TaskRecord {
        run: of.run,
        task_id: of.task_id.clone(),
        map_index: of.map_index,
        state: None,
        try_number: 0,
        tries_before: 0,
        interruptions: 0,
        generation: 0,
        outcome: None,
        start_date: None,
        end_date: None,
        due_at: None,
        waits_for: None,
        error: None,
    }
}
