//! What tasks call once their attempts have ended.
//!
//! A function is named once, however many tasks call it.

use std::collections::HashMap;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ExprPath;
use syn::spanned::Spanned;

use super::values::context;
use super::{optional, runtime_name, runtime_under};
use crate::model::{Kind, Model};
use crate::parse::options::Callbacks;
use crate::parse::written;

/// The static `__CALLBACKS` and what it refers to.
pub fn of(model: &Model) -> TokenStream {
    let rt = runtime_name();
    let mut functions = Functions::default();
    // Told where it is wrong, also where every task has another.
    functions.tasks(model.biz.options.task.callbacks.clone());
    let tasks: Vec<_> = (0..model.tasks.len()).map(|task| functions.tasks(callbacks(model, task))).collect();
    let Functions { items, names } = functions;
    // As most have none, they cost nothing.
    let list = if names.is_empty() { quote!(&[]) } else { quote!(&[#(#tasks),*]) };
    quote! {
        #items
        static __CALLBACKS: &[#rt::task::Callbacks] = #list;
    }
}

/// What a task calls. An asynchronous call is one call, and has succeeded once it is read.
fn callbacks(model: &Model, task: usize) -> Callbacks {
    let default = &model.biz.options.task.callbacks;
    let mut callbacks = model.tasks[task].options.callbacks.clone().or(default);
    let is_transformer = match model.tasks.get(task + 1).map(|next| &next.kind) {
        Some(Kind::Submit(_, lazy)) => lazy.transformed.is_some(),
        _ => false,
    };
    if is_transformer || matches!(model.tasks[task].kind, Kind::Submit(..) | Kind::Wait(_)) {
        callbacks.on_success = None;
    }
    callbacks
}

/// The functions that are called, by their names as they are written.
#[derive(Default)]
struct Functions {
    items: TokenStream,
    names: HashMap<String, Ident>,
}

impl Functions {
    /// The callbacks of one task.
    fn tasks(&mut self, callbacks: Callbacks) -> TokenStream {
        let rt = runtime_name();
        let Callbacks { on_failure, on_retry, on_success } = callbacks;
        let [on_failure, on_retry, on_success] = [on_failure, on_retry, on_success]
            .map(|function| optional(function.map(|function| self.runner(&function))));
        quote! {
            #rt::task::Callbacks { on_failure: #on_failure, on_retry: #on_retry, on_success: #on_success }
        }
    }

    /// The runner of a function; that it is none that can be called is told under its name.
    fn runner(&mut self, function: &ExprPath) -> Ident {
        let next = self.names.len();
        let items = &mut self.items;
        let name = self.names.entry(written::tokens(function)).or_insert_with(|| {
            let (rt, context, name) = (runtime_name(), context(), format_ident!("__callback_{next}"));
            let under = runtime_under(function.span());
            let work = quote_spanned!(function.span()=> #under::task::finish_callback(#function, #context));
            items.extend(quote! {
                #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
                fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::task::Work> {
                    ::core::result::Result::Ok(#work)
                }
            });
            name
        });
        name.clone()
    }
}
