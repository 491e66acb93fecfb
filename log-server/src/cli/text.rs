//! Keys and values, which may be any bytes, as text for people and as JSON.
//! Nothing is lost: what is not UTF-8 is escaped for people and base64 in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Bytes between quotes: text as it is, what cannot be shown escaped; after `most` characters the rest is counted.
pub(crate) fn quoted(bytes: &[u8], most: usize) -> String {
    let escaped = match std::str::from_utf8(bytes) {
        Ok(text) => text.escape_debug().to_string().replace("\\'", "'"),
        Err(_) => bytes.escape_ascii().to_string(),
    };
    let mut characters = escaped.char_indices();
    match characters.nth(most).and_then(|(at, _)| escaped.get(..at)) {
        Some(front) => format!("\"{front}\"… ({} bytes)", bytes.len()),
        None => format!("\"{escaped}\""),
    }
}

/// Adds a field that holds bytes: a string where they are UTF-8, otherwise base64 under a name that says so, as
/// `consume` shows them.
pub(crate) fn insert(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        object.insert(name.to_owned(), Value::Null);
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_between_quotes() {
        let check = |bytes: &[u8], most: usize, expected: &str| {
            assert_eq!(quoted(bytes, most), expected, "{bytes:?}");
        };
        check(b"abc", 10, "\"abc\"");
        check("it's caf\u{e9}\n".as_bytes(), 99, "\"it's caf\u{e9}\\n\"");
        check(b"\xff\x00a", 99, "\"\\xff\\x00a\"");
        check(b"abcdef", 3, "\"abc\"… (6 bytes)");
        check(b"abc", 3, "\"abc\"");
        check(b"", 3, "\"\"");
    }

    #[test]
    fn bytes_in_json() {
        let check = |bytes: Option<&[u8]>, expected: &str| {
            let mut object = Map::new();
            insert(&mut object, "value", bytes);
            assert_eq!(Value::Object(object).to_string(), expected);
        };
        check(Some(b"a\"b"), r#"{"value":"a\"b"}"#);
        check(None, r#"{"value":null}"#);
        check(Some(b""), r#"{"value":""}"#);
        check(Some(b"\xff\xfe"), r#"{"value_base64":"//4="}"#);
    }
}
