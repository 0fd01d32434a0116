//! What a trigger says: constant data, and a function for its conf.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use super::values::{context, declare};
use super::{optional, runtime_name, runtime_under};
use crate::model::{Model, Use};
use crate::parse::trigger::TriggerCall;
use crate::parse::value::duration_tokens;

/// The static of a trigger.
pub fn data(index: usize, call: &TriggerCall) -> TokenStream {
    let (rt, name) = (runtime_name(), name(index));
    let TriggerCall { biz, conf, wait_for_completion, timeout } = call;
    let under = runtime_under(biz.span());
    // Under the name of the biz: that it is one, and whether it may be left without a conf.
    let definition = match conf {
        Some(_) => quote_spanned!(biz.span()=> #under::task::definition_of::<#biz>),
        None => quote_spanned!(biz.span()=> #under::task::definition_without_conf::<#biz>),
    };
    let timeout = optional(timeout.map(duration_tokens));
    quote! {
        static #name: #rt::task::TriggerCall = #rt::task::TriggerCall {
            definition: #definition,
            wait_for_completion: #wait_for_completion,
            timeout: #timeout,
        };
    }
}

/// The function that evaluates the conf, where there is one.
pub fn conf(model: &Model, index: usize, call: &TriggerCall, uses: &[Use]) -> Option<TokenStream> {
    let conf = call.conf.as_ref()?;
    let (rt, context, name, biz) = (runtime_name(), context(), conf_name(index), &call.biz);
    let declared = declare(model, index, uses);
    let under = runtime_under(conf.span());
    let given = quote_spanned!(conf.span()=> #under::task::conf_of::<#biz, _>(#conf));
    Some(quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::value::Json> {
            #declared
            #given
        }
    })
}

pub fn name(index: usize) -> Ident {
    format_ident!("__TRIGGER_{index}")
}

/// The name of the function that evaluates the conf.
pub fn conf_name(index: usize) -> Ident {
    format_ident!("__conf_{index}")
}
