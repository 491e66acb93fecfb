//! A record as bytes and back: which kind a key names, and what is read and written of each kind.
//!
//! A key and a value begin with a 16-bit number: the key's is the kind, the value's the version of its fields. A record without
//! a value is a tombstone. Kinds 10 to 15 (share groups) and 17 to 23 (streams groups) belong to others and are left alone.
//!
//! | kind | file | versions read | version written |
//! |---|---|---|---|
//! | 0, 1 | `offset_commit` (0 is what Kafka wrote before 0.9) | 0–4 | 4; 1 with an expiry of its own |
//! | 2 | `classic_group` | 0–4 | 3 |
//! | 3 | `consumer_group` | 0 | 0 |
//! | 4 | `partition_metadata` | 0 | only tombstones |
//! | 5 | `consumer_member` | 0 | 0 |
//! | 6 | `consumer_target` | 0 | 0 |
//! | 7 | `consumer_target` | 0 | 0 |
//! | 8 | `consumer_current_member` | 0 | 0 |
//! | 16 | `consumer_regex` | 0 | 0 |
//!
//! The versions written are those of Kafka 4.3: it dares to write flexible versions of offsets, not of classic groups.

use crate::coordinator::group::record::{GroupRecord, consumer_target};
use crate::coordinator::record::bytes::{Reader, Writer};
use crate::coordinator::record::{LogRecord, RecordFormatError, RecordPart};

/// A name in a key may have at most so many bytes.
pub const NAME_BYTES_MAX: usize = 32_767;

pub(super) const LEGACY_OFFSET_COMMIT: i16 = 0;
pub(super) const OFFSET_COMMIT: i16 = 1;
pub(super) const CLASSIC_GROUP: i16 = 2;
pub(super) const CONSUMER_GROUP: i16 = 3;
pub(super) const CONSUMER_PARTITION_METADATA: i16 = 4;
pub(super) const CONSUMER_MEMBER: i16 = 5;
pub(super) const CONSUMER_TARGET_EPOCH: i16 = 6;
pub(super) const CONSUMER_TARGET_MEMBER: i16 = 7;
pub(super) const CONSUMER_CURRENT_MEMBER: i16 = 8;
pub(super) const CONSUMER_REGEX: i16 = 16;

impl LogRecord for GroupRecord {
    fn encode_key(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        match self {
            Self::OffsetCommit {
                group,
                topic,
                partition,
                ..
            } => {
                let mut key = Writer::key(output, OFFSET_COMMIT);
                key.string(group)?;
                key.string(topic)?;
                key.i32(*partition);
                Ok(())
            }
            Self::ClassicGroup { group, .. } => Writer::key(output, CLASSIC_GROUP).string(group),
            Self::ConsumerGroup { group, .. } => Writer::key(output, CONSUMER_GROUP).string(group),
            Self::ConsumerPartitionMetadata { group, .. } => {
                Writer::key(output, CONSUMER_PARTITION_METADATA).string(group)
            }
            Self::ConsumerTargetEpoch { group, .. } => {
                Writer::key(output, CONSUMER_TARGET_EPOCH).string(group)
            }
            Self::ConsumerMember { group, member, .. } => two(output, CONSUMER_MEMBER, group, member),
            Self::ConsumerTargetMember { group, member, .. } => {
                two(output, CONSUMER_TARGET_MEMBER, group, member)
            }
            Self::ConsumerCurrentMember { group, member, .. } => {
                two(output, CONSUMER_CURRENT_MEMBER, group, member)
            }
            Self::ConsumerRegex { group, regex, .. } => two(output, CONSUMER_REGEX, group, regex),
        }
    }

    fn encode_value(&self, output: &mut Vec<u8>) -> Result<bool, RecordFormatError> {
        let written = match self {
            Self::OffsetCommit { value, .. } => value.as_ref().map(|value| value.encode(output)),
            Self::ClassicGroup { value, .. } => value.as_ref().map(|value| value.encode(output)),
            Self::ConsumerGroup { value, .. } => value.as_ref().map(|value| value.encode(output)),
            Self::ConsumerPartitionMetadata { exists, .. } => {
                exists.then(|| super::partition_metadata::encode(output))
            }
            Self::ConsumerMember { value, .. } => value.as_ref().map(|value| value.encode(output)),
            Self::ConsumerTargetEpoch { value, .. } => value.as_ref().map(|value| value.encode(output)),
            Self::ConsumerTargetMember { value, .. } => value
                .as_ref()
                .map(|value| consumer_target::encode_member(value, output)),
            Self::ConsumerCurrentMember { value, .. } => value.as_ref().map(|value| value.encode(output)),
            Self::ConsumerRegex { value, .. } => value.as_ref().map(|value| value.encode(output)),
        };
        written.transpose().map(|written| written.is_some())
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, RecordFormatError> {
        let mut key = Reader::new(key, RecordPart::Key);
        let value = value.map(|bytes| Reader::new(bytes, RecordPart::Value));
        let record = match key.i16()? {
            LEGACY_OFFSET_COMMIT | OFFSET_COMMIT => Self::OffsetCommit {
                group: key.string()?,
                topic: key.string()?,
                partition: key.i32()?,
                value: value.map(super::OffsetCommitValue::decode).transpose()?,
            },
            CLASSIC_GROUP => Self::ClassicGroup {
                group: key.string()?,
                value: value.map(super::ClassicGroupValue::decode).transpose()?,
            },
            CONSUMER_GROUP => Self::ConsumerGroup {
                group: key.string()?,
                value: value.map(super::ConsumerGroupValue::decode).transpose()?,
            },
            CONSUMER_PARTITION_METADATA => Self::ConsumerPartitionMetadata {
                group: key.string()?,
                exists: value.is_some(),
            },
            CONSUMER_MEMBER => Self::ConsumerMember {
                group: key.string()?,
                member: key.string()?,
                value: value.map(super::ConsumerMemberValue::decode).transpose()?,
            },
            CONSUMER_TARGET_EPOCH => Self::ConsumerTargetEpoch {
                group: key.string()?,
                value: value.map(super::ConsumerTargetEpochValue::decode).transpose()?,
            },
            CONSUMER_TARGET_MEMBER => Self::ConsumerTargetMember {
                group: key.string()?,
                member: key.string()?,
                value: value.map(consumer_target::decode_member).transpose()?,
            },
            CONSUMER_CURRENT_MEMBER => Self::ConsumerCurrentMember {
                group: key.string()?,
                member: key.string()?,
                value: value.map(super::ConsumerCurrentMemberValue::decode).transpose()?,
            },
            CONSUMER_REGEX => Self::ConsumerRegex {
                group: key.string()?,
                regex: key.string()?,
                value: value.map(super::ConsumerRegexValue::decode).transpose()?,
            },
            _ => return Ok(None),
        };
        key.end()?;
        Ok(Some(record))
    }
}

fn two(output: &mut Vec<u8>, kind: i16, group: &str, other: &str) -> Result<(), RecordFormatError> {
    let mut key = Writer::key(output, kind);
    key.string(group)?;
    key.string(other)
}
