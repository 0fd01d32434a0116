//! Reads the tokens of `tech!(..)` and `sensor!(..)`.

use std::time::Duration;

use proc_macro2::Span;
use syn::parse::{ParseStream, Parser};
use syn::{Ident, LitStr, Token};

use super::call::{Form, Kind, TechCall};
use super::given::{Given, Keys, Options};
use super::options::settings;
use super::path::PathTemplate;
use crate::errors::{Errors, did_you_mean_or_all};

const METHODS: [(&str, &str); 7] = [
    ("GET", "Get"),
    ("POST", "Post"),
    ("PUT", "Put"),
    ("PATCH", "Patch"),
    ("DELETE", "Delete"),
    ("HEAD", "Head"),
    ("OPTIONS", "Options"),
];

impl TechCall {
    /// Reads the tokens between the parentheses; `None` where they make no call.
    pub fn parse(
        tokens: proc_macro2::TokenStream,
        form: Form,
        span: Span,
        errors: &mut Errors,
    ) -> Option<Self> {
        let read = |input: ParseStream| Ok(Self::read(input, form, span, errors));
        match read.parse2(tokens) {
            Ok(call) => call,
            Err(error) => {
                errors.add(error);
                None
            }
        }
    }

    fn read(input: ParseStream, form: Form, span: Span, errors: &mut Errors) -> Option<Self> {
        let word = input.parse::<Option<Token![async]>>().ok().flatten();
        if let (Some(word), Form::Sensor) = (&word, form) {
            errors.at(
                word,
                "a sensor calls until it succeeds, and takes the answer at once: leave away `async`",
            );
        }
        let asynchronous = word.is_some() && form == Form::Tech;
        let options = Options { form, asynchronous };
        let method = errors.take(method(input, span));
        // Without a word in its place, what follows is no path.
        let path = match method {
            Some(_) => errors.take(PathTemplate::parse(input, next(input, span))),
            None => input.parse::<LitStr>().ok().and_then(|_| None),
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
        // Hardly begun: what else is missing is no news.
        if settings.is_empty() && (method.is_none() || path.is_none()) {
            return None;
        }
        let mut given = Given::default();
        // An option that is not known may have been meant as the one that is missing.
        let mut all_known = true;
        for setting in &settings {
            match given.set(setting, options) {
                Ok(true) => {}
                Ok(false) => {
                    all_known = false;
                    options.refuse(setting, errors);
                }
                Err(error) => errors.add(error),
            }
        }
        let keys = Keys { settings: &settings, span, all_known };
        let service = given.service(&keys, errors);
        let token = given.token(&keys, errors);
        let body = given.body(method.unwrap_or("Post"), &keys, errors);
        let kind = match (form, asynchronous) {
            (Form::Sensor, _) => Kind::Sensor {
                poke_interval: given.poke_interval.unwrap_or(Duration::from_secs(60)),
                timeout: given.timeout.unwrap_or(Duration::from_secs(7 * 24 * 3600)),
                until: given.until,
            },
            (Form::Tech, true) => Kind::Async {
                timeout: given.timeout.unwrap_or(Duration::from_secs(15 * 60)),
                bucket: given.bucket,
                keep: given.keep,
                transformer: given.transformer,
            },
            (Form::Tech, false) => Kind::Sync,
        };
        Some(Self {
            kind,
            method: method?,
            path: path?,
            service: service?,
            token: token?,
            query: given.query,
            body,
            headers: given.headers,
            accept: given.accept,
            request_timeout: given.request_timeout.unwrap_or(Duration::from_secs(30)),
            log_response: given.log_response,
        })
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
