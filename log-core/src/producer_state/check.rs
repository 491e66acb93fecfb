//! What is checked before a batch is written: epoch, sequence, and whether it belongs to a transaction.
//!
//! The rules are Kafka's, and so is their order, because it decides which error a client sees. Nothing is changed here.

use super::entry::ProducerStateEntry;
use super::manager::{ProducerStateError, ProducerStateManager, Verdict};
use super::verification::{TransactionProof, VerificationState};
use crate::model::{ProducerEpoch, Sequence, TransactionVersion};
use crate::record::batch_header::BatchHeader;
use crate::record::control::EndTransactionMarker;

impl ProducerStateManager {
    /// Checks a client's batch before it is written.
    ///
    /// | epoch of the batch | sequence | verdict |
    /// |---|---|---|
    /// | no producer id | | new |
    /// | the present one | first and last as one of the last five batches | duplicate |
    /// | older | | invalid producer epoch |
    /// | any, of a transaction | without proof that it belongs to one | unverified |
    /// | any, under verification | higher than the lowest seen | out of order |
    /// | any, under verification by version 2, no batch known | other than 0 | out of order |
    /// | no state, or the state has no epoch | any | new |
    /// | newer | 0 | new |
    /// | newer | other | out of order |
    /// | the present one | the next, or 0 when no batch of the epoch is known | new |
    /// | the present one | other | out of order |
    ///
    /// What is new must moreover belong to the transaction, if the producer has one open.
    ///
    /// # Errors
    /// [`ProducerStateError`], all but the one of markers.
    pub fn check(
        &self,
        header: &BatchHeader,
        proof: &TransactionProof,
    ) -> Result<Verdict, ProducerStateError> {
        if !header.has_producer_id() {
            return Ok(Verdict::New);
        }
        let unknown = ProducerStateEntry::new();
        let entry = self.producers.get(&header.producer_id).unwrap_or(&unknown);
        if let Some(batch) = entry.duplicate_of(header) {
            return Ok(Verdict::Duplicate {
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            });
        }
        check_epoch(entry, header)?;
        let verification = self.check_proof(entry, header, proof)?;
        check_sequence(entry, header, verification)?;
        check_transaction(entry, header)?;
        Ok(Verdict::New)
    }

    /// Checks a batch that a coordinator writes in a producer's name (offsets within a transaction): such batches have
    /// no sequence.
    ///
    /// # Errors
    /// An older epoch, a batch outside the producer's transaction, or one that is not known to belong to it.
    pub fn check_unsequenced(
        &self,
        header: &BatchHeader,
        proof: &TransactionProof,
    ) -> Result<(), ProducerStateError> {
        if !header.has_producer_id() {
            return Ok(());
        }
        let unknown = ProducerStateEntry::new();
        let entry = self.producers.get(&header.producer_id).unwrap_or(&unknown);
        check_epoch(entry, header)?;
        self.check_proof(entry, header, proof)?;
        check_transaction(entry, header)
    }

    /// Whether a transactional batch belongs to a transaction. Returns the verification that it rests on.
    fn check_proof(
        &self,
        entry: &ProducerStateEntry,
        header: &BatchHeader,
        proof: &TransactionProof,
    ) -> Result<Option<&VerificationState>, ProducerStateError> {
        if !header.attributes.is_transactional() || entry.has_open_transaction(header.producer_epoch) {
            return Ok(None);
        }
        let state = self.verifications.get(header.producer_id);
        match (state, proof) {
            (Some(state), TransactionProof::Verified(guard)) if state.guard == *guard => Ok(Some(state)),
            _ => Err(ProducerStateError::UnverifiedTransaction {
                producer_id: header.producer_id,
            }),
        }
    }

    /// Checks the batch of a transaction marker before it is written.
    ///
    /// | version | epoch of the marker | transaction | verdict |
    /// |---|---|---|---|
    /// | any | older | | invalid producer epoch |
    /// | 1 | the present one, or newer | | good |
    /// | 2 | newer | | good |
    /// | 2 | the present one | open | invalid producer epoch: it is of the transaction before |
    /// | 2 | the present one | none: the marker is written again | good |
    /// | 2 | the present one, the last of all: it cannot rise | open | good |
    ///
    /// # Errors
    /// An older epoch of the producer, or of the coordinator.
    pub fn check_marker(
        &self,
        header: &BatchHeader,
        marker: EndTransactionMarker,
        version: TransactionVersion,
    ) -> Result<(), ProducerStateError> {
        let Some(entry) = self.producers.get(&header.producer_id) else {
            return Ok(());
        };
        check_epoch(entry, header)?;
        let is_late = TransactionVersion::V2 <= version
            && header.producer_epoch == entry.producer_epoch
            && entry.transaction_first_offset.is_some()
            && header.producer_epoch != ProducerEpoch::LAST;
        if is_late {
            return Err(ProducerStateError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                current: entry.producer_epoch,
                found: header.producer_epoch,
            });
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            return Err(ProducerStateError::CoordinatorFenced {
                producer_id: header.producer_id,
                current: entry.coordinator_epoch,
                found: marker.coordinator_epoch,
            });
        }
        Ok(())
    }
}

fn check_epoch(entry: &ProducerStateEntry, header: &BatchHeader) -> Result<(), ProducerStateError> {
    let (current, found) = (entry.producer_epoch, header.producer_epoch);
    if found < current || found < ProducerEpoch::new(0) {
        return Err(ProducerStateError::InvalidProducerEpoch {
            producer_id: header.producer_id,
            current,
            found,
        });
    }
    Ok(())
}

fn check_sequence(
    entry: &ProducerStateEntry,
    header: &BatchHeader,
    verification: Option<&VerificationState>,
) -> Result<(), ProducerStateError> {
    let is_same_epoch = entry.producer_epoch == header.producer_epoch;
    let last = if is_same_epoch {
        entry.last_sequence()
    } else {
        Sequence::NONE
    };
    let found = header.base_sequence;
    let can_begin = verification.is_none_or(|state| {
        let must_be_first = TransactionVersion::V2 <= state.version && entry.last_batch().is_none();
        found <= state.lowest_sequence && (!must_be_first || found == Sequence::new(0))
    });
    if can_begin && (entry.producer_epoch == ProducerEpoch::NONE || follows(last, found)) {
        return Ok(());
    }
    Err(ProducerStateError::OutOfOrderSequence {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        last,
        found,
    })
}

/// Whether `next` is the sequence after `last`; 0 is the one after the last of all, and after none.
fn follows(last: Sequence, next: Sequence) -> bool {
    next.get() == last.get().checked_add(1).unwrap_or(0)
}

fn check_transaction(entry: &ProducerStateEntry, header: &BatchHeader) -> Result<(), ProducerStateError> {
    match entry.transaction_first_offset {
        Some(first_offset) if !header.attributes.is_transactional() => {
            Err(ProducerStateError::InvalidTransactionState {
                producer_id: header.producer_id,
                first_offset,
            })
        }
        _ => Ok(()),
    }
}
