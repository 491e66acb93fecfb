//! The value of what a KIP-848 member has.
//!
//! | field | bytes | remarks |
//! |---|---|---|
//! | member epoch, epoch before | 4 each | |
//! | state | 1 | 0 stable, 1 has to give up, 2 waits for others, 127 unknown |
//! | assigned, pending revocation | two lists of topics | each topic as follows |
//! | · topic id | 16 | |
//! | · partitions | list of 4 bytes each | |
//! | · assignment epochs | list of 4 bytes each, nullable | tag 0 (Kafka 4.3); left out if empty |

use crate::coordinator::group::record::{AssignedPartitions, ConsumerCurrentMemberValue, MemberState};
use crate::coordinator::record::RecordFormatError;
use crate::coordinator::record::bytes::{Form, Reader, Writer};

/// A topic without partitions: id, length, tags.
const TOPIC_BYTES_MIN: usize = 18;

const STATES: [(i8, MemberState); 4] = [
    (0, MemberState::Stable),
    (1, MemberState::UnrevokedPartitions),
    (2, MemberState::UnreleasedPartitions),
    (i8::MAX, MemberState::Unknown),
];

fn state_number(state: MemberState) -> i8 {
    let row = STATES.iter().find(|(_, each)| *each == state);
    row.map_or(i8::MAX, |(number, _)| *number)
}

fn state_of(number: i8) -> MemberState {
    let row = STATES.iter().find(|(each, _)| *each == number);
    row.map_or(MemberState::Unknown, |(_, state)| *state)
}

impl ConsumerCurrentMemberValue {
    pub(super) fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, 0, Form::Flexible);
        value.i32(self.member_epoch);
        value.i32(self.previous_member_epoch);
        value.i8(state_number(self.state));
        encode_topics(&mut value, &self.assigned)?;
        encode_topics(&mut value, &self.pending_revocation)?;
        value.no_tagged();
        Ok(())
    }

    pub(super) fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let mut value = value.only_version_0()?;
        let read = Self {
            member_epoch: value.i32()?,
            previous_member_epoch: value.i32()?,
            state: state_of(value.i8()?),
            assigned: decode_topics(&mut value)?,
            pending_revocation: decode_topics(&mut value)?,
        };
        value.no_tagged()?;
        value.end()?;
        Ok(read)
    }
}

fn encode_topics(value: &mut Writer<'_>, topics: &[AssignedPartitions]) -> Result<(), RecordFormatError> {
    value.list(topics, |value, topic| {
        value.topic_id(topic.topic_id);
        value.numbers(&topic.partitions)?;
        if topic.assignment_epochs.is_empty() {
            value.no_tagged();
            return Ok(());
        }
        value.tagged(|field| field.numbers(&topic.assignment_epochs))
    })
}

fn decode_topics(value: &mut Reader<'_>) -> Result<Vec<AssignedPartitions>, RecordFormatError> {
    value.list(TOPIC_BYTES_MIN, |value| {
        let mut topic = AssignedPartitions {
            topic_id: value.topic_id()?,
            partitions: value.list(4, Reader::i32)?,
            assignment_epochs: Vec::new(),
        };
        value.tagged(|tag, field| {
            if tag == 0 {
                topic.assignment_epochs = field.nullable_list(4, Reader::i32)?.unwrap_or_default();
                field.end()?;
            }
            Ok(())
        })?;
        Ok(topic)
    })
}
