//! A record as JSON, on its way out, written straight into the answer's bytes.
//!
//! | bytes | `auto` | `json` | `base64` |
//! |---|---|---|---|
//! | null | `"value": null` | `"value": null` | `"value": null` |
//! | JSON | as below | `"value_json": …`, as it stands | `"value_base64": "…"` |
//! | UTF-8 | `"value": "…"` | `"value": "…"` | `"value_base64": "…"` |
//! | anything else | `"value_base64": "…"` | `"value_base64": "…"` | `"value_base64": "…"` |
//!
//! The fields are those that `produce::record_input` takes. A line of NDJSON has no line breaks, so JSON that has some is given as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use log_core::model::TimestampMs;
use log_core::record::record::Record;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// How bytes look in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// Text where it is UTF-8.
    #[default]
    Auto,
    /// JSON where it is JSON.
    Json,
    /// Always base64.
    Base64,
}

impl Encoding {
    /// Its name in parameters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Base64 => "base64",
        }
    }
}

/// How keys and values look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Encodings {
    pub(crate) key: Encoding,
    pub(crate) value: Encoding,
}

/// Appends a record as a JSON object without line breaks; `partition` where the reader cannot know it.
pub(crate) fn write_record(
    output: &mut Vec<u8>,
    record: &Record<'_>,
    partition: Option<i32>,
    encodings: Encodings,
) {
    output.push(b'{');
    if let Some(partition) = partition {
        output.extend_from_slice(b"\"partition\":");
        write_number(output, i64::from(partition));
        output.push(b',');
    }
    output.extend_from_slice(b"\"offset\":");
    write_number(output, record.offset.get());
    output.extend_from_slice(b",\"timestamp\":");
    if record.timestamp == TimestampMs::NONE {
        output.extend_from_slice(b"null");
    } else {
        write_number(output, record.timestamp.get());
    }
    output.push(b',');
    write_field(output, "key", record.key, encodings.key);
    output.push(b',');
    write_field(output, "value", record.value, encodings.value);
    if record.header_count() != 0 {
        output.extend_from_slice(b",\"headers\":[");
        for (place, header) in record.headers().enumerate() {
            output.extend_from_slice(if place == 0 { b"{\"name\":" } else { b",{\"name\":" });
            write_text(output, &header.key_text());
            output.push(b',');
            write_field(output, "value", header.value, Encoding::Auto);
            output.push(b'}');
        }
        output.push(b']');
    }
    output.push(b'}');
}

fn write_field(output: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>, encoding: Encoding) {
    output.push(b'"');
    output.extend_from_slice(name.as_bytes());
    let Some(bytes) = bytes else {
        output.extend_from_slice(b"\":null");
        return;
    };
    if encoding == Encoding::Json && is_json_on_a_line(bytes) {
        output.extend_from_slice(b"_json\":");
        output.extend_from_slice(bytes);
        return;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if encoding != Encoding::Base64 => {
            output.extend_from_slice(b"\":");
            write_text(output, text);
        }
        _ => {
            output.extend_from_slice(b"_base64\":\"");
            let start = output.len();
            let length = base64::encoded_len(bytes.len(), true).unwrap_or(0);
            output.resize(start + length, 0);
            let (_, room) = output.split_at_mut(start);
            STANDARD.encode_slice(bytes, room).expect("the room was measured");
            output.push(b'"');
        }
    }
}

fn is_json_on_a_line(bytes: &[u8]) -> bool {
    memchr::memchr2(b'\n', b'\r', bytes).is_none() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

fn write_text(output: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(output, text).expect("text becomes JSON, and memory takes it");
}

fn write_number(output: &mut Vec<u8>, number: i64) {
    serde_json::to_writer(output, &number).expect("a number becomes JSON, and memory takes it");
}

#[cfg(test)]
mod tests {
    use log_core::record::batch::Batch;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
    use log_core::record::record::RecordHeader;

    use super::*;

    fn check(key: Option<&[u8]>, value: Option<&[u8]>, encoding: Encoding, expected: &str) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers: &[RecordHeader<'_>] =
            &[RecordHeader::new("h", Some(b"1")), RecordHeader::new("i", None)];
        builder
            .append(
                TimestampMs::new(7),
                key,
                value,
                if key.is_none() { headers } else { &[] },
            )
            .unwrap();
        let bytes = builder.build();
        let mut scratch = Vec::new();
        let record = Batch::parse(&bytes)
            .unwrap()
            .records(&mut scratch, 1000)
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let mut output = Vec::new();
        let encodings = Encodings {
            key: Encoding::Auto,
            value: encoding,
        };
        write_record(&mut output, &record, Some(3), encodings);
        let text = String::from_utf8(output).unwrap();
        assert_eq!(
            text,
            format!("{{\"partition\":3,\"offset\":0,\"timestamp\":7,{expected}}}")
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn bytes_look_as_the_table_says() {
        let key = Some(b"k".as_slice());
        check(key, None, Encoding::Json, r#""key":"k","value":null"#);
        check(
            key,
            Some(b"{\"a\" : 1}"),
            Encoding::Json,
            r#""key":"k","value_json":{"a" : 1}"#,
        );
        check(
            key,
            Some(b"{\"a\" : 1}"),
            Encoding::Auto,
            r#""key":"k","value":"{\"a\" : 1}""#,
        );
        check(
            key,
            Some(b"[1,\n2]"),
            Encoding::Json,
            r#""key":"k","value":"[1,\n2]""#,
        );
        check(key, Some(b"x"), Encoding::Json, r#""key":"k","value":"x""#);
        check(
            key,
            Some(b"x"),
            Encoding::Base64,
            r#""key":"k","value_base64":"eA==""#,
        );
        check(key, Some(b""), Encoding::Base64, r#""key":"k","value_base64":"""#);
        check(
            Some(&[0xff]),
            Some(&[0xfe]),
            Encoding::Json,
            r#""key_base64":"/w==","value_base64":"/g==""#,
        );
        check(
            None,
            Some(b"\x01"),
            Encoding::Auto,
            r#""key":null,"value":"\u0001","headers":[{"name":"h","value":"1"},{"name":"i","value":null}]"#,
        );
    }
}
