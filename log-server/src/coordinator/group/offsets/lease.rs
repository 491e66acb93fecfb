//! A lease: somebody who is no member of the group has the next records of a partition until a time, and nobody else has.
//!
//! It stands in the metadata of the group's committed offset. So it is as durable as the offset, a restart reads it with the offset, and whoever commits over it
//! ends it. It is text, whose parts are joined by colons:
//!
//! | part | what |
//! |---|---|
//! | `stratalog-lease` | what it is |
//! | `1` | the version of what follows |
//! | 32 digits | its id, hexadecimal |
//! | number | the first offset that is leased, which is the committed one |
//! | number | the offset behind the last |
//! | number | when it ends, in milliseconds since 1970 |
//!
//! Consumers read metadata and may commit what they read with another offset; a text whose first offset is not the committed one is therefore no lease.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use log_core::model::TimestampMs;

use crate::coordinator::group::offsets::store::CommittedOffset;

const PREFIX: &str = "stratalog-lease:1:";
/// So many digits an id has.
const ID_DIGITS: usize = 32;

/// Random bits, so that no two leases are taken for each other, also not by somebody who comes back after a year. They are no secret: whoever reaches the
/// broker may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseId(u128);

/// Records of a partition that somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Which of all.
    pub id: LeaseId,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last: what the group will have committed when it is acknowledged.
    pub to: i64,
    /// When it ends, by the time of day.
    pub expires_ms: i64,
}

/// What the holder of a lease shows: `orders:3:…`, topic, partition and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The lease's id.
    pub id: LeaseId,
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is such as orders:3:0123456789abcdef0123456789abcdef")]
pub struct NoToken;

impl LeaseId {
    /// An id of random bits.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }

    fn read(text: &str) -> Option<Self> {
        let is_id = text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_id.then(|| u128::from_str_radix(text, 16).ok())?;
        id.map(Self)
    }
}

impl Lease {
    /// The lease that a commit carries, whether or not it has ended.
    #[must_use]
    pub fn of(committed: &CommittedOffset<'_>) -> Option<Self> {
        let mut parts = committed.metadata.strip_prefix(PREFIX)?.split(':');
        let lease = Self {
            id: LeaseId::read(parts.next()?)?,
            from: parts.next()?.parse().ok()?,
            to: parts.next()?.parse().ok()?,
            expires_ms: parts.next()?.parse().ok()?,
        };
        let is_of_this_commit = lease.from == committed.offset && parts.next().is_none();
        is_of_this_commit.then_some(lease)
    }

    /// Whether nobody else may have the records yet.
    #[must_use]
    pub fn holds_at(&self, now: TimestampMs) -> bool {
        now.get() < self.expires_ms
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:0ID_DIGITS$x}", self.0)
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            from,
            to,
            expires_ms,
        } = self;
        write!(formatter, "{PREFIX}{id}:{from}:{to}:{expires_ms}")
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, id } = self;
        write!(formatter, "{topic}:{partition}:{id}")
    }
}

impl FromStr for LeaseToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let read = || {
            let (place, id) = text.rsplit_once(':')?;
            let (topic, partition) = place.rsplit_once(':')?;
            Some(Self {
                topic: topic.into(),
                partition: partition.parse().ok()?,
                id: LeaseId::read(id)?,
            })
        };
        read().ok_or(NoToken)
    }
}

#[cfg(test)]
mod tests {
    use log_core::model::TopicId;

    use super::*;

    const TEXT: &str = "stratalog-lease:1:000102030405060708090a0b0c0d0e0f:12:17:1769860800000";

    fn lease() -> Lease {
        Lease {
            id: LeaseId::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
            from: 12,
            to: 17,
            expires_ms: 1_769_860_800_000,
        }
    }

    fn of(metadata: &str, offset: i64) -> Option<Lease> {
        Lease::of(&CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata,
            commit_timestamp_ms: 0,
            expire_timestamp_ms: None,
            topic_id: TopicId::ZERO,
        })
    }

    #[test]
    fn the_text_is_written_and_read_as_it_is_described() {
        assert_eq!(lease().to_string(), TEXT);
        assert_eq!(of(TEXT, 12), Some(lease()));
    }

    #[test]
    fn the_text_is_short_enough_for_the_usual_limits_of_metadata() {
        let longest = Lease {
            from: i64::MAX,
            to: i64::MAX,
            expires_ms: i64::MAX,
            ..lease()
        };
        assert_eq!(longest.to_string().len(), 110);
    }

    #[test]
    fn what_was_carried_to_another_offset_is_no_lease() {
        assert_eq!(of(TEXT, 13), None);
    }

    #[test]
    fn other_texts_are_no_leases() {
        for text in [
            "",
            "stratalog-lease",
            "stratalog-lease:2:000102030405060708090a0b0c0d0e0f:12:17:1769860800000",
            "stratalog-lease:1:00:12:17:1769860800000",
            "stratalog-lease:1:+00102030405060708090a0b0c0d0e0f:12:17:1769860800000",
            "stratalog-lease:1:000102030405060708090a0b0c0d0e0f:12:17",
            "stratalog-lease:1:000102030405060708090a0b0c0d0e0f:12:17:x",
            "stratalog-lease:1:000102030405060708090a0b0c0d0e0f:12:17:1769860800000:1",
            " stratalog-lease:1:000102030405060708090a0b0c0d0e0f:12:17:1769860800000",
        ] {
            assert_eq!(of(text, 12), None, "{text}");
        }
    }

    #[test]
    fn a_lease_ends_with_its_last_millisecond() {
        assert!(lease().holds_at(TimestampMs::new(1_769_860_799_999)));
        assert!(!lease().holds_at(TimestampMs::new(1_769_860_800_000)));
    }

    #[test]
    fn tokens_are_read_back() {
        let token = LeaseToken {
            topic: "a.b".into(),
            partition: 7,
            id: lease().id,
        };
        let text = "a.b:7:000102030405060708090a0b0c0d0e0f";
        assert_eq!(token.to_string(), text);
        assert_eq!(text.parse(), Ok(token));
        for text in ["", "a:7", "a:x:000102030405060708090a0b0c0d0e0f", "a:7:00"] {
            assert_eq!(text.parse::<LeaseToken>(), Err(NoToken), "{text}");
        }
    }
}
