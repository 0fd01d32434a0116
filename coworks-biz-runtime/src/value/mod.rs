//! Outputs between tasks (XCom): JSON values, typed at both ends.

mod reply;
mod shape;
mod skim;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::reply::assemble;
pub use self::reply::{Failure, Reply};
pub(crate) use self::shape::{Content, Shape, has_replies};
use crate::error::{Error, Result};

/// The XCom key under which a task's own output is stored.
pub const RETURN_VALUE: &str = "return_value";

/// The largest value, in bytes of its JSON: what a task may pass on, and so what is taken of an answer.
pub const LARGEST: usize = 64 << 20;

/// A type that can pass from one task to another.
///
/// Nothing to implement: every type that is `Serialize + Deserialize` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot pass between tasks, or into them",
    label = "not `Serialize + Deserialize`",
    note = "add `#[derive(Serialize, Deserialize)]` to `{Self}`"
)]
pub trait Output: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Output for T {}

/// What a task function may return: `Result<T>`, with any error, or nothing.
#[diagnostic::on_unimplemented(
    message = "a task returns `Result<T>`, not `{Self}`",
    label = "not a `Result`",
    note = "write `-> Result<{Self}>` and end with `Ok(..)`"
)]
pub trait TaskReturn {
    /// The type of the output.
    type Output: Output;

    /// The output, or why there is none.
    fn into_result(self) -> Result<Self::Output>;
}

impl<T: Output, E: Into<Error>> TaskReturn for Result<T, E> {
    type Output = T;

    fn into_result(self) -> Result<T> {
        self.map_err(Into::into)
    }
}

impl TaskReturn for () {
    type Output = ();

    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

/// The beginning of a text, as many characters of it as a message shows.
pub(crate) type Cut<'a> = &'a dyn Fn(&str, usize) -> String;

/// One JSON value as text, cheap to clone: what is stored and handed on.
///
/// ```
/// use coworks_biz_runtime::value::Json;
///
/// let json = Json::encode(&vec![1, 2])?;
/// assert_eq!(json.as_str(), "[1,2]");
/// assert_eq!(json.decode::<Vec<u8>>()?, [1, 2]);
/// # Ok::<(), coworks_biz_runtime::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Arc<String>);

impl Json {
    /// The JSON of a value. Fails on what JSON cannot hold, such as a map whose keys are no strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text =
            serde_json::to_string(value).map_err(|e| Error::fatal(format!("the output is no JSON: {e}")))?;
        Ok(Self(Arc::new(text)))
    }

    /// What a task pushes as `return_value`: the JSON of its output, nothing for `()`.
    pub fn output<T: Output>(value: &T) -> Result<Option<Self>> {
        if TypeId::of::<T>() == TypeId::of::<()>() {
            return Ok(None);
        }
        Self::encode(value).map(Some)
    }

    /// Takes text that is known to be JSON, such as a stored XCom.
    pub(crate) fn from_stored(text: impl Into<String>) -> Self {
        Self(Arc::new(text.into()))
    }

    /// The value as `T`. The error names `T` and what was found where; no retry can mend it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.decode_as(std::any::type_name::<T>(), &excerpt)
    }

    /// The value as `T`, which messages call `name`. What was found there is as long as `cut` leaves it.
    fn decode_as<T: DeserializeOwned>(&self, name: &str, cut: Cut) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|e| {
            let name = short(name);
            Error::fatal(format!("this is no `{name}`: {} in {}", misread(&e, cut), cut(&self.0, 120)))
        })
    }

    /// Whether a `Value` can hold it, also in a reply and in a list of such: it is not nested too deeply, its
    /// numbers are in range, and its texts are text.
    pub(crate) fn is_readable(&self) -> bool {
        let listed = Self::from_stored(format!("[{}]", assemble(400, Some(self), None).as_str()));
        listed.decode::<skim::Anything>().is_ok()
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a type as one writes it: `Vec<Order>` for `alloc::vec::Vec<shop::Order>`.
pub(crate) fn short(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    for piece in name.split_inclusive(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':')) {
        short.push_str(piece.rsplit("::").next().unwrap_or(piece));
    }
    short
}

/// Bytes as they are: the type of a binary answer.
///
/// JSON has none, so that between tasks they are base64 under the key
/// `__bytes__`: `{"__bytes__": "aGVsbG8="}`.
///
/// ```
/// use coworks_biz_runtime::value::{Bytes, Json};
///
/// let json = Json::encode(&Bytes::from(b"hello".to_vec()))?;
/// assert_eq!(json.as_str(), r#"{"__bytes__":"aGVsbG8="}"#);
/// assert_eq!(&*json.decode::<Bytes>()?, b"hello");
/// # Ok::<(), coworks_biz_runtime::error::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Marked<T> {
    __bytes__: T,
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Marked { __bytes__: STANDARD.encode(&self.0) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let marked = Marked::<String>::deserialize(deserializer)?;
        STANDARD.decode(marked.__bytes__).map(Self).map_err(|e| D::Error::custom(format!("no base64: {e}")))
    }
}

/// An object in S3.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// The bucket.
    pub bucket: String,
    /// The whole key.
    pub key: String,
}

impl Object {
    /// Where the answer of a call goes: one that no other call of this or another engine names.
    pub(crate) fn of_call(bucket: &str, engine_id: &str, call: &str) -> Self {
        Self { bucket: bucket.to_owned(), key: format!("s3/biz-{engine_id}/{call}") }
    }

    /// Where the answer goes when it is asked for once more. The first one is asked for here.
    pub(crate) fn asked_by(&self, asking: u32) -> Self {
        match asking {
            0 | 1 => self.clone(),
            n => Self { bucket: self.bucket.clone(), key: format!("{}.{n}", self.key) },
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// The type of a service's answer, as data: what the macro knows of `T` in `let x: T = tech!(..)`.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    shape: fn() -> Shape,
    name: fn() -> &'static str,
    decode: fn(&Json, Cut) -> Result<()>,
}

impl Type {
    /// The type `T`.
    pub const fn of<T: Output>() -> Self {
        Self {
            shape: Shape::of::<T>,
            name: std::any::type_name::<T>,
            decode: |json, cut| json.decode_as::<T>(std::any::type_name::<T>(), cut).map(drop),
        }
    }

    /// What it wants of an answer.
    pub(crate) fn shape(&self) -> Shape {
        (self.shape)()
    }

    /// Whether it is a [`Reply`].
    pub fn is_reply(&self) -> bool {
        self.shape().reply
    }

    /// Its name, for messages.
    pub fn name(&self) -> &'static str {
        (self.name)()
    }

    /// Refuses JSON that is no such value.
    pub fn check(&self, json: &Json) -> Result<()> {
        (self.decode)(json, &excerpt)
    }

    /// Refuses the body of an answer that is no such value, so that a wrong one fails the task it came to.
    pub(crate) fn check_body(&self, status: u16, body: &Json, cut: Cut) -> Result<()> {
        let shape = self.shape();
        match (shape.body, shape.reply) {
            // They were made of what came, whatever it was.
            (Content::Bytes | Content::Nothing, _) => Ok(()),
            (Content::Text, _) => body.decode_as::<skim::Text>(self.name(), cut).map(drop),
            (Content::Any, _) if shape.loose => body.decode_as::<skim::Anything>(self.name(), cut).map(drop),
            (Content::Any, true) => (self.decode)(&assemble(status, Some(body), None), cut),
            (Content::Any, false) => (self.decode)(body, cut),
        }
    }
}

/// Why JSON cannot be read as something. The reason may quote a text that is there, however long that is.
pub(crate) fn misread(error: &serde_json::Error, cut: Cut) -> String {
    let text = error.to_string();
    match text.char_indices().nth(400) {
        None => cut(&text, 400),
        Some(_) => format!("{} at line {} column {}", cut(&text, 300), error.line(), error.column()),
    }
}

/// The beginning of a text, cut at a character, for messages.
pub(crate) fn excerpt(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_pushes_nothing_and_none_pushes_null() {
        assert_eq!(Json::output(&()).unwrap(), None);
        assert_eq!(Json::output(&None::<u8>).unwrap().unwrap().as_str(), "null");
    }

    #[test]
    fn a_wrong_type_is_named_with_what_was_found() {
        let error = Json::encode("hello").unwrap().decode::<u8>().unwrap_err();
        assert!(error.is_fatal());
        assert_eq!(
            error.to_string(),
            "this is no `u8`: invalid type: string \"hello\", expected u8 at line 1 column 7 in \"hello\""
        );
    }

    #[test]
    fn a_long_text_is_not_told_whole_where_it_is_of_a_wrong_type() {
        let error = Json::encode(&"é".repeat(1_000_000)).unwrap().decode::<u8>().unwrap_err().to_string();
        assert!(error.len() < 1000 && error.contains("… at line 1 column 2000002 in \"é"), "{error}");
    }

    #[test]
    fn an_excerpt_is_cut_between_characters() {
        assert_eq!(excerpt("éàü", 2), "éà…");
        assert_eq!(excerpt("éàü", 3), "éàü");
    }
}
