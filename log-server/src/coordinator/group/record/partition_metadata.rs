//! What partitions a KIP-848 group's topics had, as Kafka wrote it before 4.1. Ours never wrote any; it is not looked into,
//! and its tombstones are all that matters. A value is written as an empty list of topics.

use crate::coordinator::record::RecordFormatError;
use crate::coordinator::record::bytes::{Form, Writer};

pub(super) fn encode(output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
    let mut value = Writer::value(output, 0, Form::Flexible);
    value.list(&[(); 0], |_, ()| Ok(()))?;
    value.no_tagged();
    Ok(())
}
