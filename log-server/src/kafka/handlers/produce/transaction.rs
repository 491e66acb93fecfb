//! A producer's transaction, as a Produce request meets it: before its first batch on a partition is appended, the
//! coordinator is asked.
//!
//! | the partition | what is done |
//! |---|---|
//! | has a transaction of this producer and epoch open | nothing |
//! | has none | the coordinator is asked; for all partitions of the request at once |
//! | knows a newer epoch | `INVALID_PRODUCER_EPOCH` |
//!
//! Errors of the coordinator are translated as Kafka does: older producers retry `NOT_ENOUGH_REPLICAS` without looking for
//! another leader.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use log_core::model::{ProducerEpoch, ProducerId, TopicId, TransactionVersion};
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::ProduceRequestData;
use log_core::record::batch_header::BatchHeader;

use super::{Refusal, find};
use crate::kafka::admission::{AdmissionMode, AdmissionRequest, admit};
use crate::kafka::error_map::partition_error;
use crate::kafka::services::Services;
use crate::metadata::topic_name;
use crate::partition::partition::Partition;

/// The first version whose producers know `TRANSACTION_ABORTABLE`.
const ABORTABLE: i16 = 11;
/// The first version whose producers let the broker add partitions to their transaction.
const ADDS_PARTITIONS: i16 = 12;

/// Where a batch stands in the request: the topic's place and the partition's.
pub(super) type Place = (usize, usize);

/// What each transactional batch rests on, or why it is refused. Batches that need nothing are not in it.
#[derive(Debug, Default)]
pub(super) struct Proofs(HashMap<Place, Result<TransactionProof, ErrorCode>>);

impl Proofs {
    /// What the batch at a place rests on.
    pub(super) fn at(&self, place: Place) -> Result<&TransactionProof, Refusal> {
        match self.0.get(&place) {
            None => Ok(&TransactionProof::Ongoing),
            Some(Ok(proof)) => Ok(proof),
            Some(Err(error)) => Err((*error).into()),
        }
    }
}

/// Whether a request may have to wait for the coordinator.
pub(super) fn is_transactional(request: &ProduceRequestData) -> bool {
    request.transactional_id.is_some()
        && request
            .topic_data
            .iter()
            .flat_map(|topic| &topic.partition_data)
            .any(|partition| transactional(partition.records.as_ref()).is_some())
}

/// The header of a batch that belongs to a transaction. What cannot be read is refused later.
fn transactional(records: Option<&Bytes>) -> Option<BatchHeader> {
    let header = BatchHeader::parse(records?).ok()?;
    (header.attributes.is_transactional() && header.has_producer_id()).then_some(header)
}

/// A batch that waits for the coordinator's word.
struct Asked {
    place: Place,
    partition: Arc<Partition>,
    proof: TransactionProof,
}

/// What the batches of a request need, as far as their partitions know.
#[derive(Default)]
pub(super) struct Verification {
    proofs: Proofs,
    producer: Option<(ProducerId, ProducerEpoch)>,
    /// Those that the coordinator has to be asked about.
    asked: Vec<Asked>,
}

impl Verification {
    /// Asks the partitions.
    ///
    /// # Errors
    /// The request has batches of several producers.
    pub(super) fn begin(
        services: &Services,
        version: i16,
        request: &ProduceRequestData,
    ) -> Result<Self, ErrorCode> {
        let mut begun = Self::default();
        if request.transactional_id.is_none() {
            return Ok(begun);
        }
        for (topic_place, topic) in request.topic_data.iter().enumerate() {
            for (row, data) in topic.partition_data.iter().enumerate() {
                let Some(header) = transactional(data.records.as_ref()) else {
                    continue;
                };
                let this = (header.producer_id, header.producer_epoch);
                if *begun.producer.get_or_insert(this) != this {
                    return Err(ErrorCode::InvalidProducerIdMapping);
                }
                let id = TopicId::from(topic.topic_id);
                // An unknown partition is told where it is appended to, and one of the broker's own: nobody need know of those.
                let Ok(partition) = find(services, version, topic.name.as_str(), id, data.index) else {
                    continue;
                };
                if topic_name::is_internal(&partition.name().topic) {
                    continue;
                }
                let batch = TransactionalBatch {
                    producer_id: header.producer_id,
                    producer_epoch: header.producer_epoch,
                    base_sequence: header.base_sequence,
                    version: rules(version),
                };
                let place = (topic_place, row);
                match partition.start_verification(&batch) {
                    Ok(TransactionProof::Ongoing) => {}
                    Ok(proof) => begun.asked.push(Asked {
                        place,
                        partition,
                        proof,
                    }),
                    Err(error) => {
                        begun.proofs.0.insert(place, Err(partition_error(&error)));
                    }
                }
            }
        }
        Ok(begun)
    }

    /// Whether all that the batches rest on is known.
    pub(super) fn asks_nobody(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether the batches need no proofs either: none is refused.
    pub(super) fn finds_nothing(&self) -> bool {
        self.asks_nobody() && self.proofs.0.is_empty()
    }

    /// What the partitions said.
    pub(super) fn into_proofs(self) -> Proofs {
        self.proofs
    }

    /// What they said, and the coordinator of the rest: it is asked once, for all partitions of the request.
    pub(super) async fn ask(self, services: &Services, version: i16, request: &ProduceRequestData) -> Proofs {
        let Self {
            mut proofs,
            producer,
            asked,
        } = self;
        let (Some((producer_id, producer_epoch)), Some(transactional_id)) =
            (producer, &request.transactional_id)
        else {
            return proofs;
        };
        let partitions: Vec<_> = asked.iter().map(|one| one.partition.name().clone()).collect();
        let admission = AdmissionRequest {
            transactional_id: transactional_id.as_str(),
            producer_id,
            producer_epoch,
            partitions: &partitions,
            mode: mode(version),
        };
        let answers = admit(services, &admission).await;
        let told = asked.into_iter().zip(answers).map(|(one, answer)| {
            let proof = answer.map(|()| one.proof);
            (one.place, proof.map_err(|error| translated(error, version)))
        });
        proofs.0.extend(told);
        proofs
    }
}

fn mode(version: i16) -> AdmissionMode {
    if ADDS_PARTITIONS <= version {
        AdmissionMode::Add
    } else {
        AdmissionMode::Verify
    }
}

fn rules(version: i16) -> TransactionVersion {
    if ADDS_PARTITIONS <= version {
        TransactionVersion::V2
    } else {
        TransactionVersion::V1
    }
}

/// What a producer of this version is told of the coordinator's error.
fn translated(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if version < ADDS_PARTITIONS => ErrorCode::NotEnoughReplicas,
        ErrorCode::TransactionAbortable if version < ABORTABLE => ErrorCode::InvalidTxnState,
        // What producers expect of a leader.
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_told_what_they_expect_of_a_leader() {
        use ErrorCode as E;
        for (error, older, newer) in [
            (E::NotCoordinator, E::NotEnoughReplicas, E::NotEnoughReplicas),
            (
                E::CoordinatorLoadInProgress,
                E::NotEnoughReplicas,
                E::NotEnoughReplicas,
            ),
            (
                E::ConcurrentTransactions,
                E::NotEnoughReplicas,
                E::ConcurrentTransactions,
            ),
            (
                E::InvalidProducerEpoch,
                E::InvalidProducerEpoch,
                E::InvalidProducerEpoch,
            ),
            (
                E::ProducerFenced,
                E::InvalidProducerEpoch,
                E::InvalidProducerEpoch,
            ),
            (
                E::TransactionAbortable,
                E::TransactionAbortable,
                E::TransactionAbortable,
            ),
        ] {
            assert_eq!(translated(error, ADDS_PARTITIONS - 1), older);
            assert_eq!(translated(error, ADDS_PARTITIONS), newer);
        }
        let refused = translated(E::TransactionAbortable, ABORTABLE - 1);
        assert_eq!(refused, E::InvalidTxnState);
    }
}
