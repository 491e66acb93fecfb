//! A JSON object where one is meant.
//!
//! A derived structure also reads a list, field by field in their order: `["orders", 3]` would make a topic. Nobody means that, and the order
//! of fields is no part of the contract.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A structure that is read from an object and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: i32,
        b: Option<i32>,
    }

    #[test]
    fn lists_are_no_objects() {
        let read = |json: &str| serde_json::from_str::<Object<Pair>>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"b": 2, "a": 1}"#), Ok(Object(Pair { a: 1, b: Some(2) })));
        for json in [
            "[1, 2]",
            "[]",
            "1",
            "null",
            r#"{"a": 1, "c": 2}"#,
            r#"{"a": 1} x"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
        assert!(read("[1, 2]").unwrap_err().contains("expected an object"));
    }

    #[test]
    fn raw_values_stay_as_they_were_sent() {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            value: &'a RawValue,
        }
        let Object(raw) = serde_json::from_str::<Object<Raw<'_>>>(r#"{"value": {"x" : 1.50}}"#).unwrap();
        assert_eq!(raw.value.get(), r#"{"x" : 1.50}"#);
    }
}
