//! The statements of a plan as plain data: what a biz body, an arm, a loop and a group are made of.

use proc_macro2::Span;
use syn::{Expr, ExprCall, Ident, Pat, Type};

use super::call::TechCall;
use super::function::FunctionTask;
use super::options::TaskOptions;
use super::order::Order;
use super::trigger::TriggerCall;

/// Statements between braces.
#[derive(Default)]
pub struct Block {
    pub statements: Vec<Statement>,
    pub tail: Tail,
}

impl Block {
    /// The functions with `#[task]` in it, and in what is in it.
    pub fn functions(&self) -> Vec<&FunctionTask> {
        let mut functions = Vec::new();
        self.collect(&mut functions);
        functions
    }

    fn collect<'a>(&'a self, functions: &mut Vec<&'a FunctionTask>) {
        for statement in &self.statements {
            match statement {
                Statement::Function(task) => functions.push(task),
                Statement::Branch(branch) => branch.arms.iter().for_each(|arm| arm.body.collect(functions)),
                Statement::Loop(each) => each.body.collect(functions),
                Statement::Group(group) => group.body.collect(functions),
                Statement::Tech(_) | Statement::Trigger(_) | Statement::Call(_) | Statement::Order(_) => {}
            }
        }
    }
}

/// What a block ends with.
#[derive(Default)]
pub enum Tail {
    /// A semicolon, or nothing that has a value.
    #[default]
    None,
    /// The name of a task.
    Name(Ident),
    /// Its last statement.
    Last(Span),
    /// Something that is no task, which is told.
    Refused,
}

/// What a line of the body says.
pub enum Statement {
    Tech(Box<TechTask>),
    Trigger(Box<TriggerTask>),
    Call(Box<CallTask>),
    Function(Box<FunctionTask>),
    Branch(Box<Branch>),
    Loop(Box<Loop>),
    Group(Box<Group>),
    Order(Order),
}

/// What a statement calls its task, and how it wants it run.
#[derive(Default)]
pub struct Naming {
    /// `None` without a `let`.
    pub name: Option<Ident>,
    pub output: Option<Type>,
    pub options: Option<TaskOptions>,
}

/// `let x: T = tech!(..);` or `sensor!(..)`
pub struct TechTask {
    pub naming: Naming,
    pub call: TechCall,
    /// The word `tech` or `sensor`.
    pub keyword: Ident,
}

/// `let run = trigger!(invoicing, ..);`
pub struct TriggerTask {
    pub naming: Naming,
    /// The type of its output, which is always the same.
    pub output: Type,
    pub call: TriggerCall,
    /// The word `trigger`.
    pub keyword: Ident,
}

/// `let y = f(x, 3);`
pub struct CallTask {
    pub naming: Naming,
    pub call: ExprCall,
}

/// `match x { .. }` or `if x.ok { .. } else { .. }`
pub struct Branch {
    /// Of the join, where there is a `let`.
    pub naming: Naming,
    /// What is matched; `None` for `if`.
    pub scrutinee: Option<Expr>,
    pub arms: Vec<Arm>,
    /// The word `match` or `if`.
    pub keyword: Span,
}

/// One way of a branch.
pub struct Arm {
    pub test: Test,
    pub body: Block,
    /// The test as it is written.
    pub label: String,
    /// Where it ends.
    pub end: Span,
}

/// What chooses an arm.
pub enum Test {
    Pattern(Box<Pat>, Option<Box<Expr>>),
    Condition(Box<Expr>),
    Otherwise,
}

/// `for v in x.items { .. }`
pub struct Loop {
    pub options: Option<TaskOptions>,
    pub pattern: Pat,
    pub list: Expr,
    pub body: Block,
    pub keyword: Span,
}

/// `let prep = { .. };`
pub struct Group {
    pub name: Ident,
    pub output: Option<Type>,
    pub body: Block,
}

/// The function that a task calls, by its last word.
pub fn callee(call: &ExprCall) -> Option<&Ident> {
    match &*call.func {
        Expr::Path(path) => path.path.segments.last().map(|last| &last.ident),
        _ => None,
    }
}
