//! Walks the plan: every statement becomes its tasks, at their place.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, Ident};

use super::names::{Named, Of, Scope, Value, Variables, What};
use super::{Builder, Edge, Gate, Kind, Lazy, Output, Place, Role, Task};
use crate::errors::Errors;
use crate::parse::call::{self, Service};
use crate::parse::function::FunctionTask;
use crate::parse::options::TaskOptions;
use crate::parse::plan::{
    Block, Branch, CallTask, Group, Loop, Statement, Tail, TechTask, Test, TriggerTask, callee,
};
use crate::parse::{line, uses};

impl<'a> Builder<'a> {
    /// Finds what the user has named, which names that are made up must not take,
    /// and which functions are called and so are no tasks by themselves.
    pub(super) fn survey(&mut self, block: &'a Block) {
        let mut name = |name: Option<&Ident>| {
            self.taken.extend(name.map(|name| name.unraw().to_string()));
        };
        for statement in &block.statements {
            match statement {
                Statement::Tech(task) => name(task.naming.name.as_ref()),
                Statement::Trigger(task) => name(task.naming.name.as_ref()),
                Statement::Call(task) => name(task.naming.name.as_ref().or(callee(&task.call))),
                Statement::Function(task) => name(Some(&task.item.sig.ident)),
                Statement::Branch(branch) => name(branch.naming.name.as_ref()),
                Statement::Group(group) => name(Some(&group.name)),
                Statement::Loop(_) | Statement::Order(_) => {}
            }
        }
        for statement in &block.statements {
            match statement {
                Statement::Call(task) => {
                    self.called.extend(function_name(&task.call).map(|name| name.unraw().to_string()));
                }
                Statement::Tech(task) => {
                    if let call::Kind::Async { transformer: Some(call), .. } = &task.call.kind {
                        self.called.extend(function_name(call).map(|name| name.unraw().to_string()));
                    }
                }
                Statement::Function(task) => {
                    self.functions.entry(task.item.sig.ident.unraw().to_string()).or_insert(task);
                }
                Statement::Branch(branch) => branch.arms.iter().for_each(|arm| self.survey(&arm.body)),
                Statement::Loop(each) => self.survey(&each.body),
                Statement::Group(group) => self.survey(&group.body),
                Statement::Trigger(_) | Statement::Order(_) => {}
            }
        }
    }

    /// Declares the tasks of a block. `wanted` where its value is used.
    pub(super) fn block(
        &mut self,
        block: &'a Block,
        place: Place,
        wanted: bool,
        errors: &mut Errors,
    ) -> Option<Value<'a>> {
        let mut value = None;
        for (index, statement) in block.statements.iter().enumerate() {
            let last = index + 1 == block.statements.len();
            let tail = match &block.tail {
                Tail::Last(span) if wanted && last => Some(*span),
                _ => None,
            };
            let task = match statement {
                Statement::Tech(task) => Some(self.tech(task, place, errors)),
                Statement::Trigger(task) => Some(self.trigger(task, place, errors)),
                Statement::Call(task) => {
                    Some(self.call(task, place, matches!(block.tail, Tail::Last(_)) && last, errors))
                }
                Statement::Function(task) => {
                    self.function(task, place, errors);
                    None
                }
                Statement::Branch(branch) => self.branch(branch, place, tail.is_some(), errors),
                Statement::Loop(each) => {
                    self.each(each, place, errors);
                    None
                }
                Statement::Group(group) => {
                    self.group(group, place, errors);
                    None
                }
                Statement::Order(_) => None,
            };
            value = tail.and_then(|span| Some(Value::Task(task?, span)));
        }
        match &block.tail {
            Tail::Name(name) if wanted => Some(Value::Name(name, place)),
            Tail::Name(name) => {
                let message =
                    format!("`{name}` alone says nothing here: a task is made by a call, `{name}(..)`");
                errors.under(name.span(), message);
                None
            }
            Tail::Last(_) | Tail::None | Tail::Refused => value,
        }
    }

    fn push(&mut self, id: String, span: Span, kind: Kind<'a>, output: Output<'a>, place: Place) -> usize {
        let index = self.tasks.len();
        if let Some(gate) = place.gate {
            self.edges.push(Edge { from: gate.task, to: index, span, gate: true });
        }
        self.tasks.push(Task {
            id,
            span,
            kind,
            inputs: vec![],
            output,
            gate: place.gate,
            map: place.map,
            options: TaskOptions::default(),
            role: Role::Work,
            meant: vec![],
            place,
        });
        index
    }

    /// The id of a task with this name at this place.
    fn id(&self, name: &str, options: &TaskOptions, place: Place) -> String {
        let prefix = &self.scopes[place.scope].prefix;
        match &options.id {
            Some(id) => format!("{prefix}{}", id.value()),
            None => format!("{prefix}{name}"),
        }
    }

    fn one(&mut self, name: String, task: usize, place: Place, errors: &mut Errors) {
        let span = self.tasks[task].span;
        let named = Named { span, what: What::Task { members: vec![] }, tasks: task..task + 1 };
        self.declare(name, named, place, errors);
    }

    fn tech(&mut self, task: &'a TechTask, place: Place, errors: &mut Errors) -> usize {
        let (name, span) = match &task.naming.name {
            Some(name) => (name.unraw().to_string(), name.span()),
            None => (self.free_name(&service_name(task)), task.keyword.span()),
        };
        let options = task.naming.options.clone().unwrap_or_default();
        let id = self.id(&name, &options, place);
        let output = task.naming.output.as_ref().map_or(Output::Unknown, Output::Written);
        let transformer = match &task.call.kind {
            call::Kind::Async { transformer, .. } => transformer.as_ref(),
            kind => {
                let kind = match kind {
                    call::Kind::Sensor { .. } => Kind::Sensor(task, Lazy::default()),
                    _ => Kind::Call(task, Lazy::default()),
                };
                let index = self.push(id, span, kind, output, place);
                self.role(index..index + 1, &options);
                self.tasks[index].options = options;
                self.one(name, index, place, errors);
                return index;
            }
        };
        let first = self.tasks.len();
        let mut members = vec![];
        if let Some(call) = transformer {
            let kind = Kind::Invoke { call, uses: vec![], blocking: self.is_blocking(call), annotated: None };
            members.push((
                "transformer",
                self.push(format!("{id}.transformer"), span, kind, Output::Callee(call), place),
            ));
        }
        let submit = self.push(
            format!("{id}.call"),
            span,
            Kind::Submit(task, Lazy::default()),
            Output::Unknown,
            place,
        );
        let wait = self.push(format!("{id}.wait"), span, Kind::Wait(submit), Output::Unknown, place);
        let read = self.push(format!("{id}.read"), span, Kind::Read(submit), output, place);
        members.extend([("call", submit), ("wait", wait), ("read", read)]);
        for index in first..read + 1 {
            // What lets the group run is decided at its first member.
            let rule = if index == first { options.trigger_rule } else { Some("AllSuccess") };
            self.tasks[index].options = TaskOptions { trigger_rule: rule, ..options.clone() };
            if index > first {
                self.edge(index - 1, index, span);
            }
        }
        self.role(first..read + 1, &options);
        let named = Named { span, what: What::Task { members }, tasks: first..read + 1 };
        self.declare(name, named, place, errors);
        read
    }

    /// What these tasks, which are one or the members of a call, are for others. Before the last of
    /// them nothing is set up. All of them take down, from the first on.
    fn role(&mut self, tasks: Range<usize>, options: &TaskOptions) {
        let (first, last) = (tasks.start, tasks.end - 1);
        if options.setup {
            self.tasks[last].role = Role::Setup;
        } else if options.teardown.is_some() {
            for task in tasks {
                self.tasks[task].role = Role::Teardown;
                if task > first {
                    // They wait for the first, and it for the setups.
                    self.tasks[task].options.teardown = None;
                }
            }
        }
    }

    fn trigger(&mut self, task: &'a TriggerTask, place: Place, errors: &mut Errors) -> usize {
        let (name, span) = match &task.naming.name {
            Some(name) => (name.unraw().to_string(), name.span()),
            None => {
                let biz = task.call.biz.segments.last().map(|last| last.ident.unraw().to_string());
                let name = format!("trigger_{}", biz.unwrap_or_default());
                (self.free_name(&name), task.keyword.span())
            }
        };
        let options = task.naming.options.clone().unwrap_or_default();
        let id = self.id(&name, &options, place);
        let kind = Kind::Trigger(task, vec![]);
        let index = self.push(id, span, kind, Output::Written(&task.output), place);
        self.role(index..index + 1, &options);
        self.tasks[index].options = options;
        self.one(name, index, place, errors);
        index
    }

    /// A call at the end of an arm stands where it cannot be given a name.
    fn call(&mut self, task: &'a CallTask, place: Place, ends: bool, errors: &mut Errors) -> usize {
        let name = task.naming.name.as_ref().or(callee(&task.call));
        let span = name.map_or_else(|| task.call.span(), Ident::span);
        let mut name = name.map(|name| name.unraw().to_string()).unwrap_or_default();
        if ends && task.naming.name.is_none() && self.scopes[place.scope].names.contains_key(&name) {
            self.ambiguous.insert(name.clone());
            name = self.free_name(&name);
        }
        let function = self.called_function(&task.call);
        let own = task.naming.options.clone().unwrap_or_default();
        let options = function.map_or(own.clone(), |function| own.or(&function.options));
        let output = match (&task.naming.output, self.callee_output(&task.call)) {
            (Some(ty), _) => Output::Written(ty),
            (None, Some(output)) => output,
            (None, None) => Output::Callee(&task.call),
        };
        let id = self.id(&name, &options, place);
        let (blocking, annotated) = (self.is_blocking(&task.call), task.naming.output.as_ref());
        let kind = Kind::Invoke { call: &task.call, uses: vec![], blocking, annotated };
        let index = self.push(id, span, kind, output, place);
        self.role(index..index + 1, &options);
        self.tasks[index].options = options;
        self.one(name, index, place, errors);
        index
    }

    /// The function with `#[task]` that is called.
    fn called_function(&self, call: &syn::ExprCall) -> Option<&'a FunctionTask> {
        self.functions.get(&function_name(call)?.unraw().to_string()).copied()
    }

    fn is_blocking(&self, call: &syn::ExprCall) -> bool {
        self.called_function(call).is_some_and(|function| function.item.sig.asyncness.is_none())
    }

    /// The output of a function of this biz, where its type is written.
    fn callee_output(&self, call: &syn::ExprCall) -> Option<Output<'a>> {
        if let Some(function) = self.called_function(call) {
            return function.output.as_ref().map(Output::Written);
        }
        let Expr::Path(path) = &*call.func else { return None };
        self.biz.outputs.get(path.path.get_ident()?).map(Output::Written)
    }

    fn function(&mut self, task: &'a FunctionTask, place: Place, errors: &mut Errors) {
        let ident = &task.item.sig.ident;
        let name = ident.unraw().to_string();
        if let Some(first) = self.functions.get(&name).filter(|first| !std::ptr::eq(**first, task))
            && !self.scopes[place.scope].names.contains_key(&name)
        {
            let line = line(first.item.sig.ident.span());
            let message = format!(
                "there is already a function `{name}` in this biz, on line {line}: the functions of a biz have one scope"
            );
            errors.under(ident.span(), message);
            return;
        }
        if self.called.contains(&name) {
            return;
        }
        let generics = &task.item.sig.generics;
        if !generics.params.is_empty() {
            let how =
                format!("nothing says what these are: call the function with what it takes, `{name}(..);`");
            errors.at(generics, how);
        }
        let output = task.output.as_ref().map_or(Output::Unknown, Output::Written);
        let id = self.id(&name, &task.options, place);
        let index = self.push(id, ident.span(), Kind::Function { task, arguments: vec![] }, output, place);
        self.role(index..index + 1, &task.options);
        self.tasks[index].options = task.options.clone();
        self.one(name, index, place, errors);
    }

    fn branch(
        &mut self,
        branch: &'a Branch,
        place: Place,
        wanted: bool,
        errors: &mut Errors,
    ) -> Option<usize> {
        let word = if branch.scrutinee.is_some() { "match" } else { "if" };
        let root = root(branch);
        let name = root.map_or_else(|| word.to_owned(), |root| format!("{word}_{root}"));
        let name = self.free_name(&name);
        let options = branch.naming.options.clone().unwrap_or_default();
        let id = self.id(&name, &options, place);
        let taken = vec![BTreeSet::new(); branch.arms.len()];
        let kind = Kind::Branch { branch, uses: vec![], taken };
        let index = self.push(id, branch.keyword, kind, Output::Unknown, place);
        no_role(&options, branch.keyword, errors);
        self.tasks[index].options = options;
        let wanted = wanted || branch.naming.name.is_some();
        let mut arms = Vec::new();
        for (arm, way) in branch.arms.iter().enumerate() {
            let names = match &way.test {
                Test::Pattern(pattern, _) => uses::variables(pattern),
                Test::Condition(condition) => uses::variables_of_condition(condition),
                Test::Otherwise => vec![],
            };
            let of = Of::Arm { branch: index, arm };
            let inside = Place {
                variables: self.sight(&names, of, place),
                gate: Some(Gate { task: index, arm }),
                ..place
            };
            let value = self.block(&way.body, inside, wanted, errors);
            if wanted && value.is_none() && !matches!(way.body.tail, Tail::Refused) {
                let message = "this arm gives no value: end it with a task, `f(..)`";
                match &way.test {
                    Test::Pattern(pattern, _) => errors.at(pattern, message),
                    Test::Condition(condition) => errors.at(condition, message),
                    Test::Otherwise => errors.under(
                        branch.keyword,
                        "an `if` with a value has an `else`, whose block ends with a task",
                    ),
                }
            }
            arms.extend(value);
        }
        let region = Named { span: branch.keyword, what: What::Region, tasks: index..self.tasks.len() };
        self.declare(name.clone(), region, place, errors);
        if !wanted || arms.len() < branch.arms.len() {
            return None;
        }
        let (name, span) = match &branch.naming.name {
            Some(name) => (name.unraw().to_string(), name.span()),
            None => (self.free_name(&format!("{name}_value")), branch.keyword),
        };
        let id = self.id(&name, &TaskOptions::default(), place);
        let output = branch.naming.output.as_ref().map_or(Output::Unknown, Output::Written);
        let join = self.push(id, span, Kind::Join { branch: index, arms: vec![] }, output, place);
        self.tasks[join].options.trigger_rule = Some("NoneFailedMinOneSuccess");
        self.joins.push((join, arms));
        // What comes before it comes before the branch.
        let named = Named { span, what: What::Task { members: vec![] }, tasks: index..join + 1 };
        self.declare(name, named, place, errors);
        Some(join)
    }

    /// Brings the variables of a pattern in sight.
    fn sight(&mut self, names: &[Ident], of: Of, place: Place) -> Option<usize> {
        if names.is_empty() {
            return place.variables;
        }
        let names = names.iter().map(|name| name.unraw().to_string()).collect();
        self.variables.push(Variables { parent: place.variables, names, of });
        Some(self.variables.len() - 1)
    }

    fn each(&mut self, each: &'a Loop, place: Place, errors: &mut Errors) {
        if uses::is_lent(&each.list) {
            let message = "the items of a loop are stored for its tasks: loop over the value, or `.into_iter()`, not over references";
            match &each.list {
                Expr::MethodCall(lent) => errors.at(&lent.method, message),
                Expr::Reference(lent) => errors.at(lent.and_token, message),
                other => errors.at(other, message),
            }
        }
        if place.map.is_some() {
            let message = "a loop in a loop has no clear meaning: its tasks would need two map indexes; \
                           let a task make one list of pairs, and loop over that";
            errors.under(each.keyword, message);
        }
        let name = items_name(&each.list).map_or_else(|| "map".to_owned(), |items| format!("map_{items}"));
        let name = self.free_name(&name);
        let options = each.options.clone().unwrap_or_default();
        let id = self.id(&name, &options, place);
        let index = self.push(id, each.keyword, Kind::Map { each, uses: vec![] }, Output::Unknown, place);
        no_role(&options, each.keyword, errors);
        self.tasks[index].options = options;
        let inside = Place {
            variables: self.sight(&uses::variables(&each.pattern), Of::Loop { map: index }, place),
            gate: Some(Gate { task: index, arm: 0 }),
            map: Some(index),
            ..place
        };
        self.block(&each.body, inside, false, errors);
        let region = Named { span: each.keyword, what: What::Region, tasks: index..self.tasks.len() };
        self.declare(name, region, place, errors);
    }

    fn group(&mut self, group: &'a Group, place: Place, errors: &mut Errors) {
        let name = group.name.unraw().to_string();
        let prefix = format!("{}{name}.", self.scopes[place.scope].prefix);
        let scope = self.scopes.len();
        self.scopes.push(Scope { parent: Some(place.scope), prefix, ..Scope::default() });
        let first = self.tasks.len();
        let wanted = !matches!(group.body.tail, Tail::None | Tail::Refused);
        let value = self.block(&group.body, Place { scope, ..place }, wanted, errors);
        self.annotated.extend(group.output.as_ref().map(|ty| (ty, value, place.map)));
        let named = Named {
            span: group.name.span(),
            what: What::Group { scope, value },
            tasks: first..self.tasks.len(),
        };
        self.declare(name, named, place, errors);
    }

    /// Says where two tasks have one id, which `#[task(id = "..")]` can bring about.
    pub(super) fn unique(&self, errors: &mut Errors) {
        let mut ids = std::collections::HashMap::new();
        for task in &self.tasks {
            let given = task.options.id.as_ref().map(syn::LitStr::span);
            if let Some(first) = ids.insert(&task.id, given)
                && let Some(span) = given.or(first)
            {
                errors.under(span, format!("there is already a task with the id `{}` in this biz", task.id));
            }
        }
    }
}

/// A branch and a loop decide, and set nothing up.
fn no_role(options: &TaskOptions, span: Span, errors: &mut Errors) {
    if options.setup || options.teardown.is_some() {
        errors.under(
            span,
            "a setup and a teardown are tasks that do something: give this option to one of them",
        );
    }
}

/// The function of this biz, or in sight of it, that a call names.
fn function_name(call: &syn::ExprCall) -> Option<&Ident> {
    match &*call.func {
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

/// What a branch is about: the first name in what it looks at.
fn root(branch: &Branch) -> Option<String> {
    let about = branch.scrutinee.as_ref().or_else(|| match &branch.arms.first()?.test {
        Test::Condition(condition) => Some(condition),
        Test::Pattern(..) | Test::Otherwise => None,
    })?;
    uses::of(about).first().map(|name| name.unraw().to_string())
}

/// What a loop is about: `items` of `x.items.into_iter()`.
fn items_name(list: &Expr) -> Option<String> {
    match list {
        Expr::MethodCall(e) => items_name(&e.receiver),
        Expr::Field(e) => match &e.member {
            syn::Member::Named(name) => Some(name.unraw().to_string()),
            syn::Member::Unnamed(_) => items_name(&e.base),
        },
        Expr::Reference(e) => items_name(&e.expr),
        Expr::Paren(e) => items_name(&e.expr),
        e => uses::of(e).first().map(|name| name.unraw().to_string()),
    }
}

/// The name of a call that has none: its service and its path, `xxxx_customers_new`.
fn service_name(task: &TechTask) -> String {
    let service = match &task.call.service {
        Service::Api { api_id, .. } => api_id.as_str(),
        Service::Named { cws_name, .. } => cws_name.as_str(),
        Service::Url(url) => url.split("://").last().unwrap_or(url),
        Service::Custom(_) => "service",
    };
    let path = task.call.path.literal.value();
    let name = format!("{service}_{path}");
    let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.join("_")
}
