//! From the model to code: a type with a static DAG behind it.

mod bodies;
mod dag;

use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Ident, ItemFn, parse_quote};

use crate::check;
use crate::errors::Errors;
use crate::model::{Kind, Model};
use crate::parse::{self, Biz, Statement};

/// `#[biz(options)] function`.
pub fn biz(options: TokenStream, function: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(function.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.to_compile_error();
            return quote!(#error #function);
        }
    };
    let mut errors = Errors::default();
    let biz = parse::biz(options, function, &mut errors);
    let model = Model::of(&biz, &mut errors);
    let order = check::order(&model, &mut errors);
    if errors.is_empty() {
        let tasks = dag::Tasks::of(&model, &order);
        return emit(&biz, &tasks.dag(&biz), &bodies::of(&model), TokenStream::new());
    }
    // The type stays, with a DAG of no tasks, so that nothing else breaks for it.
    let empty = Model { biz: &biz, tasks: vec![], edges: vec![] };
    let dag = dag::Tasks::of(&empty, &[]).dag(&biz);
    emit(&biz, &dag, &bodies::of(&empty), errors.into_tokens())
}

/// `message` as an error, beside the item that should not break for it.
pub fn misplaced(message: &str, item: Option<TokenStream>) -> TokenStream {
    quote!(::core::compile_error! { #message } #item)
}

fn emit(biz: &Biz, dag: &TokenStream, bodies: &TokenStream, errors: TokenStream) -> TokenStream {
    let Biz { attributes, visibility, name, items, .. } = biz;
    let runtime = runtime_path(biz);
    let rt = runtime_name();
    // A second one of a name is told as such, and rustc need not tell it again.
    let mut names = HashSet::new();
    let functions = biz.statements.iter().filter_map(|statement| match statement {
        Statement::Function(task) => Some(&task.item).filter(|item| names.insert(&item.sig.ident)),
        Statement::Tech(_) | Statement::Order(_) => None,
    });
    // What the errors leave unused is not the user's fault.
    let lenient = (!errors.is_empty()).then(|| quote!(#[allow(unused)]));
    let conf = match &biz.conf {
        Some(ty) => quote!(::core::option::Option::Some(#rt::value::Type::of::<#ty>())),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        #(#attributes)*
        #[allow(non_camel_case_types)]
        #[derive(::core::fmt::Debug)]
        #visibility struct #name {}

        #lenient
        const _: () = {
            use #runtime as #rt;
            #(#items)*
            #(
                #[allow(clippy::needless_pass_by_value, clippy::unused_async)]
                #functions
            )*
            #bodies
            #[allow(clippy::needless_update)]
            static __DAG: #rt::dag::Dag = #dag;
            static __DEFINITION: #rt::task::Definition =
                #rt::task::Definition { dag: &__DAG, bodies: __BODIES, conf: #conf };
            impl #rt::task::Biz for #name {
                const DEFINITION: &'static #rt::task::Definition = &__DEFINITION;
            }
        };

        #errors
    }
}

/// How emitted code calls the runtime.
fn runtime_name() -> Ident {
    runtime_under(Span::call_site())
}

/// The same, where errors about it belong under the user's own tokens.
fn runtime_under(span: Span) -> Ident {
    Ident::new("__coworks_biz", span)
}

fn runtime_path(biz: &Biz) -> TokenStream {
    let krate = biz.options.krate.clone().unwrap_or_else(|| parse_quote!(::coworks_biz));
    quote!(#krate::__runtime)
}

/// The runtime's word for what a task does.
fn kind(kind: &Kind) -> Ident {
    format_ident!(
        "{}",
        match kind {
            Kind::Function { .. } => "Function",
            Kind::Call(_) => "Call",
            Kind::Submit(..) => "Submit",
            Kind::Wait(..) => "Wait",
            Kind::Read(..) => "Read",
        }
    )
}
