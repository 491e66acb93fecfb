//! What the records of all coordinators have in common: how Kafka writes their fields, and what can be wrong with them.
//! Which records there are stands with each coordinator.

pub(in crate::coordinator) mod bytes;

use std::fmt;

/// A record as bytes and back.
pub trait LogRecord: fmt::Debug + Send + Sized {
    /// Appends the key.
    ///
    /// # Errors
    /// A text is longer than a key can say; what was appended is to be thrown away.
    fn encode_key(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError>;

    /// Appends the value, and answers whether there is one: a tombstone has none.
    ///
    /// # Errors
    /// As [`Self::encode_key`].
    fn encode_value(&self, output: &mut Vec<u8>) -> Result<bool, RecordFormatError>;

    /// Reads a record of any version that Kafka ever wrote; `None` for a kind that its coordinator does not have.
    ///
    /// # Errors
    /// [`RecordFormatError`] for bytes that are no such record.
    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, RecordFormatError>;
}

/// Half of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPart {
    /// What the record is about.
    Key,
    /// What is to be known of it.
    Value,
}

/// What is wrong with a record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// A field, or a list's elements, would go beyond the end.
    #[error("the bytes end too soon")]
    Truncated,
    /// A length that is none.
    #[error("a length is out of range")]
    BadLength,
    /// Text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// Null, where a field must have a value.
    #[error("a field is null that must not be")]
    Null,
    /// Something stands behind the last field.
    #[error("bytes stand behind the last field")]
    TrailingBytes,
    /// A version of the value that Kafka 4.3 does not know either.
    #[error("version {0} is unknown")]
    UnknownVersion(i16),
    /// A state that has no such number.
    #[error("there is no state {0}")]
    UnknownState(i8),
    /// A string that its length cannot express.
    #[error("a text is too long to be written")]
    TooLong,
}

/// A record that cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} of a record, byte {at}: {problem}")]
pub struct RecordFormatError {
    /// Key or value.
    pub part: RecordPart,
    /// Where in it.
    pub at: usize,
    /// What it is.
    pub problem: FormatProblem,
}
