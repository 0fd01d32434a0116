//! Trigger rules and gates once more, and only as the guide tells them: what has to be so where a task
//! starts, and where it ends without having run.

use std::time::Duration;

use chrono::TimeDelta;

use super::ledger::{Held, Ledger, Name, must};
use crate::dag::{Dag, Kind, Options, Role, TriggerRule};
use crate::run::{Key, RunState, State};
use crate::store::{RunRecord, TaskRecord};

/// The rows of one run.
struct Rows<'a> {
    ledger: &'a Ledger,
    dag: &'static Dag,
    run: i64,
}

impl Rows<'_> {
    fn get(&self, key: Key) -> Option<&TaskRecord> {
        let name = (self.run, self.dag.tasks[key.task as usize].task_id.to_owned(), key.map_index);
        self.ledger.tasks.get(&name)
    }

    fn state(&self, key: Key) -> Option<State> {
        self.get(key)?.state
    }

    /// All instances of a task, as far as it is known which there are.
    fn all(&self, task: u32) -> Vec<Key> {
        let list = self.dag.tasks[task as usize].map.and_then(|list| self.get(Key::plain(list)));
        let items = list.filter(|list| list.state == Some(State::Success)).and_then(|list| list.outcome);
        match items {
            Some(items @ 1..) => (0..items as i32).map(|map_index| Key { task, map_index }).collect(),
            _ => vec![Key::plain(task)],
        }
    }

    fn above(&self, key: Key) -> Vec<Option<State>> {
        let node = &self.dag.tasks[key.task as usize];
        let of = |&above: &u32| match self.dag.tasks[above as usize].map == node.map {
            true => vec![key.beside(above)],
            false => self.all(above),
        };
        node.upstream.iter().flat_map(of).map(|above| self.state(above)).collect()
    }

    /// How the gate has ended that does not let it in; `None` where it does, or there is none.
    fn gate(&self, key: Key) -> Option<Option<State>> {
        let gate = self.dag.tasks[key.task as usize].gate?;
        let by = match self.dag.tasks[gate.task as usize].kind {
            Kind::Map { .. } => Key::plain(gate.task),
            _ => key.beside(gate.task),
        };
        (!self.is_let_in(key)).then(|| self.state(by))
    }

    /// Whether its gate lets it run.
    fn is_let_in(&self, key: Key) -> bool {
        let Some(gate) = self.dag.tasks[key.task as usize].gate else { return true };
        let by = match self.dag.tasks[gate.task as usize].kind {
            Kind::Map { .. } => Key::plain(gate.task),
            _ => key.beside(gate.task),
        };
        let Some(by) = self.get(by).filter(|by| by.state == Some(State::Success)) else { return false };
        match self.dag.tasks[gate.task as usize].kind {
            Kind::Map { .. } => {
                by.outcome.is_some_and(|items| key.map_index >= 0 && items > key.map_index as u32)
            }
            _ => by.outcome == Some(gate.arm),
        }
    }
}

/// Whether a rule lets a task run where its upstreams stand so.
fn lets_run(rule: TriggerRule, role: Role, above: &[Option<State>]) -> bool {
    use State::{Failed, Skipped, Success, UpstreamFailed};
    let all_done = above.iter().all(|state| state.is_some_and(State::is_final));
    let any = |of: &[State]| above.iter().flatten().any(|state| of.contains(state));
    let all = |of: &[State]| above.iter().all(|state| state.is_some_and(|state| of.contains(&state)));
    if above.is_empty() {
        return true;
    }
    match rule {
        TriggerRule::AllSuccess if role == Role::Teardown => all_done,
        TriggerRule::AllSuccess => all(&[Success]),
        TriggerRule::AllFailed => all(&[Failed, UpstreamFailed]),
        // Whether one of them is a setup is looked at by tests of `run`.
        TriggerRule::AllDone | TriggerRule::AllDoneSetupSuccess => all_done,
        TriggerRule::AllDoneMinOneSuccess => all_done && any(&[Success]) && !any(&[Skipped]),
        TriggerRule::AllSkipped => all(&[Skipped]),
        TriggerRule::OneSuccess => any(&[Success]),
        TriggerRule::OneFailed => any(&[Failed, UpstreamFailed]),
        TriggerRule::OneDone => any(&[Success, Failed]),
        TriggerRule::NoneFailed => all(&[Success, Skipped]),
        TriggerRule::NoneFailedMinOneSuccess => all(&[Success, Skipped]) && any(&[Success]),
        TriggerRule::NoneSkipped => all_done && !any(&[Skipped]),
        TriggerRule::Always => true,
    }
}

/// How a task may end that its rule does not let run, where its upstreams have all ended.
fn left_out(rule: TriggerRule, above: &[Option<State>]) -> Vec<State> {
    use State::{Failed, Skipped, Success, UpstreamFailed};
    let any = |of: &[State]| above.iter().flatten().any(|state| of.contains(state));
    let all = |of: &[State]| above.iter().flatten().all(|state| of.contains(state));
    let (failed, skipped) = (any(&[Failed, UpstreamFailed]), any(&[Skipped]));
    let mut ends = Vec::new();
    match rule {
        // Whichever is known first.
        TriggerRule::AllSuccess => {
            ends.extend(failed.then_some(UpstreamFailed));
            ends.extend(skipped.then_some(Skipped));
        }
        TriggerRule::NoneFailed => ends.extend(failed.then_some(UpstreamFailed)),
        TriggerRule::NoneFailedMinOneSuccess => {
            ends.extend(failed.then_some(UpstreamFailed));
            ends.extend(all(&[Skipped]).then_some(Skipped));
        }
        TriggerRule::OneSuccess if all(&[Skipped]) => ends.push(Skipped),
        TriggerRule::OneSuccess => ends.push(UpstreamFailed),
        TriggerRule::AllDoneMinOneSuccess => {
            ends.extend(skipped.then_some(Skipped));
            ends.extend((!skipped && !any(&[Success])).then_some(UpstreamFailed));
        }
        TriggerRule::AllFailed
        | TriggerRule::AllSkipped
        | TriggerRule::OneFailed
        | TriggerRule::OneDone
        | TriggerRule::NoneSkipped => ends.push(Skipped),
        TriggerRule::AllDone | TriggerRule::AllDoneSetupSuccess | TriggerRule::Always => {}
    }
    ends
}

/// Whether a task is tried again after so long: as its attempt has asked, or as it says itself.
pub(super) fn delay_holds(options: &Options, tries: u32, asked: Option<Duration>, delay: TimeDelta) -> bool {
    let seconds = |duration: Duration| duration.as_secs() as i64;
    if let Some(asked) = asked {
        return delay == TimeDelta::seconds(seconds(asked));
    }
    let own = seconds(options.retry_delay);
    if !options.retry_exponential_backoff {
        return delay == TimeDelta::seconds(own);
    }
    // Twice as long each time, and up to as much again.
    let least = (own << (tries - 1)).max(1);
    let most = options.max_retry_delay.map_or(i64::MAX, seconds);
    let (least, longest) = (least.min(most), (2 * least - 1).min(most));
    delay.subsec_nanos() == 0 && (least..=longest).contains(&delay.num_seconds())
}

/// What has to be so where a task starts for the first time.
pub(super) fn start_holds(ledger: &Ledger, dag: &'static Dag, run: &RunRecord, key: Key) -> Held {
    let rows = Rows { ledger, dag, run: run.number };
    let node = &dag.tasks[key.task as usize];
    must!(rows.is_let_in(key), "{key:?} starts, and its gate does not let it in");
    let above = rows.above(key);
    let rule = node.options.trigger_rule;
    must!(lets_run(rule, node.role, &above), "{key:?} starts under {rule:?} with {above:?} above it");
    if dag.depends_on_past || node.options.wait_for_downstream {
        let befores = ledger.before(dag, run);
        // What was cleared there since does not take back what it has allowed.
        let allows = |before: &Option<&RunRecord>| {
            before.is_none_or(|before| {
                ledger.meddled.contains(&before.number) || past_allows(ledger, dag, before.number, key.task)
            })
        };
        must!(
            befores.iter().any(allows),
            "{key:?} starts before its past: {:?}",
            befores.map(|run| run.map(|run| run.number))
        );
    }
    Ok(())
}

/// The task instances of a run that may start.
pub(super) fn ready(ledger: &Ledger, dag: &'static Dag, run: &RunRecord) -> Vec<Name> {
    let rows = Rows { ledger, dag, run: run.number };
    let all = (0..dag.tasks.len() as u32).flat_map(|task| rows.all(task));
    let all = all.filter(|&key| rows.state(key).is_none_or(|state| state == State::Queued));
    let ready = all.filter(|&key| start_holds(ledger, dag, run, key).is_ok());
    ready.map(|key| (run.number, dag.tasks[key.task as usize].task_id.to_owned(), key.map_index)).collect()
}

/// Whether a task has ended well in the run before, and what is directly behind it where that counts.
pub(super) fn past_allows(ledger: &Ledger, dag: &'static Dag, before: i64, task: u32) -> bool {
    let past = Rows { ledger, dag, run: before };
    let well = |task: u32| {
        let all = past.all(task);
        all.into_iter().all(|key| matches!(past.state(key), Some(State::Success | State::Skipped)))
    };
    let node = &dag.tasks[task as usize];
    let mut behind = node.downstream.iter().copied().chain(dag.members(task));
    well(task) && (!node.options.wait_for_downstream || behind.all(well))
}

/// What has to be so where a run ends in which nobody has meddled.
pub(super) fn end_holds(ledger: &Ledger, dag: &'static Dag, run: &RunRecord) -> Held {
    let rows = Rows { ledger, dag, run: run.number };
    let all = (0..dag.tasks.len() as u32).flat_map(|task| rows.all(task));
    let has_roles = dag.tasks.iter().any(|task| task.role != Role::Work);
    for key in all {
        let node = &dag.tasks[key.task as usize];
        let Some(row) = rows.get(key) else {
            return Err(format!("{key:?} has no end in run {}", run.number));
        };
        if row.try_number == 0 {
            let state = row.state.unwrap_or(State::Removed);
            let is_left_out = matches!(state, State::Skipped | State::UpstreamFailed);
            must!(is_left_out, "{key:?} is {state}, and has never run");
            // What a setup or a teardown means for others is looked at by tests of `run`.
            if has_roles {
                continue;
            }
            let (above, rule) = (rows.above(key), node.options.trigger_rule);
            let mut ends = match rows.gate(key) {
                None => Vec::new(),
                Some(Some(State::Failed | State::UpstreamFailed)) => vec![State::UpstreamFailed],
                Some(_) => vec![State::Skipped],
            };
            if lets_run(rule, node.role, &above) {
                must!(!ends.is_empty(), "{key:?} should have run under {rule:?} with {above:?} above it");
            } else {
                ends.extend(left_out(rule, &above));
            }
            must!(ends.contains(&state), "{key:?} is {state} under {rule:?} with {above:?} above it");
        }
    }
    let waits = |task: u32| dag.tasks[task as usize].downstream.iter().copied().chain(dag.members(task));
    let teardown = |task: u32| dag.tasks[task as usize].role == Role::Teardown;
    let tasks = 0..dag.tasks.len() as u32;
    let mut leaves: Vec<u32> =
        tasks.clone().filter(|&task| !teardown(task) && waits(task).all(teardown)).collect();
    if leaves.is_empty() {
        leaves = tasks.filter(|&task| dag.tasks[task as usize].downstream.is_empty()).collect();
    }
    let failed = leaves
        .iter()
        .flat_map(|&leaf| rows.all(leaf))
        .any(|key| matches!(rows.state(key), Some(State::Failed | State::UpstreamFailed)));
    let state = if failed { RunState::Failed } else { RunState::Success };
    must!(run.state == state, "run {} is {}, and should be {state}", run.number, run.state);
    Ok(())
}
