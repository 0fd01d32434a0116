//! What an operator does to a run: cancel it, run some of it again, say how a task has ended.

use super::core::Core;
use super::effects::Effect;
use super::live::{Live, word_of};
use super::orders::{Answer, RunName};
use super::past::keyed;
use super::{EngineError, Mode, Refusal};
use crate::error::did_you_mean;
use crate::run::{Event, InstanceName, Key, Mark, RunState, State, Stop};
use crate::store::{PRUNED, RunRecord, TaskRecord, Write};

/// A run that something is done to.
struct Loaded {
    run: i64,
    /// What is recorded of its tasks.
    recorded: Vec<TaskRecord>,
    /// Whether it was among the live ones before.
    was_live: bool,
    /// The run before, where its tasks look at that.
    before: Option<RunRecord>,
}

impl Core {
    /// Ends a run that has not ended.
    pub(super) fn cancel(&mut self, name: RunName) -> Result<Answer, EngineError> {
        let loaded = self.load(name)?;
        let run = loaded.run;
        if self.runs.get(&run).is_some_and(|live| live.run.state().is_final()) {
            let record = self.unload(&loaded)?;
            return Err(Refusal::Ended { run_id: record.run_id, state: record.state }.into());
        }
        self.stop(run, Stop::Cancelled);
        self.answer_of(loaded, Vec::new())
    }

    /// A run has had its time.
    pub(super) fn out_of_time(&mut self, run: i64) {
        if self.runs.get(&run).is_some_and(|live| !live.run.state().is_final()) {
            self.stop(run, Stop::TimedOut);
        }
    }

    fn stop(&mut self, run: i64, stop: Stop) {
        let now = self.now();
        if let Some(live) = self.runs.get_mut(&run) {
            live.record.stopped = Some(word_of(stop).to_owned());
            if live.record.held.take().is_some() {
                // Its teardowns have their time from now on.
                live.record.start_date = Some(now);
            }
            let detail = match stop {
                Stop::Cancelled => "by an operator".to_owned(),
                Stop::TimedOut => {
                    let limit = live.definition.dag.dagrun_timeout.unwrap_or_default();
                    format!("it took longer than its dagrun_timeout of {}", humantime::format_duration(limit))
                }
            };
            let record = Box::new(live.record.clone());
            self.writes.push(Write::Run {
                record,
                event: word_of(stop),
                detail: Some(detail),
                at: self.now(),
            });
        }
        self.step(run, Event::Stop(stop), None);
        // One that has not begun ends at once, but for its teardowns: they are under way, and so is the run.
        if let Some(live) = self.runs.get_mut(&run)
            && live.record.state == RunState::Queued
        {
            (live.record.state, live.record.start_date) = (RunState::Running, Some(now));
            let record = Box::new(live.record.clone());
            self.writes.push(Write::Run { record, event: "running", detail: None, at: now });
            self.limit_run(run);
        }
    }

    /// Runs tasks again: these, or what has failed, and all that follows.
    pub(super) fn retry(&mut self, name: RunName, from: &[String]) -> Result<Answer, EngineError> {
        let loaded = self.load(name)?;
        let run = loaded.run;
        let Some(live) = self.runs.get_mut(&run) else { unreachable!("it has just been loaded") };
        let mut keys = Vec::new();
        let mut gone = Vec::new();
        for task in from {
            match live.keys_named(task) {
                Some(found) => keys.extend(found),
                // What the program does not have any more can be given up.
                None if loaded.recorded.iter().any(|record| record.task_id == *task) => {
                    gone.push(task.clone())
                }
                None => {
                    let refusal = live.no_task(task);
                    self.unload(&loaded)?;
                    return Err(refusal.into());
                }
            }
        }
        if from.is_empty() {
            keys = live.run.failed();
            // What a stop has skipped had no say in it.
            if live.run.standing().stopped.is_some() {
                keys.extend(live.run.skipped());
            }
        }
        let keys = live.run.with_setups(&live.run.following(&keys));
        let begun = |key: &Key| live.instance(*key).state.is_some();
        let names: Vec<String> = keys.iter().copied().filter(begun).map(|key| live.name(key)).collect();
        if names.is_empty() && gone.is_empty() {
            let run_id = live.record.run_id.clone();
            self.unload(&loaded)?;
            let what = if from.is_empty() { "nothing of it has failed" } else { "none of these has begun" };
            return Err(Refusal::Nothing(format!("run `{run_id}`: {what}")).into());
        }
        self.refit(&loaded, &keys, &gone)?;
        // While it is known what they are doing.
        self.give_up_all(run, &keys);
        let Some(live) = self.runs.get_mut(&run) else { unreachable!("it is still loaded") };
        let mut commands = Vec::new();
        live.run.clear(&keys, &mut commands);
        self.obey(run, &mut commands, None, None);
        self.answer_of(loaded, names)
    }

    /// Says how a task instance has ended.
    pub(super) fn mark(&mut self, name: RunName, task: &str, mark: Mark) -> Result<Answer, EngineError> {
        let loaded = self.load(name)?;
        let (run, at) = (loaded.run, self.now());
        let Some(live) = self.runs.get_mut(&run) else { unreachable!("it has just been loaded") };
        let waits = match (&live.record.held, live.record.state) {
            (Some(_), _) => Some("is held: `retry` or `cancel` decide"),
            (None, RunState::Queued) => Some("has not begun"),
            (None, _) => None,
        };
        if let Some(why) = waits {
            let record = self.unload(&loaded)?;
            return Err(Refusal::Nothing(format!("run `{}` {why}", record.run_id)).into());
        }
        let keys = live.keys_named(task).unwrap_or_default();
        let [key] = keys.as_slice() else {
            let refusal = match keys.is_empty() {
                true => live.no_task(task),
                false => Refusal::Nothing(live.which(task, &keys)),
            };
            self.unload(&loaded)?;
            return Err(refusal.into());
        };
        let (mut commands, key) = (Vec::new(), *key);
        if let Err(misfit) = live.run.step(Event::Mark(key, mark), &mut commands) {
            let state = misfit.state.map_or("without a state", State::as_str);
            let refusal = Refusal::Nothing(format!("task `{task}` is {state}, and cannot be marked so"));
            self.unload(&loaded)?;
            return Err(refusal.into());
        }
        let record = Box::new(live.record.clone());
        let detail = Some(format!("{} marked {mark:?} by an operator", live.name(key)).to_lowercase());
        self.writes.push(Write::Run { record, event: "marked", detail, at });
        if mark == Mark::Success {
            self.spare(run, key);
        }
        self.obey(run, &mut commands, None, None);
        self.answer_of(loaded, Vec::new())
    }

    /// Takes a run among the live ones, whatever its state.
    fn load(&mut self, name: RunName) -> Result<Loaded, EngineError> {
        let record = self.recorded(name.dag_id.as_deref(), name.run_id)?;
        let run = record.number;
        if record.version == PRUNED {
            let gone = format!("run `{}` ended long ago, and is being removed", record.run_id);
            return Err(Refusal::Nothing(gone).into());
        }
        let recorded = self.writer.tasks(run)?;
        if self.runs.contains_key(&run) {
            return Ok(Loaded { run, recorded, was_live: true, before: None });
        }
        let changes = |write: &Write| match write {
            Write::Run { record, .. } => record.number == run,
            Write::RunUnmade { run: unmade } => *unmade == run,
            _ => false,
        };
        if self.writes.iter().any(changes) {
            let busy = format!("run `{}` is just being changed by somebody else: ask again", record.run_id);
            return Err(Refusal::Nothing(busy).into());
        }
        let Some(dag) = self.dags.place(&record.dag_id) else {
            return Err(Refusal::NoDag { run_id: record.run_id, dag_id: record.dag_id }.into());
        };
        if !record.state.is_final() {
            self.dags[dag].began(&record);
        }
        let definition = self.dags[dag].definition;
        self.hide_tokens(definition);
        let before = self.run_before(dag, &record)?;
        let records = keyed(definition.dag, recorded.clone());
        self.runs.insert(run, Live::restore(definition, dag, record, before.is_some(), &records));
        Ok(Loaded { run, recorded, was_live: false, before })
    }

    /// Lets a run go that was only looked at.
    fn unload(&mut self, loaded: &Loaded) -> Result<RunRecord, EngineError> {
        let Some(live) = self.runs.get(&loaded.run) else { unreachable!("it was loaded") };
        let record = live.record.clone();
        if !loaded.was_live {
            let dag = live.dag;
            self.runs.remove(&loaded.run);
            self.slots.unplace_all(loaded.run);
            if !record.state.is_final() {
                self.dags[dag].ended(&record);
                match record.held {
                    Some(_) => self.dags[dag].hold(&record),
                    None => self.dags[dag].queue(&record),
                }
            }
        }
        Ok(record)
    }

    /// Brings a run to the structure of the program, what is run again apart.
    fn refit(&mut self, loaded: &Loaded, keys: &[Key], gone: &[String]) -> Result<(), EngineError> {
        let (run, recorded) = (loaded.run, loaded.recorded.clone());
        let Some(live) = self.runs.get(&run) else { return Ok(()) };
        let (dag, mut record) = (live.dag, live.record.clone());
        let tasks = live.definition.dag.tasks;
        let again: std::collections::HashSet<_> =
            keys.iter().map(|key| tasks[key.task as usize].task_id).collect();
        let (given_up, kept): (Vec<_>, Vec<_>) = recorded
            .into_iter()
            .filter(|task| !again.contains(&*task.task_id))
            .partition(|task| gone.iter().any(|gone| *gone == task.task_id));
        if let Err(changes) = self.fit(dag, &mut record, &kept)? {
            let (run_id, dag_id) = (record.run_id.clone(), self.dags[dag].definition.dag.dag_id);
            self.unload(loaded)?;
            return Err(Refusal::Changed { run_id, dag_id, changes }.into());
        }
        let now = self.now();
        for mut task in given_up {
            task.state = Some(State::Removed);
            self.writes.push(Write::Task { record: task, at: now });
        }
        if let Some(live) = self.runs.get_mut(&run) {
            let waited = record.held.take().is_some() || record.state == RunState::Queued;
            if waited {
                // What it may take counts from now on.
                (record.state, record.start_date) = (RunState::Running, Some(now));
            }
            live.record = record;
            if waited {
                let record = Box::new(live.record.clone());
                let detail = Some("by an operator".to_owned());
                self.writes.push(Write::Run { record, event: "goes on", detail, at: now });
            }
        }
        Ok(())
    }

    /// What there is to say of a run that something was done to; it goes on where it has not ended.
    fn answer_of(&mut self, loaded: Loaded, cleared: Vec<String>) -> Result<Answer, EngineError> {
        let run = loaded.run;
        // One that ends by this is let go once that is committed; one that had ended, now.
        let ends = |effect: &Effect| matches!(effect, Effect::End { run: of, .. } if *of == run);
        let ends = self.effects.iter().any(ends);
        let Some(live) = self.runs.get(&run) else { unreachable!("it is loaded") };
        let (dag, dag_id, run_id) = (live.dag, live.record.dag_id.clone(), live.record.run_id.clone());
        let state = live.run.state();
        if state.is_final() {
            if !ends {
                self.unload(&loaded)?;
            }
        } else if !loaded.was_live && self.mode != Mode::Orders {
            let records = keyed(self.dags[dag].definition.dag, loaded.recorded);
            self.revive(run, records, loaded.before)?;
        }
        Ok(Answer::Run { dag_id, run_id, state, cleared })
    }
}

impl Live {
    fn name(&self, key: Key) -> String {
        InstanceName(self.node(key).task_id, key.map_index).to_string()
    }

    /// The instances that are meant; `None` where there are none.
    fn keys_named(&self, text: &str) -> Option<Vec<Key>> {
        let (task, index) = InstanceName::read(text);
        // The name of a group is that of its members.
        let inside = format!("{task}.");
        let tasks = (0..).zip(self.definition.dag.tasks);
        let tasks = tasks.filter(|(_, node)| node.task_id == task || node.task_id.starts_with(&inside));
        let instances = self.run.instances();
        let keys = tasks.flat_map(|(task, _)| instances.keys(task));
        let keys: Vec<_> = keys.filter(|key| index.is_none_or(|index| key.map_index == index)).collect();
        Some(keys).filter(|keys| !keys.is_empty())
    }

    /// That several are meant by this: the members of a group, or instances of one task.
    fn which(&self, task: &str, keys: &[Key]) -> String {
        let mut members: Vec<_> = keys.iter().map(|&key| format!("`{}`", self.node(key).task_id)).collect();
        members.dedup();
        match members.as_slice() {
            [_] => format!("task `{task}` has {} instances: say which, such as `{task}[0]`", keys.len()),
            members => format!("`{task}` is a group of {}: say which", members.join(", ")),
        }
    }

    fn no_task(&self, task: &str) -> Refusal {
        let (name, index) = InstanceName::read(task);
        if let (Some(_), Some(keys)) = (index, self.keys_named(name)) {
            let (run_id, many) = (&self.record.run_id, keys.len());
            let has = match keys.iter().any(|key| key.map_index >= 0) {
                true => format!("{many} instances of it, from 0 to {}", many.saturating_sub(1)),
                false => "one instance of it, without an index".to_owned(),
            };
            return Refusal::Nothing(format!("there is no `{task}` in run `{run_id}`, which has {has}"));
        }
        let known = self.definition.dag.tasks.iter().map(|node| node.task_id);
        Refusal::NoTask {
            run_id: self.record.run_id.clone(),
            task: task.to_owned(),
            meant: did_you_mean(InstanceName::read(task).0, known),
        }
    }
}
