//! The graph as a whole: an order of its tasks, or what leaves it none; and what could never run.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::errors::Errors;
use crate::model::{Kind, Model};
use crate::parse::written;

/// The indexes of all tasks, each after its upstreams. Where there are cycles, each is an error.
pub fn order(model: &Model, errors: &mut Errors) -> Vec<usize> {
    let mut downstream = vec![vec![]; model.tasks.len()];
    let mut missing = vec![0usize; model.tasks.len()];
    for (index, edge) in model.edges.iter().enumerate() {
        downstream[edge.from].push((edge.to, index));
        missing[edge.to] += 1;
    }
    let mut order: Vec<_> = (0..model.tasks.len()).filter(|&task| missing[task] == 0).collect();
    let mut next = 0;
    while let Some(&task) = order.get(next) {
        next += 1;
        for &(below, _) in &downstream[task] {
            missing[below] -= 1;
            if missing[below] == 0 {
                order.push(below);
            }
        }
    }
    if order.len() < model.tasks.len() {
        cycles(model, &downstream, &missing, errors);
    } else {
        exclusive(model, &order, errors);
    }
    order
}

/// Which arms have to be chosen for a task to run, by their branches.
type Needs = Rc<BTreeMap<usize, usize>>;

/// Reports the tasks that wait for two arms of one branch, of which only one runs.
fn exclusive(model: &Model, order: &[usize], errors: &mut Errors) {
    let mut upstream = vec![vec![]; model.tasks.len()];
    for (index, edge) in model.edges.iter().enumerate() {
        upstream[edge.to].push(index);
    }
    let mut needs: Vec<Needs> = vec![Needs::default(); model.tasks.len()];
    for &task in order {
        let node = &model.tasks[task];
        let mut own = match node.gate {
            Some(gate) => Needs::clone(&needs[gate.task]),
            None => Needs::default(),
        };
        if let Some(gate) = node.gate
            && matches!(model.tasks[gate.task].kind, Kind::Branch { .. })
        {
            Rc::make_mut(&mut own).insert(gate.task, gate.arm);
        }
        let rule = model.rule(task);
        // Under these rules a skipped upstream skips the task.
        if !["AllSuccess", "NoneSkipped", "AllDoneMinOneSuccess"].contains(&rule) {
            needs[task] = own;
            continue;
        }
        for &edge in &upstream[task] {
            let edge = &model.edges[edge];
            let above = &needs[edge.from];
            if edge.gate || above.is_empty() || Rc::ptr_eq(above, &own) {
                continue;
            }
            let conflict = above.iter().find(|(branch, arm)| own.get(branch).is_some_and(|own| own != *arm));
            if let Some((&branch, _)) = conflict {
                let shown = shown(model, branch);
                if node.gate.is_some() && inside(model, task, branch) {
                    let (id, from) = (&node.id, &model.tasks[edge.from].id);
                    errors.under(edge.span, format!(
                        "`{id}` is in one arm of `{shown}` and waits for `{from}`, which is in another: only one of them runs"
                    ));
                    own = Needs::default();
                    break;
                }
                errors.under(edge.span, format!(
                    "`{}` waits for two arms of `{shown}`, and only one of them runs: it would always be skipped; \
                     give it `trigger_rule = none_failed_min_one_success`",
                    node.id
                ));
                own = Needs::default();
                break;
            }
            if above.iter().any(|(branch, _)| !own.contains_key(branch)) {
                Rc::make_mut(&mut own).extend(above.iter().map(|(branch, arm)| (*branch, *arm)));
            }
        }
        needs[task] = own;
    }
}

/// Whether a task is in an arm of a branch, however deep.
fn inside(model: &Model, task: usize, branch: usize) -> bool {
    let gates = std::iter::successors(model.tasks[task].gate, |gate| model.tasks[gate.task].gate);
    gates.into_iter().any(|gate| gate.task == branch)
}

/// A branch as it is written: `match invoice`.
fn shown(model: &Model, branch: usize) -> String {
    match &model.tasks[branch].kind {
        Kind::Branch { branch, .. } => match &branch.scrutinee {
            Some(scrutinee) => format!("match {}", written::tokens(scrutinee)),
            None => format!("if {}", branch.arms.first().map(|arm| arm.label.as_str()).unwrap_or_default()),
        },
        _ => model.tasks[branch].id.clone(),
    }
}
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    /// On the way from the root to where the search is.
    Open,
    Done,
}

/// Reports a cycle at each edge that leads back to a task the search came
/// through. `missing` tells the tasks that are in a cycle or below one.
fn cycles(model: &Model, downstream: &[Vec<(usize, usize)>], missing: &[usize], errors: &mut Errors) {
    let mut marks = vec![Mark::New; downstream.len()];
    for root in (0..downstream.len()).filter(|&task| missing[task] > 0) {
        if marks[root] != Mark::New {
            continue;
        }
        // A list, not recursion: a body may have thousands of tasks.
        let mut path = vec![(root, 0)];
        marks[root] = Mark::Open;
        while let Some((task, next)) = path.last_mut() {
            let Some(&(below, edge)) = downstream[*task].get(*next) else {
                marks[*task] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match marks[below] {
                Mark::New => {
                    marks[below] = Mark::Open;
                    path.push((below, 0));
                }
                Mark::Open => report(model, &path, below, edge, downstream, errors),
                Mark::Done => {}
            }
        }
    }
}

fn report(
    model: &Model,
    path: &[(usize, usize)],
    back_to: usize,
    back: usize,
    downstream: &[Vec<(usize, usize)>],
    errors: &mut Errors,
) {
    let start = path.iter().position(|(task, _)| *task == back_to).unwrap_or_default();
    let cycle = &path[start..];
    // Each entry of the path has moved past the edge it went along.
    let along = cycle.iter().map(|&(task, next)| downstream[task][next - 1].1);
    // The edge that was written last is the one that closes the cycle.
    let closing = along.chain([back]).max().unwrap_or(back);
    let names = cycle.iter().map(|&(task, _)| model.tasks[task].id.as_str());
    let names: Vec<_> = names.chain([model.tasks[back_to].id.as_str()]).collect();
    errors.under(model.edges[closing].span, format!("this closes a cycle: {}", names.join(" >> ")));
}
