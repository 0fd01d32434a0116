//! Reads the tokens of `trigger!(..)`: a biz that is triggered by another.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, Path, Token, Type};

use super::options::{Setting, settings, unknown};
use super::value;
use crate::errors::Errors;

const OPTIONS: &[&str] = &["conf", "wait_for_completion", "timeout"];

/// A trigger as it is written.
pub struct TriggerCall {
    /// The biz.
    pub biz: Path,
    /// What it is triggered with; evaluated when the task runs.
    pub conf: Option<Expr>,
    pub wait_for_completion: bool,
    /// Of the wait.
    pub timeout: Option<Duration>,
}

impl TriggerCall {
    /// Reads the tokens between the parentheses; `None` where they name no biz.
    pub fn parse(tokens: TokenStream, span: Span, errors: &mut Errors) -> Option<Self> {
        let read = |input: ParseStream| Ok(Self::read(input, span, errors));
        match read.parse2(tokens) {
            Ok(call) => call,
            Err(error) => {
                errors.add(error);
                None
            }
        }
    }

    fn read(input: ParseStream, span: Span, errors: &mut Errors) -> Option<Self> {
        let biz = errors.take(biz(input, span));
        let settings = match (&biz, input.is_empty()) {
            (Some(_), false) => match input.parse::<Token![,]>() {
                Ok(_) => settings(input, errors),
                Err(error) => {
                    errors.add(error);
                    let _ = input.parse::<TokenStream>();
                    return None;
                }
            },
            (Some(_), true) => Vec::new(),
            (None, _) => {
                let _ = input.parse::<TokenStream>();
                return None;
            }
        };
        let mut call = Self { biz: biz?, conf: None, wait_for_completion: false, timeout: None };
        for setting in &settings {
            match call.set(setting) {
                Ok(true) => {}
                Ok(false) => refuse(setting, errors),
                Err(error) => errors.add(error),
            }
        }
        let waits = settings.iter().any(|setting| setting.key == "wait_for_completion");
        if let Some(timeout) = settings.iter().find(|setting| setting.key == "timeout" && !waits) {
            let how = "`timeout` limits a wait, and this trigger does not wait: add `wait_for_completion`";
            errors.under(timeout.key.span(), how);
        }
        Some(call)
    }

    fn set(&mut self, setting: &Setting) -> syn::Result<bool> {
        match setting.key.to_string().as_str() {
            "conf" => self.conf = Some(setting.value()?.clone()),
            "wait_for_completion" => {
                setting.flag()?;
                self.wait_for_completion = true;
            }
            "timeout" => self.timeout = Some(value::limit(setting.value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn biz(input: ParseStream, end: Span) -> syn::Result<Path> {
    let span = if input.is_empty() { end } else { input.span() };
    let how =
        "a trigger begins with the biz that it triggers, as `main![..]` lists it: `trigger!(invoicing, ..)`";
    // `conf = ..` is an option, and no biz.
    if input.peek(Ident) && input.peek2(Token![=]) {
        return Err(syn::Error::new(span, how));
    }
    input.call(Path::parse_mod_style).map_err(|_| syn::Error::new(span, how))
}

/// Says why there is no such option.
fn refuse(setting: &Setting, errors: &mut Errors) {
    let (key, span) = (setting.key.to_string(), setting.key.span());
    let how = match key.as_str() {
        "trigger_dag_id" | "dag_id" => "the biz comes first, `trigger!(invoicing)`",
        "run_id" | "trigger_run_id" => "a run gets its id by itself, and the task gives it",
        "wait" => "it is called `wait_for_completion` here",
        "poke_interval" => "nothing asks again and again: the task goes on once the run has ended",
        "retries" | "retry_delay" | "trigger_rule" | "execution_timeout" | "id" => {
            "it is an option of the task, `#[task(..)]` in front of the statement"
        }
        _ => return unknown("`trigger!`", &setting.key, OPTIONS, errors),
    };
    errors.under(span, format!("`trigger!` has no option `{key}`: {how}"));
}

/// The type of what a trigger gives; another one that is written is refused.
pub fn output(written: Option<&Type>, errors: &mut Errors) -> Type {
    if let Some(ty) = written {
        match ty {
            Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "String") => {
                return ty.clone();
            }
            other => errors.at(other, "a trigger gives the id of the run, a `String`"),
        }
    }
    syn::parse_quote!(String)
}
