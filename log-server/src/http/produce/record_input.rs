//! A record as JSON, on its way in: text, any JSON, or base64 become bytes, without a copy where none is needed.
//!
//! The fields are those that [`record_output`](crate::http::record_output) writes, so that what was read can be written as it stands.
//! JSON is kept as it was sent, to the byte: it is never taken apart and put together again.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use log_core::record::record::RecordHeader;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::http::object::Object;
use crate::http::parameters::Time;
use crate::http::problem::{Code, Problem};

/// A record as it was sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordInput<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    key_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    value_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    headers: Vec<Object<HeaderInput<'a>>>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<Time>,
    /// Where a record that is written again was read; of no meaning here.
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    #[serde(default, rename = "topic")]
    _topic: IgnoredAny,
}

/// A header of a record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderInput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    value_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

/// Tells `null` from nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Bytes, borrowed from the body where they stand there; `None` is null.
pub(super) type Field<'a> = Option<Cow<'a, [u8]>>;

impl<'a> RecordInput<'a> {
    /// The key's bytes.
    pub(super) fn key(&self) -> Result<Field<'a>, Problem> {
        field("key", self.key, self.key_json, self.key_base64.as_deref())
    }

    /// The value's bytes.
    pub(super) fn value(&self) -> Result<Field<'a>, Problem> {
        field("value", self.value, self.value_json, self.value_base64.as_deref())
    }

    /// Whether there are headers.
    pub(super) fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// The values of the headers, in their order; their names are [`Self::headers`]' to add.
    pub(super) fn header_values(&self) -> Result<Vec<Field<'a>>, Problem> {
        let values = self.headers.iter().map(|Object(header)| {
            field(
                "a header's value",
                header.value,
                header.value_json,
                header.value_base64.as_deref(),
            )
        });
        values.collect()
    }

    /// The headers with these values.
    pub(super) fn headers<'b>(&'b self, values: &'b [Field<'a>]) -> Vec<RecordHeader<'b>> {
        let headers = self.headers.iter().zip(values);
        headers
            .map(|(Object(header), value)| RecordHeader::new(&header.name, value.as_deref()))
            .collect()
    }
}

fn field<'a>(
    name: &str,
    plain: Option<&'a RawValue>,
    json: Option<&'a RawValue>,
    base64: Option<&str>,
) -> Result<Field<'a>, Problem> {
    match (plain, json, base64) {
        (None, None, None) => Ok(None),
        (Some(plain), None, None) => text_or_json(name, plain.get()),
        (None, Some(json), None) => Ok(Some(Cow::Borrowed(json.get().as_bytes()))),
        (None, None, Some(text)) => from_base64(name, text).map(|bytes| Some(Cow::Owned(bytes))),
        _ => {
            let text = format!("{name} is given in more than one way");
            Err(Problem::new(Code::InvalidRecord, text))
        }
    }
}

/// Text is its own bytes, null is null, anything else the JSON that was sent.
fn text_or_json<'a>(name: &str, json: &'a str) -> Result<Field<'a>, Problem> {
    let Some(quoted) = json.strip_prefix('"') else {
        return Ok((json != "null").then_some(Cow::Borrowed(json.as_bytes())));
    };
    match quoted.strip_suffix('"') {
        Some(text) if memchr::memchr(b'\\', text.as_bytes()).is_none() => {
            Ok(Some(Cow::Borrowed(text.as_bytes())))
        }
        _ => {
            let text: String = serde_json::from_str(json)
                .map_err(|error| Problem::new(Code::InvalidRecord, format!("{name}: {error}")))?;
            Ok(Some(Cow::Owned(text.into_bytes())))
        }
    }
}

/// Bytes from base64 with its padding.
pub(in crate::http) fn from_base64(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let decoded = STANDARD.decode(text);
    decoded.map_err(|error| Problem::new(Code::InvalidRecord, format!("{name} is not base64: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
        let input: RecordInput<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(input.key().unwrap().as_deref(), key, "{json}");
        assert_eq!(input.value().unwrap().as_deref(), value, "{json}");
    }

    #[test]
    fn text_json_and_base64_become_bytes() {
        check("{}", None, None);
        check(r#"{"key": "a", "value": null}"#, Some(b"a"), None);
        check(
            r#"{"key": "", "value": "\u00e4\n"}"#,
            Some(b""),
            Some("ä\n".as_bytes()),
        );
        check(
            r#"{"key": 12, "value": {"b" : 1.50, "a":2}}"#,
            Some(b"12"),
            Some(br#"{"b" : 1.50, "a":2}"#),
        );
        check(
            r#"{"key_json": "a", "value_json": null}"#,
            Some(b"\"a\""),
            Some(b"null"),
        );
        check(
            r#"{"key_base64": "AP8=", "value_base64": ""}"#,
            Some(&[0, 255]),
            Some(b""),
        );
    }

    #[test]
    fn headers_keep_their_order_and_their_nulls() {
        let json = r#"{"headers": [{"name": "a", "value": "1"}, {"name": "a"}, {"name": "b", "value_base64": "AA=="}]}"#;
        let input: RecordInput<'_> = serde_json::from_str(json).unwrap();
        let values = input.header_values().unwrap();
        let headers = input.headers(&values);
        assert_eq!(
            headers,
            [
                RecordHeader::new("a", Some(b"1")),
                RecordHeader::new("a", None),
                RecordHeader::new("b", Some(b"\0"))
            ]
        );
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        for json in [
            r#"{"vlaue": 1}"#,
            r#"{"value": 1, "value": 2}"#,
            r#"{"partition": "x"}"#,
            r#"{"timestamp": -5}"#,
            r#"{"headers": [{"value": "without a name"}]}"#,
            "[]",
            "[1, 2]",
            r#"{"headers": [["a", "v"]]}"#,
            "{\"key\": \"\u{1}\"}",
        ] {
            assert!(
                serde_json::from_str::<Object<RecordInput<'_>>>(json).is_err(),
                "{json}"
            );
        }
        for json in [
            r#"{"value": 1, "value_json": 2}"#,
            r#"{"value_base64": "?"}"#,
            r#"{"value": "\ud800"}"#,
        ] {
            let input: RecordInput<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(input.value().unwrap_err().code(), Code::InvalidRecord, "{json}");
        }
    }
}
