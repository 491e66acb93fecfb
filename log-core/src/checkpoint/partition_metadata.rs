//! The id of the topic that a partition's directory belongs to (`partition.metadata`).
//!
//! ```text
//! version: 0
//! topic_id: 5KTgRnVTQ0mE0oEpLtLQ1g
//! ```
//!
//! Kafka's format; the last line has no line feed. A directory whose id is not that of the topic of its name
//! is left over from a topic that was deleted.

use super::error::{CheckpointError, CheckpointFile};
use super::lines::Lines;
use crate::model::TopicId;

const FILE: CheckpointFile = CheckpointFile::PartitionMetadata;
const VERSION: u32 = 0;

/// Reads the contents of a file. Of later versions, which may add lines, the id is still read, as Kafka does.
///
/// # Errors
/// [`CheckpointError`]: not text, a missing or malformed line, an id that is none, or more lines than there should be.
pub fn parse(bytes: &[u8]) -> Result<TopicId, CheckpointError> {
    let mut lines = Lines::new(FILE, bytes)?;
    let version: u32 = parse_line(&mut lines, 1, "version:", "\"version: \" and a number")?;
    let id: TopicId = parse_line(&mut lines, 2, "topic_id:", "\"topic_id: \" and an id")?;
    if id == TopicId::ZERO {
        return Err(CheckpointError::new(
            FILE,
            2,
            "an id that is not zero",
            &id.to_string(),
        ));
    }
    match lines.next_line() {
        Some((number, text)) if version == VERSION => {
            Err(CheckpointError::new(FILE, number, "the end of the file", text))
        }
        _ => Ok(id),
    }
}

fn parse_line<T: std::str::FromStr>(
    lines: &mut Lines<'_>,
    line: usize,
    key: &'static str,
    expected: &'static str,
) -> Result<T, CheckpointError> {
    let (number, text) = lines
        .next_line()
        .ok_or_else(|| CheckpointError::at_end(FILE, line, expected))?;
    let value = text.strip_prefix(key).map(str::trim);
    let parsed = value.and_then(|value| value.parse().ok());
    parsed.ok_or_else(|| CheckpointError::new(FILE, number, expected, text))
}

/// The contents of a file.
///
/// # Panics
/// When the id is zero, "no id".
#[must_use]
pub fn to_bytes(id: TopicId) -> Vec<u8> {
    assert_ne!(id, TopicId::ZERO, "a partition's topic has an id");
    format!("version: {VERSION}\ntopic_id: {id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId::from_bytes([0xfb, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);

    #[test]
    fn golden_bytes() {
        let golden = b"version: 0\ntopic_id: -_8BAgMEBQYHCAkKCwwNDg";
        assert_eq!(to_bytes(ID), golden);
        assert_eq!(parse(golden), Ok(ID));
    }

    #[test]
    fn what_kafka_also_reads() {
        assert_eq!(parse(b"version: 0\ntopic_id: -_8BAgMEBQYHCAkKCwwNDg\n"), Ok(ID));
        assert_eq!(
            parse(b"version: 1\ntopic_id: -_8BAgMEBQYHCAkKCwwNDg\nmore: 1"),
            Ok(ID)
        );
    }

    #[test]
    fn damage_is_named() {
        let (version, topic_id) = ("\"version: \" and a number", "\"topic_id: \" and an id");
        let check = |text: &[u8], line, expected, found: &str| {
            let error = CheckpointError {
                file: FILE,
                line,
                expected,
                found: found.to_owned(),
            };
            assert_eq!(parse(text), Err(error), "{}", String::from_utf8_lossy(text));
        };
        check(b"", 1, version, "the end of the file");
        check(b"version: x\n", 1, version, "\"version: x\"");
        check(b"version: -1\n", 1, version, "\"version: -1\"");
        check(
            b"topic_id: -_8BAgMEBQYHCAkKCwwNDg\n",
            1,
            version,
            "\"topic_id: -_8BAgMEBQYHCAkKCwwNDg\"",
        );
        check(b"version: 0", 2, topic_id, "the end of the file");
        check(b"version: 0\ntopic_id: short", 2, topic_id, "\"topic_id: short\"");
        let zero = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA";
        check(zero, 2, "an id that is not zero", "\"AAAAAAAAAAAAAAAAAAAAAA\"");
        let longer = b"version: 0\ntopic_id: -_8BAgMEBQYHCAkKCwwNDg\nmore: 1";
        check(longer, 3, "the end of the file", "\"more: 1\"");
    }
}
