//! The two values of a KIP-848 group's target assignment: its epoch, and each member's partitions.
//!
//! | field | bytes | remarks |
//! |---|---|---|
//! | assignment epoch | 4 | |
//! | assignment timestamp | 8 | tag 0 (Kafka 4.3); left out if 0 |
//!
//! | field | bytes | remarks |
//! |---|---|---|
//! | topics | list | each as follows |
//! | · topic id | 16 | |
//! | · partitions | list of 4 bytes each | |

use crate::coordinator::group::record::{ConsumerTargetEpochValue, TopicPartitions};
use crate::coordinator::record::RecordFormatError;
use crate::coordinator::record::bytes::{Form, Reader, Writer};

/// A topic without partitions: id, length, tags.
const TOPIC_BYTES_MIN: usize = 18;

impl ConsumerTargetEpochValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, 0, Form::Flexible);
        value.i32(self.assignment_epoch);
        if self.assignment_timestamp_ms == 0 {
            value.no_tagged();
            return Ok(());
        }
        value.tagged(|field| {
            field.i64(self.assignment_timestamp_ms);
            Ok(())
        })
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let mut value = value.only_version_0()?;
        let mut read = Self {
            assignment_epoch: value.i32()?,
            assignment_timestamp_ms: 0,
        };
        value.tagged(|tag, field| {
            if tag == 0 {
                read.assignment_timestamp_ms = field.i64()?;
                field.end()?;
            }
            Ok(())
        })?;
        value.end()?;
        Ok(read)
    }
}

pub(super) fn encode_member(
    topics: &[TopicPartitions],
    output: &mut Vec<u8>,
) -> Result<(), RecordFormatError> {
    let mut value = Writer::value(output, 0, Form::Flexible);
    value.list(topics, |value, topic| {
        value.topic_id(topic.topic_id);
        value.numbers(&topic.partitions)?;
        value.no_tagged();
        Ok(())
    })?;
    value.no_tagged();
    Ok(())
}

pub(super) fn decode_member(value: Reader<'_>) -> Result<Vec<TopicPartitions>, RecordFormatError> {
    let mut value = value.only_version_0()?;
    let topics = value.list(TOPIC_BYTES_MIN, |value| {
        let topic = TopicPartitions {
            topic_id: value.topic_id()?,
            partitions: value.list(4, Reader::i32)?,
        };
        value.no_tagged()?;
        Ok(topic)
    })?;
    value.no_tagged()?;
    value.end()?;
    Ok(topics)
}
