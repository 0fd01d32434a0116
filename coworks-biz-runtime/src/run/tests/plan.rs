//! DAGs written by hand, and random ones. They are leaked: a `Dag` is static.

use proptest::prelude::*;

use crate::dag::{Arm, Dag, Gate, Kind, Options, Role, Task, TriggerRule};

/// A task whose index is its place in the list.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    shape: Shape,
    upstream: Vec<u32>,
    gate: Option<Gate>,
    options: Options,
    role: Role,
    shares: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Work,
    Branch { arms: u32 },
    List,
    Join,
    Call(Kind),
}

fn draft(shape: Shape, upstream: &[u32]) -> Draft {
    let (upstream, options) = (upstream.to_vec(), Options::DEFAULT);
    Draft { shape, upstream, gate: None, options, role: Role::Work, shares: vec![] }
}

pub(super) fn task(upstream: &[u32]) -> Draft {
    draft(Shape::Work, upstream)
}

pub(super) fn branch(upstream: &[u32], arms: u32) -> Draft {
    draft(Shape::Branch { arms }, upstream)
}

pub(super) fn list(upstream: &[u32]) -> Draft {
    draft(Shape::List, upstream)
}

pub(super) fn join(upstream: &[u32]) -> Draft {
    draft(Shape::Join, upstream).rule(TriggerRule::NoneFailedMinOneSuccess)
}

impl Draft {
    pub(super) fn rule(mut self, rule: TriggerRule) -> Self {
        self.options.trigger_rule = rule;
        self
    }

    pub(super) fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    pub(super) fn shares(mut self, with: u32) -> Self {
        self.shares.push(with);
        self
    }

    /// A member of an asynchronous call.
    pub(super) fn kind(mut self, kind: Kind) -> Self {
        self.shape = Shape::Call(kind);
        self
    }

    /// It waits for its past, and for what is directly behind that.
    pub(super) fn waits(mut self) -> Self {
        self.options.wait_for_downstream = true;
        self
    }

    pub(super) fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    pub(super) fn arm(mut self, branch: u32, arm: u32) -> Self {
        self.gate = Some(Gate { task: branch, arm });
        self
    }

    pub(super) fn each(self, list: u32) -> Self {
        self.arm(list, 0)
    }
}

/// The DAG of these tasks. Upstreams and gates are above in the list.
pub(super) fn dag(drafts: impl IntoIterator<Item = Draft>) -> &'static Dag {
    let drafts: Vec<_> = drafts.into_iter().collect();
    let all = 0..drafts.len() as u32;
    let mut downstream = vec![vec![]; drafts.len()];
    let mut members = vec![vec![]; drafts.len()];
    for (index, draft) in all.clone().zip(&drafts) {
        draft.upstream.iter().for_each(|&above| downstream[above as usize].push(index));
        if let Some(Gate { task, arm }) = draft.gate {
            members[task as usize].push((arm, index));
        }
    }
    let mut maps: Vec<Option<u32>> = vec![];
    for draft in &drafts {
        maps.push(draft.gate.and_then(|gate| match drafts[gate.task as usize].shape {
            Shape::List => Some(gate.task),
            _ => maps[gate.task as usize],
        }));
    }
    let tasks = drafts.into_iter().zip(downstream).zip(members).zip(maps).enumerate();
    let tasks = tasks.map(|(index, (((draft, down), members), map))| {
        let of_arm = |arm| members.iter().filter(|m| m.0 == arm).map(|m| m.1).collect::<Vec<_>>().leak();
        let kind = match draft.shape {
            Shape::Work => Kind::Function,
            Shape::Join => Kind::Join,
            Shape::Call(kind) => kind,
            Shape::List => Kind::Map { members: of_arm(0) },
            Shape::Branch { arms } => {
                let arms = (0..arms).map(|arm| Arm { label: "", members: of_arm(arm) });
                Kind::Branch { arms: arms.collect::<Vec<_>>().leak() }
            }
        };
        Task {
            task_id: format!("t{index}").leak(),
            kind,
            upstream: draft.upstream.leak(),
            downstream: down.leak(),
            shares: draft.shares.leak(),
            gate: draft.gate,
            map,
            role: draft.role,
            options: Box::leak(Box::new(draft.options)),
            ..Task::FUNCTION
        }
    });
    let tasks: Vec<_> = tasks.collect();
    Box::leak(Box::new(Dag {
        dag_id: "plan",
        tasks: tasks.leak(),
        order: all.collect::<Vec<_>>().leak(),
        ..Dag::EMPTY
    }))
}

/// What is drawn for a task: its upstreams as bits, and how it runs.
type Raw = (u64, TriggerRule, u32, Role);

#[derive(Debug, Clone)]
enum Piece {
    Task(Raw),
    Branch(Raw, Vec<Vec<Piece>>, bool),
    Loop(Raw, Vec<Piece>),
}

fn raw(rules: bool) -> impl Strategy<Value = Raw> {
    use TriggerRule::*;
    let rule = prop_oneof![
        6 => Just(AllSuccess),
        if rules { 2 } else { 0 } => prop::sample::select(vec![
            AllFailed, AllDone, AllDoneMinOneSuccess, AllSkipped, OneSuccess, OneFailed, OneDone, NoneFailed,
            NoneFailedMinOneSuccess, NoneSkipped, AllDoneSetupSuccess, Always,
        ]),
    ];
    let role = prop_oneof![8 => Just(Role::Work), 1 => Just(Role::Setup), 1 => Just(Role::Teardown)];
    let bits = (any::<u64>(), any::<u64>()).prop_map(|(bits, sparse)| bits & sparse);
    (bits, rule, 0u32..3, role)
}

fn pieces(depth: u32, loops: bool, rules: bool) -> BoxedStrategy<Vec<Piece>> {
    let work = raw(rules).prop_map(Piece::Task);
    if depth == 0 {
        return prop::collection::vec(work, 0..4).boxed();
    }
    let arms = prop::collection::vec(pieces(depth - 1, loops, rules), 1..4);
    let branch =
        (raw(rules), arms, any::<bool>()).prop_map(|(raw, arms, join)| Piece::Branch(raw, arms, join));
    // Loops do not nest.
    let body = pieces(depth - 1, false, rules);
    let around = (raw(rules), body)
        .prop_map(move |(raw, body)| if loops { Piece::Loop(raw, body) } else { Piece::Task(raw) });
    prop::collection::vec(prop_oneof![4 => work, 2 => branch, 2 => around], 0..5).boxed()
}

/// Random DAGs: tasks, branches with or without a join, and loops, in one another, with edges
/// from everywhere above, under any rules or under `all_success`.
pub(super) fn dags(rules: bool) -> impl Strategy<Value = &'static Dag> {
    pieces(2, true, rules).prop_map(|pieces| {
        let mut drafts = vec![];
        add(&pieces, None, &mut drafts);
        dag(drafts)
    })
}

fn add(pieces: &[Piece], gate: Option<Gate>, drafts: &mut Vec<Draft>) {
    for piece in pieces {
        let (Piece::Task(raw) | Piece::Branch(raw, ..) | Piece::Loop(raw, _)) = piece;
        let index = drafts.len() as u32;
        let shape = match piece {
            Piece::Task(_) => Shape::Work,
            Piece::Branch(_, arms, _) => Shape::Branch { arms: arms.len() as u32 },
            Piece::Loop(..) => Shape::List,
        };
        let (bits, rule, retries, role) = *raw;
        // Any bits will do; it matters only to a run that comes after another.
        let waits = bits % 11 == 3;
        let above = |n: &u32| bits >> (n % 64) & 1 == 1 && gate.is_none_or(|gate| gate.task != *n);
        let upstream: Vec<_> = (0..index).filter(above).collect();
        // A branch and a list set nothing up.
        let role = if matches!(piece, Piece::Task(_)) { role } else { Role::Work };
        let made = draft(shape, &upstream).rule(rule).retries(retries).role(role);
        drafts.push(Draft { gate, ..if waits { made.waits() } else { made } });
        match piece {
            Piece::Task(_) => {}
            Piece::Loop(_, body) => add(body, Some(Gate { task: index, arm: 0 }), drafts),
            Piece::Branch(_, arms, joined) => {
                let mut ends = vec![];
                for (arm, body) in arms.iter().enumerate() {
                    let before = drafts.len();
                    add(body, Some(Gate { task: index, arm: arm as u32 }), drafts);
                    ends.extend((drafts.len() > before).then_some(drafts.len() as u32 - 1));
                }
                if *joined {
                    drafts.push(Draft { gate, ..join(&ends) });
                }
            }
        }
    }
}
