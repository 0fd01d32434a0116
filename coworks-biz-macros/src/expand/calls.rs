//! What a call says: constant data, and a function for what is known when it is sent.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Expr;
use syn::spanned::Spanned;

use super::values::{context, declare};
use super::{optional, runtime_name};
use crate::model::{Lazy, Model};
use crate::parse::call::{Body, Kind, Service, TechCall, Token};
use crate::parse::value::duration_tokens;

/// The static of a call, with what it refers to.
pub fn data(index: usize, call: &TechCall, output: Option<TokenStream>) -> TokenStream {
    let rt = runtime_name();
    let name = format_ident!("__CALL_{index}");
    let mut items = TokenStream::new();
    let value = sync(index, call, output.as_ref(), &mut items);
    let (ty, value) = match &call.kind {
        Kind::Sync => (quote!(Call), value),
        Kind::Async { timeout, bucket, keep, .. } => {
            let (timeout, bucket) = (duration_tokens(*timeout), optional(bucket.as_ref()));
            let fields = quote!(call: #value, timeout: #timeout, bucket: #bucket, keep: #keep);
            (quote!(AsyncCall), quote!(#rt::tech::AsyncCall { #fields }))
        }
        Kind::Sensor { poke_interval, timeout, until } => {
            let (poke_interval, timeout) = (duration_tokens(*poke_interval), duration_tokens(*timeout));
            let until = optional(until.as_ref().map(|until| {
                let name = format_ident!("__until_{index}");
                let json = quote!(#rt::value::Json);
                let ty = output.as_ref().map_or_else(|| quote!(_), |ty| quote!(#ty));
                items.extend(quote_spanned! {until.span()=>
                    fn #name(__json: &#json) -> #rt::error::Result<bool> {
                        let __reply: #ty = __json.decode()?;
                        ::core::result::Result::Ok(#until(&__reply))
                    }
                });
                name
            }));
            let fields = quote! {
                call: #value, poke_interval: #poke_interval, timeout: #timeout, until: #until
            };
            (quote!(SensorCall), quote!(#rt::tech::SensorCall { #fields }))
        }
    };
    quote! { #items static #name: #rt::tech::#ty = #value; }
}

fn sync(index: usize, call: &TechCall, output: Option<&TokenStream>, items: &mut TokenStream) -> TokenStream {
    let rt = runtime_name();
    let method = format_ident!("{}", call.method);
    let (path, accept) = (&call.path.literal, call.accept.as_deref().unwrap_or("application/json"));
    let (request_timeout, log_response) = (duration_tokens(call.request_timeout), call.log_response);
    let service = match &call.service {
        Service::Api { api_id, stage, region } => {
            let region = match region {
                Some(region) => quote!(#region),
                None => quote!(#rt::tech::DEFAULT_REGION),
            };
            quote!(Api { api_id: #api_id, stage: #stage, region: #region })
        }
        Service::Named { cws_name, stage } => {
            let stage = optional(stage.as_ref());
            quote!(Named { cws_name: #cws_name, stage: #stage })
        }
        Service::Url(url) => quote!(Url(#url)),
        Service::Custom(service) => {
            let name = format_ident!("__service_{index}");
            items.extend(quote_spanned! {service.span()=>
                fn #name() -> ::std::boxed::Box<dyn #rt::tech::TechService> {
                    ::std::boxed::Box::new(#service)
                }
            });
            quote!(Custom(#name))
        }
    };
    let token = match &call.token {
        Token::None => quote!(None),
        Token::Literal(token) => quote!(Literal(#token)),
        Token::Secret(name) => quote!(Secret(#name)),
        // One that is evaluated comes with the arguments.
        Token::Service | Token::Value(_) => quote!(OfService),
    };
    let output = optional(output.map(|ty| quote_spanned!(ty.span()=> #rt::value::Type::of::<#ty>())));
    quote! {
        #rt::tech::Call {
            method: #rt::tech::Method::#method,
            path: #path,
            service: #rt::tech::Service::#service,
            token: #rt::tech::Token::#token,
            accept: #accept,
            request_timeout: #request_timeout,
            log_response: #log_response,
            output: #output,
        }
    }
}

/// The name of the function that evaluates the arguments of a call, where there are any.
pub fn arguments_name(index: usize, call: &TechCall, lazy: &Lazy) -> Option<Ident> {
    let some =
        lazy.transformed.is_some() || call.expressions().next().is_some() || own_accept(call).is_some();
    some.then(|| format_ident!("__arguments_{index}"))
}

/// The function that evaluates the arguments of a call, where there are any.
pub fn arguments(model: &Model, index: usize, call: &TechCall, lazy: &Lazy) -> Option<TokenStream> {
    let name = arguments_name(index, call, lazy)?;
    let (rt, context) = (runtime_name(), context());
    let mut steps = TokenStream::new();
    let step = |steps: &mut TokenStream, step: TokenStream| {
        steps.extend(quote!(let __arguments = __arguments.#step?;));
    };
    if let Some(place) = lazy.transformed {
        let method = format_ident!("{}", call.method);
        let value = quote!(#context.input(#place)?);
        step(&mut steps, quote!(transformed(#rt::tech::Method::#method, #value)));
    }
    if !call.path.values.is_empty() {
        let (pieces, values) = (&call.path.pieces, &call.path.values);
        let values =
            values.iter().map(|value| quote_spanned!(value.span()=> &(#value) as &dyn ::core::fmt::Display));
        step(&mut steps, quote!(path(&[#(#pieces),*], &[#(#values),*])));
    }
    if let Some(accept) = own_accept(call) {
        step(&mut steps, quote!(header("Accept", #accept)));
    }
    for (method, pairs) in [("query", &call.query), ("header", &call.headers)] {
        let Some(pairs) = pairs else { continue };
        match tuples(pairs) {
            Some(pairs) => {
                let method = format_ident!("{}", if method == "query" { "query_pair" } else { method });
                for (name, value) in pairs {
                    let value = lent(value);
                    step(&mut steps, quote!(#method(#name, #value)));
                }
            }
            None => {
                let query = lent(pairs);
                step(&mut steps, quote!(query(#query)));
            }
        }
    }
    if let Token::Value(token) = &call.token {
        let token = lent(token);
        step(&mut steps, quote!(token(#token)));
    }
    match &call.body {
        Some(Body::Json(json)) => {
            let json = lent(json);
            step(&mut steps, quote!(json(#json)));
        }
        Some(Body::Data(data)) => step(&mut steps, quote!(data(#data))),
        None => {}
    }
    let declared = declare(model, index, &lazy.uses);
    Some(quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::tech::Arguments> {
            #declared
            let __arguments = #rt::tech::Arguments::new();
            #steps
            ::core::result::Result::Ok(__arguments)
        }
    })
}

/// What a call accepts where the type of its service may say something else.
fn own_accept(call: &TechCall) -> Option<&str> {
    call.accept.as_deref().filter(|_| matches!(call.service, Service::Custom(_)))
}

/// A value by reference, under its own tokens.
fn lent(value: &Expr) -> TokenStream {
    quote_spanned!(value.span()=> &(#value))
}

/// `[("name", value), ..]` as its pairs.
fn tuples(list: &Expr) -> Option<Vec<(&Expr, &Expr)>> {
    let Expr::Array(list) = list else { return None };
    list.elems
        .iter()
        .map(|pair| match pair {
            Expr::Tuple(pair) if pair.elems.len() == 2 => Some((&pair.elems[0], &pair.elems[1])),
            _ => None,
        })
        .collect()
}
