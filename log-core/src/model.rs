//! The vocabulary of the log: offsets, epochs, producer identities, timestamps, topic identities.
//!
//! Each is a type of its own, so that an offset is never added to a position and an epoch never
//! compared with a sequence. Arithmetic is explicit and checked: leaving the range of the type is a
//! mistake of ours, never something that bytes from outside can cause, because they are validated first.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number as it stands on the wire and on disk.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number as it stands on the wire and on disk.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

number! {
    /// The place of a record in its partition; the first is 0. End offsets are exclusive, last offsets inclusive.
    Offset(i64)
}

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset `count` places further on.
    ///
    /// # Panics
    /// When the sum leaves the range of an offset, which no validated batch can cause.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.checked_add(count).expect("offset within i64"))
    }

    /// How many places `self` lies behind `earlier`; negative when it lies before.
    ///
    /// # Panics
    /// When the difference leaves `i64`; offsets are not negative, so it cannot.
    #[must_use]
    pub const fn minus(self, earlier: Self) -> i64 {
        self.0
            .checked_sub(earlier.0)
            .expect("offset difference within i64")
    }
}

number! {
    /// How often the leadership of a partition changed; raised at each opening that may have lost
    /// records that were seen, so that clients notice the truncation (KIP-101, KIP-320). -1 is "none".
    LeaderEpoch(i32)
}

impl LeaderEpoch {
    /// No epoch known or given.
    pub const NONE: Self = Self(-1);
    /// The epoch of a new partition.
    pub const FIRST: Self = Self(0);

    /// The epoch after this one.
    ///
    /// # Panics
    /// After 2³¹ unclean openings.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("leader epoch within i32"))
    }
}

number! {
    /// The identity of an idempotent or transactional producer (KIP-98). -1 is "none".
    ProducerId(i64)
}

impl ProducerId {
    /// A batch from a producer that is not idempotent.
    pub const NONE: Self = Self(-1);
}

number! {
    /// The incarnation of a producer id; a higher epoch fences the lower one. -1 is "none".
    ProducerEpoch(i16)
}

impl ProducerEpoch {
    /// A batch from a producer that is not idempotent.
    pub const NONE: Self = Self(-1);
    /// The last that there is. No producer writes with it: it fences the one before.
    pub const LAST: Self = Self(i16::MAX);
}

/// Which rules a transaction follows: Kafka's feature `transaction.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionVersion {
    /// A producer keeps its epoch from transaction to transaction, and adds partitions before it writes to them.
    V1,
    /// The epoch rises with each transaction, and what is written to is added on the way (KIP-890).
    V2,
}

number! {
    /// The number of a record among those of one producer on one partition; wraps from 2³¹ − 1 to 0. -1 is "none".
    Sequence(i32)
}

impl Sequence {
    /// A batch from a producer that is not idempotent.
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records further on, wrapping as Kafka's do.
    ///
    /// # Panics
    /// When called on [`Sequence::NONE`] or with a negative count.
    #[must_use]
    pub fn plus(self, count: i32) -> Self {
        assert!(
            0 <= self.0 && 0 <= count,
            "sequence arithmetic on {self:?} + {count}"
        );
        let sum = (i64::from(self.0) + i64::from(count)) % (i64::from(i32::MAX) + 1);
        Self(i32::try_from(sum).expect("a remainder of 2^31 fits an i32"))
    }
}

number! {
    /// Milliseconds since 1970-01-01 UTC, as in Kafka's record format. -1 is "none".
    TimestampMs(i64)
}

impl TimestampMs {
    /// No timestamp.
    pub const NONE: Self = Self(-1);

    /// This time moved by `milliseconds`, held within the range of the type.
    #[must_use]
    pub const fn saturating_plus(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this time, held within the range of the type.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

number! {
    /// A byte position within one file.
    FilePosition(u64)
}

impl FilePosition {
    /// The beginning of the file.
    pub const ZERO: Self = Self(0);

    /// The position `length` bytes further on.
    ///
    /// # Panics
    /// When the sum leaves `u64`.
    #[must_use]
    pub const fn plus(self, length: u64) -> Self {
        Self(self.0.checked_add(length).expect("file position within u64"))
    }
}

/// The identity of one life of a topic (KIP-516): a topic that is deleted and created again has a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// "No id": what requests carry that name their topic.
    pub const ZERO: Self = Self([0; 16]);

    /// Wraps the sixteen bytes as they stand on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes as they stand on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TopicId {
    /// URL-safe base64 without padding, as Kafka prints it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TopicId({self})")
    }
}

/// The text is not a name or id of the kind it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseModelError {
    /// The text that was refused.
    pub text: String,
    /// What it should have been.
    pub expected: &'static str,
}

impl FromStr for TopicId {
    type Err = ParseModelError;

    fn from_str(text: &str) -> Result<Self, ParseModelError> {
        let refuse = || ParseModelError {
            text: text.to_owned(),
            expected: "a topic id (22 characters of URL-safe base64)",
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse())?;
        Ok(Self(bytes.try_into().map_err(|_| refuse())?))
    }
}

/// One partition of one topic. Displays as Kafka's directory name, `topic-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.topic, self.partition)
    }
}

impl FromStr for TopicPartition {
    type Err = ParseModelError;

    /// Reads a directory name: the partition is what stands behind the last dash.
    fn from_str(text: &str) -> Result<Self, ParseModelError> {
        let refuse = || ParseModelError {
            text: text.to_owned(),
            expected: "the name of a partition's directory (topic-0)",
        };
        let (topic, partition) = text.rsplit_once('-').ok_or_else(refuse)?;
        let index: i32 = partition.parse().map_err(|_| refuse())?;
        let odd = topic.is_empty() || index < 0 || index.to_string() != partition;
        if odd {
            Err(refuse())
        } else {
            Ok(Self::new(topic, index))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_at_two_to_the_31() {
        assert_eq!(Sequence::new(i32::MAX).plus(1), Sequence::new(0));
        assert_eq!(Sequence::new(i32::MAX - 1).plus(3), Sequence::new(1));
        assert_eq!(Sequence::new(7).plus(0), Sequence::new(7));
    }

    #[test]
    fn directory_names_read_back() {
        for (text, topic, partition) in [("a-0", "a", 0), ("a-b-12", "a-b", 12), ("a--1", "a-", 1)] {
            let parsed: TopicPartition = text.parse().unwrap();
            assert_eq!(parsed, TopicPartition::new(topic, partition));
            assert_eq!(parsed.to_string(), text);
        }
        for text in [
            "",
            "a",
            "-0",
            "a-",
            "a-01",
            "a-+1",
            "a-x",
            "a-0.delete",
            "a-99999999999",
        ] {
            assert!(text.parse::<TopicPartition>().is_err(), "{text}");
        }
    }

    #[test]
    fn topic_ids_print_as_kafka_prints_them() {
        let id = TopicId::from_bytes([0xfb, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(id.to_string(), "-_8BAgMEBQYHCAkKCwwNDg");
        assert_eq!(id.to_string().parse::<TopicId>().unwrap(), id);
        assert!("short".parse::<TopicId>().is_err());
    }
}
