//! Adds the orders that are written, and what ties teardowns to their setups.

use std::ops::Range;

use syn::Ident;
use syn::ext::IdentExt;

use super::names::{Named, What};
use super::{Builder, Kind, Role};
use crate::errors::Errors;
use crate::parse::order::{Order, Then};
use crate::parse::plan::{Block, Statement};

/// What an order begins and ends with, and its rightmost operand: `a >> b << c` brings `c` before `b`.
#[derive(Default, Clone)]
struct Ends {
    entries: Vec<usize>,
    exits: Vec<usize>,
    last: Option<Box<Ends>>,
}

impl Ends {
    fn new(entries: Vec<usize>, exits: Vec<usize>) -> Self {
        Self { entries, exits, last: None }
    }
}

impl<'a> Builder<'a> {
    pub(super) fn connect(&mut self, errors: &mut Errors) {
        self.teardowns(errors);
        let mut orders = Vec::new();
        // Scopes are numbered as their groups are written.
        collect(&self.biz.body, 0, &mut 0, &mut orders);
        // What a group or a loop ends with is known once what is in it is ordered.
        let (whole, simple): (Vec<_>, Vec<_>) =
            orders.into_iter().partition(|(order, scope)| self.has_region(order, *scope));
        for (order, scope) in simple.into_iter().chain(whole) {
            self.order(order, scope, errors);
        }
        self.other_setups(errors);
    }

    /// A teardown that names one setup takes its output as it is, for it runs only after that has
    /// succeeded; behind a second one it would run after either.
    fn other_setups(&self, errors: &mut Errors) {
        for edge in &self.edges {
            let (task, above) = (&self.tasks[edge.to], &self.tasks[edge.from]);
            let named = task.options.teardown.as_deref().unwrap_or_default();
            let [setup] = named else { continue };
            let is_named = self
                .named(&setup.unraw().to_string(), task.place.scope)
                .and_then(|named| self.value(named))
                .is_some_and(|named| named == edge.from);
            if above.role == Role::Setup && !is_named {
                let (id, other) = (&task.id, &above.id);
                errors.under(edge.span, format!(
                    "`{id}` takes down `{setup}`, and comes behind the setup `{other}` too: name both, `teardown = [{setup}, ..]`"
                ));
            }
        }
    }

    /// Ties teardowns to their setups, and gives them their trigger rule.
    fn teardowns(&mut self, errors: &mut Errors) {
        for task in 0..self.tasks.len() {
            if self.tasks[task].role != Role::Teardown {
                continue;
            }
            let names = self.tasks[task].options.teardown.clone().unwrap_or_default();
            let scope = self.tasks[task].place.scope;
            for name in names {
                let Some(named) = self.named(&name.unraw().to_string(), scope) else {
                    self.no_task(&name, scope, errors);
                    continue;
                };
                let Some(setup) = self.value(named) else {
                    errors.under(name.span(), format!("`{name}` is no task that sets something up"));
                    continue;
                };
                if self.tasks[setup].role == Role::Teardown {
                    errors.under(name.span(), format!("`{name}` is a teardown itself"));
                    continue;
                }
                self.tasks[setup].role = Role::Setup;
                self.edge(setup, task, name.span());
            }
        }
    }

    fn has_region(&self, order: &Order, scope: usize) -> bool {
        match order {
            Order::Name(path) => match self.walk(path, scope) {
                Ok((named, rest)) => rest.is_empty() && !matches!(named.what, What::Task { .. }),
                Err(_) => false,
            },
            Order::List(list) => list.iter().any(|order| self.has_region(order, scope)),
            Order::Then(Then { before, after, .. }) => {
                self.has_region(before, scope) || self.has_region(after, scope)
            }
        }
    }

    /// Follows `prep.a.call` through the groups; what is left are members of a call.
    fn walk<'p>(&self, path: &'p [Ident], scope: usize) -> Result<(&Named<'a>, &'p [Ident]), Step<'p>> {
        let (first, mut rest) = path.split_first().ok_or(Step::Done)?;
        let mut named =
            self.named(&first.unraw().to_string(), scope).ok_or(Step::NoTask { name: first, scope })?;
        while let (What::Group { scope, .. }, Some((member, behind))) = (&named.what, rest.split_first()) {
            let inside = &self.scopes[*scope].names;
            named = inside.get(&member.unraw().to_string()).ok_or(Step::NoMember { of: *scope, member })?;
            rest = behind;
        }
        Ok((named, rest))
    }

    /// Adds the edges of an order; answers with the entries and the exits of the whole.
    fn order(&mut self, order: &'a Order, scope: usize, errors: &mut Errors) -> Ends {
        match order {
            Order::Name(path) => self.operand(path, scope, errors),
            Order::List(list) => {
                let mut ends = Ends::default();
                for item in list {
                    let Ends { entries, exits, .. } = self.order(item, scope, errors);
                    ends.entries.extend(entries);
                    ends.exits.extend(exits);
                }
                ends
            }
            Order::Then(Then { before, after, operator, reversed, label }) => {
                // In the order in which they are written, and so are their errors.
                let (left, right) = if *reversed { (after, before) } else { (before, after) };
                let left = self.order(left, scope, errors);
                let right = self.order(right, scope, errors);
                let near = left.last.as_deref().unwrap_or(&left);
                let (before, after) = if *reversed { (&right, near) } else { (near, &right) };
                for &from in &before.exits {
                    for &to in &after.entries {
                        self.edge(from, to, *operator);
                        self.labels.extend(label.as_ref().map(|label| (from, to, label)));
                    }
                }
                let without = |all: &[usize], gone: &[usize]| {
                    all.iter().filter(|task| !gone.contains(task)).copied().collect::<Vec<_>>()
                };
                let (mut entries, mut exits) = match *reversed {
                    true => (without(&left.entries, &near.entries), left.exits.clone()),
                    false => (left.entries.clone(), without(&left.exits, &near.exits)),
                };
                if *reversed { &mut entries } else { &mut exits }.extend(if *reversed {
                    &right.entries
                } else {
                    &right.exits
                });
                Ends { entries, exits, last: Some(Box::new(right)) }
            }
        }
    }

    fn operand(&self, path: &[Ident], scope: usize, errors: &mut Errors) -> Ends {
        let (named, rest) = match self.walk(path, scope) {
            Ok(found) => {
                self.refuse_ambiguous(&path[0], errors);
                found
            }
            Err(Step::Done) => return Ends::default(),
            Err(Step::NoTask { name, scope }) => {
                self.no_task(name, scope, errors);
                return Ends::default();
            }
            Err(Step::NoMember { of, member }) => {
                let all = self.scopes[of].names.keys().map(String::as_str);
                no_member(path, member, all.collect(), errors);
                return Ends::default();
            }
        };
        match (&named.what, rest) {
            (What::Task { .. }, []) => {
                Ends::new(vec![named.tasks.start], named.tasks.clone().last().into_iter().collect())
            }
            (What::Task { members }, [member]) => {
                let part = member.unraw().to_string();
                match members.iter().find(|(name, _)| *name == part) {
                    Some(&(_, task)) => Ends::new(vec![task], vec![task]),
                    None => {
                        no_member(path, member, members.iter().map(|(name, _)| *name).collect(), errors);
                        Ends::default()
                    }
                }
            }
            (What::Group { .. } | What::Region, []) => self.ends(named.tasks.clone()),
            (_, [member, ..]) => {
                no_member(path, member, vec![], errors);
                Ends::default()
            }
        }
    }

    /// What these tasks begin and end with.
    fn ends(&self, tasks: Range<usize>) -> Ends {
        let mut above = vec![false; tasks.len()];
        let mut below = vec![false; tasks.len()];
        for edge in &self.edges {
            if tasks.contains(&edge.from) && tasks.contains(&edge.to) {
                above[edge.to - tasks.start] = true;
                below[edge.from - tasks.start] = true;
            }
        }
        let first = tasks.start;
        // Where an arm is empty, its choice is all there is to wait for.
        let ends_here = |task: usize| match &self.tasks[task].kind {
            Kind::Branch { branch, .. } => {
                let has = |arm| {
                    self.tasks[tasks.clone()]
                        .iter()
                        .any(|t| t.gate.is_some_and(|g| g.task == task && g.arm == arm))
                };
                (0..branch.arms.len()).any(|arm| !has(arm))
            }
            _ => false,
        };
        Ends::new(
            tasks.clone().filter(|task| !above[task - first]).collect(),
            tasks.clone().filter(|&task| !below[task - first] || ends_here(task)).collect(),
        )
    }
}

/// Why a path leads nowhere.
enum Step<'p> {
    Done,
    NoTask { name: &'p Ident, scope: usize },
    NoMember { of: usize, member: &'p Ident },
}

/// The orders of a block and of what is in it, with the scope they are in.
fn collect<'a>(block: &'a Block, scope: usize, scopes: &mut usize, orders: &mut Vec<(&'a Order, usize)>) {
    for statement in &block.statements {
        match statement {
            Statement::Order(order) => orders.push((order, scope)),
            Statement::Branch(branch) => {
                branch.arms.iter().for_each(|arm| collect(&arm.body, scope, scopes, orders));
            }
            Statement::Loop(each) => collect(&each.body, scope, scopes, orders),
            Statement::Group(group) => {
                *scopes += 1;
                collect(&group.body, *scopes, scopes, orders);
            }
            Statement::Tech(_) | Statement::Trigger(_) | Statement::Call(_) | Statement::Function(_) => {}
        }
    }
}

fn no_member(path: &[Ident], member: &Ident, all: Vec<&str>, errors: &mut Errors) {
    let before = path.iter().take_while(|name| *name != member).map(|name| name.unraw().to_string());
    let word = before.collect::<Vec<_>>().join(".");
    if all.is_empty() {
        errors.under(member.span(), format!("`{word}` is one task and has no members"));
        return;
    }
    let mut all: Vec<_> = all.iter().map(|name| format!("`{name}`")).collect();
    all.sort();
    errors.under(member.span(), format!("`{word}` has no member `{member}`; it has {}", all.join(", ")));
}
