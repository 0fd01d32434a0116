//! What the tasks do, in the order of the DAG's tasks.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::values::output_type;
use super::{callbacks, calls, optional, runners, runtime_name, triggers};
use crate::model::{Kind, Lazy, Model};
use crate::parse::plan::TechTask;

/// The static `__BODIES` and what it refers to.
pub fn of(model: &Model) -> TokenStream {
    let rt = runtime_name();
    let mut items = TokenStream::new();
    let bodies: Vec<_> = (0..model.tasks.len()).map(|index| body(model, index, &mut items)).collect();
    let groups = model.groups.iter().enumerate();
    items.extend(groups.map(|(n, (ty, task, map))| runners::group(model, n, ty, *task, *map)));
    items.extend(runners::callees(model));
    items.extend(callbacks::of(model));
    quote! {
        #items
        static __BODIES: &[#rt::task::Body] = &[#(#rt::task::Body::#bodies),*];
    }
}

fn body(model: &Model, index: usize, items: &mut TokenStream) -> TokenStream {
    let run = runners::name(index);
    match &model.tasks[index].kind {
        Kind::Function { task, arguments } => {
            items.extend(runners::function(model, index, task, arguments));
            quote!(Function(#run))
        }
        Kind::Invoke { call, uses, blocking, annotated } => {
            items.extend(runners::invoke(model, index, call, uses, *blocking, *annotated));
            quote!(Function(#run))
        }
        Kind::Call(task, lazy) => call(model, index, task, lazy, &format_ident!("Call"), items),
        Kind::Sensor(task, lazy) => call(model, index, task, lazy, &format_ident!("Sensor"), items),
        Kind::Submit(task, lazy) => {
            // The type of the answer is that of the group's `read`.
            items.extend(calls::data(index, &task.call, output_type(model, index + 2)));
            items.extend(calls::arguments(model, index, &task.call, lazy));
            member(model, "Submit", index)
        }
        Kind::Trigger(task, uses) => {
            items.extend(triggers::data(index, &task.call));
            items.extend(triggers::conf(model, index, &task.call, uses));
            let call = triggers::name(index);
            let conf = optional(task.call.conf.as_ref().map(|_| triggers::conf_name(index)));
            quote!(Trigger { call: &#call, conf: #conf })
        }
        Kind::Wait(submit) => member(model, "Wait", *submit),
        Kind::Read(submit) => member(model, "Read", *submit),
        Kind::Branch { branch, uses, taken } => {
            items.extend(runners::branch(model, index, branch, uses, taken));
            quote!(Branch(#run))
        }
        Kind::Map { each, uses } => {
            items.extend(runners::map(model, index, each, uses));
            quote!(Map(#run))
        }
        Kind::Join { branch, arms } => {
            items.extend(runners::join(model, index, arms));
            let branch = u32::try_from(*branch).unwrap_or(u32::MAX);
            quote!(Join { branch: #branch })
        }
    }
}

fn call(
    model: &Model,
    index: usize,
    task: &TechTask,
    lazy: &Lazy,
    kind: &Ident,
    items: &mut TokenStream,
) -> TokenStream {
    items.extend(calls::data(index, &task.call, output_type(model, index)));
    items.extend(calls::arguments(model, index, &task.call, lazy));
    let arguments = optional(calls::arguments_name(index, &task.call, lazy));
    let name = format_ident!("__CALL_{index}");
    quote!(#kind { call: &#name, arguments: #arguments })
}

fn member(model: &Model, member: &str, submit: usize) -> TokenStream {
    let rt = runtime_name();
    let (member, call) = (format_ident!("{member}"), format_ident!("__CALL_{submit}"));
    let arguments = match &model.tasks[submit].kind {
        Kind::Submit(task, lazy) => calls::arguments_name(submit, &task.call, lazy),
        _ => None,
    };
    let arguments = optional(arguments);
    let submit = u32::try_from(submit).unwrap_or(u32::MAX);
    quote! {
        Group { member: #rt::task::Member::#member, call: &#call, arguments: #arguments, submit: #submit }
    }
}
