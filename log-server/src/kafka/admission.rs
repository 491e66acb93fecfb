//! What is asked of the transaction coordinator before a batch may begin a transaction on a partition (KIP-890).
//!
//! | the producer | asks for | the coordinator |
//! |---|---|---|
//! | added its partitions before (`AddPartitionsToTxn`) | [`AdmissionMode::Verify`] | says whether the partition is part of the transaction |
//! | writes by transaction version 2 | [`AdmissionMode::Add`] | makes it part, durably, before it answers |

use log_core::model::{ProducerEpoch, ProducerId, TopicPartition};
use log_core::protocol::ErrorCode;

use crate::coordinator::runtime::transaction_coordinator::Admission;
use crate::coordinator::transaction::context::ProducerIdentity;
use crate::coordinator::transaction::end::EPOCH_BUMP;
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::partitions::Admitted;
use crate::kafka::error_map::transaction_error;
use crate::kafka::services::Services;

/// What the coordinator is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmissionMode {
    /// To look.
    Verify,
    /// To add.
    Add,
}

/// Which partitions a producer wants to write to in its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdmissionRequest<'a> {
    /// The producer's name.
    pub(crate) transactional_id: &'a str,
    /// Its id.
    pub(crate) producer_id: ProducerId,
    /// Its epoch.
    pub(crate) producer_epoch: ProducerEpoch,
    /// Where it wants to write.
    pub(crate) partitions: &'a [TopicPartition],
    /// What the coordinator shall do.
    pub(crate) mode: AdmissionMode,
}

/// Asks the coordinator; the answers stand in the order of the partitions.
pub(crate) async fn admit(services: &Services, request: &AdmissionRequest<'_>) -> Vec<Result<(), ErrorCode>> {
    let producer = ProducerIdentity {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let admission = match request.mode {
        AdmissionMode::Verify => Admission::Verify,
        AdmissionMode::Add => Admission::Add {
            client_version: EPOCH_BUMP,
        },
    };
    let asked = request.partitions.iter().cloned().collect();
    let admitted = services
        .transactions
        .admit(request.transactional_id, producer, asked, admission)
        .await;
    let answer = |place: &TopicPartition| match &admitted {
        Err(error) => Err(transaction_error(error)),
        Ok(rows) => match verdict_on(rows, &place.topic, place.partition) {
            Some(verdict) => verdict.as_ref().copied().map_err(transaction_error),
            None => Err(ErrorCode::UnknownServerError),
        },
    };
    request.partitions.iter().map(answer).collect()
}

/// What the coordinator says of one partition. Its rows are those of a set, and so in order: a request may name hundreds of thousands.
pub(crate) fn verdict_on<'a>(
    rows: &'a [Admitted],
    topic: &str,
    partition: i32,
) -> Option<&'a Result<(), TransactionError>> {
    let place = rows.binary_search_by(|(row, _)| (&*row.topic, row.partition).cmp(&(topic, partition)));
    rows.get(place.ok()?).map(|(_, verdict)| verdict)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_partition_hears_its_own_verdict() {
        let places = [("b", 2), ("a", 10), ("a", 9), ("ab", 0), ("b", -1)];
        let named: BTreeSet<_> = places
            .map(|(topic, index)| TopicPartition::new(topic, index))
            .into();
        let verdict = |place: TopicPartition| {
            let refused = place.partition == 10;
            let verdict = if refused {
                Err(TransactionError::TransactionAbortable)
            } else {
                Ok(())
            };
            (place, verdict)
        };
        let rows: Vec<_> = named.into_iter().map(verdict).collect();
        for (topic, index) in places {
            let verdict = verdict_on(&rows, topic, index).expect("it was asked for");
            assert_eq!(verdict.is_err(), index == 10, "{topic}-{index}");
        }
        for (topic, index) in [("a", 0), ("b", 10), ("c", 0)] {
            assert!(verdict_on(&rows, topic, index).is_none(), "{topic}-{index}");
        }
    }
}
