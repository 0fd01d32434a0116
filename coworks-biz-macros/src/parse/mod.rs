//! From tokens to plain data: what the user has written, each piece on its own.

pub mod options;
pub mod order;
pub mod tech;
pub mod value;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, FnArg, GenericArgument, Ident, Item, ItemFn, Lit, Local, Macro, Meta, Pat,
    PathArguments, ReturnType, Stmt, Type, Visibility,
};

use self::options::{BizOptions, TaskOptions};
use self::order::Order;
use self::tech::TechCall;
use crate::errors::Errors;

/// A `#[biz]` function.
pub struct Biz {
    /// All attributes of the function, doc comments among them.
    pub attributes: Vec<Attribute>,
    pub visibility: Visibility,
    pub name: Ident,
    pub options: BizOptions,
    /// The text of the doc comment.
    pub description: String,
    /// The type of its `conf`.
    pub conf: Option<Type>,
    /// Items of the body that are no tasks.
    pub items: Vec<Item>,
    pub statements: Vec<Statement>,
}

/// What a line of the body says.
pub enum Statement {
    Tech(Box<TechTask>),
    Function(Box<FunctionTask>),
    Order(Order),
}

/// `let x: T = tech!(..);`
pub struct TechTask {
    /// `None` without a `let`.
    pub name: Option<Ident>,
    pub output: Option<Type>,
    pub call: TechCall,
    /// The word `tech`.
    pub keyword: Ident,
}

/// `#[task] async fn f(..) -> Result<T> { .. }`
pub struct FunctionTask {
    /// The function without `#[task]`.
    pub item: ItemFn,
    pub options: TaskOptions,
    pub parameters: Vec<Parameter>,
    /// The `T` of its `Result<T>`; `None` where the return type does not show it.
    pub output: Option<Type>,
}

pub struct Parameter {
    /// `None` for a pattern.
    pub name: Option<Ident>,
    pub ty: Type,
}

/// Reads the function under `#[biz(options)]`.
pub fn biz(options: TokenStream, function: ItemFn, errors: &mut Errors) -> Biz {
    let options = BizOptions::parse(options, errors);
    let ItemFn { attrs, vis, sig, block, .. } = function;
    if let Some(token) = &sig.asyncness {
        errors.at(token, "a biz is a plan and awaits nothing: remove `async`");
    }
    if !sig.generics.params.is_empty() {
        errors.at(&sig.generics, "a biz is one DAG, and so has no type parameters");
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        errors.at(ty, "a biz returns nothing: its body is a plan that never runs");
    }
    let conf = parameters_of_biz(sig.inputs.iter(), errors);
    let mut biz = Biz {
        description: description(&attrs),
        attributes: attrs,
        visibility: vis,
        name: sig.ident,
        options,
        conf,
        items: Vec::new(),
        statements: Vec::new(),
    };
    for statement in block.stmts {
        biz.statement(statement, errors);
    }
    biz
}

fn parameters_of_biz<'a>(inputs: impl Iterator<Item = &'a FnArg>, errors: &mut Errors) -> Option<Type> {
    let mut conf = None;
    for input in inputs {
        match input {
            FnArg::Typed(typed) => match &*typed.pat {
                Pat::Ident(name) if name.ident == "conf" => conf = Some((*typed.ty).clone()),
                Pat::Ident(name) if name.ident == "ctx" => {}
                other => errors
                    .at(other, "a biz takes `conf: T`, what its runs are triggered with, and `ctx: Context`"),
            },
            FnArg::Receiver(receiver) => errors.at(receiver, "a biz is a function, not a method"),
        }
    }
    conf
}

impl Biz {
    fn statement(&mut self, statement: Stmt, errors: &mut Errors) {
        match statement {
            Stmt::Local(local) => {
                if let Some(task) = let_task(&local, errors) {
                    self.statements.push(Statement::Tech(Box::new(task)));
                }
            }
            Stmt::Item(Item::Fn(item)) => match item.attrs.iter().any(|a| a.path().is_ident("task")) {
                true => self.statements.push(Statement::Function(Box::new(function(item, errors)))),
                false => self.items.push(Item::Fn(item)),
            },
            Stmt::Item(item) => self.items.push(item),
            Stmt::Macro(statement) => {
                refuse_attributes(&statement.attrs, errors);
                self.call(None, None, &statement.mac, errors);
            }
            Stmt::Expr(Expr::Macro(expression), _) => {
                refuse_attributes(&expression.attrs, errors);
                self.call(None, None, &expression.mac, errors);
            }
            Stmt::Expr(expression, _) if Order::is_one(&expression) => {
                refuse_attributes(attributes_of(&expression), errors);
                self.statements.extend(Order::parse(&expression, errors).map(Statement::Order));
            }
            Stmt::Expr(expression, _) => other(&expression, errors),
        }
    }

    fn call(&mut self, name: Option<Ident>, output: Option<Type>, mac: &Macro, errors: &mut Errors) {
        if let Some(task) = call(name, output, mac, errors) {
            self.statements.push(Statement::Tech(Box::new(task)));
        }
    }
}

const PLAN: &str =
    "a biz body is a plan: it is read when compiled and never runs; put this in a `#[task]` function";

/// A statement has options of a task at most, and those come in a later version.
fn refuse_attributes(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes.iter().filter(|attribute| !attribute.path().is_ident("doc")) {
        if attribute.path().is_ident("task") {
            errors.at(attribute, "`#[task]` on a statement is not supported by this version yet");
        } else if attribute.path().is_ident("cfg") {
            errors.at(
                attribute,
                "a statement of a biz has no `#[cfg]`: the DAG would differ from build to build",
            );
        } else {
            errors.at(attribute, "a statement of a biz has no attributes");
        }
    }
}

/// The attributes in front of an order: syn gives them to its leftmost operand.
fn attributes_of(expression: &Expr) -> &[Attribute] {
    match expression {
        Expr::Binary(binary) if binary.attrs.is_empty() => attributes_of(&binary.left),
        Expr::Binary(binary) => &binary.attrs,
        Expr::Path(path) => &path.attrs,
        Expr::Field(field) if field.attrs.is_empty() => attributes_of(&field.base),
        Expr::Field(field) => &field.attrs,
        Expr::Array(list) => &list.attrs,
        Expr::Paren(inner) => &inner.attrs,
        _ => &[],
    }
}

/// `let x: T = tech!(..);`
fn let_task(local: &Local, errors: &mut Errors) -> Option<TechTask> {
    refuse_attributes(&local.attrs, errors);
    let (pattern, output) = match &local.pat {
        Pat::Type(typed) => (&*typed.pat, Some((*typed.ty).clone())),
        pattern => (pattern, None),
    };
    let Some(init) = &local.init else {
        errors.at(local, "`let` names a task here: `let x: T = tech!(..);`");
        return None;
    };
    if let Some((otherwise, _)) = &init.diverge {
        errors.at(otherwise, PLAN);
    }
    let name = match pattern {
        Pat::Ident(name) if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() => {
            Some(name.ident.clone())
        }
        other => {
            errors.at(other, "`let` names a task here, with one word and without `mut`");
            None
        }
    };
    match &*init.expr {
        Expr::Macro(expression) => call(Some(name?), output, &expression.mac, errors),
        Expr::Lit(_) | Expr::Array(_) | Expr::Unary(_) | Expr::Tuple(_) => {
            errors.at(local, "`let` names a task here; for a constant write `const X: .. = ..;`");
            None
        }
        Expr::Call(call) => later(call, "a call of a function as a task", errors),
        expression if calls_tech(expression) => {
            errors.at(
                expression,
                "`tech!` names a task, which the engine runs and awaits: leave away what is around it",
            );
            None
        }
        expression => {
            other(expression, errors);
            None
        }
    }
}

fn call(name: Option<Ident>, output: Option<Type>, mac: &Macro, errors: &mut Errors) -> Option<TechTask> {
    let keyword = &mac.path.segments.last()?.ident;
    match keyword.to_string().as_str() {
        "tech" => {
            let call = TechCall::parse(mac.tokens.clone(), keyword.span(), errors)?;
            Some(TechTask { name, output, call, keyword: keyword.clone() })
        }
        "sensor" => later(mac, "`sensor!`", errors),
        _ => {
            errors.at(mac, PLAN);
            None
        }
    }
}

/// Whether this is `tech!(..)` with `.await`, `?` and the like behind it.
fn calls_tech(expression: &Expr) -> bool {
    match expression {
        Expr::Await(e) => calls_tech(&e.base),
        Expr::Try(e) => calls_tech(&e.expr),
        Expr::MethodCall(e) => calls_tech(&e.receiver),
        Expr::Macro(e) => e.mac.path.segments.last().is_some_and(|last| last.ident == "tech"),
        _ => false,
    }
}

/// A statement that is neither a task nor an order.
fn other(expression: &Expr, errors: &mut Errors) {
    match expression {
        Expr::Match(e) => _ = later::<()>(e.match_token, "`match` in a biz", errors),
        Expr::If(e) => _ = later::<()>(e.if_token, "`if` in a biz", errors),
        Expr::ForLoop(e) => _ = later::<()>(e.for_token, "`for` in a biz", errors),
        Expr::Block(e) => _ = later::<()>(e, "a task group", errors),
        Expr::Call(e) if matches!(&*e.func, Expr::Path(path) if path.path.is_ident("Ok")) => {
            errors.at(e, "a biz returns nothing: leave this away");
        }
        Expr::Call(e) => _ = later::<()>(e, "a call of a function as a task", errors),
        e if calls_tech(e) => {
            errors.at(
                e,
                "`tech!` names a task, which the engine runs and awaits: leave away what is around it",
            );
        }
        // Names and lists between other operators are meant as an order.
        Expr::Binary(e) if [&e.left, &e.right].iter().all(|side| Order::is_operand(side)) => {
            _ = Order::parse(expression, errors);
        }
        _ => errors.at(expression, PLAN),
    }
}

fn later<T>(tokens: impl ToTokens, what: &str, errors: &mut Errors) -> Option<T> {
    errors.at(tokens, format!("{what} is not supported by this version yet"));
    None
}

fn function(mut item: ItemFn, errors: &mut Errors) -> FunctionTask {
    let (task, rest): (Vec<_>, Vec<_>) = item.attrs.into_iter().partition(|a| a.path().is_ident("task"));
    item.attrs = rest;
    let mut options = TaskOptions::default();
    if let Some(second) = task.get(1) {
        errors.at(second, "`#[task]` is given twice");
    }
    for attribute in &task {
        match &attribute.meta {
            Meta::Path(_) => {}
            Meta::List(list) => {
                let read = |input: ParseStream| Ok(TaskOptions::parse(input, errors));
                match read.parse2(list.tokens.clone()) {
                    Ok(read) => options = read,
                    Err(error) => errors.add(error),
                }
            }
            Meta::NameValue(pair) => errors.at(pair, "options are written `#[task(retries = 3)]`"),
        }
    }
    if let Some(cfg) = item.attrs.iter().find(|a| a.path().is_ident("cfg")) {
        errors.at(cfg, "a task has no `#[cfg]`: the DAG would differ from build to build");
    }
    if !item.sig.generics.params.is_empty() {
        errors.at(&item.sig.generics, "a task has no type parameters: its inputs are what the DAG gives it");
    }
    let parameters = item.sig.inputs.iter().filter_map(|input| parameter(input, errors)).collect();
    let output = output(&item.sig.output);
    FunctionTask { item, options, parameters, output }
}

fn parameter(input: &FnArg, errors: &mut Errors) -> Option<Parameter> {
    match input {
        FnArg::Receiver(receiver) => {
            errors.at(receiver, "a task is a function, not a method");
            None
        }
        FnArg::Typed(typed) => {
            if let Type::Reference(reference) = &*typed.ty {
                let owned = reference.elem.to_token_stream().to_string();
                let owned = if owned == "str" { "String".to_owned() } else { owned };
                errors.at(
                    reference,
                    format!("a task owns its inputs, for each decodes its own copy: take `{owned}`"),
                );
                return None;
            }
            let name = match &*typed.pat {
                Pat::Ident(name) => Some(name.ident.clone()),
                _ => None,
            };
            Some(Parameter { name, ty: (*typed.ty).clone() })
        }
    }
}

/// The `T` of `Result<T>`, or `()` where nothing is returned.
fn output(written: &ReturnType) -> Option<Type> {
    let ReturnType::Type(_, ty) = written else { return Some(syn::parse_quote!(())) };
    let Type::Path(path) = &**ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    }
}

fn description(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The line of a token, from 1.
pub fn line(tokens: impl Spanned) -> u32 {
    u32::try_from(tokens.span().start().line).unwrap_or(u32::MAX)
}
