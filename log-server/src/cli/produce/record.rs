//! A record as `consume --format ndjson` writes it, read back: nothing of it is dropped in silence.
//!
//! | field | what becomes of it |
//! |---|---|
//! | `value`, `value_base64` | the value; one of them must be there, `null` is a value that is null |
//! | `key`, `key_base64` | the key; none and `null` are no key |
//! | `timestamp` | the time; -1 stays -1, a record without time; none and `null` are the present time |
//! | `partition` | the partition, unless `--partition` names another |
//! | `headers` | a list of objects with `key` and `value`, or their `_base64` |
//! | `topic`, `offset` | ignored: a new record gets its own |

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use log_core::model::TimestampMs;
use serde_json::{Map, Value as Json};

use super::recipe::{Draft, Header, text_of};
use crate::cli::failure::{Failure, Outcome};
use crate::time::TimeFormat;

const FIELDS: [&str; 8] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "key",
    "key_base64",
    "value",
    "value_base64",
];
const HEADER_FIELDS: [&str; 4] = ["key", "key_base64", "value", "value_base64"];

/// The record that a JSON object describes.
pub(super) fn from_record(document: &Json) -> Outcome<Draft<'static>> {
    let fields = object(document, "a record")?;
    check_names(fields, &[&FIELDS[..], &["headers"]].concat())?;
    if !fields.contains_key("value") && !fields.contains_key("value_base64") {
        return Err(Failure::new("no value").advise("a value that is null is written \"value\":null"));
    }
    Ok(Draft {
        key: bytes_of(fields, "key")?.map(Cow::Owned),
        value: bytes_of(fields, "value")?.map(Cow::Owned),
        timestamp: timestamp_of(fields)?,
        partition: partition_of(fields)?,
        headers: headers_of(fields)?,
    })
}

fn object<'a>(document: &'a Json, what: &str) -> Outcome<&'a Map<String, Json>> {
    document.as_object().ok_or_else(|| {
        Failure::new(format!(
            "{what} is a JSON object, and this is {}",
            shown(document)
        ))
    })
}

/// A name that means nothing is a slip of the hand, and the field it was meant for would be missing.
fn check_names(fields: &Map<String, Json>, known: &[&str]) -> Outcome {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            Err(Failure::new(format!("unknown field {name:?}"))
                .advise(format!("there are {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

fn timestamp_of(fields: &Map<String, Json>) -> Outcome<Option<TimestampMs>> {
    let (format, found) = match fields.get("timestamp") {
        None | Some(Json::Null) => return Ok(None),
        // What a record has that nobody gave a time.
        Some(found) if found.as_i64() == Some(TimestampMs::NONE.get()) => return Ok(Some(TimestampMs::NONE)),
        Some(found @ Json::Number(_)) => (TimeFormat::Ms, found),
        Some(found @ Json::String(_)) => (TimeFormat::Auto, found),
        Some(found) => return Err(Failure::new(format!("timestamp: {} is not a time", shown(found)))),
    };
    let text = text_of(found).unwrap_or_default();
    let parsed = format.parse(&String::from_utf8_lossy(&text));
    Ok(Some(
        parsed.map_err(|error| Failure::new(format!("timestamp: {error}")))?,
    ))
}

fn partition_of(fields: &Map<String, Json>) -> Outcome<Option<i32>> {
    let found = match fields.get("partition") {
        None | Some(Json::Null) => return Ok(None),
        Some(found) => found,
    };
    let number = found.as_i64().and_then(|number| i32::try_from(number).ok());
    match number.filter(|number| 0 <= *number) {
        Some(number) => Ok(Some(number)),
        None => Err(Failure::new(format!("partition: {} is not one", shown(found)))),
    }
}

fn headers_of(fields: &Map<String, Json>) -> Outcome<Vec<Header>> {
    let found = match fields.get("headers") {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Array(found)) => found,
        Some(found) => {
            return Err(Failure::new(format!(
                "headers: a list is expected, not {}",
                shown(found)
            )));
        }
    };
    let header = |found: &Json| {
        let fields = object(found, "a header")?;
        check_names(fields, &HEADER_FIELDS)?;
        let name = bytes_of(fields, "key")?;
        let name = name.ok_or_else(|| Failure::new("a header has no key"))?;
        Ok((name, bytes_of(fields, "value")?))
    };
    let headers: Outcome<Vec<_>> = found.iter().map(header).collect();
    headers.map_err(|failure: Failure| failure.during("headers"))
}

/// The bytes of `name`, or what `name_base64` encodes.
fn bytes_of(fields: &Map<String, Json>, name: &str) -> Outcome<Option<Vec<u8>>> {
    let encoded_name = format!("{name}_base64");
    match (fields.get(name), fields.get(&encoded_name)) {
        (Some(_), Some(_)) => Err(Failure::new(format!("both {name} and {encoded_name}"))),
        (Some(found), None) => Ok(text_of(found)),
        (None, None) => Ok(None),
        (None, Some(Json::String(text))) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(Failure::new(format!("{encoded_name}: {error}"))),
        },
        (None, Some(found)) => Err(Failure::new(format!(
            "{encoded_name}: a string is expected, not {}",
            shown(found)
        ))),
    }
}

/// The beginning of a JSON value.
fn shown(found: &Json) -> String {
    found.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Outcome<Draft<'static>> {
        from_record(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn records_come_back_as_consume_wrote_them() {
        let draft = read(
            r#"{"topic":"t","partition":2,"offset":9,"timestamp":5,"key":null,
            "value_base64":"/wA=","headers":[{"key":"h","value":"x"},{"key":"n","value":null}]}"#,
        )
        .unwrap();
        assert_eq!(draft.key, None);
        assert_eq!(draft.value.as_deref(), Some(&[0xff, 0][..]));
        assert_eq!(draft.timestamp, Some(TimestampMs::new(5)));
        assert_eq!(draft.partition, Some(2));
        assert_eq!(
            draft.headers,
            [(b"h".to_vec(), Some(b"x".to_vec())), (b"n".to_vec(), None)]
        );
    }

    #[test]
    fn a_record_without_a_time_stays_one() {
        let time = |text: &str| {
            read(&format!(r#"{{"value":"v","timestamp":{text}}}"#))
                .unwrap()
                .timestamp
        };
        assert_eq!(time("-1"), Some(TimestampMs::NONE));
        assert_eq!(time("null"), None);
        assert_eq!(time("\"1970-01-01T00:00:01Z\""), Some(TimestampMs::new(1000)));
    }

    #[test]
    fn a_null_is_written_as_one() {
        assert_eq!(read(r#"{"value":null}"#).unwrap().value, None);
        assert_eq!(read(r#"{"value":7}"#).unwrap().value.as_deref(), Some(&b"7"[..]));
    }

    #[test]
    fn what_cannot_be_taken_over_is_refused() {
        for wrong in [
            "[]",
            "{}",
            r#"{"key":"k"}"#,
            r#"{"vaule":"v"}"#,
            r#"{"value":"v","header":[]}"#,
            r#"{"value":"v","value_base64":"dg=="}"#,
            r#"{"value_base64":"%"}"#,
            r#"{"value_base64":7}"#,
            r#"{"value":"v","key_base64":null}"#,
            r#"{"value":"v","partition":-1}"#,
            r#"{"value":"v","partition":"2"}"#,
            r#"{"value":"v","partition":4294967296}"#,
            r#"{"value":"v","partition":1.5}"#,
            r#"{"value":"v","timestamp":-2}"#,
            r#"{"value":"v","timestamp":true}"#,
            r#"{"value":"v","timestamp":"yesterday"}"#,
            r#"{"value":"v","headers":{"h":"x"}}"#,
            r#"{"value":"v","headers":["h"]}"#,
            r#"{"value":"v","headers":[{"value":"x"}]}"#,
            r#"{"value":"v","headers":[{"key":"h","val":"x"}]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
