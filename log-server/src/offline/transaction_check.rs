//! Which transactions were aborted, by the log alone: what the indexes of aborted transactions are compared with.
//!
//! A transaction may have begun below the first segment, and damage or compaction may have taken a marker or a first batch; then
//! an index may know more than the log.

use std::collections::HashMap;

use log_core::model::{Offset, ProducerId};
use log_core::record::batch_header::BatchHeader;
use log_core::record::control::TransactionOutcome;

/// The end of a transaction whose records are as if they had not been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortMarker {
    /// Whose transaction it was.
    pub producer_id: ProducerId,
    /// Where the marker stands.
    pub offset: Offset,
    /// Its first record that is still there and readable, if any is.
    pub first_offset: Option<Offset>,
    /// The log's last stable offset when it was written, as far as the log tells.
    pub last_stable_offset: Offset,
    /// Whether all that was written until then is still there.
    pub is_exact: bool,
}

/// The transactions that are open where a walk over the log has come to.
#[derive(Debug)]
pub struct TransactionCheck {
    open: HashMap<ProducerId, Offset>,
    /// The offset behind the last batch, as long as nothing is missing before it.
    next: Option<Offset>,
}

impl Default for TransactionCheck {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            next: Some(Offset::ZERO),
        }
    }
}

impl TransactionCheck {
    /// Takes in a batch; one that holds a marker before that.
    pub fn batch(&mut self, header: &BatchHeader) {
        let is_whole = self.next == Some(header.base_offset) && 0 < header.record_count;
        self.next = is_whole.then(|| header.next_offset());
        let attributes = header.attributes;
        if attributes.is_transactional() && !attributes.is_control() && header.has_producer_id() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
        }
    }

    /// Takes in a marker at `offset`, and returns it if it aborts.
    pub fn marker(
        &mut self,
        producer_id: ProducerId,
        offset: Offset,
        outcome: TransactionOutcome,
    ) -> Option<AbortMarker> {
        let first_offset = self.open.remove(&producer_id);
        let others = self.open.values().copied().min();
        (outcome == TransactionOutcome::Abort).then_some(AbortMarker {
            producer_id,
            offset,
            first_offset,
            last_stable_offset: others.unwrap_or(offset.plus(1)),
            is_exact: self.next.is_some(),
        })
    }

    /// Forgets what was open: behind damage nobody knows whether it still is.
    pub fn lose(&mut self) {
        self.open.clear();
        self.next = None;
    }
}
