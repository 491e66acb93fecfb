//! The value of what a pattern of a KIP-848 group matched.
//!
//! | field | bytes | remarks |
//! |---|---|---|
//! | topics | list of strings | |
//! | version | 8 | of the topics, when they were looked through |
//! | timestamp | 8 | when that was |

use crate::coordinator::group::record::ConsumerRegexValue;
use crate::coordinator::record::RecordFormatError;
use crate::coordinator::record::bytes::{Form, Reader, Writer};

impl ConsumerRegexValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, 0, Form::Flexible);
        value.list(&self.topics, |value, topic| value.string(topic))?;
        value.i64(self.version);
        value.i64(self.timestamp_ms);
        value.no_tagged();
        Ok(())
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let mut value = value.only_version_0()?;
        let read = Self {
            topics: value.list(1, Reader::string)?,
            version: value.i64()?,
            timestamp_ms: value.i64()?,
        };
        value.no_tagged()?;
        value.end()?;
        Ok(read)
    }
}
