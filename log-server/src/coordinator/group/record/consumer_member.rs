//! The value of a KIP-848 member as it described itself.
//!
//! | field | bytes | remarks |
//! |---|---|---|
//! | instance id, rack id | strings, nullable | |
//! | client id, client host | strings | |
//! | subscribed topics | list of strings | |
//! | subscribed pattern | string, nullable | |
//! | rebalance timeout | 4 | |
//! | server assignor | string, nullable | |
//! | classic member | structure, nullable | tag 0; left out if null: the member speaks KIP-848 itself |
//! | · present | 1 | 1; −1 for null |
//! | · session timeout | 4 | |
//! | · protocols | list | each a name (string) and its metadata (bytes) |

use crate::coordinator::group::record::{ClassicMemberMetadata, ConsumerMemberValue};
use crate::coordinator::record::RecordFormatError;
use crate::coordinator::record::bytes::{Form, Reader, Writer};

impl ConsumerMemberValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, 0, Form::Flexible);
        value.nullable_string(self.instance_id.as_deref())?;
        value.nullable_string(self.rack_id.as_deref())?;
        value.string(&self.client_id)?;
        value.string(&self.client_host)?;
        value.list(&self.subscribed_topics, |value, topic| value.string(topic))?;
        value.nullable_string(self.subscribed_regex.as_deref())?;
        value.i32(self.rebalance_timeout_ms);
        value.nullable_string(self.server_assignor.as_deref())?;
        let Some(classic) = &self.classic else {
            value.no_tagged();
            return Ok(());
        };
        value.tagged(|field| {
            field.i8(1);
            field.i32(classic.session_timeout_ms);
            field.list(&classic.protocols, |field, (name, metadata)| {
                field.string(name)?;
                field.bytes(metadata)?;
                field.no_tagged();
                Ok(())
            })?;
            field.no_tagged();
            Ok(())
        })
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let mut value = value.only_version_0()?;
        let mut read = Self {
            instance_id: value.nullable_string()?,
            rack_id: value.nullable_string()?,
            client_id: value.string()?,
            client_host: value.string()?,
            subscribed_topics: value.list(1, Reader::string)?,
            subscribed_regex: value.nullable_string()?,
            rebalance_timeout_ms: value.i32()?,
            server_assignor: value.nullable_string()?,
            classic: None,
        };
        value.tagged(|tag, field| {
            if tag == 0 {
                read.classic = classic(field)?;
                field.end()?;
            }
            Ok(())
        })?;
        value.end()?;
        Ok(read)
    }
}

fn classic(field: &mut Reader<'_>) -> Result<Option<ClassicMemberMetadata>, RecordFormatError> {
    if field.i8()? < 0 {
        return Ok(None);
    }
    let read = ClassicMemberMetadata {
        session_timeout_ms: field.i32()?,
        protocols: field.list(3, |field| {
            let protocol = (field.string()?, field.bytes()?);
            field.no_tagged()?;
            Ok(protocol)
        })?,
    };
    field.no_tagged()?;
    Ok(Some(read))
}
