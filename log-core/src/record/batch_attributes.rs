//! The attributes of a record batch: one field of its header, with its codec, the clock of its timestamps and its flags.
//!
//! Which of them a producer may set is the `validator`'s to say.

use super::compression::{Compression, UnknownCompression};
use crate::config::TimestampType;

/// The attributes of a batch. Bits that mean nothing yet are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// Wraps the bits as they stand in the header.
    #[must_use]
    pub const fn from_bits(bits: i16) -> Self {
        Self(bits)
    }

    /// The bits as they stand in the header.
    #[must_use]
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// When no codec has the id; a parsed header has a known one.
    pub const fn compression(self) -> Result<Compression, UnknownCompression> {
        Compression::from_id((self.0 & Self::COMPRESSION).to_le_bytes()[0])
    }

    /// Which clock the timestamps come from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// Whether the records are for brokers and clients, not for readers.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Whether the base timestamp tells when tombstones may go (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    /// These attributes with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self((self.0 & !Self::COMPRESSION) | i16::from(compression.id()))
    }

    /// These attributes with another clock.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(
            Self::LOG_APPEND_TIME,
            matches!(timestamp_type, TimestampType::LogAppendTime),
        )
    }

    /// These attributes, within a transaction or not.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// These attributes, for control records or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    /// These attributes, with a delete horizon or not.
    #[must_use]
    pub const fn with_delete_horizon(self, delete_horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, delete_horizon)
    }

    const fn has(self, mask: i16) -> bool {
        self.0 & mask != 0
    }

    const fn with(self, mask: i16, set: bool) -> Self {
        Self(if set { self.0 | mask } else { self.0 & !mask })
    }
}
