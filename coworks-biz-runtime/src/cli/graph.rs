//! `graph`: the DAG as a drawing.

use std::collections::HashSet;
use std::fmt::Write;

use super::output::line;
use super::{Exit, Failure, GraphFormat};
use crate::dag::{Dag, Kind};
use crate::task::Definition;

pub(super) fn graph(definition: &Definition, format: GraphFormat) -> Result<Exit, Failure> {
    let drawing = match format {
        GraphFormat::Ascii => ascii(definition.dag),
        GraphFormat::Dot => dot(definition.dag),
        GraphFormat::Mermaid => mermaid(definition.dag),
    };
    line(drawing.trim_end())?;
    Ok(Exit::Done)
}

/// A line for each chain: it begins at a task that has not been drawn, and goes
/// down until it meets one that has, whose name then ends the line.
fn ascii(dag: &Dag) -> String {
    let mut drawing = String::new();
    let mut drawn = HashSet::new();
    let id = |task: u32| dag.tasks[task as usize].task_id;
    let mut edges_left: Vec<Vec<u32>> = dag.tasks.iter().map(|task| task.downstream.to_vec()).collect();
    for edges in &mut edges_left {
        edges.reverse();
    }
    for &first in dag.order {
        loop {
            let fresh = drawn.insert(first);
            if edges_left[first as usize].is_empty() {
                if fresh {
                    let _ = writeln!(drawing, "{}", id(first));
                }
                break;
            }
            let _ = write!(drawing, "{}", id(first));
            let mut task = first;
            while let Some(next) = edges_left[task as usize].pop() {
                let _ = write!(drawing, " ─▶ {}", id(next));
                task = next;
                if !drawn.insert(next) {
                    break;
                }
            }
            drawing.push('\n');
        }
    }
    drawing
}

fn dot(dag: &Dag) -> String {
    let mut drawing =
        format!("digraph {:?} {{\n  rankdir = LR;\n  node [shape = box, style = rounded];\n", dag.dag_id);
    for task in dag.tasks {
        let _ = writeln!(drawing, "  {:?}{};", task.task_id, shape(task.kind));
    }
    for task in dag.tasks {
        for &next in task.downstream {
            let _ = writeln!(drawing, "  {:?} -> {:?};", task.task_id, dag.tasks[next as usize].task_id);
        }
    }
    drawing.push_str("}\n");
    drawing
}

fn shape(kind: Kind) -> &'static str {
    match kind {
        Kind::Function => "",
        Kind::Call | Kind::Submit => " [shape = cds]",
        Kind::Wait => " [style = \"rounded,dashed\"]",
        Kind::Read => " [shape = note]",
    }
}

fn mermaid(dag: &Dag) -> String {
    let mut drawing = String::from("graph LR\n");
    for (index, task) in dag.tasks.iter().enumerate() {
        let (open, close) = match task.kind {
            Kind::Function => ("[", "]"),
            Kind::Call | Kind::Submit => ("[/", "/]"),
            Kind::Wait => ("([", "])"),
            Kind::Read => ("[\\", "\\]"),
        };
        let _ = writeln!(drawing, "  t{index}{open}\"{}\"{close}", task.task_id);
    }
    for (index, task) in dag.tasks.iter().enumerate() {
        for next in task.downstream {
            let _ = writeln!(drawing, "  t{index} --> t{next}");
        }
    }
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::{Options, Source, Task};

    /// a >> [b, c] >> d, and e alone.
    fn diamond() -> Dag {
        fn task(task_id: &'static str, upstream: &'static [u32], downstream: &'static [u32]) -> Task {
            let (kind, inputs, shares, output) = (Kind::Function, &[][..], &[][..], "");
            Task {
                task_id,
                kind,
                upstream,
                downstream,
                inputs,
                shares,
                output,
                options: &Options::DEFAULT,
                line: 1,
            }
        }
        let tasks = vec![
            task("a", &[], &[1, 2]),
            task("b", &[0], &[3]),
            task("c", &[0], &[3]),
            task("d", &[1, 2], &[]),
            task("e", &[], &[]),
        ];
        Dag {
            dag_id: "diamond",
            description: "",
            source: Source { file: "", line: 1 },
            schedule: None,
            timezone: "UTC",
            start_date: None,
            end_date: None,
            catchup: false,
            tags: &[],
            owner: "",
            tasks: Box::leak(tasks.into_boxed_slice()),
            order: &[0, 4, 1, 2, 3],
        }
    }

    #[test]
    fn every_edge_is_drawn_once() {
        assert_eq!(ascii(&diamond()), "a ─▶ b ─▶ d\na ─▶ c ─▶ d\ne\n");
    }

    #[test]
    fn dot_and_mermaid_name_tasks_and_edges() {
        let dot = dot(&diamond());
        assert!(dot.starts_with("digraph \"diamond\" {") && dot.contains("\"b\" -> \"d\";"), "{dot}");
        let mermaid = mermaid(&diamond());
        assert!(mermaid.contains("  t4[\"e\"]\n") && mermaid.contains("  t2 --> t3\n"), "{mermaid}");
    }
}
