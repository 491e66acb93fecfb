//! The leader epochs of one partition (`leader-epoch-checkpoint`).
//!
//! Kafka's format, version 0; after version and count each line is `epoch start_offset`, oldest epoch first.

use super::error::{CheckpointError, CheckpointFile};
use super::lines::{Lines, write_entries};
use crate::leader_epoch::EpochEntry;
use crate::model::{LeaderEpoch, Offset};

const FILE: CheckpointFile = CheckpointFile::LeaderEpoch;

/// Reads the contents of a file. Epochs and offsets both strictly increase in what this returns.
///
/// # Errors
/// [`CheckpointError`]: not text, another version, a malformed entry, a negative number, epochs or offsets that
/// do not strictly increase, or not as many entries as the file says.
pub fn parse(bytes: &[u8]) -> Result<Vec<EpochEntry>, CheckpointError> {
    let mut entries: Vec<EpochEntry> = Vec::new();
    Lines::new(FILE, bytes)?.read_entries::<2>("epoch and start offset", |line| {
        let [epoch, start_offset] = line.fields;
        let entry = EpochEntry {
            epoch: LeaderEpoch::new(line.number(epoch, "an epoch")?),
            start_offset: Offset::new(line.number(start_offset, "a start offset")?),
        };
        if entries.last().is_some_and(|last| entry.epoch <= last.epoch) {
            return Err(line.refuse("an epoch later than the one before", epoch));
        }
        if entries
            .last()
            .is_some_and(|last| entry.start_offset <= last.start_offset)
        {
            return Err(line.refuse("a start offset behind the one before", start_offset));
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// The contents of a file.
#[must_use]
pub fn to_bytes(entries: &[EpochEntry]) -> Vec<u8> {
    write_entries(
        entries
            .iter()
            .map(|entry| format!("{} {}", entry.epoch, entry.start_offset)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader_epoch::LeaderEpochCache;

    #[test]
    fn golden_bytes() {
        let mut cache = LeaderEpochCache::new();
        cache.assign(LeaderEpoch::new(0), Offset::new(0));
        cache.assign(LeaderEpoch::new(7), Offset::new(1_000_000_000_000));
        let golden = b"0\n2\n0 0\n7 1000000000000\n";
        assert_eq!(to_bytes(cache.entries()), golden);
        assert_eq!(parse(golden).unwrap(), cache.entries());
        assert_eq!(LeaderEpochCache::from_entries(parse(golden).unwrap()), cache);
        assert_eq!(to_bytes(&[]), b"0\n0\n");
        assert_eq!(parse(b""), Ok(Vec::new()));
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
            assert_eq!(parse(text), Err(error), "{}", String::from_utf8_lossy(text));
        };
        check(b"2\n0\n", 1, "version 0", "\"2\"");
        check(b"0\n1\n0\n", 3, "epoch and start offset", "\"0\"");
        check(b"0\n1\n-1 0\n", 3, "an epoch", "\"-1\"");
        check(b"0\n1\n2147483648 0\n", 3, "an epoch", "\"2147483648\"");
        check(b"0\n1\n0 -1\n", 3, "a start offset", "\"-1\"");
        check(
            b"0\n2\n3 0\n3 5\n",
            4,
            "an epoch later than the one before",
            "\"3\"",
        );
        check(
            b"0\n2\n3 5\n4 5\n",
            4,
            "a start offset behind the one before",
            "\"5\"",
        );
        check(b"0\n2\n3 5\n", 2, "as many entries as it says", "2 said, 1 there");
    }
}
