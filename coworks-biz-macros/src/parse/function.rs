//! `#[task] async fn f(..) -> Result<T> { .. }`

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, FnArg, GenericArgument, Ident, ItemFn, Meta, Pat, PathArguments, ReturnType, Type};

use super::options::TaskOptions;
use crate::errors::Errors;

/// A nested function with `#[task]`: a task of its own, or what tasks call.
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

impl FunctionTask {
    pub fn of(mut item: ItemFn, errors: &mut Errors) -> Self {
        let (task, rest): (Vec<_>, Vec<_>) = item.attrs.into_iter().partition(|a| a.path().is_ident("task"));
        item.attrs = rest;
        let options = options(&task, errors).unwrap_or_default();
        if let Some(cfg) = item.attrs.iter().find(|a| a.path().is_ident("cfg")) {
            errors.at(cfg, "a task has no `#[cfg]`: the DAG would differ from build to build");
        }
        let parameters = item.sig.inputs.iter().filter_map(|input| parameter(input, errors)).collect();
        let output = output(&item.sig.output);
        Self { item, options, parameters, output }
    }
}

/// What the attributes `#[task(..)]` in this list say; `None` where there is none.
pub fn options(attributes: &[Attribute], errors: &mut Errors) -> Option<TaskOptions> {
    if let Some(second) = attributes.get(1) {
        errors.at(second, "`#[task]` is given twice");
    }
    match &attributes.first()?.meta {
        Meta::Path(_) => Some(TaskOptions::default()),
        Meta::List(list) => parse(list.tokens.clone(), errors),
        Meta::NameValue(pair) => {
            errors.at(pair, "options are written `#[task(retries = 3)]`");
            None
        }
    }
}

fn parse(tokens: TokenStream, errors: &mut Errors) -> Option<TaskOptions> {
    let read = |input: ParseStream| Ok(TaskOptions::parse(input, errors));
    match read.parse2(tokens) {
        Ok(read) => Some(read),
        Err(error) => {
            errors.add(error);
            None
        }
    }
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
pub fn output(written: &ReturnType) -> Option<Type> {
    let ReturnType::Type(_, ty) = written else { return Some(syn::parse_quote!(())) };
    let Type::Path(path) = &**ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        // Only rustc knows which type that is.
        GenericArgument::Type(Type::ImplTrait(_)) => None,
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    }
}
