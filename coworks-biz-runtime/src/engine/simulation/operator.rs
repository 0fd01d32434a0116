//! Whoever asks the engine for something, at any time and for anything.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::drive::Simulation;
use super::ledger::Ledger;
use super::plan::Program;
use super::world::World;
use crate::config::Durability;
use crate::engine::core::Phase;
use crate::engine::message::Message;
use crate::engine::{Answer, EngineError, Order, Reprocess, RunHandle, RunName, Trigger};
use crate::run::Mark;
use crate::store::RunRecord;
use crate::value::Object;

/// What was asked for, and where its answer comes: triggers in both ways, with their keys, and all else with the runs
/// that it may change.
pub(super) enum Asked {
    Trigger(Option<String>, oneshot::Receiver<Result<RunHandle, EngineError>>),
    Order(BTreeSet<i64>, Option<String>, oneshot::Receiver<Result<Answer, EngineError>>),
}

/// Something to ask for. The runs that it may change are named.
fn order(world: &mut World, ledger: &Ledger, program: &Program, now: DateTime<Utc>) -> (Message, Asked) {
    let random = &mut world.random;
    let place = random.below(program.definitions.len() as u64) as usize;
    let definition = program.definitions[place];
    let dag_id = definition.dag.dag_id.to_owned();
    let all: Vec<&RunRecord> = ledger.runs.values().collect();
    let run = random.pick(&all).copied();
    let what = random.below(100);
    let order = match (what, run) {
        (40..=49, Some(run)) => Order::Cancel { run: name(run) },
        (50..=66, Some(run)) => {
            let some = random.chance(60);
            let from = if some { vec![instance(world, ledger, run)] } else { Vec::new() };
            Order::Retry { run: name(run), from: from.into_iter().flatten().collect() }
        }
        (67..=79, Some(run)) => {
            let state = if random.chance(60) { Mark::Success } else { Mark::Failed };
            match instance(world, ledger, run) {
                Some(task) => Order::Mark { run: name(run), task, state },
                None => Order::Cancel { run: name(run) },
            }
        }
        (80..=86, _) => Order::Pause { dag_id, paused: random.chance(40) },
        (87..=91, _) if definition.dag.schedule.is_some() => Order::Backfill {
            dag_id,
            from: now - TimeDelta::minutes(30 + random.below(200) as i64),
            to: now - TimeDelta::minutes(random.below(30) as i64),
            reprocess: match random.below(3) {
                0 => Reprocess::None,
                1 => Reprocess::Failed,
                _ => Reprocess::All,
            },
            max_active_runs: 1 + random.below(3) as u32,
            conf: None,
            dry_run: random.chance(10),
        },
        (92..=93, _) => Order::CancelBackfill { dag_id },
        (94..=97, _) => {
            let keys: Vec<&String> = world.objects.keys().collect();
            let key = random.pick(&keys).map_or("nothing", |key| key.as_str()).to_owned();
            Order::Hint(Object { bucket: super::attempts::BUCKET.to_owned(), key })
        }
        (98..=99, _) => Order::Status,
        _ => {
            let key = random.chance(30).then(|| format!("key{}", random.below(3)));
            // A moment of a tick, or of another one.
            let date = random.chance(20).then(|| now - TimeDelta::minutes(random.below(60) as i64));
            // By another process, or by this one.
            if random.chance(50) {
                let order =
                    Order::Trigger { dag_id, conf: None, logical_date: date, idempotency_key: key.clone() };
                let (reply, answer) = oneshot::channel();
                return (Message::Order { order, reply }, Asked::Order(BTreeSet::new(), key, answer));
            }
            let (reply, answer) = oneshot::channel();
            let trigger = Trigger { conf: None, logical_date: date, idempotency_key: key.clone() };
            return (Message::Trigger { definition, trigger, reply }, Asked::Trigger(key, answer));
        }
    };
    let of_dag = |dag_id: &str| {
        ledger.runs.values().filter(|run| run.dag_id == dag_id).map(|run| run.number).collect()
    };
    let touched = match &order {
        Order::Cancel { .. } | Order::Retry { .. } | Order::Mark { .. } => {
            run.into_iter().map(|run| run.number).collect()
        }
        Order::Backfill { dag_id, .. } | Order::CancelBackfill { dag_id } => of_dag(dag_id),
        _ => BTreeSet::new(),
    };
    let (reply, answer) = oneshot::channel();
    (Message::Order { order, reply }, Asked::Order(touched, None, answer))
}

pub(super) fn name(run: &RunRecord) -> RunName {
    RunName { dag_id: Some(run.dag_id.clone()), run_id: run.run_id.clone() }
}

/// The name of a task instance of a run.
fn instance(world: &mut World, ledger: &Ledger, run: &RunRecord) -> Option<String> {
    let rows = ledger.tasks.range((run.number, String::new(), i32::MIN)..);
    let rows: Vec<_> = rows.take_while(|((of, ..), _)| *of == run.number).map(|(name, _)| name).collect();
    let (_, task, map_index) = world.random.pick(&rows)?;
    match map_index {
        index @ 0.. if world.random.chance(80) => Some(format!("{task}[{index}]")),
        _ => Some(task.clone()),
    }
}

impl Simulation {
    /// Answers that have come, and ends of runs that somebody waits for.
    pub(super) fn hear_answers(&mut self, dying: bool, behind: Option<Phase>) -> Result<(), String> {
        self.hear_of_ends()?;
        for asked in std::mem::take(&mut self.asked) {
            match asked {
                Asked::Trigger(key, mut answer) => match answer.try_recv() {
                    Ok(Ok(handle)) => {
                        self.answers(behind, "a trigger")?;
                        let run = &handle.run;
                        let name = (run.number, run.uuid.clone(), run.dag_id.to_owned());
                        self.acknowledges(name, key)?;
                        self.handles.insert(handle.run.number, handle);
                    }
                    Ok(Err(error)) => {
                        self.answers(behind, "the refusal of a trigger")?;
                        refused(error)?;
                    }
                    Err(TryRecvError::Empty) => self.asked.push(Asked::Trigger(key, answer)),
                    Err(TryRecvError::Closed) if dying => {}
                    Err(TryRecvError::Closed) => return Err("a trigger was never answered".to_owned()),
                },
                Asked::Order(touched, key, mut answer) => match answer.try_recv() {
                    Ok(Ok(Answer::Status { .. })) => {}
                    Ok(Ok(answer)) => {
                        self.say(|_| format!("answers {answer:?}"));
                        self.answers(behind, "an order")?;
                        if let Answer::Run { dag_id, run_id, .. } = answer {
                            let mut runs = self.ledger.runs.values();
                            let row = runs.find(|row| row.dag_id == dag_id && row.run_id == run_id);
                            let Some(row) = row else {
                                return Err(format!("{run_id} is told of, and is not there"));
                            };
                            // Of the others nobody has said that they stay.
                            if touched.is_empty() {
                                let name = (row.number, row.uuid.clone(), dag_id);
                                self.see("a trigger of another process");
                                self.acknowledges(name, key)?;
                            }
                        }
                    }
                    Ok(Err(error)) => {
                        self.say(|_| format!("refuses: {error}"));
                        self.answers(behind, "a refusal")?;
                        refused(error)?;
                    }
                    Err(TryRecvError::Empty) => self.asked.push(Asked::Order(touched, key, answer)),
                    Err(TryRecvError::Closed) if dying => {}
                    Err(TryRecvError::Closed) => return Err("an order was never answered".to_owned()),
                },
            }
        }
        Ok(())
    }

    /// Who is told of an end finds it recorded; and on the disk, but where the durability is `relaxed`.
    fn hear_of_ends(&mut self) -> Result<(), String> {
        let mut told = Vec::new();
        self.handles.retain(|&number, handle| {
            let state = *handle.ended.borrow();
            told.extend(state.map(|state| (number, state)));
            state.is_none()
        });
        for (number, state) in told {
            self.see("an end is told");
            let row = self.ledger.runs.get(&number).map(|run| run.state);
            if row != Some(state) {
                return Err(format!("run {number} is said to be {state}, and its row says {row:?}"));
            }
            if self.machine.durability() != Durability::Relaxed {
                if self.unsynced.ended.contains(&number) {
                    return Err(format!("run {number} is said to be {state}, which is not on the disk"));
                }
                self.told.insert(number, self.ledger.ends[&number]);
            }
        }
        Ok(())
    }

    /// Somebody was answered: behind the commit of what that tells, and where orders are synced, behind that.
    fn answers(&self, behind: Option<Phase>, what: &str) -> Result<(), String> {
        if behind != Some(Phase::Release) {
            return Err(format!("{what} is answered behind {behind:?}, and nothing was committed for it"));
        }
        if self.machine.durability() != Durability::Relaxed && self.unsynced.orders {
            return Err(format!("{what} is answered, and an order is not on the disk"));
        }
        Ok(())
    }

    /// A trigger was answered with this run.
    fn acknowledges(
        &mut self,
        (number, uuid, dag_id): (i64, String, String),
        key: Option<String>,
    ) -> Result<(), String> {
        let row = self.ledger.runs.get(&number);
        if row.is_none_or(|row| row.uuid != uuid) {
            return Err(format!("run {number} was acknowledged, and is not there"));
        }
        if self.unsynced.made.contains(&number) {
            return Err(format!("run {number} was acknowledged, and is not on the disk"));
        }
        if let Some(key) = key {
            let first = *self.keys.entry((dag_id, key)).or_insert(number);
            if self.acknowledged.contains_key(&number) {
                self.see("a trigger with a key is repeated");
            }
            if first != number {
                return Err(format!("the key of run {first} gave run {number}"));
            }
        }
        self.acknowledged.insert(number, uuid);
        Ok(())
    }

    pub(super) fn order_something(&mut self) {
        let now = self.now();
        let (message, asked) = order(&mut self.world, &self.ledger, self.program, now);
        self.see("an order");
        self.say(|_| match &message {
            Message::Order { order, .. } => format!("asks: {order:?}"),
            Message::Trigger { definition, trigger, .. } => {
                format!("asks: {} {trigger:?}", definition.dag.dag_id)
            }
            _ => String::new(),
        });
        self.asked.push(asked);
        self.post(message);
    }

    pub(super) fn ask(&mut self, order: Order) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.post(Message::Order { order, reply });
        self.asked.push(Asked::Order(BTreeSet::new(), None, answer));
    }

    pub(super) fn asked_of(&mut self, run: i64) {
        if let Some(Asked::Order(touched, ..)) = self.asked.last_mut() {
            touched.insert(run);
        }
    }
}

/// A refusal is an answer; anything else is not.
fn refused(error: EngineError) -> Result<(), String> {
    match error {
        EngineError::Refused(_) => Ok(()),
        error => Err(format!("an order fails: {error}")),
    }
}
