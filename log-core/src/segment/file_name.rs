//! The names of a partition directory's files, as Kafka gives them: the base offset in twenty digits and
//! a suffix that says what it is.

use std::path::{Path, PathBuf};

use crate::model::Offset;

/// Twenty digits hold every offset, and make alphabetical order the order of offsets.
const DIGITS: usize = 20;

/// What a file that belongs to one segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Record batches.
    Log,
    /// The index by offset.
    OffsetIndex,
    /// The index by time.
    TimeIndex,
    /// Aborted transactions.
    TransactionIndex,
    /// The producers' state just before the base offset.
    ProducerSnapshot,
}

impl FileKind {
    /// Every kind, the log first.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::OffsetIndex,
        Self::TimeIndex,
        Self::TransactionIndex,
        Self::ProducerSnapshot,
    ];

    /// The suffix with its dot.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TransactionIndex => ".txnindex",
            Self::ProducerSnapshot => ".snapshot",
        }
    }
}

/// The path of one of a segment's files.
#[must_use]
pub fn segment_file(directory: &Path, base_offset: Offset, kind: FileKind) -> PathBuf {
    directory.join(format!("{:0DIGITS$}{}", base_offset.get(), kind.suffix()))
}

/// Reads a file name back; `None` for names that are not a segment's.
#[must_use]
pub fn parse_segment_file(name: &str) -> Option<(Offset, FileKind)> {
    let (digits, suffix) = name.split_at_checked(DIGITS)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kind = FileKind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    Some((Offset::new(digits.parse().ok()?), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_read_back() {
        let path = segment_file(Path::new("t-0"), Offset::new(42), FileKind::TimeIndex);
        assert_eq!(path, Path::new("t-0/00000000000000000042.timeindex"));
        for kind in FileKind::ALL {
            let path = segment_file(Path::new(""), Offset::new(i64::MAX), kind);
            assert_eq!(
                parse_segment_file(path.to_str().unwrap()),
                Some((Offset::new(i64::MAX), kind))
            );
        }
    }

    #[test]
    fn other_names_are_not_segments() {
        for name in [
            "",
            "leader-epoch-checkpoint",
            "0.log",
            "00000000000000000042.log.deleted",
            "0000000000000000004x.log",
            "99999999999999999999.log",
            "+0000000000000000042.log",
            "000000000000000000é2.log",
        ] {
            assert_eq!(parse_segment_file(name), None, "{name}");
        }
    }
}
