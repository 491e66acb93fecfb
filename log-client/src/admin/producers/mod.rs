//! What partitions know of their producers, which transactions are open there, and ending one of them.
//!
//! A transaction *hangs* in a partition where it is open while no coordinator means to end it: readers of committed records wait
//! there for ever, and the cleaner too. It is found by asking the partition, then the coordinators, then the partition again: what was
//! open before and after a coordinator said that the partition is in none of its transactions will be ended by nobody.

use std::collections::BTreeSet;

use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicPartition};
use log_core::protocol::messages::describe_producers_request::TopicRequest;
use log_core::protocol::messages::describe_producers_response::ProducerState;
use log_core::protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use log_core::protocol::messages::{DescribeProducersRequestData, WriteTxnMarkersRequestData};
use log_core::protocol::{ApiKey, KafkaString};

use super::Admin;
use super::transactions::TransactionDescription;
use crate::by_leader::{Answers, Question, by_leader, by_topic};
use crate::error::{self, Result};
use crate::metadata::BrokerId;

/// So many partitions are asked about at once: each may tell of thousands of producers.
const PARTITIONS_AT_ONCE: usize = 500;

/// The coordinator epoch of a marker for a partition that no coordinator has written to: none is lower.
const FIRST_COORDINATOR_EPOCH: i32 = 0;

/// What a partition knows of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of its last record; [`Sequence::NONE`] if unknown.
    pub last_sequence: Sequence,
    /// When it last wrote.
    pub last_timestamp: TimestampMs,
    /// The epoch of the coordinator that ended its last transaction, if one did.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins.
    pub transaction_start: Option<Offset>,
}

/// A transaction that is open in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The partition.
    pub partition: TopicPartition,
    /// Where it begins.
    pub start: Offset,
    /// Whose it is.
    pub producer: ProducerDescription,
}

impl Admin {
    /// What partitions know of the producers that wrote to them lately; one result each, in their order.
    pub async fn describe_producers(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Vec<(TopicPartition, Result<Vec<ProducerDescription>>)> {
        let questions = partitions.into_iter().map(|partition| (partition, ()));
        by_leader(
            &self.cluster,
            ApiKey::DescribeProducers,
            questions.collect(),
            self.deadline(),
            |leader, questions| self.producers_on(leader, questions),
        )
        .await
    }

    async fn producers_on(
        &self,
        leader: BrokerId,
        questions: Vec<Question<()>>,
    ) -> Answers<Vec<ProducerDescription>> {
        let topics = by_topic(questions.into_iter().map(|asked| (asked.partition, ())));
        let topics = topics.into_iter().map(|(topic, rows)| TopicRequest {
            name: KafkaString::from(topic.to_string()),
            partition_indexes: rows.into_iter().map(|(index, ())| index).collect(),
            ..TopicRequest::default()
        });
        let request = DescribeProducersRequestData {
            topics: topics.collect(),
            ..DescribeProducersRequestData::default()
        };
        let response = self.cluster.call(leader, &request).await?;
        let mut answers = Vec::new();
        for topic in response.topics {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                let message = row.error_message.as_ref().map(KafkaString::as_str);
                let subject = partition.to_string();
                let checked = error::check(ApiKey::DescribeProducers, row.error_code, &subject, message);
                let producers = checked.map(|()| row.active_producers.iter().map(described).collect());
                answers.push((partition, producers));
            }
        }
        Ok(answers)
    }

    /// The transactions that are open in partitions.
    ///
    /// # Errors
    /// When one of the partitions gives no answer.
    pub async fn open_transactions(&self, partitions: &[TopicPartition]) -> Result<Vec<OpenTransaction>> {
        let mut open = Vec::new();
        for some in partitions.chunks(PARTITIONS_AT_ONCE) {
            for (partition, producers) in self.describe_producers(some.to_vec()).await {
                let begun = producers?.into_iter().filter_map(|producer| {
                    let start = producer.transaction_start?;
                    Some(OpenTransaction {
                        partition: partition.clone(),
                        start,
                        producer,
                    })
                });
                open.extend(begun);
            }
        }
        Ok(open)
    }

    /// The transactions in partitions that hang, of producers that have written nothing there since `silent_since`.
    ///
    /// # Errors
    /// When one of the partitions or a coordinator gives no answer.
    pub async fn hanging_transactions(
        &self,
        partitions: &[TopicPartition],
        silent_since: TimestampMs,
    ) -> Result<Vec<OpenTransaction>> {
        let mut open = self.open_transactions(partitions).await?;
        open.retain(|one| one.producer.last_timestamp < silent_since);
        if open.is_empty() {
            return Ok(open);
        }
        let producers = open.iter().map(|one| one.producer.producer_id);
        let known = self.transactions_of_producers(producers.collect()).await?;
        open.retain(|one| {
            let known = known.get(&one.producer.producer_id);
            !known.is_some_and(|known| known.partitions.contains(&one.partition))
        });
        let suspected: BTreeSet<_> = open.iter().map(|one| one.partition.clone()).collect();
        let suspected: Vec<_> = suspected.into_iter().collect();
        let still = self.open_transactions(&suspected).await?;
        open.retain(|one| still.contains(one));
        Ok(open)
    }

    /// The transaction that a coordinator means to end where this one is open, or nothing if it hangs.
    ///
    /// # Errors
    /// When a coordinator gives no answer.
    pub async fn coordinated_transaction(
        &self,
        open: &OpenTransaction,
    ) -> Result<Option<TransactionDescription>> {
        let producer_id = open.producer.producer_id;
        let mut known = self
            .transactions_of_producers(BTreeSet::from([producer_id]))
            .await?;
        let known = known.remove(&producer_id);
        Ok(known.filter(|known| known.partitions.contains(&open.partition)))
    }

    /// Aborts an open transaction in its partition, whatever a coordinator knows of it. Other partitions are left alone.
    ///
    /// # Errors
    /// The partition refuses: it knows newer epochs of the producer or the coordinator, or cannot be written.
    pub async fn abort_transaction(&self, open: &OpenTransaction) -> Result<()> {
        let request = WriteTxnMarkersRequestData {
            markers: vec![WritableTxnMarker {
                producer_id: open.producer.producer_id.get(),
                producer_epoch: open.producer.producer_epoch.get(),
                transaction_result: false,
                topics: vec![WritableTxnMarkerTopic {
                    name: KafkaString::from(open.partition.topic.to_string()),
                    partition_indexes: vec![open.partition.partition],
                    ..WritableTxnMarkerTopic::default()
                }],
                coordinator_epoch: open.producer.coordinator_epoch.unwrap_or(FIRST_COORDINATOR_EPOCH),
                ..WritableTxnMarker::default()
            }],
            ..WriteTxnMarkersRequestData::default()
        };
        let questions = vec![(open.partition.clone(), ())];
        let request = &request;
        let answers = by_leader(
            &self.cluster,
            ApiKey::WriteTxnMarkers,
            questions,
            self.deadline(),
            |leader, _| self.markers_on(leader, request),
        );
        answers.await.into_iter().try_for_each(|(_, answer)| answer)
    }

    async fn markers_on(&self, leader: BrokerId, request: &WriteTxnMarkersRequestData) -> Answers<()> {
        let response = self.cluster.call(leader, request).await?;
        let mut answers = Vec::new();
        for topic in response.markers.into_iter().flat_map(|marker| marker.topics) {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                let subject = partition.to_string();
                let checked = error::check(ApiKey::WriteTxnMarkers, row.error_code, &subject, None);
                answers.push((partition, checked));
            }
        }
        Ok(answers)
    }
}

fn described(row: &ProducerState) -> ProducerDescription {
    // The response has twice the width that an epoch has elsewhere.
    let epoch = i16::try_from(row.producer_epoch).map_or(ProducerEpoch::NONE, ProducerEpoch::new);
    ProducerDescription {
        producer_id: ProducerId::new(row.producer_id),
        producer_epoch: epoch,
        last_sequence: Sequence::new(row.last_sequence),
        last_timestamp: TimestampMs::new(row.last_timestamp),
        coordinator_epoch: Some(row.coordinator_epoch).filter(|epoch| 0 <= *epoch),
        transaction_start: Some(Offset::new(row.current_txn_start_offset))
            .filter(|start| Offset::ZERO <= *start),
    }
}

#[cfg(test)]
mod tests;
