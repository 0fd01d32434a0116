//! What a call takes from values: what the code of `tech!` fills when the call is sent.

use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use super::data::{Data, IntoData};
use super::parameter::pairs;
use super::{Given, Method, Parameter, path};
use crate::error::{Error, Result};

/// What a call takes from values that are known when it is sent.
///
/// ```
/// use coworks_biz_runtime::config::secret;
/// use coworks_biz_runtime::tech::Arguments;
///
/// let (customer, lines) = ("Smith & Co", vec![1, 2]);
/// let arguments = Arguments::new()
///     .path(&["/customers/", "/orders"], &[&customer])?
///     .query_pair("page", &2)?
///     .header("X-Key", &secret("BILLING_KEY"))?
///     .json(&serde_json::json!({ "lines": lines }))?;
/// # let _ = arguments;
/// # Ok::<(), coworks_biz_runtime::error::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Arguments {
    /// In place of the path of the call.
    pub(super) path: Option<String>,
    /// In order; a list is a repeated key.
    pub(super) query: Vec<(String, Given)>,
    pub(super) headers: Vec<(String, Given)>,
    /// In place of the token of the call.
    pub(super) token: Option<Given>,
    pub(super) body: Option<Data>,
}

impl Arguments {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path: the pieces of it that are written, and a value between each two of them, which
    /// is percent-encoded. Fatal for a value that would make another address of it.
    pub fn path(mut self, pieces: &[&str], values: &[&dyn Display]) -> Result<Self> {
        self.path = Some(path::fill(pieces, values)?);
        Ok(self)
    }

    /// The body, as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        self.body = Some(Data::json(value)?);
        Ok(self)
    }

    /// The body, as a text, bytes, or a form. Its `Content-Type` follows, unless a header gives another.
    pub fn data<T: IntoData>(mut self, data: T) -> Result<Self> {
        self.body = Some(data.into_data()?);
        Ok(self)
    }

    /// More of the query: the fields of an object, or a list of pairs. A list repeats its key, null
    /// is left out.
    pub fn query<T: Serialize + ?Sized>(mut self, query: &T) -> Result<Self> {
        let pairs = pairs(query).map_err(|e| e.context("the query of this call"))?;
        self.query.extend(pairs.into_iter().map(|(name, text)| (name, Given::Text(text))));
        Ok(self)
    }

    /// More of the query: one key.
    pub fn query_pair(mut self, name: &str, value: &(impl Parameter + ?Sized)) -> Result<Self> {
        let given = value.given().map_err(|e| e.context(format!("`{name}` in the query of this call")))?;
        self.query.extend(given.into_iter().map(|given| (name.to_owned(), given)));
        Ok(self)
    }

    /// A header. It wins over those that every call has, but for `Authorization`, which is the
    /// token's where there is one. Nothing, as `None`, is left out.
    pub fn header(mut self, name: &str, value: &(impl Parameter + ?Sized)) -> Result<Self> {
        let context = |e: Error| e.context(format!("the header `{name}` of this call"));
        let given = value.given().map_err(context)?;
        if given.len() > 1 {
            return Err(context(Error::fatal("a list cannot be sent as one text")));
        }
        self.headers.extend(given.into_iter().map(|given| (name.to_owned(), given)));
        Ok(self)
    }

    /// The token, in place of that of the call.
    pub fn token(mut self, value: &(impl Parameter + ?Sized)) -> Result<Self> {
        let context = |e: Error| e.context("the token of this call");
        let mut given = value.given().map_err(context)?;
        self.token = match (given.pop(), given.pop()) {
            // A token is none that may be seen.
            (Some(Given::Text(text)), None) => Some(Given::Hidden(crate::config::Secret::new(text))),
            (Some(token), None) => Some(token),
            _ => return Err(context(Error::fatal("it is not one text"))),
        };
        Ok(self)
    }

    /// The output of a transformer: the query of a GET, and the JSON of any other method.
    pub fn transformed(self, method: Method, value: Value) -> Result<Self> {
        match method {
            Method::Get => self.query(&value),
            _ => self.json(&value),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{secret, var};
    use crate::tech::Form;
    use crate::value::Bytes;

    fn query(value: Value) -> Result<String> {
        let pairs = pairs(&value)?;
        Ok(pairs.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join("&"))
    }

    #[test]
    fn a_query_repeats_lists_and_drops_null() {
        let object = json!({"a": 1, "b": ["x", null, true], "c": null, "d": "y z", "e": 1.5, "f": []});
        assert_eq!(query(object).unwrap(), "a=1&b=x&b=true&d=y z&e=1.5");
        assert_eq!(query(json!([["b", 1], ["a", [2, 3]]])).unwrap(), "b=1&a=2&a=3");
        assert_eq!(query(json!(null)).unwrap(), "");
    }

    #[test]
    fn what_is_no_query_is_an_error_that_names_the_key() {
        let error = |value| {
            let error = Arguments::new().query(&value).unwrap_err();
            assert!(error.is_fatal());
            error.to_string()
        };
        assert_eq!(
            error(json!({"a": {"b": 1}})),
            "the query of this call: `a`: an object cannot be sent as a text"
        );
        assert!(error(json!({"a": [[1]]})).contains("`a`: a list in a list"));
        assert!(error(json!("a=b")).contains("it must be an object"));
        assert!(error(json!([1, 2])).contains("one of pairs"));
    }

    #[test]
    fn a_parameter_is_a_text_or_a_name() {
        let arguments = Arguments::new()
            .query_pair("n", &1)
            .and_then(|a| a.query_pair("n", &vec!["x", "y"]))
            .and_then(|a| a.query_pair("none", &None::<u8>))
            .and_then(|a| a.query_pair("key", &secret("KEY")))
            .and_then(|a| a.header("X-Var", &var("VAR")))
            .and_then(|a| a.header("X-None", &None::<String>))
            .and_then(|a| a.token(&String::from("the-token")))
            .unwrap();
        let names: Vec<_> = arguments.query.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["n", "n", "n", "key"]);
        assert_eq!(arguments.query[3].1, Given::Secret(secret("KEY")));
        assert_eq!(arguments.headers, [("X-Var".to_owned(), Given::Variable(var("VAR")))]);
        assert!(!format!("{arguments:?}").contains("the-token"));

        let error = Arguments::new().header("X-A", &[1, 2]).unwrap_err().to_string();
        assert_eq!(error, "the header `X-A` of this call: a list cannot be sent as one text");
        assert!(Arguments::new().token(&None::<String>).unwrap_err().is_fatal());
    }

    #[test]
    fn a_body_has_the_type_of_what_it_is() {
        let body = |arguments: Result<Arguments>| {
            let Data { content_type, bytes } = arguments.unwrap().body.unwrap();
            (content_type, String::from_utf8(bytes).unwrap())
        };
        let new = Arguments::new;
        assert_eq!(body(new().json(&json!({"a": "é"}))), ("application/json", r#"{"a":"é"}"#.into()));
        assert_eq!(body(new().data("x")), ("text/plain; charset=utf-8", "x".into()));
        assert_eq!(body(new().data(Bytes::from(vec![b'x']))), ("application/octet-stream", "x".into()));
        assert_eq!(
            body(new().data(Form(json!({"a": [1, 2], "b": "x y&"})))),
            ("application/x-www-form-urlencoded", "a=1&a=2&b=x+y%26".into())
        );
    }

    #[test]
    fn what_a_transformer_gives_is_the_query_of_a_get_and_the_json_of_others() {
        let get = Arguments::new().transformed(Method::Get, json!({"a": 1})).unwrap();
        assert_eq!((get.query.len(), get.body), (1, None));
        let post = Arguments::new().transformed(Method::Post, json!({"a": 1})).unwrap();
        assert_eq!((post.query.len(), post.body.unwrap().bytes), (0, br#"{"a":1}"#.to_vec()));
        assert!(Arguments::new().transformed(Method::Get, json!(3)).is_err());
    }
}
