//! A run in flight and a program whose DAG has changed since: it goes on where nothing that has
//! happened is put in doubt, and else waits for somebody to decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::core::Core;
use crate::dag::{Dag, Kind, Role};
use crate::run::State;
use crate::store::{PRUNED, RunRecord, StoreError, TaskRecord, Write};

/// What of a DAG decides what happens in a run, by task id.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Structure {
    tasks: BTreeMap<String, Shape>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shape {
    kind: String,
    output: String,
    upstream: Vec<String>,
    inputs: Vec<String>,
    /// The branch or list that lets it run, and the arm.
    gate: Option<(String, u32)>,
    map: Option<String>,
    role: String,
    arms: Vec<String>,
}

impl Structure {
    pub(super) fn of(dag: &Dag) -> Self {
        let id = |task: u32| dag.tasks[task as usize].task_id.to_owned();
        let ids = |list: &[u32]| list.iter().map(|&task| id(task)).collect::<Vec<_>>();
        let tasks = dag.tasks.iter().map(|task| {
            let mut upstream = ids(task.upstream);
            upstream.sort_unstable();
            let shape = Shape {
                kind: task.kind.word().to_owned(),
                output: task.output.to_owned(),
                upstream,
                inputs: ids(task.inputs),
                gate: task.gate.map(|gate| (id(gate.task), gate.arm)),
                map: task.map.map(id),
                role: match task.role {
                    Role::Work => String::new(),
                    Role::Setup => "setup".to_owned(),
                    Role::Teardown => "teardown".to_owned(),
                },
                arms: match task.kind {
                    Kind::Branch { arms } => arms.iter().map(|arm| arm.label.to_owned()).collect(),
                    _ => Vec::new(),
                },
            };
            (task.task_id.to_owned(), shape)
        });
        Self { tasks: tasks.collect() }
    }

    pub(super) fn to_json(&self) -> String {
        // Strings and numbers in lists and maps with text keys are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What forbids that a run of this structure goes on with `now`, a sentence for each. What has
    /// not begun may come, go and change; what has must be as it was.
    fn forbids(&self, now: &Self, begun: impl Iterator<Item = (String, Option<State>)>) -> Vec<String> {
        let mut reasons = Vec::new();
        let mut last = String::new();
        for (task, state) in begun {
            if std::mem::replace(&mut last, task.clone()) == task {
                continue;
            }
            let Some(was) = self.tasks.get(&task) else { continue };
            let ended = match state {
                Some(state) if state.is_final() => format!("has ended ({state})"),
                _ => "is under way".to_owned(),
            };
            let Some(is) = now.tasks.get(&task) else {
                reasons.push(format!("task `{task}` {ended}, and is not in the program any more"));
                continue;
            };
            let list =
                |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            if was.upstream != is.upstream || was.inputs != is.inputs {
                let (was, is) = (list(&was.upstream), list(&is.upstream));
                reasons.push(format!("task `{task}` {ended} behind {was}, and now comes behind {is}"));
            } else if was.output != is.output {
                let (was, is) = (&was.output, &is.output);
                reasons.push(format!("task `{task}` {ended} with a `{was}`, and now gives a `{is}`"));
            } else if was != is {
                reasons.push(format!("task `{task}` {ended}, and is another kind of task now"));
            }
        }
        reasons
    }
}

impl Core {
    /// Brings a recorded run to the structure that the program has now; refused with what has
    /// changed where that would be a guess.
    pub(super) fn fit(
        &mut self,
        dag: usize,
        record: &mut RunRecord,
        tasks: &[TaskRecord],
    ) -> Result<Result<(), Vec<String>>, StoreError> {
        let state = &self.dags[dag];
        if state.version == record.version {
            return Ok(Ok(()));
        }
        if record.version == PRUNED {
            return Ok(Err(vec!["it is being removed, for it ended long ago".to_owned()]));
        }
        let (is, dag_id) = (Structure::of(state.definition.dag), record.dag_id.as_str());
        let was = self.writer.structure(dag_id, &record.version)?;
        let Some(was) = was.and_then(|json| serde_json::from_str::<Structure>(&json).ok()) else {
            return Ok(Err(vec![format!("its structure {} is not in the database", record.version)]));
        };
        let begun = |task: &&TaskRecord| task.state.is_some();
        let begun = tasks.iter().filter(begun).map(|task| (task.task_id.clone().into_owned(), task.state));
        let reasons = was.forbids(&is, begun);
        if !reasons.is_empty() {
            return Ok(Err(reasons));
        }
        let detail = Some(format!("goes on as version {} of its biz, was {}", state.version, record.version));
        record.version = state.version.clone();
        self.remember_version(dag);
        let copy = Box::new(record.clone());
        self.writes.push(Write::Run { record: copy, event: "changed", detail, at: self.now() });
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::Task;

    /// a >> b >> c, with what differs.
    fn structure(change: impl FnOnce(&mut Vec<Task>)) -> Structure {
        let mut tasks = vec![
            Task { task_id: "a", downstream: &[1], output: "u8", ..Task::FUNCTION },
            Task { task_id: "b", upstream: &[0], downstream: &[2], ..Task::FUNCTION },
            Task { task_id: "c", upstream: &[1], ..Task::FUNCTION },
        ];
        change(&mut tasks);
        Structure::of(&Dag { tasks: tasks.leak(), ..Dag::EMPTY })
    }

    fn forbids(now: &Structure, begun: &[(&str, State)]) -> Vec<String> {
        let begun = begun.iter().map(|(task, state)| ((*task).to_owned(), Some(*state)));
        structure(|_| {}).forbids(now, begun)
    }

    #[test]
    fn what_has_not_begun_may_come_go_and_change() {
        let more = structure(|tasks| {
            tasks[2].task_id = "other";
            tasks[2].output = "String";
        });
        assert_eq!(forbids(&more, &[("a", State::Success), ("b", State::Running)]), [""; 0]);
        assert_eq!(forbids(&structure(|_| {}), &[("c", State::Failed)]), [""; 0]);
    }

    #[test]
    fn what_has_happened_stays_as_it_was() {
        let renamed = structure(|tasks| tasks[0].task_id = "first");
        assert_eq!(
            forbids(&renamed, &[("a", State::Success), ("b", State::UpForRetry)]),
            [
                "task `a` has ended (success), and is not in the program any more",
                "task `b` is under way behind a, and now comes behind first"
            ]
        );
        let output = structure(|tasks| tasks[0].output = "u16");
        assert_eq!(
            forbids(&output, &[("a", State::Success)]),
            ["task `a` has ended (success) with a `u8`, and now gives a `u16`"]
        );
        let kind = structure(|tasks| tasks[1].kind = Kind::Call);
        assert_eq!(
            forbids(&kind, &[("b", State::Failed)]),
            ["task `b` has ended (failed), and is another kind of task now"]
        );
    }

    #[test]
    fn a_structure_survives_the_database() {
        let structure = structure(|tasks| tasks[1].map = Some(0));
        assert_eq!(serde_json::from_str::<Structure>(&structure.to_json()).unwrap(), structure);
    }
}
