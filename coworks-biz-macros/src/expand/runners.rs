//! What a task runs: small synchronous functions that decode what they take.
//!
//! The shape is chosen for rustc: each hands its future to a shared generic
//! function. A closure or an async block for each task would be several times
//! slower to compile.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, ExprCall, Ident, ReturnType, Type};

use super::values::{context, declare, seen_type, seen_witness, value, written_type};
use super::{runtime_name, runtime_under};
use crate::model::{Argument, Model, Output, Source, Use, written};
use crate::parse::function::{FunctionTask, Parameter};
use crate::parse::plan::{Branch, Loop, Test};
use crate::parse::uses;

/// Binds the parameters of a function, so that rustc holds what their tasks give against what
/// it takes, under the user's own words.
pub fn function(model: &Model, index: usize, task: &FunctionTask, arguments: &[Argument]) -> TokenStream {
    let (rt, context, name) = (runtime_name(), context(), name(index));
    let mut decode = TokenStream::new();
    let mut passed = Vec::with_capacity(arguments.len());
    for (position, argument) in arguments.iter().enumerate() {
        let variable =
            |span: Span| Ident::new(&format!("__argument_{position}"), span.resolved_at(Span::mixed_site()));
        match argument {
            Argument::Value(parameter, source) => {
                let variable = variable(span_of(parameter));
                decode.extend(bind(model, index, parameter, *source, &variable));
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
        #[allow(unused_variables, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::task::Work> {
            #decode
            ::core::result::Result::Ok(#work)
        }
    }
}

/// One parameter. Where its type is written otherwise than that of what it gets, they may still
/// be the same to rustc; where they are not, the error names both tasks.
fn bind(model: &Model, index: usize, parameter: &Parameter, source: Source, variable: &Ident) -> TokenStream {
    let Some(name) = &parameter.name else { return TokenStream::new() };
    let value = value(model, index, source, name);
    let ty = &parameter.ty;
    let Source::Output { .. } = source else {
        // A biz without a `conf` of its own takes what its tasks say.
        let given = written_type(model, index, source).unwrap_or_else(|| match source {
            Source::Conf => quote!(#ty),
            _ => quote!(_),
        });
        return quote!(let #variable: #given = #value;);
    };
    let given = written_type(model, index, source);
    let same = given.as_ref().is_some_and(|given| same(given, ty));
    if same {
        return quote!(let #variable: #given = #value;);
    }
    let given = given.unwrap_or_else(|| quote!(_));
    // Types with the names of the tasks, for the sentence that rustc says.
    let marker = |word: &str| {
        let word = word.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        syn::parse_str::<Ident>(&word).unwrap_or_else(|_| format_ident!("_{word}"))
    };
    let (reader, giver) = (marker(&model.tasks[index].id), marker(&name.unraw().to_string()));
    let under = runtime_under(ty.span());
    let taken = quote_spanned! {ty.span()=>
        #under::task::takes::<#ty, _, #reader, #giver>(__given)
    };
    quote! {
        let #variable = {
            #[allow(non_camel_case_types)]
            struct #reader {}
            #[allow(non_camel_case_types)]
            struct #giver {}
            let __given: #given = #value;
            #taken
        };
    }
}

fn same(given: &TokenStream, ty: &Type) -> bool {
    syn::parse2::<Type>(given.clone()).is_ok_and(|given| written(&given) == written(ty))
}

fn span_of(parameter: &Parameter) -> Span {
    parameter.name.as_ref().map_or_else(|| parameter.ty.span(), Ident::span)
}

/// Calls a function as the user has written it.
pub fn invoke(
    model: &Model,
    index: usize,
    call: &ExprCall,
    uses: &[Use],
    blocking: bool,
    annotated: Option<&Type>,
) -> TokenStream {
    let (rt, context, name) = (runtime_name(), context(), name(index));
    let declared = declare(model, index, uses);
    let span = call.func.span();
    // A task of the function's own name must not hide it.
    let hidden =
        uses.iter().find(|used| matches!(&*call.func, Expr::Path(path) if path.path.is_ident(&used.name)));
    let (declared, call) = match hidden {
        Some(_) => {
            let (function, arguments) = (&call.func, &call.args);
            let callee = Ident::new("__callee", span.resolved_at(Span::mixed_site()));
            (quote!(let #callee = #function; #declared), quote_spanned!(span=> #callee(#arguments)))
        }
        None => (declared, quote!(#call)),
    };
    let under = runtime_under(span);
    let work = match (blocking, annotated) {
        (true, None) => quote_spanned!(span=> #under::task::finish_blocking(move || #call)),
        (true, Some(ty)) => quote_spanned!(span=> #under::task::finish_blocking_as::<#ty, _>(move || #call)),
        (false, None) => quote_spanned!(span=> #under::task::finish(#call)),
        (false, Some(ty)) => quote_spanned!(span=> #under::task::finish_as::<#ty, _>(#call)),
    };
    quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::task::Work> {
            #declared
            ::core::result::Result::Ok(#work)
        }
    }
}

/// The user's own `match` or `if`, whose arms give their numbers.
pub fn branch(
    model: &Model,
    index: usize,
    branch: &Branch,
    uses: &[Use],
    taken: &[std::collections::BTreeSet<String>],
) -> TokenStream {
    let (rt, context, name) = (runtime_name(), context(), name(index));
    let declared = declare(model, index, uses);
    let choice = |arm: usize, variables: Vec<Ident>, span: Span| {
        let under = runtime_under(span);
        let number = u32::try_from(arm).unwrap_or(u32::MAX);
        let bound = variables.iter().filter(|variable| taken[arm].contains(&variable.unraw().to_string()));
        let bound = bound.map(|variable| {
            let word = variable.unraw().to_string();
            quote_spanned!(variable.span()=> .bind(#word, #variable)?)
        });
        quote_spanned!(span=> #under::task::Choice::arm(#number) #(#bound)*)
    };
    let chosen = match &branch.scrutinee {
        Some(scrutinee) => {
            let arms = branch.arms.iter().enumerate().map(|(arm, way)| match &way.test {
                Test::Pattern(pattern, guard) => {
                    let choice = choice(arm, uses::variables(pattern), way.end);
                    let guard = guard.as_ref().map(|guard| quote!(if #guard));
                    // From the pattern to its end, behind which rustc would add an arm that is missing.
                    let choice = quote_spanned!(way.end=> => #choice,);
                    quote!(#pattern #guard #choice)
                }
                Test::Condition(_) | Test::Otherwise => TokenStream::new(),
            });
            quote_spanned!(branch.keyword=> match #scrutinee { #(#arms)* })
        }
        None => {
            let arms = branch.arms.iter().enumerate().map(|(arm, way)| match &way.test {
                Test::Condition(condition) => {
                    let choice = choice(arm, uses::variables_of_condition(condition), condition.span());
                    quote!(if #condition { #choice } else)
                }
                Test::Pattern(..) | Test::Otherwise => {
                    let choice = choice(arm, vec![], branch.keyword);
                    quote!({ #choice })
                }
            });
            quote!(#(#arms)*)
        }
    };
    quote! {
        #[allow(unused_variables, unused_mut, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::task::Choice> {
            #declared
            ::core::result::Result::Ok(#chosen)
        }
    }
}

/// The user's own list.
pub fn map(model: &Model, index: usize, each: &Loop, uses: &[Use]) -> TokenStream {
    let (rt, context, name) = (runtime_name(), context(), name(index));
    let (declared, list) = (declare(model, index, uses), &each.list);
    let under = runtime_under(list.span());
    let items = quote_spanned!(list.span()=> #under::task::items(#list));
    quote! {
        #[allow(unused_variables, unused_mut, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<#rt::task::Items> {
            #declared
            #items
        }
    }
}

/// Holds the types of the arms against each other; nothing calls it.
pub fn join(model: &Model, index: usize, arms: &[(usize, Span)]) -> TokenStream {
    let (rt, context) = (runtime_name(), context());
    let annotated = match model.tasks[index].output {
        Output::Written(ty) => Some(ty),
        _ => None,
    };
    let map = model.tasks[index].map;
    let mut kinds = arms.iter().map(|(task, _)| seen_type(model, *task, map, false).map(|ty| written(&ty)));
    let first = annotated.map(written).or_else(|| kinds.next().flatten());
    if first.is_some() && kinds.all(|kind| kind == first) && (annotated.is_none() || arms.len() == 1) {
        return TokenStream::new();
    }
    let name = format_ident!("__join_{index}");
    let declared = annotated.map(|ty| quote!(let mut __value: #ty;));
    let arms = arms.iter().enumerate().map(|(position, (task, span))| {
        let witness = seen_witness(model, *task, map, false);
        let arm = Ident::new("__arm", span.resolved_at(Span::mixed_site()));
        // The first arm says what the others have to be, where nobody else does.
        let first = (position == 0 && annotated.is_none()).then(|| quote!(let mut));
        quote!(let #arm = #rt::task::value_of(#witness); #first __value = #arm;)
    });
    quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name(#context: &#rt::task::Context) -> #rt::error::Result<()> {
            #declared
            #(#arms)*
            ::core::result::Result::Ok(())
        }
    }
}

/// Names the called functions, each by itself; nothing calls it. Where one has type parameters that
/// nobody says, a reader of its output would otherwise decide what they are.
pub fn callees(model: &Model) -> TokenStream {
    let mut taken: Vec<_> = model.tasks.iter().flat_map(|task| &task.inputs).copied().collect();
    taken.sort_unstable();
    taken.dedup();
    let callees: Vec<_> = taken
        .into_iter()
        .filter_map(|task| match model.tasks[task].output {
            Output::Callee(call) => Some(&call.func),
            Output::Unknown | Output::Written(_) | Output::Same(_) => None,
        })
        .collect();
    if callees.is_empty() {
        return TokenStream::new();
    }
    quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn __callees() {
            #(let _ = #callees;)*
        }
    }
}

/// Holds the type that a group is given against that of its value; nothing calls it.
pub fn group(model: &Model, number: usize, ty: &Type, task: usize, map: Option<usize>) -> TokenStream {
    let (rt, name) = (runtime_name(), format_ident!("__group_{number}"));
    let witness = seen_witness(model, task, map, false);
    let value = Ident::new("__value", ty.span().resolved_at(Span::mixed_site()));
    quote! {
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
        fn #name() {
            let #value = #rt::task::value_of(#witness);
            let _: #ty = #value;
        }
    }
}

pub fn name(index: usize) -> Ident {
    format_ident!("__run_{index}")
}
