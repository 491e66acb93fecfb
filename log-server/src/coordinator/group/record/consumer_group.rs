//! The value of a KIP-848 group.
//!
//! | field | bytes | remarks |
//! |---|---|---|
//! | epoch | 4 | |
//! | metadata hash | 8 | tag 0; left out if 0 |

use crate::coordinator::group::record::ConsumerGroupValue;
use crate::coordinator::record::RecordFormatError;
use crate::coordinator::record::bytes::{Form, Reader, Writer};

impl ConsumerGroupValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, 0, Form::Flexible);
        value.i32(self.epoch);
        if self.metadata_hash == 0 {
            value.no_tagged();
            return Ok(());
        }
        value.tagged(|field| {
            field.i64(self.metadata_hash);
            Ok(())
        })
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let mut value = value.only_version_0()?;
        let mut read = Self {
            epoch: value.i32()?,
            metadata_hash: 0,
        };
        value.tagged(|tag, field| {
            if tag == 0 {
                read.metadata_hash = field.i64()?;
                field.end()?;
            }
            Ok(())
        })?;
        value.end()?;
        Ok(read)
    }
}
