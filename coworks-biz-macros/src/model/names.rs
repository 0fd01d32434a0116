//! What names stand for, and where they are in sight.

use std::collections::HashMap;
use std::ops::Range;

use proc_macro2::Span;
use syn::Ident;
use syn::ext::IdentExt;

use super::{Builder, Place};
use crate::errors::{Errors, did_you_mean};
use crate::parse::line;

/// The names of a body or of a group.
#[derive(Default)]
pub(super) struct Scope<'a> {
    pub(super) parent: Option<usize>,
    /// What the ids in it begin with: `prep.`.
    pub(super) prefix: String,
    pub(super) names: HashMap<String, Named<'a>>,
}

/// What a name stands for.
pub(super) struct Named<'a> {
    pub(super) span: Span,
    pub(super) what: What<'a>,
    /// The tasks in it.
    pub(super) tasks: Range<usize>,
}

pub(super) enum What<'a> {
    /// One task, or the members of an asynchronous call.
    Task { members: Vec<(&'static str, usize)> },
    /// `let prep = { .. };`
    Group { scope: usize, value: Option<Value<'a>> },
    /// A branch with its arms, or a loop.
    Region,
}

/// What the value of a block is.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Task(usize, Span),
    Name(&'a Ident, Place),
}

/// The variables of a pattern.
pub(super) struct Variables {
    pub(super) parent: Option<usize>,
    pub(super) names: Vec<String>,
    pub(super) of: Of,
}

#[derive(Clone, Copy)]
pub(super) enum Of {
    Arm { branch: usize, arm: usize },
    Loop { map: usize },
}

/// What a word stands for at some place.
pub(super) enum Found<'n, 'a> {
    Variable(Of),
    Named(&'n Named<'a>),
    Nothing,
}

impl<'a> Builder<'a> {
    /// What a word stands for.
    pub(super) fn find(&self, word: &str, place: Place) -> Found<'_, 'a> {
        let mut next = place.variables;
        while let Some(index) = next {
            let variables = &self.variables[index];
            if variables.names.iter().any(|name| name == word) {
                return Found::Variable(variables.of);
            }
            next = variables.parent;
        }
        self.named(word, place.scope).map_or(Found::Nothing, Found::Named)
    }

    /// What a task, a group or a region of this name is, from inside out.
    pub(super) fn named(&self, word: &str, scope: usize) -> Option<&Named<'a>> {
        let mut next = Some(scope);
        while let Some(index) = next {
            let scope = &self.scopes[index];
            if let Some(named) = scope.names.get(word) {
                return Some(named);
            }
            next = scope.parent;
        }
        None
    }

    /// The task whose output is the value of a name.
    pub(super) fn value(&self, named: &Named<'a>) -> Option<usize> {
        match &named.what {
            What::Task { .. } => named.tasks.clone().last(),
            What::Group { value, .. } => self.task_of((*value)?, 16),
            What::Region => None,
        }
    }

    /// The task that gives the value of a block. A name may lead to a name, but not for ever.
    pub(super) fn task_of(&self, value: Value<'a>, depth: u8) -> Option<usize> {
        match value {
            Value::Task(task, _) => Some(task),
            Value::Name(name, place) => match self.find(&name.unraw().to_string(), place) {
                Found::Named(named) => match &named.what {
                    What::Group { value, .. } => self.task_of((*value)?, depth.checked_sub(1)?),
                    _ => self.value(named),
                },
                Found::Variable(_) | Found::Nothing => None,
            },
        }
    }

    /// Gives a name to what is declared at a place.
    pub(super) fn declare(&mut self, name: String, named: Named<'a>, place: Place, errors: &mut Errors) {
        if ["conf", "ctx"].contains(&name.as_str()) {
            let message = format!("`{name}` is a name of its own in a biz; call the task something else");
            errors.under(named.span, message);
        }
        if !name.is_ascii() {
            let message =
                "a task is named in ASCII: its name is part of the headers and keys that services get";
            errors.under(named.span, message);
        }
        if let Found::Variable(of) = self.find(&name, place) {
            let what = match of {
                Of::Arm { .. } => "a variable of this arm",
                Of::Loop { .. } => "the item of this loop",
            };
            let message =
                format!("`{name}` is {what} already, and stays it for all tasks: name this one otherwise");
            errors.under(named.span, message);
        }
        if let Some(first) = self.scopes[place.scope].names.get(&name) {
            let line = line(first.span);
            let how = match self.called.contains(&name) {
                true => format!("; name this one: `let another = {name}(..);`"),
                false => String::new(),
            };
            let message = format!("there is already a task `{name}` in this biz, on line {line}{how}");
            errors.under(named.span, message);
            return;
        }
        self.scopes[place.scope].names.insert(name, named);
    }

    /// The name, or the name with the first number that makes it new.
    pub(super) fn free_name(&mut self, name: &str) -> String {
        let mut candidates = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}_{n}")));
        let free = candidates.find(|name| !self.taken.contains(name)).unwrap_or_default();
        // It may be a while until it is declared: a branch is once what is in it is.
        self.taken.insert(free.clone());
        free
    }

    /// All names in sight.
    pub(super) fn names(&self, scope: usize) -> Vec<&str> {
        let scopes = std::iter::successors(Some(scope), |&scope| self.scopes[scope].parent);
        scopes.flat_map(|scope| self.scopes[scope].names.keys()).map(String::as_str).collect()
    }

    /// Refuses the name of a function that several tasks are called after.
    pub(super) fn refuse_ambiguous(&self, name: &Ident, errors: &mut Errors) {
        let word = name.unraw().to_string();
        if self.ambiguous.contains(&word) {
            let message = format!(
                "`{word}` is one of several tasks here: name them by `let`, at the end of their arms"
            );
            errors.under(name.span(), message);
        }
    }

    /// Says that a name is no task.
    pub(super) fn no_task(&self, name: &Ident, scope: usize, errors: &mut Errors) {
        let word = name.unraw().to_string();
        let is_function =
            self.biz.items.iter().any(|item| matches!(item, syn::Item::Fn(item) if item.sig.ident == *name));
        if is_function {
            errors.under(
                name.span(),
                format!("`{word}` is a function and no task: put `#[task]` in front of it, or call it: `{word}(..);`"),
            );
            return;
        }
        if let Some(calls) = self.functions.get(&word).filter(|_| self.called.contains(&word)) {
            let line = line(calls.item.sig.ident.span());
            let message = format!(
                "`{word}` is the function of line {line}, which tasks call: order them by the names of their `let`"
            );
            errors.under(name.span(), message);
            return;
        }
        // It may be in a group that is not in sight.
        let inside = self.scopes.iter().find(|scope| scope.names.contains_key(&word));
        let meant = match inside {
            Some(scope) => format!("; did you mean `{}{word}`?", scope.prefix),
            None => did_you_mean(&word, self.names(scope)),
        };
        errors.under(name.span(), format!("there is no task `{word}` in this biz{meant}"));
    }
}
