//! One text of a request: a token, a header, a value of the query.

use serde::Serialize;
use serde_json::Value;

use crate::config::{Secret, SecretName, Secrets, VarName};
use crate::error::{Error, Result};

/// One text of a request, as it is given to a call: known already, or by a name that the host
/// looks up when the call is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The text.
    Text(String),
    /// A text that is not to be seen.
    Hidden(Secret),
    /// The secret of this name.
    Secret(SecretName),
    /// The variable of this name.
    Variable(VarName),
}

/// A text that is ready to be sent.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) text: Secret,
    /// Whether it is kept out of messages.
    pub(super) hidden: bool,
}

impl Given {
    /// The text. Fatal where the host does not know the name.
    pub(super) fn resolve(&self, secrets: &Secrets) -> Result<Resolved> {
        let open = |text: String| Resolved { text: Secret::new(text), hidden: false };
        Ok(match self {
            Self::Text(text) => open(text.clone()),
            Self::Hidden(text) => {
                secrets.hide(text.expose());
                Resolved { text: text.clone(), hidden: true }
            }
            Self::Secret(name) => {
                let text = secrets.get(name.name()).map_err(Error::fatal)?;
                Resolved { text, hidden: true }
            }
            Self::Variable(name) => open(secrets.variable(name.name()).map_err(Error::fatal)?),
        })
    }
}

impl From<&str> for Given {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Secret> for Given {
    fn from(text: Secret) -> Self {
        Self::Hidden(text)
    }
}

impl From<SecretName> for Given {
    fn from(name: SecretName) -> Self {
        Self::Secret(name)
    }
}

impl From<VarName> for Given {
    fn from(name: VarName) -> Self {
        Self::Variable(name)
    }
}

/// What can be sent as a token, a header or a value of the query.
///
/// That is every `Serialize` type which is a text, a number or a boolean, or a list of them, or
/// nothing, as an `Option` may be; and what [`secret`](crate::config::secret) and
/// [`var`](crate::config::var) give.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as a text",
    label = "neither `Serialize`, nor `secret(\"..\")`, nor `var(\"..\")`",
    note = "a token, a header and a value of the query is a text, a number or a boolean"
)]
pub trait Parameter {
    /// The texts, each to be sent by itself. Fatal for what is no text, such as a map.
    fn given(&self) -> Result<Vec<Given>>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Parameter for T {
    fn given(&self) -> Result<Vec<Given>> {
        let value = serde_json::to_value(self).map_err(|e| Error::fatal(format!("it is no text: {e}")))?;
        Ok(texts(value)?.into_iter().map(Given::Text).collect())
    }
}

impl Parameter for Secret {
    fn given(&self) -> Result<Vec<Given>> {
        Ok(vec![(*self).clone().into()])
    }
}

impl Parameter for SecretName {
    fn given(&self) -> Result<Vec<Given>> {
        Ok(vec![(*self).into()])
    }
}

impl Parameter for VarName {
    fn given(&self) -> Result<Vec<Given>> {
        Ok(vec![(*self).into()])
    }
}

/// The pairs of an object, or of a list of pairs.
pub(super) fn pairs<T: Serialize + ?Sized>(value: &T) -> Result<Vec<(String, String)>> {
    let value = serde_json::to_value(value).map_err(|e| Error::fatal(format!("it is no JSON: {e}")))?;
    let fields: Vec<(String, Value)> = match value {
        Value::Null => Vec::new(),
        Value::Object(object) => object.into_iter().collect(),
        Value::Array(list) => serde_json::from_value(Value::Array(list))
            .map_err(|_| Error::fatal("a list in its place must be one of pairs of a name and a value"))?,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(Error::fatal("it must be an object, or a list of pairs"));
        }
    };
    let mut pairs = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let texts = texts(value).map_err(|e| e.context(format!("`{name}`")))?;
        pairs.extend(texts.into_iter().map(|text| (name.clone(), text)));
    }
    Ok(pairs)
}

/// A value as texts: none for null, one for each item of a list.
fn texts(value: Value) -> Result<Vec<String>> {
    match value {
        Value::Array(items) => items.into_iter().filter_map(|item| text(item).transpose()).collect(),
        value => Ok(text(value)?.into_iter().collect()),
    }
}

fn text(value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Number(value) => Ok(Some(value.to_string())),
        Value::String(value) => Ok(Some(value)),
        Value::Array(_) => Err(Error::fatal("a list in a list cannot be sent as a text")),
        Value::Object(_) => Err(Error::fatal("an object cannot be sent as a text")),
    }
}
