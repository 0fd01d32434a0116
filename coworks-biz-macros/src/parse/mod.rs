//! From tokens to plain data: what the user has written, each piece on its own.

pub mod call;
mod cron;
pub mod function;
mod given;
pub mod options;
pub mod order;
pub mod path;
pub mod plan;
mod read;
mod tech;
pub mod trigger;
pub mod uses;
pub mod value;
pub mod written;

use std::collections::HashMap;

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, FnArg, Ident, Item, ItemFn, Lit, Meta, Pat, ReturnType, Type, Visibility};

use self::options::BizOptions;
use self::plan::Block;
use self::read::Reader;
use self::written::Names;
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
    /// Whether it takes `ctx`.
    pub has_context: bool,
    /// Items of the body that are no tasks.
    pub items: Vec<Item>,
    /// What the functions among them give, where that is written and needs no type parameter.
    pub outputs: HashMap<Ident, Type>,
    pub body: Block,
    /// The secrets and variables that its calls name.
    pub calls: Names,
    /// Those that its functions name.
    pub functions: Names,
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
    let (conf, has_context) = parameters(sig.inputs.iter(), errors);
    let mut reader = Reader::default();
    let body = reader.body(block.stmts, errors);
    Biz {
        description: description(&attrs),
        attributes: attrs,
        visibility: vis,
        name: sig.ident,
        options,
        conf,
        has_context,
        outputs: outputs(&reader.items),
        items: reader.items,
        body,
        calls: reader.calls,
        functions: reader.functions,
    }
}

fn parameters<'a>(inputs: impl Iterator<Item = &'a FnArg>, errors: &mut Errors) -> (Option<Type>, bool) {
    let (mut conf, mut has_context) = (None, false);
    for input in inputs {
        match input {
            FnArg::Typed(typed) => match &*typed.pat {
                Pat::Ident(name) if name.ident == "conf" => conf = Some((*typed.ty).clone()),
                Pat::Ident(name) if name.ident == "ctx" => has_context = true,
                other => errors
                    .at(other, "a biz takes `conf: T`, what its runs are triggered with, and `ctx: Context`"),
            },
            FnArg::Receiver(receiver) => errors.at(receiver, "a biz is a function, not a method"),
        }
    }
    (conf, has_context)
}

fn outputs(items: &[Item]) -> HashMap<Ident, Type> {
    let outputs = items.iter().filter_map(|item| match item {
        Item::Fn(item) if item.sig.generics.params.is_empty() => {
            Some((item.sig.ident.clone(), function::output(&item.sig.output)?))
        }
        _ => None,
    });
    outputs.collect()
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
