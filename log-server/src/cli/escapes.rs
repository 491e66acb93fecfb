//! Backslash sequences on the command line: `\t`, `\n`, `\r`, `\0`, `\\` and `\xHH`.
//! Anything else behind a backslash is refused, so that a slip of the hand does not become data.

/// The bytes that a text with escapes stands for.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next() {
            Some('t') => bytes.push(b'\t'),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('0') => bytes.push(0),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let mut digit = || rest.next().and_then(|digit| digit.to_digit(16));
                let byte = digit().zip(digit()).map(|(high, low)| 16 * high + low);
                let byte = byte.and_then(|byte| u8::try_from(byte).ok());
                bytes.push(byte.ok_or_else(|| format!("\\x needs two hexadecimal digits in {text:?}"))?);
            }
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!("unknown sequence \\{shown} in {text:?}"));
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_become_bytes() {
        assert_eq!(
            unescape(r"a\tb\n\r\0\\\xfF é").unwrap(),
            b"a\tb\n\r\0\\\xff \xc3\xa9"
        );
        assert_eq!(unescape("").unwrap(), b"");
        for wrong in [r"\", r"\q", r"\x1", r"\xg0"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }
}
