//! What a type wants of the answer of a service, found out by asking the type itself.

use std::any::TypeId;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Bytes;

/// What a type wants of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Whether a refusal is a value of it: it is a [`Reply`](super::Reply).
    pub(crate) reply: bool,
    /// What becomes of the body.
    pub(crate) body: Content,
    /// Whether any JSON will do.
    pub(crate) loose: bool,
}

/// What becomes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// JSON, or the text where it is none.
    Any,
    /// The text, also where it happens to be JSON.
    Text,
    /// The bytes.
    Bytes,
    /// Nothing.
    Nothing,
}

impl Shape {
    /// What `T` wants.
    pub(crate) fn of<T: DeserializeOwned + 'static>() -> Self {
        let (reply, body, loose) = match asked::<T>(Probe { in_lists: false }) {
            Some((body, loose)) => (true, body, loose),
            None => (false, Content::of::<T>(), is_loose::<T>()),
        };
        Self { reply, body, loose }
    }
}

fn is_loose<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<serde_json::Value>()
}

/// The name under which a reply asks for itself. No other type has it.
pub(super) fn reply_name<T: 'static>() -> &'static str {
    name_of(Content::of::<T>(), is_loose::<T>())
}

const fn name_of(content: Content, loose: bool) -> &'static str {
    match content {
        Content::Any if loose => "$coworks_biz::Reply<Value>",
        Content::Any => "$coworks_biz::Reply<_>",
        Content::Text => "$coworks_biz::Reply<String>",
        Content::Bytes => "$coworks_biz::Reply<Bytes>",
        Content::Nothing => "$coworks_biz::Reply<()>",
    }
}

impl Content {
    /// What `T` wants of a body.
    pub(super) fn of<T: 'static>() -> Self {
        let id = TypeId::of::<T>();
        match id {
            _ if id == TypeId::of::<String>() => Self::Text,
            _ if id == TypeId::of::<Bytes>() => Self::Bytes,
            _ if id == TypeId::of::<()>() => Self::Nothing,
            _ => Self::Any,
        }
    }
}

/// Whether `T` is a reply, an `Option` of one, or a list of such.
pub(crate) fn has_replies<T: DeserializeOwned>() -> bool {
    asked::<T>(Probe { in_lists: true }).is_some()
}

/// What a reply wants of the body, and whether any JSON will do; `None` where `T` is none, nor an
/// `Option` of one.
///
/// Types of all kinds are `Output`, so that no trait can tell a reply from others. But
/// each says by which name it wants to be deserialized, also to a deserializer that has nothing.
fn asked<T: DeserializeOwned>(probe: Probe) -> Option<(Content, bool)> {
    let asked = T::deserialize(probe).err()?.0?;
    let kinds =
        [Content::Any, Content::Text, Content::Bytes, Content::Nothing].map(|content| (content, false));
    kinds.into_iter().chain([(Content::Any, true)]).find(|&(content, loose)| name_of(content, loose) == asked)
}

/// Has nothing, and hears by which name a type asks.
struct Probe {
    /// Also the items of a list.
    in_lists: bool,
}

/// The name that was asked for.
#[derive(Debug)]
struct Asked(Option<&'static str>);

impl<'de> Deserializer<'de> for Probe {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
        Err(Asked(None))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked(Some(name)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        match self.in_lists {
            true => visitor.visit_seq(self),
            false => Err(Asked(None)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A list that has an item, until it is asked for it.
impl<'de> SeqAccess<'de> for Probe {
    type Error = Asked;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Asked> {
        seed.deserialize(Probe { in_lists: false }).map(Some)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing")
    }
}

impl std::error::Error for Asked {}

impl serde::de::Error for Asked {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Reply;

    #[test]
    fn a_reply_is_known_from_its_type_alone() {
        let shape = |reply, body| Shape { reply, body, loose: false };
        assert_eq!(Shape::of::<Reply<Vec<u8>>>(), shape(true, Content::Any));
        assert_eq!(Shape::of::<Reply<String>>(), shape(true, Content::Text));
        assert_eq!(Shape::of::<Reply<Bytes>>(), shape(true, Content::Bytes));
        assert_eq!(Shape::of::<Reply<()>>(), shape(true, Content::Nothing));
        assert_eq!(Shape::of::<Option<Reply<Option<u8>>>>(), shape(true, Content::Any));
        assert_eq!(Shape::of::<Vec<Reply<u8>>>(), shape(false, Content::Any));
        assert!(has_replies::<Vec<Reply<u8>>>() && has_replies::<Vec<Option<Reply<()>>>>());
        assert!(has_replies::<Option<Reply<u8>>>());
        assert!(!has_replies::<Vec<u8>>() && !has_replies::<Vec<Vec<Reply<u8>>>>());
        let loose = |reply| Shape { reply, body: Content::Any, loose: true };
        assert_eq!(Shape::of::<serde_json::Value>(), loose(false));
        assert_eq!(Shape::of::<Reply<serde_json::Value>>(), loose(true));
        assert_eq!(Shape::of::<Option<Reply<serde_json::Value>>>(), loose(true));
        assert_eq!(Shape::of::<String>(), shape(false, Content::Text));
        assert_eq!(Shape::of::<()>(), shape(false, Content::Nothing));
    }
}
