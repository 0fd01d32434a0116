//! JSON looked through and not kept: a large answer is checked without a second one in memory.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// What `serde_json::Value` takes, and no more: it is nested as deeply at most, and its numbers are in range.
pub(super) struct Anything;

/// What `String` takes.
pub(super) struct Text;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Text, Self>()?.is_some() {}
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str};

    use super::*;

    #[test]
    fn it_takes_what_a_value_or_a_string_takes_and_says_the_same_of_the_rest() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        let texts =
            [r#"{"a": [1, -2, 0.5, null, true, "x\u00e9"]}"#, r#""\ud800""#, "1e999", "", "[1,", "{1: 2}"];
        for text in texts.map(str::to_owned).into_iter().chain([deep(127), deep(128), deep(9000)]) {
            let skimmed = from_str::<Anything>(&text).map(drop).map_err(|e| e.to_string());
            assert_eq!(skimmed, from_str::<Value>(&text).map(drop).map_err(|e| e.to_string()), "{text}");
            let skimmed = from_str::<Text>(&text).map(drop).map_err(|e| e.to_string());
            assert_eq!(skimmed, from_str::<String>(&text).map(drop).map_err(|e| e.to_string()), "{text}");
        }
    }
}
