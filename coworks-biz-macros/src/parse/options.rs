//! The options of the attributes: which there are, and what they say.

use std::collections::HashSet;
use std::time::Duration;

use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprPath, Ident, LitStr, Path, Token, ext::IdentExt};

use super::value::{self, Schedule};
use crate::errors::{Errors, did_you_mean};

/// `key = value`, or a flag `key`.
pub struct Setting {
    pub key: Ident,
    pub value: Option<Expr>,
}

impl Setting {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        // `crate` is a key too.
        let key = Ident::parse_any(input)?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) if input.peek(syn::token::Brace) && input.fork().parse::<Expr>().is_err() => {
                let group: proc_macro2::Group = input.parse()?;
                let how = match key.to_string().as_str() {
                    "json" | "conf" => "JSON is written `json!({ \"key\": value })`",
                    _ => "pairs are written `[(\"key\", value)]`",
                };
                return Err(syn::Error::new(group.span_open(), how));
            }
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { key, value })
    }

    /// The value; a flag has none.
    pub fn value(&self) -> syn::Result<&Expr> {
        let message = || format!("`{0}` needs a value: `{0} = ..`", self.key);
        self.value.as_ref().ok_or_else(|| syn::Error::new(self.key.span(), message()))
    }

    /// Nothing: a flag takes no value.
    pub fn flag(&self) -> syn::Result<()> {
        match &self.value {
            None => Ok(()),
            Some(value) => Err(syn::Error::new_spanned(value, format!("`{}` takes no value", self.key))),
        }
    }
}

/// The settings of a list, up to the first that cannot be read. None is given twice.
pub fn settings(input: ParseStream, errors: &mut Errors) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut seen = HashSet::new();
    while !input.is_empty() {
        match Setting::parse(input) {
            Ok(setting) if seen.insert(setting.key.to_string()) => settings.push(setting),
            Ok(Setting { key, .. }) => errors.under(key.span(), format!("`{key}` is given twice")),
            Err(error) => {
                errors.add(error);
                skip(input);
                break;
            }
        }
        if input.is_empty() {
            break;
        }
        if let Err(error) = input.parse::<Token![,]>() {
            errors.add(error);
            skip(input);
        }
    }
    settings
}

/// Passes over the rest, which a parser would otherwise report a second time.
fn skip(input: ParseStream) {
    let _ = input.parse::<proc_macro2::TokenStream>();
}

/// Says that a macro has no such option.
pub fn unknown(what: &str, key: &Ident, known: &[&str], errors: &mut Errors) {
    let name = key.unraw().to_string();
    let meant = did_you_mean(&name, known.iter().copied());
    errors.under(key.span(), format!("{what} has no option `{name}`{meant}"));
}

/// The options of a task; what is `None` is as the biz says.
#[derive(Default, Clone)]
pub struct TaskOptions {
    pub id: Option<LitStr>,
    pub setup: bool,
    /// The setups that it takes down.
    pub teardown: Option<Vec<Ident>>,
    pub retries: Option<u32>,
    pub retry_delay: Option<Duration>,
    pub retry_exponential_backoff: Option<bool>,
    pub max_retry_delay: Option<Duration>,
    pub execution_timeout: Option<Duration>,
    pub trigger_rule: Option<&'static str>,
    pub pool: Option<String>,
    pub priority_weight: Option<i32>,
    pub max_active_tis_per_dag: Option<u32>,
    pub wait_for_downstream: Option<bool>,
    pub email: Option<Vec<String>>,
    pub email_on_failure: Option<bool>,
    pub email_on_retry: Option<bool>,
    pub callbacks: Callbacks,
}

/// What is called once an attempt has ended.
#[derive(Default, Clone)]
pub struct Callbacks {
    pub on_failure: Option<ExprPath>,
    pub on_retry: Option<ExprPath>,
    pub on_success: Option<ExprPath>,
}

impl Callbacks {
    /// The same, with what `other` says where this says nothing.
    pub fn or(self, other: &Self) -> Self {
        Self {
            on_failure: self.on_failure.or_else(|| other.on_failure.clone()),
            on_retry: self.on_retry.or_else(|| other.on_retry.clone()),
            on_success: self.on_success.or_else(|| other.on_success.clone()),
        }
    }
}

const TASK: &[&str] = &[
    "retries",
    "retry_delay",
    "retry_exponential_backoff",
    "max_retry_delay",
    "execution_timeout",
    "trigger_rule",
    "pool",
    "priority_weight",
    "max_active_tis_per_dag",
    "wait_for_downstream",
    "email",
    "email_on_failure",
    "email_on_retry",
    "on_failure_callback",
    "on_retry_callback",
    "on_success_callback",
];

/// Those that are of one task, and no default for all of a biz.
const OWN: &[&str] = &["id", "setup", "teardown"];

impl TaskOptions {
    /// Reads the tokens of `#[task(..)]`.
    pub fn parse(input: ParseStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        for setting in settings(input, errors) {
            match options.set_own(&setting).and_then(|known| Ok(known || options.set(&setting)?)) {
                Ok(true) => {}
                Ok(false) => unknown("`#[task]`", &setting.key, &[TASK, OWN].concat(), errors),
                Err(error) => errors.add(error),
            }
        }
        options
    }

    /// Whether nothing is said of how it is run.
    pub fn is_empty(&self) -> bool {
        let Self {
            id: _,
            setup: _,
            teardown: _,
            retries: None,
            retry_delay: None,
            retry_exponential_backoff: None,
            max_retry_delay: None,
            execution_timeout: None,
            trigger_rule: None,
            pool: None,
            priority_weight: None,
            max_active_tis_per_dag: None,
            wait_for_downstream: None,
            email: None,
            email_on_failure: None,
            email_on_retry: None,
            // They are no part of the DAG.
            callbacks: _,
        } = self
        else {
            return false;
        };
        true
    }

    /// The same, with what `other` says where this says nothing.
    pub fn or(self, other: &Self) -> Self {
        Self {
            id: self.id.or_else(|| other.id.clone()),
            setup: self.setup || other.setup,
            teardown: self.teardown.or_else(|| other.teardown.clone()),
            retries: self.retries.or(other.retries),
            retry_delay: self.retry_delay.or(other.retry_delay),
            retry_exponential_backoff: self.retry_exponential_backoff.or(other.retry_exponential_backoff),
            max_retry_delay: self.max_retry_delay.or(other.max_retry_delay),
            execution_timeout: self.execution_timeout.or(other.execution_timeout),
            trigger_rule: self.trigger_rule.or(other.trigger_rule),
            pool: self.pool.or_else(|| other.pool.clone()),
            priority_weight: self.priority_weight.or(other.priority_weight),
            max_active_tis_per_dag: self.max_active_tis_per_dag.or(other.max_active_tis_per_dag),
            wait_for_downstream: self.wait_for_downstream.or(other.wait_for_downstream),
            email: self.email.or_else(|| other.email.clone()),
            email_on_failure: self.email_on_failure.or(other.email_on_failure),
            email_on_retry: self.email_on_retry.or(other.email_on_retry),
            callbacks: self.callbacks.or(&other.callbacks),
        }
    }

    /// Takes a setting in that is of one task; `false` when it is none of these.
    fn set_own(&mut self, setting: &Setting) -> syn::Result<bool> {
        match setting.key.to_string().as_str() {
            "id" => self.id = Some(value::name(setting.value()?, "a task id")?),
            "setup" => {
                setting.flag()?;
                self.setup = true;
            }
            "teardown" => self.teardown = Some(names(setting.value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a setting in; `false` when it is none of a task's.
    fn set(&mut self, setting: &Setting) -> syn::Result<bool> {
        match setting.key.to_string().as_str() {
            "retries" => self.retries = Some(value::number(setting.value()?)?),
            "retry_delay" => self.retry_delay = Some(value::duration(setting.value()?)?),
            "retry_exponential_backoff" => {
                self.retry_exponential_backoff = Some(value::boolean(setting.value()?)?);
            }
            "max_retry_delay" => self.max_retry_delay = Some(value::duration(setting.value()?)?),
            "execution_timeout" => self.execution_timeout = Some(value::limit(setting.value()?)?),
            "trigger_rule" => self.trigger_rule = Some(value::trigger_rule(setting.value()?)?),
            "pool" => self.pool = Some(value::name(setting.value()?, "the name of a pool")?.value()),
            "priority_weight" => self.priority_weight = Some(value::integer(setting.value()?)?),
            "max_active_tis_per_dag" => {
                self.max_active_tis_per_dag = Some(value::count(setting.value()?)?);
            }
            "wait_for_downstream" => self.wait_for_downstream = Some(value::boolean(setting.value()?)?),
            "email" => self.email = Some(value::addresses(setting.value()?)?),
            "email_on_failure" => self.email_on_failure = Some(value::boolean(setting.value()?)?),
            "email_on_retry" => self.email_on_retry = Some(value::boolean(setting.value()?)?),
            "on_failure_callback" => self.callbacks.on_failure = Some(value::callback(setting.value()?)?),
            "on_retry_callback" => self.callbacks.on_retry = Some(value::callback(setting.value()?)?),
            "on_success_callback" => self.callbacks.on_success = Some(value::callback(setting.value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The options of a biz.
#[derive(Default)]
pub struct BizOptions {
    pub schedule: Option<Schedule>,
    pub timezone: Option<chrono_tz::Tz>,
    pub start_date: Option<i64>,
    pub end_date: Option<i64>,
    pub catchup: bool,
    pub max_active_runs: Option<u32>,
    pub max_active_tasks: Option<u32>,
    pub dagrun_timeout: Option<Duration>,
    pub depends_on_past: bool,
    pub tags: Vec<String>,
    pub owner: String,
    pub dag_id: Option<String>,
    pub krate: Option<Path>,
    /// The defaults of its tasks.
    pub task: TaskOptions,
}

const BIZ: &[&str] = &[
    "schedule",
    "timezone",
    "start_date",
    "end_date",
    "catchup",
    "max_active_runs",
    "max_active_tasks",
    "dagrun_timeout",
    "depends_on_past",
    "tags",
    "owner",
    "dag_id",
    "crate",
];

impl BizOptions {
    /// Reads the tokens of `#[biz(..)]`.
    pub fn parse(tokens: proc_macro2::TokenStream, errors: &mut Errors) -> Self {
        let read = |input: ParseStream| Ok(settings(input, errors));
        let settings = match read.parse2(tokens) {
            Ok(settings) => settings,
            Err(error) => {
                errors.add(error);
                Vec::new()
            }
        };
        let mut options = Self::default();
        let mut dates = Dates::default();
        for setting in &settings {
            let set =
                options.set(setting, &mut dates).and_then(|known| Ok(known || options.task.set(setting)?));
            match set {
                Ok(true) => {}
                Ok(false) if OWN.iter().any(|own| setting.key == own) => {
                    let key = &setting.key;
                    let how = if key == "setup" { "" } else { " = .." };
                    let message = format!("`{key}` is of one task: give it to that, `#[task({key}{how})]`");
                    errors.under(key.span(), message);
                }
                Ok(false) => {
                    unknown("`#[biz]`", &setting.key, &[BIZ, TASK].concat(), errors);
                }
                Err(error) => errors.add(error),
            }
        }
        // Dates are read in the time zone, which may be given after them.
        let zone = options.timezone.unwrap_or(chrono_tz::UTC);
        options.start_date = dates.start.and_then(|date| errors.take(value::moment(&date, zone)));
        options.end_date = dates.end.and_then(|date| errors.take(value::moment(&date, zone)));
        if let (Some(start), Some(end)) = (options.start_date, options.end_date)
            && end < start
            && let Some(setting) = settings.iter().find(|setting| setting.key == "end_date")
        {
            errors.under(setting.key.span(), "`end_date` is before `start_date`: it would never run");
        }
        let has_start = settings.iter().any(|setting| setting.key == "start_date");
        if let Some(catchup) = settings.iter().find(|s| s.key == "catchup" && options.catchup && !has_start) {
            errors.under(
                catchup.key.span(),
                "`catchup` fills the runs missed since `start_date`, and this biz has no `start_date`",
            );
        }
        options.continuous(&settings, errors);
        options
    }

    /// A biz that runs again as soon as it has ended runs once at a time.
    fn continuous(&mut self, settings: &[Setting], errors: &mut Errors) {
        if self.schedule != Some(Schedule::Continuous) {
            return;
        }
        let given = self.max_active_runs.replace(1);
        if given.is_some_and(|given| given != 1)
            && let Some(setting) = settings.iter().find(|setting| setting.key == "max_active_runs")
        {
            let how = "`@continuous` begins a run once the last one has ended, so that one runs at a time: \
                       `max_active_runs` is 1, and may be left away";
            errors.under(setting.key.span(), how);
        }
    }

    fn set(&mut self, setting: &Setting, dates: &mut Dates) -> syn::Result<bool> {
        match setting.key.to_string().as_str() {
            "schedule" => self.schedule = Some(value::schedule(setting.value()?)?),
            "timezone" => self.timezone = Some(value::timezone(setting.value()?)?),
            "start_date" => dates.start = Some(value::date(setting.value()?)?),
            "end_date" => dates.end = Some(value::date(setting.value()?)?),
            "catchup" => self.catchup = value::boolean(setting.value()?)?,
            "max_active_runs" => self.max_active_runs = Some(value::count(setting.value()?)?),
            "max_active_tasks" => self.max_active_tasks = Some(value::count(setting.value()?)?),
            "dagrun_timeout" => self.dagrun_timeout = Some(value::limit(setting.value()?)?),
            "depends_on_past" => self.depends_on_past = value::boolean(setting.value()?)?,
            "tags" => self.tags = value::strings(setting.value()?)?,
            "owner" => self.owner = value::string(setting.value()?)?.value(),
            "dag_id" => self.dag_id = Some(value::name(setting.value()?, "a DAG id")?.value()),
            "crate" => self.krate = Some(path(setting.value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[derive(Default)]
struct Dates {
    start: Option<(LitStr, chrono::NaiveDateTime)>,
    end: Option<(LitStr, chrono::NaiveDateTime)>,
}

fn path(value: &Expr) -> syn::Result<Path> {
    match value {
        Expr::Path(path) if path.attrs.is_empty() && path.qself.is_none() => Ok(path.path.clone()),
        // In quotes too, as serde has it.
        text => value::string(text)?.parse(),
    }
}

/// One name of a task, or a list of them.
fn names(value: &Expr) -> syn::Result<Vec<Ident>> {
    const HOW: &str = "this must be the name of a setup, or a list of them: `teardown = db`";
    let name = |value: &Expr| match value {
        Expr::Path(path) => path.path.get_ident().cloned(),
        _ => None,
    };
    let names = match value {
        Expr::Array(list) => list.elems.iter().map(name).collect::<Option<Vec<_>>>(),
        one => name(one).map(|name| vec![name]),
    };
    names.filter(|names| !names.is_empty()).ok_or_else(|| syn::Error::new_spanned(value, HOW))
}
