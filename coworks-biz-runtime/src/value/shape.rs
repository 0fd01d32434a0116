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
        match reply::<T>() {
            Some(body) => Self { reply: true, body },
            None => Self { reply: false, body: Content::of::<T>() },
        }
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

    /// The name under which a reply with this content asks for itself. No other type has it.
    pub(super) const fn reply_name(self) -> &'static str {
        match self {
            Self::Any => "$coworks_biz::Reply<_>",
            Self::Text => "$coworks_biz::Reply<String>",
            Self::Bytes => "$coworks_biz::Reply<Bytes>",
            Self::Nothing => "$coworks_biz::Reply<()>",
        }
    }
}

/// What a reply wants of the body; `None` where `T` is none, nor an `Option` of one.
///
/// Types of all kinds are `Output`, so that no trait can tell a reply from others. But
/// each says by which name it wants to be deserialized, also to a deserializer that has nothing.
pub(crate) fn reply<T: DeserializeOwned>() -> Option<Content> {
    asked::<T>(Probe { in_lists: false })
}

/// Whether `T` is a reply, an `Option` of one, or a list of such.
pub(crate) fn has_replies<T: DeserializeOwned>() -> bool {
    asked::<T>(Probe { in_lists: true }).is_some()
}

fn asked<T: DeserializeOwned>(probe: Probe) -> Option<Content> {
    let asked = T::deserialize(probe).err()?.0?;
    [Content::Any, Content::Text, Content::Bytes, Content::Nothing]
        .into_iter()
        .find(|content| content.reply_name() == asked)
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
        let shape = |reply, body| Shape { reply, body };
        assert_eq!(Shape::of::<Reply<Vec<u8>>>(), shape(true, Content::Any));
        assert_eq!(Shape::of::<Reply<String>>(), shape(true, Content::Text));
        assert_eq!(Shape::of::<Reply<Bytes>>(), shape(true, Content::Bytes));
        assert_eq!(Shape::of::<Reply<()>>(), shape(true, Content::Nothing));
        assert_eq!(Shape::of::<Option<Reply<Option<u8>>>>(), shape(true, Content::Any));
        assert_eq!(Shape::of::<Vec<Reply<u8>>>(), shape(false, Content::Any));
        assert!(has_replies::<Vec<Reply<u8>>>() && has_replies::<Vec<Option<Reply<()>>>>());
        assert!(has_replies::<Option<Reply<u8>>>());
        assert!(!has_replies::<Vec<u8>>() && !has_replies::<Vec<Vec<Reply<u8>>>>());
        assert_eq!(Shape::of::<serde_json::Value>(), shape(false, Content::Any));
        assert_eq!(Shape::of::<String>(), shape(false, Content::Text));
        assert_eq!(Shape::of::<()>(), shape(false, Content::Nothing));
    }
}
