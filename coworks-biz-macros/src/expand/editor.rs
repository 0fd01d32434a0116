//! What only an editor reads: the names of the plan as Rust knows them.
//!
//! Nothing calls this function. It repeats the user's own words where nothing
//! else that is emitted has them, so that they can be hovered, followed and renamed.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Ident, Type};

use super::runtime_name;
use crate::parse::Biz;
use crate::parse::order::{Order, Then};
use crate::parse::plan::{Block, Naming, Statement};

#[derive(Default)]
struct Words<'a> {
    names: Vec<(&'a Ident, &'a Type)>,
    functions: Vec<&'a Ident>,
    operands: Vec<&'a Ident>,
    macros: Vec<&'a Ident>,
}

/// The function `__plan`, where there is something to tell.
pub fn of(biz: &Biz) -> TokenStream {
    let mut words = Words::default();
    words.block(&biz.body);
    let Words { names, functions, operands, macros } = words;
    let rt = runtime_name();
    let lets = names.iter().map(|(name, ty)| quote!(let #name: #ty = #rt::task::value();));
    let known: HashSet<_> = names.iter().map(|(name, _)| *name).chain(functions).collect();
    let uses = operands.iter().filter(|name| known.contains(*name));
    let uses = uses.map(|name| quote_spanned!(name.span()=> let _ = &#name;));
    let krate = super::crate_path(biz);
    let macros = macros.iter().map(|name| quote!(use #krate::#name as _;));
    quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn __plan() {
            #(#macros)*
            #(#lets)*
            #(#uses)*
        }
    }
}

impl<'a> Words<'a> {
    fn block(&mut self, block: &'a Block) {
        for statement in &block.statements {
            match statement {
                Statement::Tech(task) => {
                    self.macros.push(&task.keyword);
                    self.naming(&task.naming);
                }
                Statement::Trigger(task) => {
                    self.macros.push(&task.keyword);
                    self.naming(&task.naming);
                }
                Statement::Call(task) => self.naming(&task.naming),
                Statement::Function(task) if task.item.sig.generics.params.is_empty() => {
                    self.functions.push(&task.item.sig.ident);
                }
                Statement::Function(_) => {}
                Statement::Branch(branch) => {
                    branch.arms.iter().for_each(|arm| self.block(&arm.body));
                    self.naming(&branch.naming);
                }
                Statement::Loop(each) => self.block(&each.body),
                Statement::Group(group) => self.block(&group.body),
                Statement::Order(order) => self.order(order),
            }
        }
    }

    /// A name whose type is written; of others rustc would have to be told at a cost.
    fn naming(&mut self, naming: &'a Naming) {
        self.names.extend(naming.name.as_ref().zip(naming.output.as_ref()));
    }

    fn order(&mut self, order: &'a Order) {
        match order {
            Order::Name(path) => self.operands.extend(path.first()),
            Order::List(list) => list.iter().for_each(|order| self.order(order)),
            Order::Then(Then { before, after, .. }) => {
                self.order(before);
                self.order(after);
            }
        }
    }
}
