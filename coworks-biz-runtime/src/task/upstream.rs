//! What a task instance sees of another task of its run.

use std::sync::Arc;

use super::attempt::Attempt;
use super::{DagRun, Host, output as outputs};
use crate::dag::{Dag, Kind};
use crate::error::Result;
use crate::run::Key;
use crate::value::{Json, RETURN_VALUE, Type};

/// Where that is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At one map index.
    At(i32),
    /// At every map index of the loop over this list.
    All(u32),
}

/// Where `from` finds what `task` has pushed under `key`.
fn place(dag: &Dag, from: Key, task: u32, key: &str) -> Place {
    let map = dag.tasks[from.task as usize].map;
    let other = &dag.tasks[task as usize];
    match other.kind {
        // The items of a list are its outputs.
        Kind::Map { .. } if key == RETURN_VALUE && map == Some(task) => Place::At(from.map_index),
        Kind::Map { .. } if key == RETURN_VALUE => Place::All(task),
        _ => match other.map {
            None => Place::At(-1),
            same if same == map => Place::At(from.map_index),
            Some(list) => Place::All(list),
        },
    }
}

/// What `task` has pushed under `key`, as `from` sees it: that of its own item in a common loop;
/// a list of all of them where `task` is in another one, with `null` where nothing was pushed.
pub(super) async fn xcom(
    host: &dyn Host,
    dag: &Dag,
    run: &DagRun,
    from: Key,
    task: u32,
    key: &str,
) -> Result<Option<Json>> {
    let id = |task: u32| dag.tasks[task as usize].task_id;
    match place(dag, from, task, key) {
        Place::At(map_index) => host.xcom(run, id(task), map_index, key).await,
        Place::All(list) => Ok(Some(array(&host.mapped_xcoms(run, id(list), id(task), key).await?))),
    }
}

/// The output of `task`, as `from` sees it; with `reply`, put together from what a call has pushed.
pub(super) async fn output(
    host: &dyn Host,
    dag: &Dag,
    run: &DagRun,
    from: Key,
    task: u32,
    reply: bool,
) -> Result<Option<Json>> {
    if !reply {
        return xcom(host, dag, run, from, task, RETURN_VALUE).await;
    }
    let id = |task: u32| dag.tasks[task as usize].task_id;
    match place(dag, from, task, RETURN_VALUE) {
        Place::At(map_index) => outputs::reply(host, run, id(task), map_index).await,
        Place::All(list) => Ok(Some(array(&outputs::replies(host, run, id(list), id(task)).await?))),
    }
}

/// The output of an upstream, fetched before the function is called.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) task_id: &'static str,
    pub(super) value: Option<Json>,
}

/// The inputs of a task of the attempt's run: of its own, or of the one for which it calls.
pub(super) async fn inputs(host: &Arc<dyn Host>, attempt: &Attempt, task: u32) -> Result<Arc<[Input]>> {
    let (dag, bodies, run) = (attempt.definition.dag, attempt.definition.bodies, &attempt.run);
    let from = Key { task, ..attempt.key() };
    let mut inputs = Vec::with_capacity(dag.tasks[task as usize].inputs.len());
    for &input in dag.tasks[task as usize].inputs {
        let above = &dag.tasks[input as usize];
        let value = match above.kind {
            // What the arms take of a branch are the variables of its patterns.
            Kind::Branch { .. } => xcom(&**host, dag, run, from, input, "bindings").await?,
            _ => {
                let reply = bodies[input as usize].answer().is_some_and(Type::is_reply);
                output(&**host, dag, run, from, input, reply).await?
            }
        };
        inputs.push(Input { task_id: above.task_id, value });
    }
    Ok(inputs.into())
}

fn array(values: &[Option<Json>]) -> Json {
    let mut text = String::from("[");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(value.as_ref().map_or("null", Json::as_str));
    }
    text.push(']');
    Json::from_stored(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::{Gate, Task};

    #[test]
    fn in_one_loop_it_is_that_of_the_item_and_elsewhere_all_of_them() {
        let list = |members| Task { kind: Kind::Map { members }, ..Task::FUNCTION };
        let each = |list| Task { gate: Some(Gate { task: list, arm: 0 }), map: Some(list), ..Task::FUNCTION };
        let tasks = [list(&[1, 2]), each(0), each(0), list(&[4]), each(3), Task::FUNCTION];
        let dag = Dag { tasks: Vec::leak(tasks.into()), ..Dag::EMPTY };
        let place = |from, map_index, task| place(&dag, Key { task: from, map_index }, task, RETURN_VALUE);
        assert_eq!(place(2, 7, 1), Place::At(7));
        assert_eq!(place(2, 7, 0), Place::At(7));
        assert_eq!(place(2, 7, 5), Place::At(-1));
        assert_eq!(place(4, 7, 1), Place::All(0));
        assert_eq!(place(5, -1, 1), Place::All(0));
        assert_eq!(place(5, -1, 0), Place::All(0));
        assert_eq!(place(5, -1, 5), Place::At(-1));
    }

    #[test]
    fn what_is_missing_in_a_list_is_null() {
        let one = Json::encode(&1).unwrap();
        assert_eq!(array(&[Some(one), None]).as_str(), "[1,null]");
        assert_eq!(array(&[]).as_str(), "[]");
    }
}
