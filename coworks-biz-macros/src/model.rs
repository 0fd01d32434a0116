//! Names become tasks: the graph as indexes, still with the user's tokens at hand.

use std::collections::{HashMap, HashSet};

use proc_macro2::Span;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{GenericArgument, PathArguments, Type};

use crate::errors::{Errors, did_you_mean, meant};
use crate::parse::options::TaskOptions;
use crate::parse::order::Order;
use crate::parse::tech::Asynchronous;
use crate::parse::{Biz, FunctionTask, Parameter, Statement, TechTask, line};

/// The graph.
pub struct Model<'a> {
    pub biz: &'a Biz,
    pub tasks: Vec<Task<'a>>,
    /// Each pair once.
    pub edges: Vec<Edge>,
}

pub struct Task<'a> {
    pub id: String,
    /// Where it is named.
    pub span: Span,
    pub kind: Kind<'a>,
    /// The upstreams whose output it takes, in the order it takes them.
    pub inputs: Vec<usize>,
    /// The type of its output as it is written.
    pub output: Option<&'a Type>,
}

pub enum Kind<'a> {
    Function {
        task: &'a FunctionTask,
        arguments: Vec<Argument<'a>>,
    },
    Call(&'a TechTask),
    Submit(&'a TechTask, &'a Asynchronous),
    /// With the index of its group's `call`.
    Wait(usize),
    Read(usize),
}

/// What a parameter of a function gets.
pub enum Argument<'a> {
    /// The output of a task. `optional` where the trigger rule lets the function run without it.
    Output { parameter: &'a Parameter, task: usize, optional: bool },
    /// What the run was triggered with.
    Conf(&'a Parameter),
    /// An extractor.
    Extractor(&'a Parameter),
}

pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// What says so: a `>>`, or a parameter.
    pub span: Span,
}

/// What a name stands for.
struct Named {
    /// The tasks that come first in it.
    entry: usize,
    /// The task that comes last in it, and gives its output.
    exit: usize,
    span: Span,
    /// By the names of its members, when it is a group.
    members: Vec<(&'static str, usize)>,
}

impl<'a> Model<'a> {
    pub fn of(biz: &'a Biz, errors: &mut Errors) -> Self {
        let mut builder =
            Builder { biz, tasks: vec![], edges: vec![], seen: HashSet::new(), names: HashMap::new() };
        for statement in &biz.statements {
            match statement {
                Statement::Tech(task) => builder.tech(task, errors),
                Statement::Function(task) => builder.function(task, errors),
                Statement::Order(_) => {}
            }
        }
        // A task may be used above the line that names it.
        builder.bind(errors);
        for statement in &biz.statements {
            if let Statement::Order(order) = statement {
                builder.order(order, errors);
            }
        }
        Self { biz, tasks: builder.tasks, edges: builder.edges }
    }
}

struct Builder<'a> {
    biz: &'a Biz,
    tasks: Vec<Task<'a>>,
    edges: Vec<Edge>,
    seen: HashSet<(usize, usize)>,
    names: HashMap<String, Named>,
}

impl<'a> Builder<'a> {
    fn tech(&mut self, task: &'a TechTask, errors: &mut Errors) {
        let (name, span) = match &task.name {
            Some(name) => (name.unraw().to_string(), name.span()),
            None => (self.free_name(&service_name(task)), task.keyword.span()),
        };
        let output = task.output.as_ref();
        let first = self.tasks.len();
        let mut add = |id: String, kind, output| {
            self.tasks.push(Task { id, span, kind, inputs: vec![], output });
        };
        let Some(asynchronous) = &task.call.asynchronous else {
            add(name.clone(), Kind::Call(task), output);
            self.name(name, Named { entry: first, exit: first, span, members: vec![] }, errors);
            return;
        };
        add(format!("{name}.call"), Kind::Submit(task, asynchronous), None);
        add(format!("{name}.wait"), Kind::Wait(first), None);
        add(format!("{name}.read"), Kind::Read(first), output);
        self.edge(first, first + 1, span);
        self.edge(first + 1, first + 2, span);
        let members = vec![("call", first), ("wait", first + 1), ("read", first + 2)];
        self.name(name, Named { entry: first, exit: first + 2, span, members }, errors);
    }

    fn function(&mut self, task: &'a FunctionTask, errors: &mut Errors) {
        let name = &task.item.sig.ident;
        let index = self.tasks.len();
        self.tasks.push(Task {
            id: name.unraw().to_string(),
            span: name.span(),
            kind: Kind::Function { task, arguments: vec![] },
            inputs: vec![],
            output: task.output.as_ref(),
        });
        let named = Named { entry: index, exit: index, span: name.span(), members: vec![] };
        self.name(name.unraw().to_string(), named, errors);
    }

    fn name(&mut self, name: String, named: Named, errors: &mut Errors) {
        if ["conf", "ctx"].contains(&name.as_str()) {
            errors.under(
                named.span,
                format!("`{name}` is a name of its own in a biz; call the task something else"),
            );
        }
        if !name.is_ascii() {
            let message =
                "a task is named in ASCII: its name is part of the headers and keys that services get";
            errors.under(named.span, message);
        }
        if let Some(first) = self.names.get(&name) {
            let line = line(first.span);
            errors.under(named.span, format!("there is already a task `{name}` in this biz, on line {line}"));
            return;
        }
        self.names.insert(name, named);
    }

    /// The name, or the name with the first number that makes it new.
    fn free_name(&self, name: &str) -> String {
        let mut candidates = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}_{n}")));
        candidates.find(|name| !self.names.contains_key(name)).unwrap_or_default()
    }

    /// Gives each parameter its task.
    fn bind(&mut self, errors: &mut Errors) {
        for index in 0..self.tasks.len() {
            let Kind::Function { task, .. } = &self.tasks[index].kind else { continue };
            let task = *task;
            let bound: Vec<_> =
                task.parameters.iter().map(|parameter| self.argument(index, parameter, errors)).collect();
            let bound: Vec<_> = bound.into_iter().flatten().collect();
            let inputs = bound.iter().filter_map(|argument| match argument {
                Argument::Output { task, .. } => Some(*task),
                _ => None,
            });
            self.tasks[index].inputs = inputs.collect();
            if let Kind::Function { arguments, .. } = &mut self.tasks[index].kind {
                *arguments = bound;
            }
        }
    }

    fn argument(&mut self, of: usize, parameter: &'a Parameter, errors: &mut Errors) -> Option<Argument<'a>> {
        let Some(name) = &parameter.name else { return Some(Argument::Extractor(parameter)) };
        let word = name.unraw().to_string();
        if word == "conf" && !is_extractor(&parameter.ty) {
            return Some(Argument::Conf(parameter));
        }
        let Some(named) = self.names.get(&word) else {
            // An extractor may have any name; a slip in the name of a task is told before rustc tells less.
            let own = &self.tasks[of].id;
            let names = self.names.keys().map(String::as_str).filter(|name| name != own);
            let meant = meant(&word, names).filter(|meant| self.is_slip(meant, &parameter.ty));
            if let Some(meant) = meant {
                let (biz, ty) = (&self.biz.name, written(&parameter.ty));
                errors.under(name.span(), format!(
                    "`{word}` is not a task of biz `{biz}`, and `{ty}` is not an extractor; did you mean the task `{meant}`?"
                ));
                return None;
            }
            return Some(Argument::Extractor(parameter));
        };
        let exit = named.exit;
        if exit == of {
            errors.under(name.span(), "a task cannot take its own output");
            return None;
        }
        if self.tasks[exit].output.is_none() {
            self.untyped(exit, &word, name.span(), errors);
            return None;
        }
        self.edge(exit, of, name.span());
        let optional = self.may_miss(of);
        let given = self.tasks[exit].output.map(written).unwrap_or_default();
        if optional && option_of(&parameter.ty).is_none() {
            let of = &self.tasks[of].id;
            errors.at(
                &parameter.ty,
                format!("task `{of}` may run without an output of `{word}`: take `Option<{given}>`"),
            );
            return None;
        }
        if optional && self.tasks[exit].output.is_some_and(|ty| option_of(ty).is_some()) {
            let message = format!(
                "`{word}` gives `{given}`, and may give nothing: which `None` would it be? let `{word}` return \
                 something else, or run this task with `trigger_rule = all_success`"
            );
            errors.under(name.span(), message);
            return None;
        }
        Some(Argument::Output { parameter, task: exit, optional })
    }

    /// Whether the trigger rule of a task lets it run while an upstream has no output.
    fn may_miss(&self, task: usize) -> bool {
        let own = match &self.tasks[task].kind {
            Kind::Function { task, .. } => task.options.trigger_rule,
            _ => None,
        };
        own.or(self.biz.options.task.trigger_rule).is_some_and(|rule| rule != "AllSuccess")
    }

    /// Whether a parameter that is called almost like a task is surely meant as its output:
    /// no extractor has its type.
    fn is_slip(&self, task: &str, ty: &Type) -> bool {
        let exit = self.names.get(task).map(|named| named.exit);
        let given = exit.and_then(|exit| self.tasks[exit].output).map(written);
        given == Some(written(ty)) || is_plain(ty)
    }

    fn untyped(&self, task: usize, name: &str, span: Span, errors: &mut Errors) {
        match &self.tasks[task].kind {
            Kind::Function { task, .. } => {
                let returns = &task.item.sig.output;
                errors.at(returns, format!("`{name}` is taken by another task: write its type as `Result<T>`"));
            }
            _ => errors.under(span, format!(
                "what does `{name}` answer? write its type, or `Value` for any JSON: `let {name}: Value = ..`"
            )),
        }
    }

    fn edge(&mut self, from: usize, to: usize, span: Span) {
        if self.seen.insert((from, to)) {
            self.edges.push(Edge { from, to, span });
        }
    }

    /// Adds the edges of an order; answers with the entries and the exits of the whole.
    fn order(&mut self, order: &Order, errors: &mut Errors) -> Ends {
        match order {
            Order::Name(name) => {
                let word = name.unraw().to_string();
                match self.names.get(&word) {
                    Some(named) => Ends { entries: vec![named.entry], exits: vec![named.exit] },
                    None => {
                        self.no_task(name, errors);
                        Ends::default()
                    }
                }
            }
            Order::Member(group, member) => self.member(group, member, errors),
            Order::List(list) => {
                let mut ends = Ends::default();
                for item in list {
                    let Ends { entries, exits } = self.order(item, errors);
                    ends.entries.extend(entries);
                    ends.exits.extend(exits);
                }
                ends
            }
            Order::Then { before, after, operator, reversed } => {
                // In the order in which they are written, and so are their errors.
                let (before, after) = if *reversed {
                    let after = self.order(after, errors);
                    (self.order(before, errors), after)
                } else {
                    (self.order(before, errors), self.order(after, errors))
                };
                for &from in &before.exits {
                    for &to in &after.entries {
                        self.edge(from, to, *operator);
                    }
                }
                Ends { entries: before.entries, exits: after.exits }
            }
        }
    }

    fn no_task(&self, name: &syn::Ident, errors: &mut Errors) {
        let word = name.unraw().to_string();
        let plain =
            self.biz.items.iter().any(|item| matches!(item, syn::Item::Fn(item) if item.sig.ident == *name));
        if plain {
            errors.under(
                name.span(),
                format!("`{word}` is a function and no task: put `#[task]` in front of it"),
            );
            return;
        }
        let meant = did_you_mean(&word, self.names.keys().map(String::as_str));
        errors.under(name.span(), format!("there is no task `{word}` in this biz{meant}"));
    }

    fn member(&self, group: &syn::Ident, member: &syn::Ident, errors: &mut Errors) -> Ends {
        let (word, part) = (group.unraw().to_string(), member.unraw().to_string());
        let Some(named) = self.names.get(&word) else {
            self.no_task(group, errors);
            return Ends::default();
        };
        match named.members.iter().find(|(name, _)| *name == part) {
            Some(&(_, task)) => Ends { entries: vec![task], exits: vec![task] },
            None if named.members.is_empty() => {
                errors.under(member.span(), format!("`{word}` is one task and has no members"));
                Ends::default()
            }
            None => {
                let all: Vec<_> = named.members.iter().map(|(name, _)| format!("`{name}`")).collect();
                errors.under(
                    member.span(),
                    format!("`{word}` has no member `{part}`; it has {}", all.join(", ")),
                );
                Ends::default()
            }
        }
    }
}

#[derive(Default)]
struct Ends {
    entries: Vec<usize>,
    exits: Vec<usize>,
}

/// Whether a type is one of the extractors that are known by name.
fn is_extractor(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| ["Context", "Conf"].iter().any(|name| last.ident == name)),
        _ => false,
    }
}

/// Whether a type is one of the standard library's that is surely no extractor.
fn is_plain(ty: &Type) -> bool {
    const PLAIN: [&str; 20] = [
        "String", "Vec", "Option", "HashMap", "BTreeMap", "Value", "Bytes", "bool", "char", "f32", "f64",
        "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "usize",
    ];
    match ty {
        Type::Path(path) => {
            path.path.segments.last().is_some_and(|last| PLAIN.iter().any(|name| last.ident == name))
        }
        Type::Tuple(_) => true,
        _ => false,
    }
}

/// The `T` of `Option<T>`.
fn option_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// A type as people write it.
pub fn written(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    [
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" <", "<"),
        (" :: ", "::"),
        (" ,", ","),
        ("& ", "&"),
        ("( ", "("),
        (" )", ")"),
    ]
    .iter()
    .fold(spaced, |text, (from, to)| text.replace(from, to))
}

/// The name of a call that has none: its service and its path, `xxxx_customers_new`.
fn service_name(task: &TechTask) -> String {
    use crate::parse::tech::Service;
    let service = match &task.call.service {
        Service::Api { api_id, .. } => api_id.as_str(),
        Service::Url(url) => url.split("://").last().unwrap_or(url),
    };
    let path = task.call.path.value();
    let name = format!("{service}_{path}");
    let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.join("_")
}

impl Task<'_> {
    /// What `#[task(..)]` on it says.
    pub fn options(&self) -> Option<&TaskOptions> {
        match &self.kind {
            Kind::Function { task, .. } => Some(&task.options).filter(|options| !options.is_empty()),
            _ => None,
        }
    }
}
