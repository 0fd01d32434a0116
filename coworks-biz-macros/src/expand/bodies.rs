//! What the tasks do: constant data for a call, a plain function for a function.
//!
//! The shape is chosen for rustc: calls are data in statics, and each function
//! task has one small synchronous function that decodes its inputs and hands
//! its future to a shared generic one. A closure or an async block for each
//! task would be several times slower to compile.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, ReturnType, Type};

use super::{runtime_name, runtime_under};
use crate::model::{Argument, Kind, Model};
use crate::parse::FunctionTask;
use crate::parse::tech::{Asynchronous, Service, TechCall, Token};
use crate::parse::value::duration_tokens;

/// The static `__BODIES` and what it refers to.
pub fn of(model: &Model) -> TokenStream {
    let rt = runtime_name();
    let mut items = TokenStream::new();
    let mut bodies = Vec::with_capacity(model.tasks.len());
    for (index, task) in model.tasks.iter().enumerate() {
        let body = match &task.kind {
            Kind::Function { task, arguments } => {
                let name = format_ident!("__run_{index}");
                items.extend(runner(&name, model, task, arguments));
                quote!(Function(#name))
            }
            Kind::Call(call) => {
                let name = format_ident!("__CALL_{index}");
                let value = call_data(&call.call, task.output);
                items.extend(quote!(static #name: #rt::tech::Call = #value;));
                quote!(Call { call: &#name, arguments: ::core::option::Option::None })
            }
            Kind::Submit(call, asynchronous) => {
                let name = format_ident!("__CALL_{index}");
                // The type of the answer is that of the group's `read`.
                let value = async_call_data(&call.call, asynchronous, call.output.as_ref());
                items.extend(quote!(static #name: #rt::tech::AsyncCall = #value;));
                member("Submit", index)
            }
            Kind::Wait(submit) => member("Wait", *submit),
            Kind::Read(submit) => member("Read", *submit),
        };
        bodies.push(quote!(#rt::task::Body::#body));
    }
    quote! {
        #items
        static __BODIES: &[#rt::task::Body] = &[#(#bodies),*];
    }
}

fn member(member: &str, submit: usize) -> TokenStream {
    let rt = runtime_name();
    let (member, call) = (format_ident!("{member}"), format_ident!("__CALL_{submit}"));
    let submit = u32::try_from(submit).unwrap_or(u32::MAX);
    quote! {
        Group {
            member: #rt::task::Member::#member,
            call: &#call,
            arguments: ::core::option::Option::None,
            submit: #submit,
        }
    }
}

/// Decodes the inputs as what their tasks give, so that rustc holds them
/// against what the function takes, under the user's own words.
fn runner(name: &Ident, model: &Model, task: &FunctionTask, arguments: &[Argument]) -> TokenStream {
    let rt = runtime_name();
    // Under one span: the types around it may come from another macro.
    let context = Ident::new("__context", Span::call_site());
    let mut decode = TokenStream::new();
    let mut passed = Vec::with_capacity(arguments.len());
    let mut place = 0usize;
    for (position, argument) in arguments.iter().enumerate() {
        let variable =
            |span: Span| Ident::new(&format!("__argument_{position}"), span.resolved_at(Span::mixed_site()));
        match argument {
            Argument::Output { parameter, task, optional } => {
                let Some(given) = model.tasks[*task].output else { continue };
                let variable = variable(span_of(parameter.name.as_ref(), &parameter.ty));
                let given = match optional {
                    true => quote!(::core::option::Option<#given>),
                    false => quote!(#given),
                };
                decode.extend(quote!(let #variable: #given = #context.input(#place)?;));
                passed.push(variable);
                place += 1;
            }
            Argument::Conf(parameter) => {
                let variable = variable(span_of(parameter.name.as_ref(), &parameter.ty));
                let ty = model.biz.conf.as_ref().unwrap_or(&parameter.ty);
                decode.extend(quote!(let #variable: #ty = #context.conf()?;));
                passed.push(variable);
            }
            Argument::Extractor(parameter) => {
                let (ty, variable) = (&parameter.ty, variable(parameter.ty.span()));
                decode.extend(quote_spanned! {ty.span()=>
                    let #variable = <#ty as #rt::task::FromContext>::from_context(#context)?;
                });
                passed.push(variable);
            }
        }
    }
    let function = &task.item.sig.ident;
    // What is wrong with the output is told under the type that the function returns.
    let returns = match &task.item.sig.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => function.span(),
    };
    let call = quote_spanned!(returns=> #function(#(#passed),*));
    let under = runtime_under(returns);
    let work = match task.item.sig.asyncness {
        Some(_) => quote_spanned!(returns=> #under::task::finish(#call)),
        None => quote_spanned!(returns=> #under::task::finish_blocking(move || #call)),
    };
    quote! {
        #[allow(unused_variables, clippy::redundant_closure)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::task::Work> {
            #decode
            ::core::result::Result::Ok(#work)
        }
    }
}

fn span_of(name: Option<&Ident>, ty: &Type) -> Span {
    name.map_or_else(|| ty.span(), Ident::span)
}

fn call_data(call: &TechCall, output: Option<&Type>) -> TokenStream {
    let rt = runtime_name();
    let method = format_ident!("{}", call.method);
    let (path, accept) = (&call.path, &call.accept);
    let request_timeout = duration_tokens(call.request_timeout);
    let service = match &call.service {
        Service::Api { api_id, stage, region } => {
            let region = match region {
                Some(region) => quote!(#region),
                None => quote!(#rt::tech::DEFAULT_REGION),
            };
            quote!(Api { api_id: #api_id, stage: #stage, region: #region })
        }
        Service::Url(url) => quote!(Url(#url)),
    };
    let token = match &call.token {
        Token::None => quote!(None),
        Token::Literal(token) => quote!(Literal(#token)),
        Token::Secret(name) => quote!(Secret(#name)),
    };
    let output = match output {
        Some(ty) => quote_spanned!(ty.span()=> ::core::option::Option::Some(#rt::value::Type::of::<#ty>())),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        #rt::tech::Call {
            method: #rt::tech::Method::#method,
            path: #path,
            service: #rt::tech::Service::#service,
            token: #rt::tech::Token::#token,
            accept: #accept,
            request_timeout: #request_timeout,
            output: #output,
        }
    }
}

fn async_call_data(call: &TechCall, asynchronous: &Asynchronous, output: Option<&Type>) -> TokenStream {
    let rt = runtime_name();
    let data = call_data(call, output);
    let Asynchronous { timeout, bucket, keep } = asynchronous;
    let timeout = duration_tokens(*timeout);
    let bucket = match bucket {
        Some(bucket) => quote!(::core::option::Option::Some(#bucket)),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        #rt::tech::AsyncCall { call: #data, timeout: #timeout, bucket: #bucket, keep: #keep }
    }
}
