//! Records that were fetched and are handed out one by one.
//!
//! Invariant: no piece is empty, so that the first piece of a partition says where reading goes on.

use std::collections::VecDeque;

use log_core::model::{Offset, TopicPartition};

use crate::consumer::{ConsumerRecord, PartitionRecords};
use crate::error::Result;

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
struct Piece {
    partition: TopicPartition,
    records: std::vec::IntoIter<ConsumerRecord>,
}

impl Buffer {
    /// Takes the records of a fetch.
    pub(crate) fn push(&mut self, records: PartitionRecords) -> Result<()> {
        let partition = records.partition().clone();
        let records = records.into_records()?.into_iter();
        if !records.as_slice().is_empty() {
            self.pieces.push_back(Piece { partition, records });
        }
        Ok(())
    }

    /// The next record of a partition that is not held back.
    pub(crate) fn pop(&mut self, is_held: impl Fn(&TopicPartition) -> bool) -> Option<ConsumerRecord> {
        let place = self.pieces.iter().position(|piece| !is_held(&piece.partition))?;
        let piece = self.pieces.get_mut(place)?;
        let record = piece.records.next();
        if piece.records.as_slice().is_empty() {
            self.pieces.remove(place);
        }
        record
    }

    /// The next record of a partition, if it is here.
    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let piece = self.pieces.iter().find(|piece| piece.partition == *partition)?;
        piece.records.as_slice().first().map(|record| record.offset)
    }

    /// Where reading goes on in each partition that has records here.
    pub(crate) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        let mut positions: Vec<(TopicPartition, Offset)> = Vec::new();
        for piece in &self.pieces {
            let is_known = positions
                .iter()
                .any(|(partition, _)| *partition == piece.partition);
            if let Some(first) = piece.records.as_slice().first().filter(|_| !is_known) {
                positions.push((piece.partition.clone(), first.offset));
            }
        }
        positions
    }

    pub(crate) fn forget(&mut self, partition: &TopicPartition) {
        self.pieces.retain(|piece| piece.partition != *partition);
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }
}
