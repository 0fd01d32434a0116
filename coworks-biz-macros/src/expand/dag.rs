//! The static DAG: everything in it is a literal.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;

use super::values::output_type;
use super::{optional, runtime_name};
use crate::model::{Kind, Model, Role, written};
use crate::parse::options::TaskOptions;
use crate::parse::value::{Schedule, duration_tokens};
use crate::parse::{Biz, line};

/// The tasks with their adjacency, and an order of them.
pub struct Tasks<'a> {
    model: &'a Model<'a>,
    order: &'a [usize],
    upstream: Vec<Vec<u32>>,
    downstream: Vec<Vec<u32>>,
    /// The tasks whose gate a task is, each with its arm.
    gated: Vec<Vec<(usize, u32)>>,
}

impl<'a> Tasks<'a> {
    pub fn of(model: &'a Model<'a>, order: &'a [usize]) -> Self {
        let mut upstream = vec![vec![]; model.tasks.len()];
        let mut downstream = vec![vec![]; model.tasks.len()];
        for edge in model.edges.iter().filter(|edge| !edge.gate) {
            upstream[edge.to].push(index(edge.from));
            downstream[edge.from].push(index(edge.to));
        }
        let mut gated = vec![vec![]; model.tasks.len()];
        for (task, node) in model.tasks.iter().enumerate() {
            if let Some(gate) = node.gate {
                gated[gate.task].push((gate.arm, index(task)));
            }
        }
        Self { model, order, upstream, downstream, gated }
    }

    /// The expression of the DAG.
    pub fn dag(&self, biz: &Biz) -> TokenStream {
        let rt = runtime_name();
        let defaults = options(&biz.options.task, &quote!(#rt::dag::Options::DEFAULT));
        let tasks = (0..self.model.tasks.len()).map(|task| self.task(task));
        let order = self.order.iter().map(|&task| index(task));
        let labels = self.model.labels.iter().map(|(from, to, label)| {
            let (from, to) = (index(*from), index(*to));
            quote!((#from, #to, #label))
        });
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
        let max_active_runs = optional(biz.options.max_active_runs);
        let max_active_tasks = optional(biz.options.max_active_tasks);
        let dagrun_timeout = optional(biz.options.dagrun_timeout.map(duration_tokens));
        let depends_on_past = biz.options.depends_on_past;
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
                max_active_runs: #max_active_runs,
                max_active_tasks: #max_active_tasks,
                dagrun_timeout: #dagrun_timeout,
                depends_on_past: #depends_on_past,
                tags: &[#(#tags),*],
                owner: #owner,
                tasks: &[#(#tasks),*],
                order: &[#(#order),*],
                labels: &[#(#labels),*],
            }
        }}
    }

    fn task(&self, task: usize) -> TokenStream {
        let rt = runtime_name();
        let node = &self.model.tasks[task];
        let (id, kind) = (&node.id, self.kind(task));
        let (upstream, downstream) = (&self.upstream[task], &self.downstream[task]);
        let inputs = node.inputs.iter().map(|&input| index(input));
        // The members of a call are behind one another.
        let shares = match node.kind {
            Kind::Wait(submit) | Kind::Read(submit) => index(submit)..index(task),
            _ => 0..0,
        };
        let output = output_type(self.model, task).map(|ty| written(&ty)).unwrap_or_default();
        let own = TaskOptions { trigger_rule: self.own_rule(task), ..node.options.clone() };
        let options = match own.is_empty() {
            true => quote!(__DEFAULTS),
            false => {
                let options = options(&own, &quote!(*__DEFAULTS));
                quote!(&#options)
            }
        };
        let gate = optional(node.gate.map(|gate| {
            let (task, arm) = (index(gate.task), index(gate.arm));
            quote!(#rt::dag::Gate { task: #task, arm: #arm })
        }));
        let map = optional(node.map.map(index));
        let role = format_ident!(
            "{}",
            match node.role {
                Role::Work => "Work",
                Role::Setup => "Setup",
                Role::Teardown => "Teardown",
            }
        );
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
                gate: #gate,
                map: #map,
                role: #rt::dag::Role::#role,
                options: #options,
                line: #line,
            }
        }
    }
}

impl Tasks<'_> {
    /// The trigger rule where it is not that of the biz.
    fn own_rule(&self, task: usize) -> Option<&'static str> {
        let default = self.model.biz.options.task.trigger_rule.unwrap_or("AllSuccess");
        Some(self.model.rule(task)).filter(|rule| *rule != default)
    }

    /// The runtime's word for what a task does.
    fn kind(&self, task: usize) -> TokenStream {
        let rt = runtime_name();
        let members = |arm: usize| {
            let members = self.gated[task].iter().filter(move |(of, _)| *of == arm);
            members.map(|(_, member)| *member)
        };
        match &self.model.tasks[task].kind {
            Kind::Function { .. } | Kind::Invoke { .. } => quote!(Function),
            Kind::Call(..) => quote!(Call),
            Kind::Sensor(..) => quote!(Sensor),
            Kind::Submit(..) => quote!(Submit),
            Kind::Wait(..) => quote!(Wait),
            Kind::Read(..) => quote!(Read),
            Kind::Trigger(..) => quote!(Trigger),
            Kind::Join { .. } => quote!(Join),
            Kind::Map { .. } => {
                let members = members(0);
                quote!(Map { members: &[#(#members),*] })
            }
            Kind::Branch { branch, .. } => {
                let arms = branch.arms.iter().enumerate().map(|(arm, way)| {
                    let (label, members) = (&way.label, members(arm));
                    quote!(#rt::dag::Arm { label: #label, members: &[#(#members),*] })
                });
                quote!(Branch { arms: &[#(#arms),*] })
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
    set("pool", own.pool.as_ref().map(ToTokens::to_token_stream));
    set("priority_weight", own.priority_weight.map(ToTokens::into_token_stream));
    set("max_active_tis_per_dag", own.max_active_tis_per_dag.map(|most| optional(Some(most))));
    set("wait_for_downstream", plain(own.wait_for_downstream));
    set("email", own.email.as_ref().map(|addresses| quote!(&[#(#addresses),*])));
    set("email_on_failure", plain(own.email_on_failure));
    set("email_on_retry", plain(own.email_on_retry));
    quote!(#rt::dag::Options { #fields ..#base })
}

fn index(task: usize) -> u32 {
    u32::try_from(task).unwrap_or(u32::MAX)
}
