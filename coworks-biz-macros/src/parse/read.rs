//! Reads the statements of a plan out of Rust's.

use proc_macro2::{Span, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Arm as MatchArm, Attribute, Expr, ExprCall, ExprIf, Ident, Item, Local, Macro, Pat, Stmt};

use super::call::{Form, TechCall};
use super::function::{self, FunctionTask};
use super::options::TaskOptions;
use super::order::Order;
use super::plan::{
    Arm, Block, Branch, CallTask, Group, Loop, Naming, Statement, Tail, TechTask, Test, TriggerTask,
};
use super::trigger::{self, TriggerCall};
use super::written::{self, Names};
use crate::errors::Errors;

const PLAN: &str =
    "a biz body is a plan: it is read when compiled and never runs; put this in a `#[task]` function";

/// Reads statements, and collects what is not part of the plan.
#[derive(Default)]
pub struct Reader {
    /// Items that are no tasks, of all blocks.
    pub items: Vec<Item>,
    /// What the calls name.
    pub calls: Names,
    /// What the functions name.
    pub functions: Names,
}

impl Reader {
    /// The body of a biz, or of a part of it.
    pub fn body(&mut self, statements: Vec<Stmt>, errors: &mut Errors) -> Block {
        let mut block = Block::default();
        let last = statements.len().saturating_sub(1);
        for (index, statement) in statements.into_iter().enumerate() {
            self.statement(statement, index == last, &mut block, errors);
        }
        block
    }

    fn statement(&mut self, statement: Stmt, last: bool, block: &mut Block, errors: &mut Errors) {
        match statement {
            Stmt::Local(local) => {
                let statement = self.named(local, errors);
                block.statements.extend(statement);
            }
            Stmt::Item(Item::Fn(item)) => match item.attrs.iter().any(|a| a.path().is_ident("task")) {
                true => {
                    self.functions.find(&item);
                    let task = FunctionTask::of(item, errors);
                    block.statements.push(Statement::Function(Box::new(task)));
                }
                false => {
                    self.functions.find(&item);
                    self.items.push(Item::Fn(item));
                }
            },
            Stmt::Item(item) => self.items.push(item),
            Stmt::Macro(statement) => {
                let options = options(&statement.attrs, errors);
                // In a block a call without a semicolon is its value.
                let tail = last && statement.semi_token.is_none();
                let naming = Naming { options, ..Naming::default() };
                let span = statement.mac.path.span();
                self.push(block, tail.then_some(span), |reader| reader.tech(naming, &statement.mac, errors));
            }
            Stmt::Expr(expression, semicolon) => {
                let tail = last && semicolon.is_none();
                self.expression(expression, tail, block, errors);
            }
        }
    }

    /// Adds a statement; with a span it is the value of the block.
    fn push(
        &mut self,
        block: &mut Block,
        tail: Option<Span>,
        read: impl FnOnce(&mut Self) -> Option<Statement>,
    ) {
        let statement = read(self);
        block.tail = match (tail, &statement) {
            (Some(span), Some(_)) => Tail::Last(span),
            (Some(_), None) => Tail::Refused,
            (None, _) => return block.statements.extend(statement),
        };
        block.statements.extend(statement);
    }

    /// A statement that is an expression.
    fn expression(&mut self, expression: Expr, tail: bool, block: &mut Block, errors: &mut Errors) {
        if Order::is_one(&expression) {
            // The options of a task are given where it is named.
            for attribute in order_attributes(&expression) {
                errors.at(attribute, "an order has no attributes: options are given where a task is named");
            }
            block.statements.extend(Order::parse(&expression, errors).map(Statement::Order));
            return;
        }
        if tail
            && let Expr::Path(path) = &expression
            && let Some(name) = path.path.get_ident()
        {
            block.tail = Tail::Name(name.clone());
            return;
        }
        // An arm that does nothing.
        if matches!(&expression, Expr::Tuple(unit) if unit.elems.is_empty()) {
            return;
        }
        let span = tail.then(|| expression.span());
        self.push(block, span, |reader| reader.unnamed(expression, errors));
    }

    /// What stands without a `let`.
    fn unnamed(&mut self, expression: Expr, errors: &mut Errors) -> Option<Statement> {
        let naming = |attributes: &[Attribute], errors: &mut Errors| Naming {
            options: options(attributes, errors),
            ..Naming::default()
        };
        match expression {
            Expr::Macro(e) => {
                let naming = naming(&e.attrs, errors);
                self.tech(naming, &e.mac, errors)
            }
            Expr::Call(e) if is_ok(&e) => {
                errors.at(e, "a biz returns nothing: leave this away");
                None
            }
            Expr::Call(mut e) => {
                let naming = naming(&e.attrs, errors);
                e.attrs.clear();
                self.call(naming, e, errors)
            }
            Expr::Match(_) | Expr::If(_) => self.branch(Naming::default(), expression, errors),
            Expr::ForLoop(mut e) => {
                let options = options(&e.attrs, errors);
                e.attrs.clear();
                if let Some(label) = &e.label {
                    errors.at(label, "nothing can be left early in a plan: a loop has no label");
                }
                self.calls.find(&e.expr);
                let keyword = e.for_token.span;
                let body = self.body(e.body.stmts, errors);
                Some(Statement::Loop(Box::new(Loop {
                    options,
                    pattern: *e.pat,
                    list: *e.expr,
                    body,
                    keyword,
                })))
            }
            Expr::Block(e) if e.label.is_none() => {
                errors.at(e, "a group of tasks has a name: `let prep = { .. };`");
                None
            }
            e => {
                refuse(&e, errors);
                None
            }
        }
    }

    /// `let x: T = ..;`
    fn named(&mut self, local: Local, errors: &mut Errors) -> Option<Statement> {
        let options = options(&local.attrs, errors);
        let (pattern, output) = match &local.pat {
            Pat::Type(typed) => (&*typed.pat, Some((*typed.ty).clone())),
            pattern => (pattern, None),
        };
        let Some(init) = &local.init else {
            errors.at(&local, "`let` names a task here: `let x: T = tech!(..);`");
            return None;
        };
        if let Some((otherwise, _)) = &init.diverge {
            errors.at(otherwise, PLAN);
        }
        let name = match pattern {
            Pat::Ident(name)
                if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() =>
            {
                Some(name.ident.clone())
            }
            other => {
                errors.at(other, "`let` names a task here, with one word and without `mut`");
                None
            }
        };
        let named = |name| Naming { name: Some(name), output: output.clone(), options: options.clone() };
        match &*init.expr {
            Expr::Macro(e) => self.tech(named(name?), &e.mac, errors),
            Expr::Call(e) => self.call(named(name?), e.clone(), errors),
            Expr::Match(_) | Expr::If(_) => self.branch(named(name?), (*init.expr).clone(), errors),
            Expr::Block(e) => {
                if options.is_some() {
                    errors.at(&local.attrs[0], "a group has no options: give them to the tasks in it");
                }
                let body = self.body(e.block.stmts.clone(), errors);
                Some(Statement::Group(Box::new(Group { name: name?, output, body })))
            }
            Expr::ForLoop(e) => {
                let how = "a loop has no value: behind it, the names of the tasks in it are the lists of their outputs";
                errors.at(e.for_token, how);
                None
            }
            Expr::Lit(_) | Expr::Array(_) | Expr::Unary(_) | Expr::Tuple(_) => {
                errors.at(&local, "`let` names a task here; for a constant write `const X: .. = ..;`");
                None
            }
            e => {
                refuse_value(e, errors);
                None
            }
        }
    }

    fn tech(&mut self, naming: Naming, mac: &Macro, errors: &mut Errors) -> Option<Statement> {
        let keyword = &mac.path.segments.last()?.ident;
        let form = match keyword.to_string().as_str() {
            "tech" => Form::Tech,
            "sensor" => Form::Sensor,
            "trigger" => return self.trigger(naming, mac, keyword, errors),
            _ if naming.name.is_some() => {
                errors.at(
                    mac,
                    "this is a value and no task: write it where it is taken, in the argument of a call",
                );
                return None;
            }
            _ => {
                errors.at(mac, PLAN);
                return None;
            }
        };
        self.calls.find(mac);
        let call = TechCall::parse(mac.tokens.clone(), form, keyword.span(), errors)?;
        Some(Statement::Tech(Box::new(TechTask { naming, call, keyword: keyword.clone() })))
    }

    fn trigger(
        &mut self,
        naming: Naming,
        mac: &Macro,
        keyword: &Ident,
        errors: &mut Errors,
    ) -> Option<Statement> {
        self.calls.find(mac);
        let output = trigger::output(naming.output.as_ref(), errors);
        let call = TriggerCall::parse(mac.tokens.clone(), keyword.span(), errors)?;
        Some(Statement::Trigger(Box::new(TriggerTask { naming, output, call, keyword: keyword.clone() })))
    }

    fn call(&mut self, naming: Naming, call: ExprCall, errors: &mut Errors) -> Option<Statement> {
        if !matches!(&*call.func, Expr::Path(_)) {
            errors.at(&call.func, "a task calls a function by its name: `f(x)`");
            return None;
        }
        self.calls.find(&call);
        Some(Statement::Call(Box::new(CallTask { naming, call })))
    }

    /// `match` or `if`.
    fn branch(&mut self, mut naming: Naming, expression: Expr, errors: &mut Errors) -> Option<Statement> {
        match expression {
            Expr::Match(e) => {
                naming.options = naming.options.or_else(|| options(&e.attrs, errors));
                self.calls.find(&e.expr);
                let keyword = e.match_token.span;
                let arms = e.arms.into_iter().map(|arm| self.arm(arm, errors)).collect();
                let scrutinee = Some(*e.expr);
                Some(Statement::Branch(Box::new(Branch { naming, scrutinee, arms, keyword })))
            }
            Expr::If(e) => {
                naming.options = naming.options.or_else(|| options(&e.attrs, errors));
                let keyword = e.if_token.span;
                let mut arms = Vec::new();
                self.conditions(e, &mut arms, errors);
                Some(Statement::Branch(Box::new(Branch { naming, scrutinee: None, arms, keyword })))
            }
            _ => None,
        }
    }

    fn arm(&mut self, arm: MatchArm, errors: &mut Errors) -> Arm {
        for attribute in &arm.attrs {
            errors.at(attribute, "an arm has no attributes");
        }
        let label = written::tokens(&arm.pat);
        let (pattern, guard) = match arm.pat {
            Pat::Guard(guarded) => (guarded.pat, Some(guarded.guard)),
            pattern => (Box::new(pattern), None),
        };
        let end = end(&arm.body);
        let body = self.arm_body(*arm.body, errors);
        Arm { test: Test::Pattern(pattern, guard), body, label, end }
    }

    fn arm_body(&mut self, body: Expr, errors: &mut Errors) -> Block {
        if let Expr::Block(e) = body {
            return self.body(e.block.stmts, errors);
        }
        let mut block = Block::default();
        self.expression(body, true, &mut block, errors);
        block
    }

    /// `if a { .. } else if b { .. } else { .. }` is one branch of three arms.
    fn conditions(&mut self, e: ExprIf, arms: &mut Vec<Arm>, errors: &mut Errors) {
        self.calls.find(&e.cond);
        let label = written::tokens(&e.cond);
        let end = e.then_branch.brace_token.span.close();
        let body = self.body(e.then_branch.stmts, errors);
        arms.push(Arm { test: Test::Condition(e.cond), body, label, end });
        match e.else_branch.map(|(_, otherwise)| *otherwise) {
            Some(Expr::If(e)) => self.conditions(e, arms, errors),
            otherwise => {
                let body = otherwise.map(|body| self.arm_body(body, errors)).unwrap_or_default();
                arms.push(Arm { test: Test::Otherwise, body, label: "else".to_owned(), end });
            }
        }
    }
}

/// The last token of an expression.
fn end(expression: &Expr) -> Span {
    match expression.to_token_stream().into_iter().last() {
        Some(TokenTree::Group(group)) => group.span_close(),
        Some(token) => token.span(),
        None => expression.span(),
    }
}

/// The options that a statement has for its task.
fn options(attributes: &[Attribute], errors: &mut Errors) -> Option<TaskOptions> {
    let (task, rest): (Vec<_>, Vec<_>) =
        attributes.iter().cloned().partition(|attribute| attribute.path().is_ident("task"));
    for attribute in rest.iter().filter(|attribute| !attribute.path().is_ident("doc")) {
        let message = match attribute.path().is_ident("cfg") {
            true => "a statement of a biz has no `#[cfg]`: the DAG would differ from build to build",
            false => "a statement of a biz has no attributes but `#[task(..)]`",
        };
        errors.at(attribute, message);
    }
    function::options(&task, errors)
}

/// The attributes in front of an order: syn gives them to its leftmost operand.
fn order_attributes(expression: &Expr) -> &[Attribute] {
    match expression {
        Expr::Binary(binary) if binary.attrs.is_empty() => order_attributes(&binary.left),
        Expr::Binary(binary) => &binary.attrs,
        Expr::Path(path) => &path.attrs,
        Expr::Field(field) if field.attrs.is_empty() => order_attributes(&field.base),
        Expr::Field(field) => &field.attrs,
        Expr::Array(list) => &list.attrs,
        Expr::Paren(inner) => &inner.attrs,
        _ => &[],
    }
}

fn is_ok(call: &ExprCall) -> bool {
    matches!(&*call.func, Expr::Path(path) if path.path.is_ident("Ok"))
}

/// Whether this is a call with `.await`, `?` and the like behind it.
fn runs(expression: &Expr) -> Option<&'static str> {
    match expression {
        Expr::Await(e) => runs(&e.base).or(Some("f(x)")),
        Expr::Try(e) => runs(&e.expr).or(Some("f(x)")),
        Expr::MethodCall(e) => runs(&e.receiver),
        Expr::Macro(e) if e.mac.path.segments.last().is_some_and(|last| last.ident == "tech") => {
            Some("tech!")
        }
        _ => None,
    }
}

/// Says why an expression is no part of a plan.
fn refuse(expression: &Expr, errors: &mut Errors) {
    match expression {
        e if runs(e) == Some("tech!") => {
            let message =
                "`tech!` names a task, which the engine runs and awaits: leave away what is around it";
            errors.at(e, message);
        }
        Expr::Await(e) => {
            let message = "a plan awaits nothing: the engine runs a task and awaits it; leave away `.await`";
            errors.at(e, message);
        }
        Expr::Try(e) if matches!(&*e.expr, Expr::Await(_)) => {
            let message =
                "a plan awaits nothing, and a task that fails ends as its options say: leave away `.await?`";
            errors.at(e, message);
        }
        Expr::Try(e) if matches!(&*e.expr, Expr::Call(_)) => {
            errors.at(e, "a task that fails ends as its options say: leave away `?`");
        }
        // Names and lists between other operators are meant as an order.
        Expr::Binary(e) if [&e.left, &e.right].iter().all(|side| Order::is_operand(side)) => {
            _ = Order::parse(expression, errors);
        }
        Expr::While(_) | Expr::Loop(_) => {
            let how = "how often something happens is known before it begins: `for item in list`; to wait for something \
                       there is `sensor!`";
            errors.at(expression, how);
        }
        Expr::Break(_) | Expr::Continue(_) => {
            errors.at(expression, "nothing in a plan is left early: a branch says what is done")
        }
        e => errors.at(e, PLAN),
    }
}

/// Says why the value of a `let` is no task.
fn refuse_value(expression: &Expr, errors: &mut Errors) {
    match expression {
        Expr::Path(_) | Expr::Field(_) => {
            errors.at(expression, "this has a name already: take it by that, where it is needed");
        }
        Expr::MethodCall(_)
        | Expr::Binary(_)
        | Expr::Index(_)
        | Expr::Closure(_)
        | Expr::Struct(_)
        | Expr::Range(_)
            if runs(expression).is_none() && !Order::is_one(expression) =>
        {
            errors.at(
                expression,
                "this is a value and no task: write it where it is taken, in the argument of a call",
            );
        }
        e => refuse(e, errors),
    }
}
