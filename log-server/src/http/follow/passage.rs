//! A stretch of one partition on its way out.
//! It has the records of a slice that are wanted, as they are sent.

use std::ops::ControlFlow;
use std::sync::Arc;

use log_core::model::Offset;

use super::event::Form;
use super::filter::Filter;
use super::position::Positions;
use crate::http::cursor::walk;
use crate::http::problem::Problem;
use crate::http::record_output::{Encodings, write_record};
use crate::partition::partition::PartitionSlice;

/// What is to be made of a slice.
pub(super) struct Passage {
    pub(super) form: Form,
    pub(super) filter: Arc<Filter>,
    pub(super) encodings: Encodings,
    pub(super) positions: Positions,
    pub(super) index: i32,
    /// Where the follower is done with the partition.
    pub(super) end: Option<Offset>,
    pub(super) records_max: u64,
    /// No further record is begun behind so many bytes.
    pub(super) bytes_max: usize,
}

/// What was made of it.
pub(super) struct Passed {
    pub(super) bytes: Vec<u8>,
    /// Behind the last record that was looked at.
    pub(super) next: Offset,
    pub(super) records: u64,
}

impl Passage {
    pub(super) fn make(mut self, slice: &PartitionSlice, from: Offset) -> Result<Passed, Problem> {
        // What surrounds a record is about as much again where records are small.
        let room = slice.records.len().saturating_mul(2).min(self.bytes_max);
        let (mut bytes, mut records) = (Vec::with_capacity(room), 0);
        let next = walk(slice, from, |record| {
            if self.end.is_some_and(|end| end <= record.offset) {
                return ControlFlow::Break(());
            }
            if self.filter.wants(record) {
                self.positions.set(self.index, record.offset.plus(1));
                self.form.write_record(&mut bytes, &self.positions, |output| {
                    write_record(output, record, Some(self.index), self.encodings);
                });
                records += 1;
            }
            if records == self.records_max || self.bytes_max <= bytes.len() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        // The walk goes on behind the record that it was stopped at; the one at the end was not sent, and must not be passed over.
        let next = self.end.map_or(next, |end| next.min(end));
        Ok(Passed { bytes, next, records })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use log_core::log::LogOffsets;
    use log_core::model::TimestampMs;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};

    use super::*;

    /// What is made of records 0 to 4: the next offset, and how many there are.
    fn made(end: Option<i64>, records_max: u64, bytes_max: usize) -> (i64, u64) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for _ in 0..5 {
            builder
                .append(TimestampMs::new(1), None, Some(b"x"), &[])
                .unwrap();
        }
        let slice = PartitionSlice {
            records: Bytes::from(builder.build().to_vec()),
            offsets: LogOffsets::at(Offset::new(5)),
            aborted: Vec::new(),
        };
        let passage = Passage {
            form: Form::Ndjson,
            filter: Arc::new(Filter::new(None, None, None, None).unwrap()),
            encodings: Encodings::default(),
            positions: Positions::default(),
            index: 0,
            end: end.map(Offset::new),
            records_max,
            bytes_max,
        };
        let passed = passage.make(&slice, Offset::ZERO).unwrap();
        assert_eq!(
            memchr::memchr_iter(b'\n', &passed.bytes).count() as u64,
            passed.records
        );
        (passed.next.get(), passed.records)
    }

    #[test]
    fn the_next_offset_is_behind_what_was_sent() {
        assert_eq!(made(None, u64::MAX, usize::MAX), (5, 5));
        assert_eq!(made(None, 2, usize::MAX), (2, 2));
        assert_eq!(made(None, u64::MAX, 1), (1, 1));
        // The log went on behind the end that the follower has.
        assert_eq!(made(Some(3), u64::MAX, usize::MAX), (3, 3));
        assert_eq!(made(Some(5), u64::MAX, usize::MAX), (5, 5));
    }
}
