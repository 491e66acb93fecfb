//! What a cleaning must know of transactions, collected while it walks over the log in order.
//!
//! Records of an aborted transaction go, whatever their keys. A marker may go when no batch of its transaction is left;
//! until then readers need it: of an abort to leave the records out, of a commit to know that the transaction ended.
//! The rules are Kafka's.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::index::transaction_index::AbortedTransaction;
use crate::model::{Offset, ProducerId};
use crate::record::batch_header::BatchHeader;
use crate::record::control::TransactionOutcome;

/// The transactions that a walk has met.
#[derive(Debug, Default)]
pub(super) struct CleanedTransactions {
    /// Aborted ones that the walk has not reached, by first offset.
    ahead: BTreeMap<(Offset, ProducerId), AbortedTransaction>,
    /// The aborted ones that it stands in, and whether a batch of them was met.
    aborted: HashMap<ProducerId, (AbortedTransaction, bool)>,
    /// Producers of which a batch was met that is not aborted, and no marker yet.
    committed: HashSet<ProducerId>,
    /// Aborted ones whose marker stays, for the index of the segment that is being written.
    kept: Vec<AbortedTransaction>,
}

impl CleanedTransactions {
    /// A walk that begins at `from`; `aborted` are those that may end in what it will see, or behind it.
    pub(super) fn new(aborted: &[AbortedTransaction], from: Offset) -> Self {
        let ahead = aborted
            .iter()
            .filter(|one| from <= one.last_offset)
            .map(|one| ((one.first_offset, one.producer_id), *one));
        Self {
            ahead: ahead.collect(),
            ..Self::default()
        }
    }

    /// A batch of records. Answers whether its transaction was aborted.
    pub(super) fn meet_batch(&mut self, header: &BatchHeader) -> bool {
        self.reach(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        if let Some((_, was_met)) = self.aborted.get_mut(&header.producer_id) {
            *was_met = true;
            return true;
        }
        self.committed.insert(header.producer_id);
        false
    }

    /// A control batch, with the outcome that it tells. Answers whether nothing of its transaction is left.
    pub(super) fn meet_control(&mut self, header: &BatchHeader, marker: ControlBatch) -> bool {
        self.reach(header.last_offset());
        match marker {
            ControlBatch::Marker(TransactionOutcome::Abort) => match self.aborted.remove(&header.producer_id)
            {
                Some((transaction, true)) => {
                    self.kept.push(transaction);
                    false
                }
                Some((_, false)) | None => true,
            },
            ControlBatch::Marker(TransactionOutcome::Commit) => !self.committed.remove(&header.producer_id),
            ControlBatch::Empty => true,
            ControlBatch::Other => false,
        }
    }

    /// The aborted transactions whose markers were kept since the last call.
    pub(super) fn take_kept(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.kept)
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(next) = self.ahead.first_entry().filter(|next| next.key().0 <= offset) {
            let transaction = next.remove();
            let entry = self.aborted.entry(transaction.producer_id);
            entry.or_insert((transaction, false));
        }
    }
}

/// What a control batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlBatch {
    /// The end of a transaction.
    Marker(TransactionOutcome),
    /// Nothing any more: a cleaning took it.
    Empty,
    /// Something else, which is none of ours.
    Other,
}
