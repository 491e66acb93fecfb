//! The value of a classic group.
//!
//! | field | bytes | versions | remarks |
//! |---|---|---|---|
//! | protocol type | string | 0– | |
//! | generation | 4 | 0– | |
//! | protocol | string, nullable | 0– | |
//! | leader | string, nullable | 0– | |
//! | state timestamp | 8 | 2– | −1 if unknown |
//! | members | list | 0– | each as follows |
//! | · member id | string | 0– | |
//! | · instance id | string, nullable | 3– | |
//! | · client id, client host | strings | 0– | |
//! | · rebalance timeout | 4 | 1– | read as the session timeout before |
//! | · session timeout | 4 | 0– | |
//! | · subscription, assignment | bytes | 0– | |
//!
//! Strings, bytes and lists are flexible from version 4, which is read and not written.

use crate::coordinator::group::record::{ClassicGroupValue, ClassicMemberValue};
use crate::coordinator::record::bytes::{Form, Reader, Writer};
use crate::coordinator::record::{FormatProblem, RecordFormatError};

const WRITTEN: i16 = 3;
/// A member of version 0 of which everything is empty.
const MEMBER_BYTES_MIN: usize = 10;

impl ClassicGroupValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, WRITTEN, Form::Plain);
        value.string(&self.protocol_type)?;
        value.i32(self.generation);
        value.nullable_string(self.protocol.as_deref())?;
        value.nullable_string(self.leader.as_deref())?;
        value.i64(self.state_timestamp_ms);
        value.list(&self.members, |value, member| {
            value.string(&member.member_id)?;
            value.nullable_string(member.instance_id.as_deref())?;
            value.string(&member.client_id)?;
            value.string(&member.client_host)?;
            value.i32(member.rebalance_timeout_ms);
            value.i32(member.session_timeout_ms);
            value.bytes(&member.subscription)?;
            value.bytes(&member.assignment)
        })
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let (version, mut value) = value.version(4)?;
        if !(0..=4).contains(&version) {
            return Err(value.refuse(FormatProblem::UnknownVersion(version)));
        }
        let read = Self {
            protocol_type: value.string()?,
            generation: value.i32()?,
            protocol: value.nullable_string()?,
            leader: value.nullable_string()?,
            state_timestamp_ms: if 2 <= version { value.i64()? } else { -1 },
            members: value.list(MEMBER_BYTES_MIN, |value| member(value, version))?,
        };
        value.no_tagged()?;
        value.end()?;
        Ok(read)
    }
}

fn member(value: &mut Reader<'_>, version: i16) -> Result<ClassicMemberValue, RecordFormatError> {
    let member_id = value.string()?;
    let instance_id = if 3 <= version {
        value.nullable_string()?
    } else {
        None
    };
    let client_id = value.string()?;
    let client_host = value.string()?;
    let rebalance_timeout_ms = if 1 <= version { Some(value.i32()?) } else { None };
    let session_timeout_ms = value.i32()?;
    let read = ClassicMemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms
            .filter(|timeout| *timeout != -1)
            .unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: value.bytes()?,
        assignment: value.bytes()?,
    };
    value.no_tagged()?;
    Ok(read)
}
