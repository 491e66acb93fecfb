//! Keys and values, which may be any bytes, as text for people and as JSON; and names that others chose.
//! Nothing is lost: what is not UTF-8 is escaped for people and base64 in JSON.

use std::borrow::Cow;

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

/// A name or message that others chose, as it may stand on a terminal: what would move the cursor, change colours, begin
/// a line or turn the text around is escaped. An empty one is a dash.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("-");
    }
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(2 * text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, and those that change the direction or hide.
pub(crate) fn is_unsafe(character: char) -> bool {
    let is_format = matches!(character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    character.is_control() || is_format
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
    fn names_do_nothing_to_the_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("app-1 caf\u{e9} \u{1f600}", "app-1 caf\u{e9} \u{1f600}");
        check("", "-");
        check("a\u{1b}[2Jb", "a\\u{1b}[2Jb");
        check("a\r\nb\t\u{7f}\u{9b}", "a\\r\\nb\\t\\u{7f}\\u{9b}");
        check("\u{202e}evil", "\\u{202e}evil");
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
