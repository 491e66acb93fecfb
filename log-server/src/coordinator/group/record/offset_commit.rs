//! The value of a committed offset.
//!
//! | field | bytes | versions | remarks |
//! |---|---|---|---|
//! | offset | 8 | 0– | the next to read |
//! | leader epoch | 4 | 3– | −1 if unknown |
//! | metadata | string | 0– | flexible from 4 |
//! | commit timestamp | 8 | 0– | |
//! | expire timestamp | 8 | 1 | −1 without one |
//! | topic id | 16 | 4–, tag 0 | left out if unknown |

use log_core::model::TopicId;

use crate::coordinator::group::record::OffsetCommitValue;
use crate::coordinator::record::bytes::{Form, Reader, Writer};
use crate::coordinator::record::{FormatProblem, RecordFormatError};

/// The version with an expiry; it has no room for a leader epoch or a topic id, which clients that give an expiry do not know.
const WITH_EXPIRY: i16 = 1;
const WRITTEN: i16 = 4;

impl OffsetCommitValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        if let Some(expire_timestamp_ms) = self.expire_timestamp_ms {
            let mut value = Writer::value(output, WITH_EXPIRY, Form::Plain);
            value.i64(self.offset);
            value.string(&self.metadata)?;
            value.i64(self.commit_timestamp_ms);
            value.i64(expire_timestamp_ms);
            return Ok(());
        }
        let mut value = Writer::value(output, WRITTEN, Form::Flexible);
        value.i64(self.offset);
        value.i32(self.leader_epoch);
        value.string(&self.metadata)?;
        value.i64(self.commit_timestamp_ms);
        if self.topic_id == TopicId::ZERO {
            value.no_tagged();
            return Ok(());
        }
        value.tagged(|field| {
            field.topic_id(self.topic_id);
            Ok(())
        })
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let (version, mut value) = value.version(4)?;
        if !(0..=4).contains(&version) {
            return Err(value.refuse(FormatProblem::UnknownVersion(version)));
        }
        let mut read = Self {
            offset: value.i64()?,
            leader_epoch: if 3 <= version { value.i32()? } else { -1 },
            metadata: value.string()?,
            commit_timestamp_ms: value.i64()?,
            expire_timestamp_ms: None,
            topic_id: TopicId::ZERO,
        };
        if version == WITH_EXPIRY {
            read.expire_timestamp_ms = Some(value.i64()?).filter(|expiry| *expiry != -1);
        }
        value.tagged(|tag, field| {
            if tag == 0 {
                read.topic_id = field.topic_id()?;
                field.end()?;
            }
            Ok(())
        })?;
        value.end()?;
        Ok(read)
    }
}
