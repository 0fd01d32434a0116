//! From the model to code: a type with a static DAG behind it.

mod bodies;
mod callbacks;
mod calls;
mod dag;
mod editor;
mod runners;
mod triggers;
mod values;

use std::collections::HashSet;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, ItemFn, parse_quote};

use crate::check;
use crate::errors::Errors;
use crate::model::Model;
use crate::parse::written::Names;
use crate::parse::{self, Biz};

/// `#[biz(options)] function`.
pub fn biz(options: TokenStream, function: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(function.clone()) {
        Ok(function) => function,
        Err(error) => return unread(options, function, error),
    };
    let mut errors = Errors::default();
    let biz = parse::biz(options, function, &mut errors);
    let model = Model::of(&biz, &mut errors);
    let order = check::order(&model, &mut errors);
    if errors.is_empty() {
        let tasks = dag::Tasks::of(&model, &order);
        let (bodies, plan) = (bodies::of(&model), editor::of(&biz));
        return emit(&biz, &tasks.dag(&biz), &quote!(#bodies #plan), TokenStream::new());
    }
    // The type stays, with a DAG of no tasks, so that nothing else breaks for it.
    let empty = Model::empty(&biz);
    let dag = dag::Tasks::of(&empty, &[]).dag(&biz);
    emit(&biz, &dag, &bodies::of(&empty), errors.into_tokens())
}

/// A body that is no Rust, such as one without a semicolon: the type stays, and nothing of the
/// body, of which rustc would make other mistakes.
fn unread(options: TokenStream, function: TokenStream, error: syn::Error) -> TokenStream {
    let told = error.to_compile_error();
    let mut tokens: Vec<_> = function.clone().into_iter().collect();
    if let Some(TokenTree::Group(body)) = tokens.last()
        && body.delimiter() == Delimiter::Brace
    {
        tokens.pop();
        let signature: TokenStream = tokens.into_iter().collect();
        let empty = quote!(#signature {});
        if syn::parse2::<ItemFn>(empty.clone()).is_ok() {
            let stub = biz(options, empty);
            return quote!(#told #stub);
        }
    }
    quote!(#told #function)
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
    let mut seen = HashSet::new();
    let functions = biz.body.functions().into_iter().map(|task| &task.item);
    let functions = functions.filter(|item| seen.insert(&item.sig.ident));
    // What the errors leave unused is not the user's fault.
    let lenient = (!errors.is_empty()).then(|| quote!(#[allow(unused)]));
    let conf = optional(biz.conf.as_ref().map(|ty| quote!(#rt::value::Type::of::<#ty>())));
    let (required, asked) = (names(&biz.calls), names(&biz.functions));
    // A schedule brings no conf along.
    let default_conf = optional(biz.conf.as_ref().filter(|_| biz.options.schedule.is_some()).map(|ty| {
        let under = runtime_under(ty.span());
        quote_spanned!(ty.span()=> #under::task::default_conf::<#ty>)
    }));
    let triggered = triggered(biz);
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
            static __DEFINITION: #rt::task::Definition = #rt::task::Definition {
                dag: &__DAG,
                bodies: __BODIES,
                callbacks: __CALLBACKS,
                conf: #conf,
                default_conf: #default_conf,
                required: #required,
                asked: #asked,
            };
            impl #rt::task::Biz for #name {
                const DEFINITION: &'static #rt::task::Definition = &__DEFINITION;
            }
            #triggered
        };

        #errors
    }
}

/// What another biz may trigger it with.
fn triggered(biz: &Biz) -> TokenStream {
    let (rt, name) = (runtime_name(), &biz.name);
    let takes = match &biz.conf {
        Some(ty) => quote!(impl #rt::task::TakesConf<#ty> for #name {}),
        None => quote!(impl<__T: #rt::value::Output> #rt::task::TakesConf<__T> for #name {}),
    };
    // One with a schedule has a default.
    let without = biz.conf.is_none() || biz.options.schedule.is_some();
    let without = without.then(|| quote!(impl #rt::task::NeedsNoConf for #name {}));
    quote!(#takes #without)
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
    let krate = crate_path(biz);
    quote!(#krate::__runtime)
}

fn crate_path(biz: &Biz) -> syn::Path {
    biz.options.krate.clone().unwrap_or_else(|| parse_quote!(::coworks_biz))
}

fn names(names: &Names) -> TokenStream {
    let rt = runtime_name();
    let Names { secrets, variables } = names;
    quote!(#rt::task::Names { secrets: &[#(#secrets),*], variables: &[#(#variables),*] })
}

/// An `Option` of a value.
fn optional(value: Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}
