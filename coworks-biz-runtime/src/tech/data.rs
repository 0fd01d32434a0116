//! Bodies of calls that are no JSON.

use serde::Serialize;

use super::parameter::pairs;
use crate::error::{Error, Result};
use crate::value::Bytes;

/// The body of a request, with its `Content-Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    pub(super) content_type: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// What can be the `data` of a call: a text, [`Bytes`], or a [`Form`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the `data` of a call",
    label = "neither a text, nor `Bytes`, nor a `Form`",
    note = "write `json = ..` to send it as JSON, or `data = Form(..)` to send it as a form"
)]
pub trait IntoData {
    /// The body.
    fn into_data(self) -> Result<Data>;
}

/// The fields of a form, as `application/x-www-form-urlencoded`: of an object, or a list of pairs,
/// by the rules of the query of a call.
///
/// ```
/// use coworks_biz_runtime::tech::{Arguments, Form};
///
/// let arguments = Arguments::new().data(Form([("name", "Ada"), ("tag", "x")]))?;
/// # let _ = arguments;
/// # Ok::<(), coworks_biz_runtime::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl IntoData for &str {
    fn into_data(self) -> Result<Data> {
        self.to_owned().into_data()
    }
}

impl IntoData for String {
    fn into_data(self) -> Result<Data> {
        Ok(Data { content_type: "text/plain; charset=utf-8", bytes: self.into_bytes() })
    }
}

impl IntoData for Vec<u8> {
    fn into_data(self) -> Result<Data> {
        Ok(Data { content_type: "application/octet-stream", bytes: self })
    }
}

impl IntoData for Bytes {
    fn into_data(self) -> Result<Data> {
        self.to_vec().into_data()
    }
}

impl<T: Serialize> IntoData for Form<T> {
    fn into_data(self) -> Result<Data> {
        let fields = pairs(&self.0).map_err(|e| e.context("the form of this call"))?;
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Ok(Data { content_type: "application/x-www-form-urlencoded", bytes: form.into_bytes() })
    }
}

impl Data {
    pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::fatal(format!("what this call sends is no JSON: {e}")))?;
        Ok(Self { content_type: "application/json", bytes })
    }
}
