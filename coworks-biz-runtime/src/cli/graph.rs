//! `graph`: the DAG as a drawing.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::output::line;
use super::{Exit, Failure, GraphFormat};
use crate::dag::{Dag, Gate, Kind};
use crate::task::Definition;
use crate::value::excerpt;

pub(super) fn graph(definition: &Definition, format: GraphFormat) -> Result<Exit, Failure> {
    let drawing = match format {
        GraphFormat::Ascii => ascii(definition.dag),
        GraphFormat::Dot => dot(definition.dag),
        GraphFormat::Mermaid => mermaid(definition.dag),
    };
    line(drawing.trim_end())?;
    Ok(Exit::Done)
}

/// An edge as it is drawn.
struct Edge {
    to: u32,
    label: String,
}

/// The edges from each task: to what waits for it, and to what its arms or its loop begin with.
fn edges(dag: &Dag) -> Vec<Vec<Edge>> {
    let labels: HashMap<(u32, u32), &str> =
        dag.labels.iter().map(|&(from, to, text)| ((from, to), text)).collect();
    let mut edges: Vec<Vec<Edge>> = (0..dag.tasks.len()).map(|_| Vec::new()).collect();
    for (from, task) in (0..).zip(dag.tasks) {
        for &to in task.downstream {
            let label = labels.get(&(from, to)).copied().unwrap_or_default().to_owned();
            edges[from as usize].push(Edge { to, label });
        }
    }
    for (to, task) in (0..).zip(dag.tasks) {
        let Some(gate) = task.gate else { continue };
        if task.upstream.iter().any(|&above| is_inside(dag, above, gate)) {
            continue;
        }
        let label = match dag.tasks[gate.task as usize].kind {
            Kind::Branch { arms } => arms.get(gate.arm as usize).map(|arm| arm.label).unwrap_or_default(),
            _ => "each",
        };
        // As it is written, which may be over several lines.
        let label = excerpt(&label.split_whitespace().collect::<Vec<_>>().join(" "), 40);
        let edges = &mut edges[gate.task as usize];
        match edges.iter_mut().find(|edge| edge.to == to) {
            Some(edge) if edge.label.is_empty() => edge.label = label,
            Some(_) => {}
            None => edges.push(Edge { to, label }),
        }
    }
    edges
}

/// Whether a task is in this arm or loop, at any depth.
fn is_inside(dag: &Dag, task: u32, of: Gate) -> bool {
    let mut next = dag.tasks[task as usize].gate;
    while let Some(gate) = next {
        if gate == of {
            return true;
        }
        next = dag.tasks[gate.task as usize].gate;
    }
    false
}

/// A line for each chain: it begins at a task that has not been drawn, and goes
/// down until it meets one that has, whose name then ends the line.
fn ascii(dag: &Dag) -> String {
    let mut drawing = String::new();
    let mut drawn = HashSet::new();
    let id = |task: u32| dag.tasks[task as usize].task_id;
    let mut edges_left = edges(dag);
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
            while let Some(Edge { to, label }) = edges_left[task as usize].pop() {
                if !label.is_empty() {
                    let _ = write!(drawing, " ─ {label}");
                }
                let _ = write!(drawing, " ─▶ {}", id(to));
                task = to;
                if !drawn.insert(to) {
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
    for (task, edges) in dag.tasks.iter().zip(edges(dag)) {
        for Edge { to, label } in edges {
            let label = if label.is_empty() { label } else { format!(" [label = {label:?}]") };
            let _ = writeln!(drawing, "  {:?} -> {:?}{label};", task.task_id, dag.tasks[to as usize].task_id);
        }
    }
    drawing.push_str("}\n");
    drawing
}

fn shape(kind: Kind) -> &'static str {
    match kind {
        Kind::Function | Kind::Join => "",
        Kind::Branch { .. } => " [shape = diamond, style = \"\"]",
        Kind::Map { .. } => " [shape = box3d]",
        Kind::Sensor => " [shape = cds, style = dashed]",
        Kind::Trigger => " [shape = component]",
        Kind::Call | Kind::Submit => " [shape = cds]",
        Kind::Wait => " [style = \"rounded,dashed\"]",
        Kind::Read => " [shape = note]",
    }
}

fn mermaid(dag: &Dag) -> String {
    let mut drawing = String::from("graph LR\n");
    for (index, task) in dag.tasks.iter().enumerate() {
        let (open, close) = match task.kind {
            Kind::Function | Kind::Join => ("[", "]"),
            Kind::Branch { .. } => ("{", "}"),
            Kind::Map { .. } => ("[[", "]]"),
            Kind::Sensor => ("([", "])"),
            Kind::Trigger => ("[[", "]]"),
            Kind::Call | Kind::Submit => ("[/", "/]"),
            Kind::Wait => ("([", "])"),
            Kind::Read => ("[\\", "\\]"),
        };
        let _ = writeln!(drawing, "  t{index}{open}\"{}\"{close}", task.task_id);
    }
    for (index, edges) in edges(dag).into_iter().enumerate() {
        for Edge { to, label } in edges {
            let label = match label.is_empty() {
                true => label,
                false => format!("|\"{}\"|", label.replace('"', "#quot;")),
            };
            let _ = writeln!(drawing, "  t{index} -->{label} t{to}");
        }
    }
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::{Arm, Task};

    /// a >> [b, c] >> d, and e alone.
    fn diamond() -> Dag {
        fn task(task_id: &'static str, upstream: &'static [u32], downstream: &'static [u32]) -> Task {
            Task { task_id, upstream, downstream, ..Task::FUNCTION }
        }
        let tasks = vec![
            task("a", &[], &[1, 2]),
            task("b", &[0], &[3]),
            task("c", &[0], &[3]),
            task("d", &[1, 2], &[]),
            task("e", &[], &[]),
        ];
        Dag { dag_id: "diamond", tasks: tasks.leak(), order: &[0, 4, 1, 2, 3], ..Dag::EMPTY }
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

    /// `match x { A => { f(); g(); } B => for v in vs { h(v) } }`, with `f >> g`.
    fn branches() -> Dag {
        const ARMS: [Arm; 2] =
            [Arm { label: "A\n    | \"a\"", members: &[1, 2] }, Arm { label: "B", members: &[3] }];
        let arm = |task_id, arm| Task { task_id, gate: Some(Gate { task: 0, arm }), ..Task::FUNCTION };
        let tasks = vec![
            Task { task_id: "match_x", kind: Kind::Branch { arms: &ARMS }, ..Task::FUNCTION },
            Task { downstream: &[2], ..arm("f", 0) },
            Task { upstream: &[1], ..arm("g", 0) },
            Task { kind: Kind::Map { members: &[4] }, ..arm("map_vs", 1) },
            Task {
                task_id: "h",
                gate: Some(Gate { task: 3, arm: 0 }),
                map: Some(3),
                downstream: &[5],
                ..Task::FUNCTION
            },
            Task { upstream: &[4], ..arm("k", 1) },
        ];
        Dag { tasks: tasks.leak(), order: &[0, 1, 2, 3, 4, 5], labels: &[(1, 2, "then")], ..Dag::EMPTY }
    }

    #[test]
    fn arms_and_loops_are_edges_to_what_they_begin_with() {
        let drawing = ascii(&branches());
        assert_eq!(drawing, "match_x ─ A | \"a\" ─▶ f ─ then ─▶ g\nmatch_x ─ B ─▶ map_vs ─ each ─▶ h ─▶ k\n");
        let dot = dot(&branches());
        assert!(dot.contains(r#""match_x" -> "f" [label = "A | \"a\""];"#), "{dot}");
        let mermaid = mermaid(&branches());
        assert!(mermaid.contains(r#"t0 -->|"A | #quot;a#quot;"| t1"#), "{mermaid}");
        assert!(!mermaid.contains("t0 --> t2") && mermaid.contains("  t0{\"match_x\"}\n"), "{mermaid}");
    }
}
