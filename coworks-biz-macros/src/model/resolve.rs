//! Finds what each task takes: names in arguments and parameters become inputs, and edges.

use std::collections::HashMap;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Expr, Ident, Pat, Type, ext::IdentExt};

use super::names::{Found, Named, Of, Value, What};
use super::types::{is_extractor, is_list_of_options, is_plain, option_of, written};
use super::{Argument, Builder, Kind, Lazy, Output, Role, Source, Use};
use crate::errors::{Errors, meant};
use crate::parse::function::Parameter;
use crate::parse::plan::Test;
use crate::parse::{call, uses};

/// The tasks whose values a task takes, each at its place.
#[derive(Default)]
struct Inputs {
    list: Vec<usize>,
    places: HashMap<usize, usize>,
}

impl Inputs {
    fn place(&mut self, task: usize) -> usize {
        *self.places.entry(task).or_insert_with(|| {
            self.list.push(task);
            self.list.len() - 1
        })
    }
}

impl<'a> Builder<'a> {
    pub(super) fn resolve(&mut self, errors: &mut Errors) {
        self.resolve_joins(errors);
        for (ty, value, map) in std::mem::take(&mut self.annotated) {
            match value.and_then(|value| self.task_of(value, 16)) {
                Some(task) if self.is_untyped_call(task) => self.tasks[task].output = Output::Written(ty),
                Some(task) => self.groups.push((ty, task, map)),
                None => errors
                    .at(ty, "this group has no value: end its block with the task whose output it gives"),
            }
        }
        for index in 0..self.tasks.len() {
            let mut inputs = Inputs::default();
            match &self.tasks[index].kind {
                Kind::Function { task, .. } => {
                    let task = *task;
                    let bound: Vec<_> = task
                        .parameters
                        .iter()
                        .filter_map(|parameter| self.argument(index, parameter, &mut inputs, errors))
                        .collect();
                    if let Kind::Function { arguments, .. } = &mut self.tasks[index].kind {
                        *arguments = bound;
                    }
                }
                Kind::Invoke { call, .. } => {
                    let (call, names) = (*call, uses::of_call(call));
                    self.owned(index, call, errors);
                    self.refuse_calls(&call.args, errors);
                    self.refuse_members(index, &call.args, errors);
                    self.uses(index, names, &mut inputs, errors);
                }
                Kind::Branch { branch, .. } => {
                    let (keyword, names) = (branch.keyword, uses::of_branch(branch));
                    // What is no name of the plan, rustc tells.
                    let fixed = names.iter().all(|name| name.to_string().starts_with(char::is_uppercase));
                    if self.uses(index, names, &mut inputs, errors) == 0 && fixed {
                        let how = "a branch is over the output of a task or `conf`, and this one is over neither: \
                                   it could be decided when it is compiled";
                        errors.under(keyword, how);
                    }
                }
                Kind::Map { each, .. } => {
                    let names = uses::of(&each.list);
                    self.refuse_calls([&each.list], errors);
                    self.uses(index, names, &mut inputs, errors);
                }
                Kind::Call(task, _) | Kind::Sensor(task, _) | Kind::Submit(task, _) => {
                    let task = *task;
                    if let call::Kind::Async { transformer: Some(_), .. } = &task.call.kind {
                        let place = inputs.place(index - 1);
                        if let Kind::Submit(_, lazy) = &mut self.tasks[index].kind {
                            lazy.transformed = Some(place);
                        }
                    }
                    let names = uses::of_all(task.call.expressions());
                    self.refuse_calls(task.call.expressions(), errors);
                    self.refuse_members(index, task.call.expressions(), errors);
                    self.uses(index, names, &mut inputs, errors);
                }
                Kind::Trigger(task, _) => {
                    let conf = &task.call.conf;
                    self.refuse_calls(conf, errors);
                    self.refuse_members(index, conf, errors);
                    self.uses(index, uses::of_all(conf), &mut inputs, errors);
                }
                // Where they send again, the inputs are those of the `call`.
                Kind::Wait(_) | Kind::Read(_) => {}
                Kind::Join { .. } => continue,
            }
            self.tasks[index].inputs = inputs.list;
        }
    }

    /// Gives joins their arms first: what they give is what others take.
    fn resolve_joins(&mut self, errors: &mut Errors) {
        for (join, values) in std::mem::take(&mut self.joins) {
            let mut arms = Vec::with_capacity(values.len());
            for value in values {
                let span = match value {
                    Value::Task(_, span) => span,
                    Value::Name(name, _) => name.span(),
                };
                match self.task_of(value, 16) {
                    Some(task) => arms.push((task, span)),
                    None => errors.under(span, "an arm of a `let` ends with a task: its name, or `f(..)`"),
                }
            }
            // A call has the type of the `let` that it is the value of.
            for &(task, span) in &arms {
                match self.tasks[join].output {
                    _ if !self.is_untyped_call(task) => {}
                    Output::Written(ty) => self.tasks[task].output = Output::Written(ty),
                    _ => errors.under(span, "what does this answer? give the `let` a type: `let x: T = ..`"),
                }
            }
            let Kind::Join { arms: known, .. } = &mut self.tasks[join].kind else { continue };
            *known = arms.clone();
            if let (Output::Unknown, Some(&(first, _))) = (self.tasks[join].output, arms.first()) {
                self.tasks[join].output = Output::Same(first);
            }
            self.tasks[join].inputs = arms.iter().map(|(task, _)| *task).collect();
            for &(task, span) in &arms {
                self.edge(task, join, span);
            }
            // A task that is in no arm may end before the arm is chosen.
            let Kind::Join { branch, .. } = self.tasks[join].kind else { continue };
            let inside = |task: usize| {
                let mut gate = self.tasks[task].gate;
                while let Some(found) = gate {
                    if found.task == branch {
                        return true;
                    }
                    gate = self.tasks[found.task].gate;
                }
                false
            };
            if arms.iter().any(|(task, _)| !inside(*task)) {
                self.edge(branch, join, self.tasks[join].span);
            }
        }
    }

    /// Whether this is a call of a service that nobody has given a type.
    fn is_untyped_call(&self, task: usize) -> bool {
        let task = &self.tasks[task];
        matches!(task.output, Output::Unknown)
            && matches!(task.kind, Kind::Call(..) | Kind::Read(_) | Kind::Sensor(..))
    }

    /// Whether the type of an output is known, also behind joins.
    fn is_typed(&self, task: usize) -> bool {
        match self.tasks[task].output {
            Output::Unknown => false,
            Output::Same(other) => self.is_typed(other),
            Output::Written(_) | Output::Callee(_) => true,
        }
    }

    /// Refuses `prep.a` as a value: from outside, only the group has one.
    fn refuse_members<'e>(
        &self,
        of: usize,
        expressions: impl IntoIterator<Item = &'e Expr>,
        errors: &mut Errors,
    ) {
        for (base, member) in uses::fields(expressions) {
            if let Found::Named(named) = self.find(&base.unraw().to_string(), self.tasks[of].place)
                && let What::Group { scope, .. } = &named.what
                && self.scopes[*scope].names.contains_key(&member.unraw().to_string())
            {
                errors.under(member.span(), format!(
                    "`{base}.{member}` is for order; as a value there is only `{base}`, which its block ends with"
                ));
            }
        }
    }

    /// Refuses calls of tasks inside of expressions: nobody would await them.
    fn refuse_calls<'e>(&self, expressions: impl IntoIterator<Item = &'e Expr>, errors: &mut Errors) {
        let asides = uses::asides(expressions);
        for call in asides.calls.iter().filter(|name| self.called.contains(&name.unraw().to_string())) {
            let how = format!(
                "a task inside of an expression: give it a line of its own, `let x = {call}(..);`, and take `x`"
            );
            errors.under(call.span(), how);
        }
        for span in asides.awaits {
            errors.under(
                span,
                "a plan awaits nothing: give the task a line of its own, `let x = f(..);`, and take `x`",
            );
        }
    }

    /// Resolves names of expressions of a task; those that are no names of the plan are Rust's own.
    fn uses(&mut self, of: usize, names: Vec<Ident>, inputs: &mut Inputs, errors: &mut Errors) -> usize {
        let mut found = Vec::new();
        for name in names {
            let word = name.unraw().to_string();
            match self.source(of, &word, name.span(), inputs, errors) {
                Some(source) => found.extend(source.map(|source| Use { name, source })),
                None => self.suggest(of, &word),
            }
        }
        let count = found.len();
        match &mut self.tasks[of].kind {
            Kind::Invoke { uses, .. }
            | Kind::Branch { uses, .. }
            | Kind::Map { uses, .. }
            | Kind::Trigger(_, uses) => *uses = found,
            Kind::Call(_, lazy) | Kind::Sensor(_, lazy) | Kind::Submit(_, lazy) => {
                *lazy = Lazy { uses: found, transformed: lazy.transformed };
            }
            Kind::Function { .. } | Kind::Wait(_) | Kind::Read(_) | Kind::Join { .. } => {}
        }
        count
    }

    /// Refuses to lend values to a task: it outlives the code that decodes them.
    fn owned(&self, of: usize, call: &syn::ExprCall, errors: &mut Errors) {
        let place = self.tasks[of].place;
        let known = |name: &Ident| !matches!(self.find(&name.unraw().to_string(), place), Found::Nothing);
        for argument in &call.args {
            if let Expr::Reference(lent) = argument
                && uses::of(&lent.expr).iter().any(known)
            {
                let how = "a task owns its inputs, for each decodes its own copy: leave away `&`";
                errors.at(lent.and_token, how);
            }
        }
    }

    /// Remembers what a word that is no name was probably meant to be. It may well be Rust's own,
    /// a function or a constant, so that only rustc can say that it is nothing.
    fn suggest(&mut self, of: usize, word: &str) {
        if !word.starts_with(|c: char| c.is_ascii_lowercase()) {
            return;
        }
        if !self.meant.contains_key(word) {
            let scope = self.tasks[of].place.scope;
            let candidates = self.names(scope).into_iter().filter(|name| match self.named(name, scope) {
                Some(named) => self.value(named).is_some(),
                None => false,
            });
            // A function that is called by that name must stay in sight.
            let meant =
                meant(word, candidates).filter(|name| !self.called.contains(*name)).map(str::to_owned);
            self.meant.insert(word.to_owned(), meant);
        }
        self.tasks[of].meant.extend(self.meant[word].clone());
    }

    /// What a word stands for: `None` where it is no name of the plan, `Some(None)` where it is
    /// one that cannot be used, which is told.
    fn source(
        &mut self,
        of: usize,
        word: &str,
        span: Span,
        inputs: &mut Inputs,
        errors: &mut Errors,
    ) -> Option<Option<Source>> {
        let named = match self.find(word, self.tasks[of].place) {
            Found::Variable(variable) => return Some(self.variable(variable, word, span, inputs, errors)),
            Found::Nothing if word == "ctx" => {
                if !self.biz.has_context {
                    let name = &self.biz.name;
                    errors.under(
                        span,
                        format!("what is `ctx`? let the biz take it: `fn {name}(ctx: Context)`"),
                    );
                }
                return Some(self.biz.has_context.then_some(Source::Context));
            }
            Found::Nothing if word == "conf" => {
                if self.biz.conf.is_none() {
                    let name = &self.biz.name;
                    errors
                        .under(span, format!("what is `conf`? give the biz its type: `fn {name}(conf: T)`"));
                }
                return Some(self.biz.conf.as_ref().map(|_| Source::Conf));
            }
            Found::Nothing => return None,
            Found::Named(named) => named,
        };
        if self.ambiguous.contains(word) {
            errors.under(
                span,
                format!(
                    "`{word}` is one of several tasks here: name them by `let`, at the end of their arms"
                ),
            );
            return Some(None);
        }
        let Some(task) = self.value(named) else {
            errors.under(span, self.no_value(word, named));
            return Some(None);
        };
        Some(self.output(of, task, word, span, inputs, errors))
    }

    fn no_value(&self, word: &str, named: &Named) -> String {
        match &named.what {
            What::Region => {
                format!("`{word}` is where the plan branches or repeats, and has no value of its own")
            }
            _ => format!("`{word}` has no value: end its block with the task whose output it gives"),
        }
    }

    fn variable(
        &mut self,
        variable: Of,
        word: &str,
        span: Span,
        inputs: &mut Inputs,
        errors: &mut Errors,
    ) -> Option<Source> {
        match variable {
            Of::Loop { map } => Some(Source::Item { map, place: inputs.place(map) }),
            Of::Arm { branch, arm } => {
                let place = inputs.place(branch);
                let Kind::Branch { branch: way, taken, .. } = &mut self.tasks[branch].kind else {
                    return None;
                };
                let first = taken[arm].insert(word.to_owned());
                let looked_at = way.scrutinee.as_ref().or_else(|| match &way.arms[arm].test {
                    Test::Condition(condition) => lent_by(condition),
                    Test::Pattern(..) | Test::Otherwise => None,
                });
                let lent = looked_at.filter(|expression| uses::is_lent(expression));
                let by_reference = lent.is_some()
                    || matches!(&way.arms[arm].test, Test::Pattern(pattern, _) if takes_by_reference(pattern, word));
                if by_reference {
                    if first {
                        let message = "what an arm takes is stored for its tasks: match on the value, not on a reference";
                        let at = match lent {
                            Some(Expr::Reference(e)) => e.and_token.span(),
                            Some(Expr::MethodCall(e)) => e.method.span(),
                            _ => span,
                        };
                        errors.under(at, message);
                    }
                    return None;
                }
                Some(Source::Variable { branch, arm, place })
            }
        }
    }

    /// The output of a task as an input of another.
    fn output(
        &mut self,
        of: usize,
        task: usize,
        word: &str,
        span: Span,
        inputs: &mut Inputs,
        errors: &mut Errors,
    ) -> Option<Source> {
        if task == of {
            errors.under(span, "a task cannot take its own output");
            return None;
        }
        if !self.is_typed(task) {
            self.untyped(task, word, span, errors);
            return None;
        }
        self.edge(task, of, span);
        let optional = self.may_miss(of, task);
        if let (true, Output::Written(ty)) = (optional, self.tasks[task].output)
            && option_of(ty).is_some()
        {
            let message = format!(
                "`{word}` gives `{}`, and may give nothing: which `None` would it be? let `{word}` return something \
                 else, or run this task with `trigger_rule = all_success`",
                written(ty)
            );
            errors.under(span, message);
            return None;
        }
        Some(Source::Output { task, place: inputs.place(task), optional })
    }

    fn argument(
        &mut self,
        of: usize,
        parameter: &'a Parameter,
        inputs: &mut Inputs,
        errors: &mut Errors,
    ) -> Option<Argument<'a>> {
        let Some(name) = &parameter.name else { return Some(Argument::Extractor(parameter)) };
        let word = name.unraw().to_string();
        if word == "conf" && !is_extractor(&parameter.ty) {
            return Some(Argument::Value(parameter, Source::Conf));
        }
        if let Found::Nothing = self.find(&word, self.tasks[of].place) {
            return self.extractor(of, &word, name.span(), parameter, errors);
        }
        let source = self.source(of, &word, name.span(), inputs, errors)??;
        if let Source::Output { task, optional: true, .. } = source {
            self.check_optional(of, task, &word, parameter, errors)?;
        }
        Some(Argument::Value(parameter, source))
    }

    /// An extractor may have any name; a slip in the name of a task is told before rustc tells less.
    fn extractor(
        &self,
        of: usize,
        word: &str,
        span: Span,
        parameter: &'a Parameter,
        errors: &mut Errors,
    ) -> Option<Argument<'a>> {
        // The common ones cost nothing.
        if is_extractor(&parameter.ty) {
            return Some(Argument::Extractor(parameter));
        }
        let place = self.tasks[of].place;
        let names = self.names(place.scope);
        let names = names.into_iter().filter(|name| match self.named(name, place.scope) {
            Some(named) => self.value(named).is_some_and(|task| task != of),
            None => false,
        });
        let Some(meant) = meant(word, names).filter(|meant| self.is_slip(meant, place.scope, &parameter.ty))
        else {
            return Some(Argument::Extractor(parameter));
        };
        let (biz, ty) = (&self.biz.name, written(&parameter.ty));
        errors.under(
            span,
            format!("`{word}` is not a task of biz `{biz}`, and `{ty}` is not an extractor; did you mean the task `{meant}`?"),
        );
        None
    }

    /// Whether a parameter that is called almost like a task is surely meant as its output:
    /// no extractor has its type.
    fn is_slip(&self, name: &str, scope: usize, ty: &Type) -> bool {
        let task = self.named(name, scope).and_then(|named| self.value(named));
        let same = task.is_some_and(|task| match self.tasks[task].output {
            Output::Written(given) => written(given) == written(ty),
            Output::Unknown | Output::Callee(_) | Output::Same(_) => false,
        });
        same || is_plain(ty)
    }

    /// Holds the type of a parameter against an output that may be missing.
    fn check_optional(
        &self,
        of: usize,
        task: usize,
        word: &str,
        parameter: &Parameter,
        errors: &mut Errors,
    ) -> Option<()> {
        let given = match self.tasks[task].output {
            Output::Written(ty) => Some(ty),
            Output::Unknown | Output::Callee(_) | Output::Same(_) => None,
        };
        let shown = given.map_or_else(|| "T".to_owned(), written);
        let list = self.tasks[task].map.is_some() && self.tasks[task].map != self.tasks[of].map;
        let id = &self.tasks[of].id;
        if list && !is_list_of_options(&parameter.ty) {
            let how =
                format!("task `{id}` may run without some outputs of `{word}`: take `Vec<Option<{shown}>>`");
            errors.at(&parameter.ty, how);
            return None;
        }
        if !list && option_of(&parameter.ty).is_none() {
            let how = format!("task `{id}` may run without an output of `{word}`: take `Option<{shown}>`");
            errors.at(&parameter.ty, how);
            return None;
        }
        Some(())
    }

    /// Whether a task may run while this upstream of it has no output.
    fn may_miss(&self, of: usize, upstream: usize) -> bool {
        match self.rule(of) {
            "AllSuccess" => false,
            // With one setup it runs only after that has succeeded.
            "AllDoneSetupSuccess" => !self.is_only_setup(of, upstream),
            _ => true,
        }
    }

    fn is_only_setup(&self, of: usize, setup: usize) -> bool {
        let task = &self.tasks[of];
        match (task.role, &task.options.teardown) {
            (Role::Teardown, Some(names)) if names.len() == 1 => {
                let named = self.named(&names[0].unraw().to_string(), task.place.scope);
                named.and_then(|named| self.value(named)) == Some(setup)
            }
            _ => false,
        }
    }

    fn untyped(&self, task: usize, name: &str, span: Span, errors: &mut Errors) {
        match &self.tasks[task].kind {
            Kind::Function { task, .. } => {
                let returns = &task.item.sig.output;
                errors.at(returns, format!("`{name}` is taken by another task: write its type as `Result<T>`"));
            }
            Kind::Call(..) | Kind::Read(_) | Kind::Sensor(..) => errors.under(span, format!(
                "what does `{name}` answer? write its type, or `Value` for any JSON: `let {name}: Value = ..`"
            )),
            // What is wrong with it is told where it is.
            _ => {}
        }
    }
}

/// What a `let` in a condition looks at, where that is lent.
fn lent_by(condition: &Expr) -> Option<&Expr> {
    match condition {
        Expr::Let(e) => Some(&*e.expr).filter(|expression| uses::is_lent(expression)),
        Expr::Binary(e) => lent_by(&e.left).or_else(|| lent_by(&e.right)),
        Expr::Paren(e) => lent_by(&e.expr),
        _ => None,
    }
}

/// Whether a pattern takes this variable by `ref`.
fn takes_by_reference(pattern: &Pat, word: &str) -> bool {
    struct Refs<'w>(&'w str, bool);
    impl<'a> syn::visit::Visit<'a> for Refs<'_> {
        fn visit_pat_ident(&mut self, node: &'a syn::PatIdent) {
            self.1 |= node.by_ref.is_some() && node.ident == self.0;
            syn::visit::visit_pat_ident(self, node);
        }
    }
    let mut refs = Refs(word, false);
    syn::visit::Visit::visit_pat(&mut refs, pattern);
    refs.1
}
