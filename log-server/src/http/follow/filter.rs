//! Which records a follower wants: those with a key, those whose JSON has a value at a place, or all.
//!
//! A filter looks at each record of the topic, so it must stay cheap: bytes are compared before anything is taken apart.

use log_core::record::record::Record;
use serde_json::Value;

use crate::http::problem::Problem;
use crate::http::produce::from_base64;

/// What a record must have.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filter {
    key: Option<Vec<u8>>,
    value: Option<ValueFilter>,
}

#[derive(Debug, PartialEq)]
struct ValueFilter {
    pointer: String,
    equals: Value,
}

impl Filter {
    pub(super) fn new(
        key: Option<&str>,
        key_base64: Option<&str>,
        pointer: Option<&str>,
        equals: Option<&str>,
    ) -> Result<Self, Problem> {
        let key = match (key, key_base64) {
            (None, None) => None,
            (Some(text), None) => Some(text.as_bytes().to_vec()),
            (None, Some(text)) => Some(from_base64("key_base64", text)?),
            (Some(_), Some(_)) => return Err(Problem::invalid("key is given in more than one way")),
        };
        let value = match (pointer, equals) {
            (None, None) => None,
            (Some(pointer), Some(equals)) if pointer.is_empty() || pointer.starts_with('/') => {
                Some(ValueFilter {
                    pointer: pointer.to_owned(),
                    // What is not JSON is meant as text.
                    equals: serde_json::from_str(equals).unwrap_or_else(|_| Value::from(equals)),
                })
            }
            (Some(_), Some(_)) => {
                return Err(Problem::invalid(
                    "pointer is a JSON pointer, such as /item/0/name",
                ));
            }
            _ => return Err(Problem::invalid("pointer and equals go together")),
        };
        Ok(Self { key, value })
    }

    /// Whether a record is wanted.
    pub(super) fn wants(&self, record: &Record<'_>) -> bool {
        if self.key.as_ref().is_some_and(|key| record.key != Some(key)) {
            return false;
        }
        let Some(filter) = &self.value else {
            return true;
        };
        let value: Option<Value> = record.value.and_then(|value| serde_json::from_slice(value).ok());
        value.is_some_and(|value| value.pointer(&filter.pointer) == Some(&filter.equals))
    }
}

#[cfg(test)]
mod tests {
    use log_core::model::TimestampMs;
    use log_core::record::batch::Batch;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};

    use super::*;

    fn wants(key: Option<&str>, place: Option<(&str, &str)>, record: (Option<&str>, &str)) -> bool {
        let (pointer, equals) = place.unzip();
        let filter = Filter::new(key, None, pointer, equals).unwrap();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let (key, value) = (record.0.map(str::as_bytes), Some(record.1.as_bytes()));
        builder.append(TimestampMs::new(1), key, value, &[]).unwrap();
        let batch = builder.build();
        let mut scratch = Vec::new();
        let mut records = Batch::parse(&batch).unwrap().records(&mut scratch, 1000).unwrap();
        filter.wants(&records.next().unwrap().unwrap())
    }

    #[test]
    fn keys_and_places_are_compared() {
        let json = r#"{"item": "tea", "n": [1, 2.0], "deep": {"a/b": null}}"#;
        assert!(wants(None, None, (None, "x")));
        assert!(wants(Some("a"), None, (Some("a"), "x")));
        assert!(!wants(Some("a"), None, (Some("b"), "x")) && !wants(Some("a"), None, (None, "x")));
        for (pointer, equals, expected) in [
            ("/item", "tea", true),
            ("/item", "\"tea\"", true),
            ("/item", "coffee", false),
            ("/n/0", "1", true),
            ("/n/1", "2.0", true),
            ("/n", "[1,2.0]", true),
            ("/deep/a~1b", "null", true),
            ("/none", "null", false),
        ] {
            assert_eq!(
                wants(None, Some((pointer, equals)), (None, json)),
                expected,
                "{pointer} {equals}"
            );
        }
        assert!(!wants(None, Some(("/item", "tea")), (None, "not JSON")));
        assert!(wants(None, Some(("", "5")), (None, "5")));
    }

    #[test]
    fn half_a_filter_is_refused() {
        assert!(Filter::new(None, None, Some("/a"), None).is_err());
        assert!(Filter::new(None, None, Some("a"), Some("1")).is_err());
        assert!(Filter::new(Some("a"), Some("YQ=="), None, None).is_err());
        assert!(Filter::new(None, Some("?"), None, None).is_err());
    }
}
