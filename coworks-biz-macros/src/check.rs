//! The graph as a whole: an order of its tasks, or the cycles that leave it none.

use crate::errors::Errors;
use crate::model::Model;

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
    }
    order
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
