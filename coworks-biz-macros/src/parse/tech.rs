//! `tech!(..)`: a call of a technical microservice.

use std::time::Duration;

use proc_macro2::Span;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, LitStr, Token};

use super::options::{Setting, settings, unknown};
use super::value;
use crate::errors::{Errors, did_you_mean_or_all};

/// A call as it is written.
pub struct TechCall {
    /// `None` for a synchronous call.
    pub asynchronous: Option<Asynchronous>,
    /// The verb as the runtime calls it: `Get`.
    pub method: &'static str,
    pub path: LitStr,
    pub service: Service,
    pub token: Token,
    pub accept: String,
    pub request_timeout: Duration,
}

pub struct Asynchronous {
    pub timeout: Duration,
    pub bucket: Option<String>,
    pub keep: bool,
}

pub enum Service {
    Api { api_id: String, stage: String, region: Option<String> },
    Url(String),
}

pub enum Token {
    None,
    Literal(String),
    Secret(String),
}

const METHODS: [(&str, &str); 7] = [
    ("GET", "Get"),
    ("POST", "Post"),
    ("PUT", "Put"),
    ("PATCH", "Patch"),
    ("DELETE", "Delete"),
    ("HEAD", "Head"),
    ("OPTIONS", "Options"),
];

const OPTIONS: &[&str] =
    &["api_id", "stage", "region", "url", "token", "no_auth", "accept", "request_timeout"];
const ASYNC_OPTIONS: &[&str] = &["timeout", "bucket", "keep"];
const PLANNED: &[&str] = &["cws_name", "service", "query", "json", "data", "body", "headers", "log_response"];
const ASYNC_PLANNED: &[&str] = &["transformer"];

impl TechCall {
    /// Reads the tokens between the parentheses; `None` where they make no call.
    pub fn parse(tokens: proc_macro2::TokenStream, span: Span, errors: &mut Errors) -> Option<Self> {
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
        let asynchronous = input.parse::<Option<Token![async]>>().ok().flatten().is_some();
        let head = method(input, span).and_then(|method| Ok((method, path(input, span)?)));
        let Some((method, path)) = errors.take(head) else {
            let _ = input.parse::<proc_macro2::TokenStream>();
            return None;
        };
        let settings = match input.is_empty() {
            true => Vec::new(),
            false => match input.parse::<Token![,]>() {
                Ok(_) => settings(input, errors),
                Err(error) => {
                    errors.add(error);
                    let _ = input.parse::<proc_macro2::TokenStream>();
                    return None;
                }
            },
        };
        let mut given = Given::default();
        // An option that is not known may have been meant as the one that is missing.
        let mut all_known = true;
        for setting in &settings {
            match given.set(setting, asynchronous) {
                Ok(true) => {}
                Ok(false) => {
                    all_known = false;
                    refuse(setting, asynchronous, errors);
                }
                Err(error) => errors.add(error),
            }
        }
        let key = |name: &str| settings.iter().find(|s| s.key == name).map(|s| s.key.span());
        let service = match (given.api_id, given.url) {
            (Some(api_id), None) => {
                let stage = given.stage.unwrap_or_else(|| "dev".to_owned());
                Some(Service::Api { api_id, stage, region: given.region })
            }
            (None, Some(url)) => {
                for name in ["stage", "region"] {
                    if let Some(span) = key(name) {
                        errors
                            .under(span, format!("`{name}` belongs to `api_id`, and this call has a `url`"));
                    }
                }
                Some(Service::Url(url))
            }
            (Some(_), Some(_)) => {
                let span = key("url").unwrap_or(span);
                errors.under(span, "a call has one service: give `api_id` or `url`, not both");
                None
            }
            (None, None) if all_known && key("api_id").or(key("url")).is_none() => {
                errors.under(span, "which service? give `api_id = \"..\"` or `url = \"..\"`");
                None
            }
            // It was given, and what is wrong with it is told.
            (None, None) => None,
        };
        let token = match (given.token, given.no_auth) {
            (Some(token), false) => Some(token),
            (None, true) => Some(Token::None),
            (Some(_), true) => {
                errors.under(key("no_auth").unwrap_or(span), "`no_auth` says that there is no `token`");
                None
            }
            (None, false) if all_known && key("token").or(key("no_auth")).is_none() => {
                errors.under(
                    span,
                    "what is it called with? give `token = \"..\"` or `token = secret(\"NAME\")`, or say `no_auth`",
                );
                None
            }
            (None, false) => None,
        };
        Some(Self {
            asynchronous: asynchronous.then(|| Asynchronous {
                timeout: given.timeout.unwrap_or(Duration::from_secs(15 * 60)),
                bucket: given.bucket,
                keep: given.keep,
            }),
            method,
            path,
            service: service?,
            token: token?,
            accept: given.accept.unwrap_or_else(|| "application/json".to_owned()),
            request_timeout: given.request_timeout.unwrap_or(Duration::from_secs(30)),
        })
    }
}

#[derive(Default)]
struct Given {
    api_id: Option<String>,
    stage: Option<String>,
    region: Option<String>,
    url: Option<String>,
    token: Option<Token>,
    no_auth: bool,
    accept: Option<String>,
    request_timeout: Option<Duration>,
    timeout: Option<Duration>,
    bucket: Option<String>,
    keep: bool,
}

impl Given {
    /// Takes a setting in; `false` when this form of the macro has none of that name.
    fn set(&mut self, setting: &Setting, asynchronous: bool) -> syn::Result<bool> {
        let text = || Ok::<_, syn::Error>(Some(value::string(setting.value()?)?.value()));
        match setting.key.to_string().as_str() {
            "api_id" => self.api_id = Some(word(setting)?),
            "stage" => self.stage = Some(word(setting)?),
            "region" => self.region = Some(word(setting)?),
            "url" => self.url = Some(url(setting)?),
            "token" => self.token = Some(token(setting.value()?)?),
            "no_auth" => {
                setting.flag()?;
                self.no_auth = true;
            }
            "accept" => self.accept = text()?,
            "request_timeout" => self.request_timeout = Some(value::limit(setting.value()?)?),
            "timeout" if asynchronous => self.timeout = Some(value::limit(setting.value()?)?),
            "bucket" if asynchronous => self.bucket = text()?,
            "keep" if asynchronous => {
                setting.flag()?;
                self.keep = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Says why this form of the macro has no such option.
fn refuse(setting: &Setting, asynchronous: bool, errors: &mut Errors) {
    let key = setting.key.to_string();
    let of_async = [ASYNC_OPTIONS, ASYNC_PLANNED].concat();
    if !asynchronous && of_async.contains(&key.as_str()) {
        let instead = if key == "timeout" { "; `request_timeout` limits a request" } else { "" };
        errors.under(
            setting.key.span(),
            format!("`{key}` belongs to an asynchronous call, `tech!(async ..)`{instead}"),
        );
    } else if asynchronous {
        let (known, planned) = ([OPTIONS, ASYNC_OPTIONS].concat(), [PLANNED, ASYNC_PLANNED].concat());
        unknown("`tech!(async ..)`", &setting.key, &known, &planned, errors);
    } else {
        unknown("`tech!`", &setting.key, OPTIONS, PLANNED, errors);
    }
}

/// The span of the next token, or of the macro where none is left.
fn next(input: ParseStream, end: Span) -> Span {
    if input.is_empty() { end } else { input.span() }
}

fn method(input: ParseStream, end: Span) -> syn::Result<&'static str> {
    let span = next(input, end);
    let word: Ident =
        input.parse().map_err(|_| syn::Error::new(span, "a call begins with its method: `GET \"/path\"`"))?;
    let written = word.to_string();
    METHODS.iter().find(|(method, _)| *method == written).map(|(_, name)| *name).ok_or_else(|| {
        let all: Vec<_> = METHODS.iter().map(|(method, _)| *method).collect();
        let how = did_you_mean_or_all(&written.to_uppercase(), &all);
        syn::Error::new(span, format!("there is no method `{written}`; {how}"))
    })
}

fn path(input: ParseStream, end: Span) -> syn::Result<LitStr> {
    let span = next(input, end);
    let path: LitStr = input
        .parse()
        .map_err(|_| syn::Error::new(span, "after the method comes the path: `GET \"/path\"`"))?;
    let text = path.value();
    if !text.starts_with('/') {
        return Err(syn::Error::new(path.span(), format!("a path begins with `/`: \"/{text}\"")));
    }
    if text.contains(['?', '#']) {
        return Err(syn::Error::new(
            path.span(),
            "a path has no `?` and no `#`: a query is an option of the call",
        ));
    }
    let plain = text.replace("{{", "").replace("}}", "");
    if plain.contains(['{', '}']) {
        let message =
            "`{..}` in a path is not supported by this version yet; `{{` and `}}` stand for themselves";
        return Err(syn::Error::new(path.span(), message));
    }
    Ok(LitStr::new(&text.replace("{{", "{").replace("}}", "}"), path.span()))
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

/// A text, or `secret("NAME")`.
fn token(value: &Expr) -> syn::Result<Token> {
    if let Expr::Call(call) = value
        && let Expr::Path(path) = &*call.func
        && path.path.segments.last().is_some_and(|last| last.ident == "secret")
        && call.args.len() == 1
    {
        return Ok(Token::Secret(value::string(&call.args[0])?.value()));
    }
    match value::string(value) {
        Ok(text) => Ok(Token::Literal(text.value())),
        Err(_) => Err(syn::Error::new_spanned(value, "a token is a text in quotes, or `secret(\"NAME\")`")),
    }
}
