//! Names become tasks: the graph as indexes, still with the user's tokens at hand.
//!
//! `declare` walks the plan and gives every task its place, `resolve` finds
//! what each of them takes, `connect` adds the orders that are written.

mod connect;
mod declare;
mod names;
mod resolve;
mod types;

use std::collections::{BTreeSet, HashMap, HashSet};

use proc_macro2::Span;
use syn::{ExprCall, Ident, LitStr, Type};

use self::names::{Scope, Value, Variables};
pub use self::types::written;
use crate::errors::Errors;
use crate::parse::Biz;
use crate::parse::function::{FunctionTask, Parameter};
use crate::parse::options::TaskOptions;
use crate::parse::plan::{Branch, Loop, TechTask, TriggerTask};

/// The graph.
pub struct Model<'a> {
    pub biz: &'a Biz,
    pub tasks: Vec<Task<'a>>,
    /// Each pair once.
    pub edges: Vec<Edge>,
    /// What is written on edges.
    pub labels: Vec<(usize, usize, &'a LitStr)>,
    /// The types that groups are given, the tasks that give their values, and the loops they are in.
    pub groups: Vec<(&'a Type, usize, Option<usize>)>,
}

pub struct Task<'a> {
    pub id: String,
    /// Where it is named.
    pub span: Span,
    pub kind: Kind<'a>,
    /// The tasks whose values it takes, in the order of their places.
    pub inputs: Vec<usize>,
    pub output: Output<'a>,
    pub gate: Option<Gate>,
    /// The list of the loop it is in.
    pub map: Option<usize>,
    pub options: TaskOptions,
    pub role: Role,
    /// Names of the plan that look like words in it which are none.
    pub meant: Vec<String>,
    place: Place,
}

pub enum Kind<'a> {
    /// A function whose parameters are bound by their names.
    Function {
        task: &'a FunctionTask,
        arguments: Vec<Argument<'a>>,
    },
    /// A call of a function, with its arguments.
    Invoke {
        call: &'a ExprCall,
        uses: Vec<Use>,
        blocking: bool,
        annotated: Option<&'a Type>,
    },
    Call(&'a TechTask, Lazy),
    Sensor(&'a TechTask, Lazy),
    Submit(&'a TechTask, Lazy),
    /// With the index of its group's `call`.
    Wait(usize),
    Read(usize),
    Trigger(&'a TriggerTask, Vec<Use>),
    Branch {
        branch: &'a Branch,
        uses: Vec<Use>,
        taken: Vec<BTreeSet<String>>,
    },
    Map {
        each: &'a Loop,
        uses: Vec<Use>,
    },
    /// With the index of its branch, and of the task that gives the value of each arm.
    Join {
        branch: usize,
        arms: Vec<(usize, Span)>,
    },
}

/// The arguments of a call that are evaluated when it is sent.
#[derive(Default)]
pub struct Lazy {
    pub uses: Vec<Use>,
    /// The place of the output of its transformer.
    pub transformed: Option<usize>,
}

/// What a parameter of a function gets.
pub enum Argument<'a> {
    Value(&'a Parameter, Source),
    Extractor(&'a Parameter),
}

/// A name in an expression, and what it stands for.
pub struct Use {
    pub name: Ident,
    pub source: Source,
}

#[derive(Clone, Copy)]
pub enum Source {
    /// The output of a task. `optional` where the trigger rule lets the reader run without it.
    Output {
        task: usize,
        place: usize,
        optional: bool,
    },
    /// A variable of the pattern of an arm.
    Variable {
        branch: usize,
        arm: usize,
        place: usize,
    },
    /// A variable of the pattern of a loop.
    Item {
        map: usize,
        place: usize,
    },
    Conf,
    Context,
}

/// What is known of the type of an output.
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// Nothing.
    Unknown,
    Written(&'a Type),
    /// What the called function gives.
    Callee(&'a ExprCall),
    /// That of another task.
    Same(usize),
}

/// What lets a task in an arm or a loop run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    pub task: usize,
    pub arm: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Work,
    Setup,
    Teardown,
}

pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// What says so: a `>>`, or a use.
    pub span: Span,
    /// From a branch or a list to what is in it.
    pub gate: bool,
}

/// Where a statement is.
#[derive(Clone, Copy)]
struct Place {
    scope: usize,
    variables: Option<usize>,
    gate: Option<Gate>,
    map: Option<usize>,
}

impl<'a> Model<'a> {
    pub fn of(biz: &'a Biz, errors: &mut Errors) -> Self {
        let mut builder = Builder {
            biz,
            tasks: vec![],
            edges: vec![],
            seen: HashSet::new(),
            labels: vec![],
            scopes: vec![Scope::default()],
            variables: vec![],
            called: HashSet::new(),
            taken: HashSet::new(),
            functions: HashMap::new(),
            joins: vec![],
            annotated: vec![],
            meant: HashMap::new(),
            ambiguous: HashSet::new(),
            groups: vec![],
        };
        builder.survey(&biz.body);
        let place = Place { scope: 0, variables: None, gate: None, map: None };
        builder.block(&biz.body, place, false, errors);
        builder.unique(errors);
        // A task may be used above the line that names it.
        builder.resolve(errors);
        builder.connect(errors);
        let Builder { tasks, edges, labels, groups, .. } = builder;
        Self { biz, tasks, edges, labels, groups }
    }

    /// No tasks.
    pub fn empty(biz: &'a Biz) -> Self {
        Self { biz, tasks: vec![], edges: vec![], labels: vec![], groups: vec![] }
    }

    /// The runtime's name of the trigger rule of a task.
    pub fn rule(&self, task: usize) -> &'static str {
        self.tasks[task].rule(self.biz)
    }

    /// Whether a task is seen from this loop, or from outside of all, as the list of the outputs of
    /// all its instances.
    pub fn is_list(&self, of: usize, map: Option<usize>) -> bool {
        self.tasks[of].map.is_some() && self.tasks[of].map != map
    }
}

struct Builder<'a> {
    biz: &'a Biz,
    tasks: Vec<Task<'a>>,
    edges: Vec<Edge>,
    seen: HashSet<(usize, usize)>,
    labels: Vec<(usize, usize, &'a LitStr)>,
    /// The whole body, and a scope for each group.
    scopes: Vec<Scope<'a>>,
    /// The variables of arms and loops.
    variables: Vec<Variables>,
    /// The functions that tasks call.
    called: HashSet<String>,
    /// The names that the user has given.
    taken: HashSet<String>,
    /// The functions with `#[task]`.
    functions: HashMap<String, &'a FunctionTask>,
    /// The joins, with the values of their arms.
    joins: Vec<(usize, Vec<Value<'a>>)>,
    /// The types that groups are given, with their values.
    annotated: Vec<(&'a Type, Option<Value<'a>>, Option<usize>)>,
    groups: Vec<(&'a Type, usize, Option<usize>)>,
    /// What words that are no names were probably meant to be.
    meant: HashMap<String, Option<String>>,
    /// Names of functions that several tasks at the ends of arms are called after.
    ambiguous: HashSet<String>,
}

impl Builder<'_> {
    fn edge(&mut self, from: usize, to: usize, span: Span) {
        if self.seen.insert((from, to)) {
            self.edges.push(Edge { from, to, span, gate: false });
        }
    }

    fn rule(&self, task: usize) -> &'static str {
        self.tasks[task].rule(self.biz)
    }
}

impl Task<'_> {
    fn rule(&self, biz: &Biz) -> &'static str {
        match (self.options.trigger_rule, self.role) {
            (Some(rule), _) => rule,
            (None, Role::Teardown) => "AllDoneSetupSuccess",
            (None, Role::Work | Role::Setup) => biz.options.task.trigger_rule.unwrap_or("AllSuccess"),
        }
    }
}
