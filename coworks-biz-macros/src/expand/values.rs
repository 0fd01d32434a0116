//! How a task gets the values that its expressions name.
//!
//! A type that is written is used as it is. Of others rustc is told by a
//! witness: an expression of type `Option<T>` that gives no value, such as the
//! function that a task calls, or the user's own match in a block that never runs.

use std::collections::{HashMap, HashSet};

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ExprCall;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use super::{runtime_name, runtime_under};
use crate::model::{Kind, Model, Output, Source, Use};
use crate::parse::plan::Test;

/// How emitted functions call their context.
pub fn context() -> Ident {
    // Under one span: the types around it may come from another macro.
    Ident::new("__context", Span::call_site())
}

/// A `let` for every name that the expressions of a task use.
///
/// Where a witness names a function, no variable of the same name may be in sight yet: then all
/// values come first, and their names afterwards. The variables of a loop come before all others,
/// for what stands in the loop may hide them.
pub fn declare(model: &Model, task: usize, uses: &[Use]) -> TokenStream {
    let (mut values, mut items, mut names) = (TokenStream::new(), TokenStream::new(), TokenStream::new());
    let written = |source: &Source| written_type(model, task, *source);
    let apart = uses.iter().any(|Use { source, .. }| written(source).is_none());
    let mut witnesses = Witnesses::of(model, uses, &mut values);
    let mut loops = HashSet::new();
    for (number, Use { name, source }) in uses.iter().enumerate() {
        let (pattern, value, names) = match *source {
            Source::Item { map, place } => {
                let Kind::Map { each, .. } = &model.tasks[map].kind else { continue };
                if !loops.insert(map) {
                    continue;
                }
                (each.pattern.to_token_stream(), item(model, map, place), &mut items)
            }
            Source::Variable { place, .. } => {
                let value = variable(place, name, &witnesses.take(name));
                (name.to_token_stream(), value, &mut names)
            }
            source => (name.to_token_stream(), value(model, task, source, name), &mut names),
        };
        let ty = written(source).map(|ty| quote!(: #ty));
        if apart {
            let place = format_ident!("__value_{number}");
            values.extend(quote!(let #place #ty = #value;));
            names.extend(quote!(let #pattern = #place;));
        } else {
            names.extend(quote!(let #pattern #ty = #value;));
        }
    }
    // In sight of rustc, which then says "a local variable with a similar name exists".
    let meant = &model.tasks[task].meant;
    let meant = meant.iter().filter(|word| !uses.iter().any(|Use { name, .. }| name == *word));
    let meant =
        meant.filter_map(|word| syn::parse_str::<Ident>(word).ok()).map(|name| quote!(let #name = ();));
    quote!(#(#meant)* #values #items #names)
}

/// The witnesses of the variables of arms: one match for all of an arm, or else matches in matches
/// would be written out again for each.
struct Witnesses(HashMap<String, Ident>);

impl Witnesses {
    fn of(model: &Model, uses: &[Use], values: &mut TokenStream) -> Self {
        let mut arms: Vec<((usize, usize), Vec<&Ident>)> = Vec::new();
        for Use { name, source } in uses {
            let Source::Variable { branch, arm, .. } = *source else { continue };
            match arms.iter_mut().find(|(of, _)| *of == (branch, arm)) {
                Some((_, names)) => names.push(name),
                None => arms.push(((branch, arm), vec![name])),
            }
        }
        let mut witnesses = HashMap::new();
        for (number, ((branch, arm), names)) in arms.into_iter().enumerate() {
            let places: Vec<_> =
                (0..names.len()).map(|place| format_ident!("__witness_{number}_{place}")).collect();
            let witness = variables_witness(model, branch, arm, &names);
            values.extend(quote!(let (#(#places,)*) = #witness;));
            witnesses.extend(names.iter().map(ToString::to_string).zip(places));
        }
        Self(witnesses)
    }

    /// That of one variable, under it.
    fn take(&mut self, name: &Ident) -> TokenStream {
        match self.0.remove(&name.to_string()) {
            Some(mut place) => {
                place.set_span(name.span().resolved_at(place.span()));
                quote!(#place)
            }
            None => quote!(::core::option::Option::None),
        }
    }
}

fn variable(place: usize, name: &Ident, witness: &TokenStream) -> TokenStream {
    let (context, word) = (context(), name.unraw().to_string());
    let get = Ident::new("binding", name.span());
    quote!(#context.#get(#place, #word, #witness)?)
}

/// The item of a loop.
fn item(model: &Model, map: usize, place: usize) -> TokenStream {
    let Kind::Map { each, .. } = &model.tasks[map].kind else { return TokenStream::new() };
    let (context, witness) = (context(), item_witness(model, map));
    // An item that cannot be stored is told under the list.
    let get = quote_spanned!(each.list.span()=> input_as);
    quote!(#context.#get(#place, #witness)?)
}

/// The expression of a value. One of a type that is written is decoded as that.
pub fn value(model: &Model, task: usize, source: Source, name: &Ident) -> TokenStream {
    let (rt, context) = (runtime_name(), context());
    match source {
        Source::Output { place, .. } => match written_type(model, task, source) {
            Some(_) => quote!(#context.input(#place)?),
            None => {
                let Source::Output { task: of, optional, .. } = source else { return TokenStream::new() };
                let witness = seen_witness(model, of, model.tasks[task].map, optional);
                quote!(#context.input_as(#place, #witness)?)
            }
        },
        Source::Variable { branch, arm, place } => {
            let witness = variables_witness(model, branch, arm, &[name]);
            variable(place, name, &quote!({ let (witness,) = #witness; witness }))
        }
        Source::Item { map, place } => {
            // One variable of the pattern.
            let Kind::Map { each, .. } = &model.tasks[map].kind else { return TokenStream::new() };
            let (pattern, item) = (&each.pattern, item(model, map, place));
            quote!({ let #pattern = #item; #name })
        }
        Source::Conf => quote!(#context.conf()?),
        Source::Context => quote!(<#rt::task::Context as ::core::clone::Clone>::clone(#context)),
    }
}

/// The type of a value where it is written.
pub fn written_type(model: &Model, task: usize, source: Source) -> Option<TokenStream> {
    match source {
        Source::Output { task: of, optional, .. } => seen_type(model, of, model.tasks[task].map, optional),
        Source::Conf => model.biz.conf.as_ref().map(|ty| quote!(#ty)),
        Source::Variable { .. } | Source::Item { .. } | Source::Context => None,
    }
}

/// The type of an output where it is written, also behind joins.
pub fn output_type(model: &Model, task: usize) -> Option<TokenStream> {
    match model.tasks[task].output {
        Output::Written(ty) => Some(quote!(#ty)),
        Output::Same(other) => seen_type(model, other, model.tasks[task].map, false),
        Output::Unknown | Output::Callee(_) => None,
    }
}

/// The same, as it is seen from a loop, or from outside of all.
pub fn seen_type(model: &Model, of: usize, map: Option<usize>, optional: bool) -> Option<TokenStream> {
    let mut ty = output_type(model, of)?;
    if optional {
        ty = quote!(::core::option::Option<#ty>);
    }
    if model.is_list(of, map) {
        ty = quote!(::std::vec::Vec<#ty>);
    }
    Some(ty)
}

/// The witness of the output of a task.
pub fn witness(model: &Model, task: usize) -> TokenStream {
    match model.tasks[task].output {
        Output::Written(ty) => quote!(::core::option::Option::None::<#ty>),
        Output::Callee(call) => callee_witness(call),
        Output::Same(other) => seen_witness(model, other, model.tasks[task].map, false),
        Output::Unknown => quote!(::core::option::Option::None),
    }
}

/// The same, as it is seen from a loop, or from outside of all.
pub fn seen_witness(model: &Model, of: usize, map: Option<usize>, optional: bool) -> TokenStream {
    let rt = runtime_name();
    let mut witness = witness(model, of);
    if optional {
        witness = quote!(#rt::task::maybe_of(#witness));
    }
    if model.is_list(of, map) {
        witness = quote!(#rt::task::list_of(#witness));
    }
    witness
}

fn callee_witness(call: &ExprCall) -> TokenStream {
    let function = &call.func;
    let under = runtime_under(function.span());
    let parameters = call.args.iter().map(|_| quote!(_,));
    quote_spanned!(function.span()=> #under::task::output_of::<(#(#parameters)*), _>(#function))
}

/// The user's own match, which never runs, and so gives the types of variables: a tuple.
fn variables_witness(model: &Model, branch: usize, arm: usize, names: &[&Ident]) -> TokenStream {
    let Kind::Branch { branch: way, uses, .. } = &model.tasks[branch].kind else { return TokenStream::new() };
    let declared = declare(model, branch, uses);
    let nones = names.iter().map(|_| quote!(::core::option::Option::None,));
    let none = quote!((#(#nones)*));
    let some = quote!((#(::core::option::Option::Some(#names),)*));
    let never = match (&way.arms[arm].test, &way.scrutinee) {
        (Test::Pattern(pattern, _), Some(scrutinee)) => {
            quote!(match #scrutinee { #pattern => #some, _ => #none })
        }
        (Test::Condition(condition), _) => quote!(if #condition { #some } else { #none }),
        (Test::Pattern(..) | Test::Otherwise, _) => none.clone(),
    };
    let span = names.first().map_or_else(Span::call_site, |name| name.span());
    quote_spanned!(span=> if false { #declared #never } else { #none })
}

/// The user's own list, which is never made, and so gives the type of its items.
fn item_witness(model: &Model, map: usize) -> TokenStream {
    let Kind::Map { each, uses } = &model.tasks[map].kind else { return TokenStream::new() };
    let (declared, list) = (declare(model, map, uses), &each.list);
    let under = runtime_under(list.span());
    let items = quote_spanned!(list.span()=> #under::task::item_of(#list));
    quote_spanned!(list.span()=> if false { #declared #items } else { ::core::option::Option::None })
}
