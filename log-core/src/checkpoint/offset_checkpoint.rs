//! One offset for each partition of a data directory: recovery points, log start offsets, high watermarks.
//!
//! Kafka's format, version 0; after version and count each line is `topic partition offset`. Kafka writes the
//! partitions in any order, we write them sorted.

use std::collections::BTreeMap;

use super::error::{CheckpointError, CheckpointFile};
use super::lines::{Lines, write_entries};
use crate::model::{Offset, TopicPartition};

/// The offsets of one file.
pub type OffsetCheckpoint = BTreeMap<TopicPartition, Offset>;

/// Reads the contents of a file; `file` is which of the three it is.
///
/// # Errors
/// [`CheckpointError`]: not text, another version, a malformed or repeated entry, a negative number, or not as
/// many entries as the file says.
pub fn parse(file: CheckpointFile, bytes: &[u8]) -> Result<OffsetCheckpoint, CheckpointError> {
    let mut offsets = OffsetCheckpoint::new();
    Lines::new(file, bytes)?.read_entries::<3>("topic, partition and offset", |line| {
        let [topic, partition, offset] = line.fields;
        let partition = TopicPartition::new(topic, line.number(partition, "a partition")?);
        let offset = Offset::new(line.number(offset, "an offset")?);
        match offsets.insert(partition, offset) {
            None => Ok(()),
            Some(_) => Err(line.refuse("a partition that no line before names", topic)),
        }
    })?;
    Ok(offsets)
}

/// The contents of a file.
///
/// # Panics
/// When a topic's name is empty or has blanks in it, which creating the topic refused.
#[must_use]
pub fn to_bytes(offsets: &OffsetCheckpoint) -> Vec<u8> {
    write_entries(offsets.iter().map(|(partition, offset)| {
        let topic = &partition.topic;
        assert!(
            topic.split_ascii_whitespace().eq([&**topic]),
            "{topic:?} cannot stand in a checkpoint"
        );
        format!("{topic} {} {offset}", partition.partition)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: CheckpointFile = CheckpointFile::RecoveryPoint;

    fn checkpoint(entries: &[(&str, i32, i64)]) -> OffsetCheckpoint {
        let entry =
            |&(topic, partition, offset)| (TopicPartition::new(topic, partition), Offset::new(offset));
        entries.iter().map(entry).collect()
    }

    #[test]
    fn golden_bytes() {
        let offsets = checkpoint(&[("b.c_d-1", 0, i64::MAX), ("a", 10, 7), ("a", 2, 0)]);
        let golden = b"0\n3\na 2 0\na 10 7\nb.c_d-1 0 9223372036854775807\n";
        assert_eq!(to_bytes(&offsets), golden);
        assert_eq!(parse(FILE, golden), Ok(offsets));
        assert_eq!(to_bytes(&OffsetCheckpoint::new()), b"0\n0\n");
    }

    #[test]
    fn what_kafka_also_reads() {
        assert_eq!(parse(FILE, b""), Ok(OffsetCheckpoint::new()));
        assert_eq!(parse(FILE, b"0\n0\n"), Ok(OffsetCheckpoint::new()));
        assert_eq!(
            parse(FILE, b"0\r\n1\r\na 1 5\r\n"),
            Ok(checkpoint(&[("a", 1, 5)]))
        );
        assert_eq!(parse(FILE, b"0\n1\na \t 1 5"), Ok(checkpoint(&[("a", 1, 5)])));
    }

    #[test]
    fn damage_is_named() {
        let check = |text: &[u8], line, expected, found: &str| {
            let error = CheckpointError {
                file: FILE,
                line,
                expected,
                found: found.to_owned(),
            };
            assert_eq!(parse(FILE, text), Err(error), "{}", String::from_utf8_lossy(text));
        };
        check(b"\n", 1, "version 0", "\"\"");
        check(b"x\n0\n", 1, "version 0", "\"x\"");
        check(b"1\n0\n", 1, "version 0", "\"1\"");
        check(b"0\n", 2, "the number of entries", "the end of the file");
        check(b"0\n-1\n", 2, "the number of entries", "\"-1\"");
        check(
            b"0\n4294967295\n",
            2,
            "as many entries as it says",
            "4294967295 said, 0 there",
        );
        check(
            b"0\n0\na 1 5\n",
            2,
            "as many entries as it says",
            "0 said, 1 there",
        );
        check(b"0\n1\n\n", 3, "topic, partition and offset", "\"\"");
        check(b"0\n1\na 1\n", 3, "topic, partition and offset", "\"a 1\"");
        check(
            b"0\n1\na 1 5 6\n",
            3,
            "topic, partition and offset",
            "\"a 1 5 6\"",
        );
        check(b"0\n2\na 1 5\na x 5\n", 4, "a partition", "\"x\"");
        check(b"0\n1\na -1 5\n", 3, "a partition", "\"-1\"");
        check(b"0\n1\na 1 -5\n", 3, "an offset", "\"-5\"");
        check(
            b"0\n1\na 1 9223372036854775808\n",
            3,
            "an offset",
            "\"9223372036854775808\"",
        );
        check(
            b"0\n2\na 1 5\na 1 6\n",
            4,
            "a partition that no line before names",
            "\"a\"",
        );
        check(b"0\n1\na\xff 1 5\n", 3, "text in UTF-8", "\"\u{fffd} 1 5\\n\"");
        let long = "x".repeat(1000);
        check(
            long.as_bytes(),
            1,
            "version 0",
            &format!("\"{}\"…", "x".repeat(80)),
        );
    }
}
