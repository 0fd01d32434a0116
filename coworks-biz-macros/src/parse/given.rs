//! The options of a call: which there are, and what they say.

use std::time::Duration;

use proc_macro2::Span;
use syn::{Expr, ExprCall, ExprPath};

use super::call::{Body, Form, Service, Token};
use super::options::{Setting, unknown};
use super::value;
use crate::errors::Errors;

const OPTIONS: &[&str] = &[
    "api_id",
    "stage",
    "region",
    "cws_name",
    "url",
    "service",
    "token",
    "no_auth",
    "query",
    "json",
    "data",
    "headers",
    "accept",
    "request_timeout",
    "log_response",
];
const ASYNC_OPTIONS: &[&str] = &["timeout", "bucket", "keep", "transformer"];
const SENSOR_OPTIONS: &[&str] = &["timeout", "poke_interval", "until"];
const SERVICES: [&str; 4] = ["api_id", "cws_name", "url", "service"];

/// Where the settings are, for errors about them.
pub(super) struct Keys<'a> {
    pub(super) settings: &'a [Setting],
    pub(super) span: Span,
    pub(super) all_known: bool,
}

impl Keys<'_> {
    fn span(&self, name: &str) -> Option<Span> {
        self.settings.iter().find(|setting| setting.key == name).map(|setting| setting.key.span())
    }

    /// Whether none of these is there, not even one that cannot be read.
    fn lacks(&self, names: &[&str]) -> bool {
        self.all_known && names.iter().all(|name| self.span(name).is_none())
    }
}

#[derive(Default)]
pub(super) struct Given {
    api_id: Option<String>,
    stage: Option<String>,
    region: Option<String>,
    cws_name: Option<String>,
    url: Option<String>,
    service: Option<Expr>,
    token: Option<Token>,
    no_auth: bool,
    pub(super) query: Option<Expr>,
    json: Option<Expr>,
    data: Option<Expr>,
    pub(super) headers: Option<Expr>,
    pub(super) accept: Option<String>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) log_response: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) bucket: Option<String>,
    pub(super) keep: bool,
    pub(super) transformer: Option<ExprCall>,
    pub(super) poke_interval: Option<Duration>,
    pub(super) until: Option<ExprPath>,
}

impl Given {
    /// Takes a setting in; `false` when this form of the macro has none of that name.
    pub(super) fn set(&mut self, setting: &Setting, options: Options) -> syn::Result<bool> {
        let text = || Ok::<_, syn::Error>(Some(value::string(setting.value()?)?.value()));
        let expression = || Ok::<_, syn::Error>(Some(setting.value()?.clone()));
        let duration = || Ok::<_, syn::Error>(Some(value::limit(setting.value()?)?));
        let key = setting.key.to_string();
        if !options.have(&key) {
            return Ok(false);
        }
        match key.as_str() {
            "api_id" => self.api_id = Some(word(setting)?),
            "stage" => self.stage = Some(word(setting)?),
            "region" => self.region = Some(word(setting)?),
            "cws_name" => self.cws_name = Some(word(setting)?),
            "url" => self.url = Some(url(setting)?),
            "service" => self.service = expression()?,
            "token" => self.token = Some(token(setting.value()?)?),
            "no_auth" => {
                setting.flag()?;
                self.no_auth = true;
            }
            "query" => self.query = expression()?,
            "json" => self.json = expression()?,
            "data" => self.data = expression()?,
            "headers" => self.headers = Some(headers(setting.value()?)?),
            "accept" => self.accept = text()?,
            "request_timeout" => self.request_timeout = duration()?,
            "log_response" => {
                setting.flag()?;
                self.log_response = true;
            }
            "timeout" => self.timeout = duration()?,
            "bucket" => self.bucket = text()?,
            "keep" => {
                setting.flag()?;
                self.keep = true;
            }
            "transformer" => self.transformer = Some(transformer(setting.value()?)?),
            "poke_interval" => self.poke_interval = duration()?,
            "until" => self.until = Some(until(setting.value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn service(&mut self, keys: &Keys, errors: &mut Errors) -> Option<Service> {
        let named: Vec<_> = SERVICES.iter().filter_map(|name| Some((*name, keys.span(name)?))).collect();
        if let [(first, _), (_, second), ..] = named[..] {
            errors.under(second, format!("a call has one service, and this one has an `{first}` already"));
            return None;
        }
        if keys.lacks(&SERVICES) {
            let how = "which service? give `api_id = \"..\"`, `cws_name = \"..\"`, `url = \"..\"` or `service = ..`";
            errors.under(keys.span, how);
        }
        let service = match (self.api_id.take(), self.cws_name.take(), self.url.take(), self.service.take()) {
            (Some(api_id), ..) => {
                let stage = self.stage.take().unwrap_or_else(|| "dev".to_owned());
                return Some(Service::Api { api_id, stage, region: self.region.take() });
            }
            (_, Some(cws_name), ..) => {
                self.misplaced(&["region"], "api_id", "cws_name", keys, errors);
                return Some(Service::Named { cws_name, stage: self.stage.take() });
            }
            (_, _, Some(url), _) => ("url", Service::Url(url)),
            (_, _, _, Some(service)) => ("service", Service::Custom(service)),
            (None, None, None, None) => return None,
        };
        self.misplaced(&["stage", "region"], "api_id", service.0, keys, errors);
        Some(service.1)
    }

    fn misplaced(&self, names: &[&str], of: &str, has: &str, keys: &Keys, errors: &mut Errors) {
        for name in names {
            if let Some(span) = keys.span(name) {
                errors.under(span, format!("`{name}` belongs to `{of}`, and this call has a `{has}`"));
            }
        }
    }

    pub(super) fn token(&mut self, keys: &Keys, errors: &mut Errors) -> Option<Token> {
        match (self.token.take(), self.no_auth) {
            (Some(token), false) => Some(token),
            (None, true) => Some(Token::None),
            (Some(_), true) => {
                let span = keys.span("no_auth").unwrap_or(keys.span);
                errors.under(span, "`no_auth` says that there is no `token`");
                None
            }
            (None, false) if keys.span("token").is_some() => None,
            // The directory has its token, and a `TechService` may have one.
            (None, false) if keys.span("cws_name").or(keys.span("service")).is_some() => Some(Token::Service),
            (None, false) => {
                if keys.lacks(&["token", "no_auth"]) {
                    errors.under(
                        keys.span,
                        "what is it called with? give `token = \"..\"` or `token = secret(\"NAME\")`, or say `no_auth`",
                    );
                }
                None
            }
        }
    }

    pub(super) fn body(&mut self, method: &str, keys: &Keys, errors: &mut Errors) -> Option<Body> {
        let key = |name| keys.span(name).unwrap_or(keys.span);
        if ["Get", "Head", "Options"].contains(&method) {
            for name in ["json", "data"] {
                if let Some(span) = keys.span(name) {
                    let method = method.to_uppercase();
                    errors.under(span, format!("a {method} has no body: give `query`, or call with POST"));
                }
            }
        }
        if self.transformer.is_some() {
            let made = if method == "Get" { "query" } else { "json" };
            for name in [made, "json", "data"] {
                if let Some(span) = keys.span(name) {
                    let message =
                        format!("the transformer makes the `{made}` of this call: leave away `{name}`");
                    errors.under(span, message);
                    return None;
                }
            }
        }
        match (self.json.take(), self.data.take()) {
            (Some(_), Some(_)) => {
                errors.under(key("data"), "a call has one body: give `json` or `data`, not both");
                None
            }
            (Some(json), None) => Some(Body::Json(json)),
            (None, Some(data)) => Some(Body::Data(data)),
            (None, None) => None,
        }
    }
}

/// Which options there are.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) form: Form,
    pub(super) asynchronous: bool,
}

impl Options {
    fn have(self, key: &str) -> bool {
        OPTIONS.contains(&key) || self.own().contains(&key)
    }

    fn own(self) -> &'static [&'static str] {
        match (self.form, self.asynchronous) {
            (Form::Sensor, _) => SENSOR_OPTIONS,
            (Form::Tech, true) => ASYNC_OPTIONS,
            (Form::Tech, false) => &[],
        }
    }

    fn written(self) -> &'static str {
        match (self.form, self.asynchronous) {
            (Form::Sensor, _) => "`sensor!`",
            (Form::Tech, true) => "`tech!(async ..)`",
            (Form::Tech, false) => "`tech!`",
        }
    }

    /// Says why this form of the macro has no such option.
    pub(super) fn refuse(self, setting: &Setting, errors: &mut Errors) {
        let (key, span) = (setting.key.to_string(), setting.key.span());
        if ASYNC_OPTIONS.contains(&key.as_str()) {
            let instead = match key.as_str() {
                "timeout" => "; `request_timeout` limits a request",
                _ => "",
            };
            let message = format!("`{key}` belongs to an asynchronous call, `tech!(async ..)`{instead}");
            errors.under(span, message);
        } else if SENSOR_OPTIONS.contains(&key.as_str()) {
            errors.under(span, format!("`{key}` belongs to `sensor!`"));
        } else if let Some(how) = meant_as(&key) {
            errors.under(span, format!("{} has no option `{key}`: {how}", self.written()));
        } else if key == "body" {
            errors.under(
                span,
                format!("{} has no option `body`; did you mean `json` or `data`?", self.written()),
            );
        } else {
            unknown(self.written(), &setting.key, &[OPTIONS, self.own()].concat(), errors);
        }
    }
}

/// What people know by another name from elsewhere.
fn meant_as(key: &str) -> Option<&'static str> {
    Some(match key {
        "params" | "query_params" => "it is called `query` here",
        "entry" | "path" => "the path comes behind the method, `GET \"/path\"`",
        "method" => "the method comes first, `POST \"/path\"`",
        "auth" => "it is called `token` here",
        "retries" | "retry_delay" | "trigger_rule" | "execution_timeout" | "id" => {
            "it is an option of the task, `#[task(..)]` in front of the statement"
        }
        _ => return None,
    })
}

/// A call of a function, which makes the query or the body.
fn transformer(value: &Expr) -> syn::Result<ExprCall> {
    match value {
        Expr::Call(call) if matches!(&*call.func, Expr::Path(_)) => Ok(call.clone()),
        Expr::Path(path) => {
            let name = path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
            let how = format!("a transformer is a call, with what it takes: `transformer = {name}(..)`");
            Err(syn::Error::new_spanned(value, how))
        }
        _ => Err(syn::Error::new_spanned(value, "a transformer is a call of a function: `layout(customer)`")),
    }
}

/// The name of a function that looks at the answer.
fn until(value: &Expr) -> syn::Result<ExprPath> {
    match value {
        Expr::Path(path) => Ok(path.clone()),
        _ => Err(syn::Error::new_spanned(
            value,
            "`until` is the name of a function that looks at the answer: `fn done(reply: &T) -> bool`",
        )),
    }
}

/// Pairs of a name and a value.
fn headers(value: &Expr) -> syn::Result<Expr> {
    match value {
        Expr::Array(list)
            if list.elems.iter().all(|pair| matches!(pair, Expr::Tuple(p) if p.elems.len() == 2)) =>
        {
            Ok(value.clone())
        }
        _ => Err(syn::Error::new_spanned(value, "headers are pairs: `[(\"X-Tenant\", conf.tenant)]`")),
    }
}

fn word(setting: &Setting) -> syn::Result<String> {
    let text = value::string(setting.value()?)?;
    let word = text.value();
    if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphanumeric() || "-_$".contains(c)) {
        let message = format!("`{}` is one word of letters, digits, `-` and `_`", setting.key);
        return Err(syn::Error::new(text.span(), message));
    }
    Ok(word)
}

fn url(setting: &Setting) -> syn::Result<String> {
    let text = value::string(setting.value()?)?;
    let url = text.value();
    if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(syn::Error::new(text.span(), "an address begins with `https://` or `http://`"));
    }
    if url.contains(['{', '}']) {
        let message = "an address is fixed: what is known when the call is sent comes into the path, or by `service = ..`";
        return Err(syn::Error::new(text.span(), message));
    }
    if url.contains('@') {
        let message = "an address is in every log: give a name and a password as `token = secret(\"NAME\")`";
        return Err(syn::Error::new(text.span(), message));
    }
    if url.contains(['?', '#']) {
        return Err(syn::Error::new(
            text.span(),
            "an address ends before `?` and `#`: the path comes behind it",
        ));
    }
    Ok(url)
}

/// A text, `secret("NAME")`, or what is known when the call is sent.
fn token(value: &Expr) -> syn::Result<Token> {
    match value {
        Expr::Call(call)
            if matches!(&*call.func, Expr::Path(path) if path.path.segments.last().is_some_and(|l| l.ident == "secret"))
                && call.args.len() == 1 =>
        {
            match value::string(&call.args[0]) {
                Ok(name) => Ok(Token::Secret(name.value())),
                Err(_) => Ok(Token::Value(Box::new(value.clone()))),
            }
        }
        Expr::Lit(_) => match value::string(value) {
            Ok(text) => Ok(Token::Literal(text.value())),
            Err(_) => {
                Err(syn::Error::new_spanned(value, "a token is a text in quotes, or `secret(\"NAME\")`"))
            }
        },
        value => Ok(Token::Value(Box::new(value.clone()))),
    }
}
