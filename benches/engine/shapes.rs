//! The shapes of work that are measured, and how it is done; here of functions that do nothing but log a line.

use coworks_biz::__runtime::dag::{Dag, Gate, Kind, Task};
use coworks_biz::__runtime::run::RunState;
use coworks_biz::__runtime::task::{Body, Context, Definition, Items, Work, finish, items};
use coworks_biz::engine::{Engine, Trigger};
use coworks_biz::prelude::info;
use coworks_biz::{Error, Result};
use futures_util::future::join_all;

/// Does so many runs at once, until the last has ended.
pub async fn work(engine: &Engine, definition: &'static Definition, runs: usize) {
    let triggers = (0..runs).map(|_| engine.trigger(definition, Trigger::default()));
    for handle in join_all(triggers).await {
        let state = handle.expect("a run").ended().await.expect("its end");
        assert_eq!(state, RunState::Success);
    }
}

fn step(context: &Context) -> Result<Work> {
    let index = context.try_number;
    Ok(finish(async move {
        info!("try {index}");
        Ok::<_, Error>(index)
    }))
}

/// 1 > 998 > 1.
pub fn fan() -> &'static Definition {
    definition("fan", fanned(), logs, |_| Body::Function(step))
}

/// Each task waits for the one before.
pub fn chain(dag_id: &'static str, length: u32) -> &'static Definition {
    definition(dag_id, chained(length), logs, |_| Body::Function(step))
}

/// What such a function is.
fn logs(_: &'static [u32]) -> Task {
    Task { output: "u32", ..Task::FUNCTION }
}

/// The upstreams of 1 > 998 > 1.
pub fn fanned() -> Vec<Vec<u32>> {
    let middle = (1..999).map(|_| vec![0]);
    std::iter::once(vec![]).chain(middle).chain([(1..999).collect()]).collect()
}

/// The upstreams of tasks each of which waits for the one before.
pub fn chained(length: u32) -> Vec<Vec<u32>> {
    (0..length).map(|task| task.checked_sub(1).into_iter().collect()).collect()
}

/// What `#[biz]` makes of such a plan: `upstream` gives the upstreams of each task, `task` what it is beside that, and
/// `body` what it runs.
pub fn definition(
    dag_id: &'static str,
    upstream: Vec<Vec<u32>>,
    task: impl Fn(&'static [u32]) -> Task,
    body: impl Fn(&Task) -> Body,
) -> &'static Definition {
    let mut downstream = vec![vec![]; upstream.len()];
    for (task, above) in upstream.iter().enumerate() {
        for &above in above {
            downstream[above as usize].push(task as u32);
        }
    }
    let order: Vec<u32> = (0..upstream.len() as u32).collect();
    let tasks = upstream.into_iter().zip(downstream).enumerate().map(|(index, (up, down))| {
        let up: &'static [u32] = up.leak();
        let task_id = format!("task_{index}").leak();
        Task { task_id, upstream: up, downstream: down.leak(), ..task(up) }
    });
    let dag = Dag { dag_id, tasks: tasks.collect::<Vec<_>>().leak(), order: order.leak(), ..Dag::EMPTY };
    let bodies: Vec<Body> = dag.tasks.iter().map(body).collect();
    Box::leak(Box::new(Definition {
        dag: Box::leak(Box::new(dag)),
        bodies: bodies.leak(),
        ..Definition::EMPTY
    }))
}

/// One task for each of a thousand items, and one that takes all their outputs.
pub fn some() -> &'static Definition {
    mapped("some", |_| items(0..1_000))
}

/// The same for ten thousand.
pub fn many() -> &'static Definition {
    mapped("many", |_| items(0..10_000))
}

fn mapped(dag_id: &'static str, items: fn(&Context) -> Result<Items>) -> &'static Definition {
    fn all(context: &Context) -> Result<Work> {
        let all: Vec<u32> = context.input(0)?;
        Ok(finish(async move { Ok::<_, Error>(all.len()) }))
    }
    let tasks = [
        Task { task_id: "list", kind: Kind::Map { members: &[1] }, ..Task::FUNCTION },
        Task {
            task_id: "each",
            downstream: &[2],
            gate: Some(Gate { task: 0, arm: 0 }),
            map: Some(0),
            ..Task::FUNCTION
        },
        Task { task_id: "all", upstream: &[1], inputs: &[1], ..Task::FUNCTION },
    ];
    let dag = Box::new(Dag { dag_id, tasks: Vec::leak(tasks.into()), order: &[0, 1, 2], ..Dag::EMPTY });
    let bodies = Vec::leak(vec![Body::Map(items), Body::Function(step), Body::Function(all)]);
    Box::leak(Box::new(Definition { dag: Box::leak(dag), bodies, ..Definition::EMPTY }))
}
