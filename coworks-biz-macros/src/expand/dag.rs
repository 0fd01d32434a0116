//! The static DAG: everything in it is a literal.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;

use super::{kind, runtime_name};
use crate::model::{Kind, Model, written};
use crate::parse::options::TaskOptions;
use crate::parse::value::{Schedule, duration_tokens};
use crate::parse::{Biz, line};

/// The tasks with their adjacency, and an order of them.
pub struct Tasks<'a> {
    model: &'a Model<'a>,
    order: &'a [usize],
    upstream: Vec<Vec<u32>>,
    downstream: Vec<Vec<u32>>,
}

impl<'a> Tasks<'a> {
    pub fn of(model: &'a Model<'a>, order: &'a [usize]) -> Self {
        let mut upstream = vec![vec![]; model.tasks.len()];
        let mut downstream = vec![vec![]; model.tasks.len()];
        for edge in &model.edges {
            upstream[edge.to].push(index(edge.from));
            downstream[edge.from].push(index(edge.to));
        }
        Self { model, order, upstream, downstream }
    }

    /// The expression of the DAG.
    pub fn dag(&self, biz: &Biz) -> TokenStream {
        let rt = runtime_name();
        let defaults = options(&biz.options.task, &quote!(#rt::dag::Options::DEFAULT));
        let tasks = (0..self.model.tasks.len()).map(|task| self.task(task));
        let order = self.order.iter().map(|&task| index(task));
        let name = biz.name.unraw().to_string();
        let dag_id = biz.options.dag_id.as_ref().unwrap_or(&name);
        let description = &biz.description;
        let line = line(&biz.name);
        let schedule = optional(biz.options.schedule.as_ref().map(|schedule| match schedule {
            Schedule::Cron(expression) => quote!(#rt::dag::Schedule::Cron(#expression)),
            Schedule::Every(interval) => {
                let interval = duration_tokens(*interval);
                quote!(#rt::dag::Schedule::Every(#interval))
            }
            Schedule::Once => quote!(#rt::dag::Schedule::Once),
            Schedule::Continuous => quote!(#rt::dag::Schedule::Continuous),
        }));
        let timezone = biz.options.timezone.unwrap_or(chrono_tz::UTC).name();
        let start_date = optional(biz.options.start_date);
        let end_date = optional(biz.options.end_date);
        let catchup = biz.options.catchup;
        let tags = &biz.options.tags;
        let owner = &biz.options.owner;
        quote! {{
            const __DEFAULTS: &#rt::dag::Options = &#defaults;
            #rt::dag::Dag {
                dag_id: #dag_id,
                description: #description,
                source: #rt::dag::Source { file: ::core::file!(), line: #line },
                schedule: #schedule,
                timezone: #timezone,
                start_date: #start_date,
                end_date: #end_date,
                catchup: #catchup,
                tags: &[#(#tags),*],
                owner: #owner,
                tasks: &[#(#tasks),*],
                order: &[#(#order),*],
            }
        }}
    }

    fn task(&self, task: usize) -> TokenStream {
        let rt = runtime_name();
        let node = &self.model.tasks[task];
        let (id, kind) = (&node.id, kind(&node.kind));
        let (upstream, downstream) = (&self.upstream[task], &self.downstream[task]);
        let inputs = node.inputs.iter().map(|&input| index(input));
        // The members of a call are behind one another.
        let shares = match node.kind {
            Kind::Wait(submit) | Kind::Read(submit) => index(submit)..index(task),
            _ => 0..0,
        };
        let output = node.output.map(written).unwrap_or_default();
        let options = match node.options() {
            Some(own) => {
                let options = options(own, &quote!(*__DEFAULTS));
                quote!(&#options)
            }
            None => quote!(__DEFAULTS),
        };
        let line = u32::try_from(node.span.start().line).unwrap_or(u32::MAX);
        quote! {
            #rt::dag::Task {
                task_id: #id,
                kind: #rt::dag::Kind::#kind,
                upstream: &[#(#upstream),*],
                downstream: &[#(#downstream),*],
                inputs: &[#(#inputs),*],
                shares: &[#(#shares),*],
                output: #output,
                options: #options,
                line: #line,
            }
        }
    }
}

/// The options as `base` with what is said of its own.
fn options(own: &TaskOptions, base: &TokenStream) -> TokenStream {
    let rt = runtime_name();
    let mut fields = TokenStream::new();
    let mut set = |name: &str, value: Option<TokenStream>| {
        let name = format_ident!("{name}");
        fields.extend(value.map(|value| quote!(#name: #value,)));
    };
    let plain = |value: Option<bool>| value.map(ToTokens::into_token_stream);
    set("retries", own.retries.map(ToTokens::into_token_stream));
    set("retry_delay", own.retry_delay.map(duration_tokens));
    set("retry_exponential_backoff", plain(own.retry_exponential_backoff));
    set("max_retry_delay", own.max_retry_delay.map(|delay| optional(Some(duration_tokens(delay)))));
    set("execution_timeout", own.execution_timeout.map(|limit| optional(Some(duration_tokens(limit)))));
    set(
        "trigger_rule",
        own.trigger_rule.map(|rule| {
            let rule = format_ident!("{rule}");
            quote!(#rt::dag::TriggerRule::#rule)
        }),
    );
    set("email", own.email.as_ref().map(|addresses| quote!(&[#(#addresses),*])));
    set("email_on_failure", plain(own.email_on_failure));
    set("email_on_retry", plain(own.email_on_retry));
    quote!(#rt::dag::Options { #fields ..#base })
}

fn optional(value: Option<impl ToTokens>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

fn index(task: usize) -> u32 {
    u32::try_from(task).unwrap_or(u32::MAX)
}
