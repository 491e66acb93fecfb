//! The coordinator of one transactional id, by Kafka's rules for both protocols of transactions, which fails on demand. It says also
//! which records count: those that a transaction brought, once it is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use log_core::model::TopicPartition;
use log_core::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use log_core::protocol::messages::api_versions_response::FinalizedFeatureKey;
use log_core::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use log_core::protocol::messages::{
    AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData, AddPartitionsToTxnRequestData,
    AddPartitionsToTxnResponseData, EndTxnRequestData, EndTxnResponseData, InitProducerIdRequestData,
    InitProducerIdResponseData, TxnOffsetCommitRequestData, TxnOffsetCommitResponseData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};
use log_core::record::batch::Batch;
use log_core::record::control::TransactionOutcome;

use super::fake_broker::{Fault, values_of};
use super::fake_group::FakeGroup;
use super::{Incoming, Reply};

/// A producer id and its epoch.
type Identity = (i64, i16);

pub(crate) struct FakeTransactions {
    /// The cluster's `transaction.version`; from 2 on each end of a transaction raises the epoch (KIP-890).
    pub level: i16,
    /// What happens to the next request of such an API.
    pub faults: VecDeque<(ApiKey, Fault)>,
    /// How each transaction ended.
    pub ended: Vec<TransactionOutcome>,
    /// The values that count.
    pub committed: Vec<String>,
    producer: Identity,
    phase: Phase,
    partitions: BTreeSet<TopicPartition>,
    values: Vec<String>,
    offsets: BTreeMap<TopicPartition, i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Ongoing,
    Complete(TransactionOutcome),
}

impl Default for FakeTransactions {
    fn default() -> Self {
        Self {
            level: 0,
            faults: VecDeque::new(),
            ended: Vec::new(),
            committed: Vec::new(),
            producer: (7, -1),
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            values: Vec::new(),
            offsets: BTreeMap::new(),
        }
    }
}

impl FakeTransactions {
    /// What the cluster has agreed on.
    pub(super) fn features(&self) -> Vec<FinalizedFeatureKey> {
        vec![FinalizedFeatureKey {
            name: KafkaString::from_static("transaction.version"),
            max_version_level: self.level,
            ..FinalizedFeatureKey::default()
        }]
    }

    /// The transaction lasts too long.
    pub(crate) fn time_out(&mut self) {
        assert!(self.phase == Phase::Ongoing, "there is none");
        self.finish(TransactionOutcome::Abort);
        if !self.raises_epochs() {
            self.producer.1 += 1;
        }
    }

    fn raises_epochs(&self) -> bool {
        2 <= self.level
    }

    pub(super) fn serve(&mut self, request: &Incoming, group: &mut FakeGroup) -> Reply {
        let place = self.faults.iter().position(|(api, _)| *api == request.api);
        let fault = place.and_then(|place| self.faults.remove(place));
        match fault.map_or(Fault::None, |(_, fault)| fault) {
            Fault::None => {
                let done = self.carry_out(request, group);
                self.answer(request, done)
            }
            Fault::Refuse(code) => self.answer(request, Err(code)),
            Fault::Pretend(code) => {
                self.carry_out(request, group).ok();
                self.answer(request, Err(code))
            }
            Fault::HangUpBefore => Reply::Close,
            Fault::HangUpAfter => {
                self.carry_out(request, group).ok();
                Reply::Close
            }
            Fault::Silence => {
                self.carry_out(request, group).ok();
                Reply::Nothing
            }
        }
    }

    fn carry_out(&mut self, request: &Incoming, group: &mut FakeGroup) -> Result<(), ErrorCode> {
        match request.api {
            ApiKey::InitProducerId => {
                let asked: InitProducerIdRequestData = request.read();
                self.initialize((asked.producer_id, asked.producer_epoch))
            }
            ApiKey::AddPartitionsToTxn => {
                let asked: AddPartitionsToTxnRequestData = request.read();
                let producer = (asked.v3_and_below_producer_id, asked.v3_and_below_producer_epoch);
                let topics = asked.v3_and_below_topics.iter();
                let partitions = topics.flat_map(|topic| {
                    let rows = topic.partitions.iter();
                    rows.map(|index| TopicPartition::new(topic.name.as_str(), *index))
                });
                self.add(producer, partitions.collect(), ErrorCode::ProducerFenced)
            }
            ApiKey::AddOffsetsToTxn => {
                let asked: AddOffsetsToTxnRequestData = request.read();
                let producer = (asked.producer_id, asked.producer_epoch);
                self.add(producer, vec![offsets_partition()], ErrorCode::ProducerFenced)
            }
            ApiKey::TxnOffsetCommit => {
                let asked: TxnOffsetCommitRequestData = request.read();
                self.admit((asked.producer_id, asked.producer_epoch), offsets_partition())?;
                if 0 <= asked.generation_id && !group.is_current(asked.generation_id) {
                    return Err(ErrorCode::StaleMemberEpoch);
                }
                for topic in &asked.topics {
                    for row in &topic.partitions {
                        let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                        self.offsets.insert(partition, row.committed_offset);
                    }
                }
                Ok(())
            }
            ApiKey::EndTxn => {
                let asked: EndTxnRequestData = request.read();
                let outcome = if asked.committed {
                    TransactionOutcome::Commit
                } else {
                    TransactionOutcome::Abort
                };
                self.end((asked.producer_id, asked.producer_epoch), outcome, group)
            }
            api => panic!("{api:?} is not about transactions"),
        }
    }

    fn initialize(&mut self, own: Identity) -> Result<(), ErrorCode> {
        if own != (-1, -1) && own != self.producer {
            return Err(ErrorCode::ProducerFenced);
        }
        if self.phase == Phase::Ongoing {
            self.finish(TransactionOutcome::Abort);
        }
        self.producer.1 += 1;
        self.phase = Phase::Empty;
        Ok(())
    }

    /// Makes partitions part of the transaction, and begins one if there is none.
    fn add(
        &mut self,
        producer: Identity,
        partitions: Vec<TopicPartition>,
        fenced: ErrorCode,
    ) -> Result<(), ErrorCode> {
        if producer != self.producer {
            return Err(fenced);
        }
        self.phase = Phase::Ongoing;
        self.partitions.extend(partitions);
        Ok(())
    }

    /// Whether this producer may write there in its transaction.
    fn admit(&mut self, producer: Identity, partition: TopicPartition) -> Result<(), ErrorCode> {
        if self.raises_epochs() {
            return self.add(producer, vec![partition], ErrorCode::InvalidProducerEpoch);
        }
        if producer != self.producer {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if !self.partitions.contains(&partition) {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(())
    }

    /// Whether this batch may be appended there. A plain one always may.
    pub(super) fn admit_batch(
        &mut self,
        partition: TopicPartition,
        records: &Bytes,
    ) -> Result<(), ErrorCode> {
        let header = *Batch::parse(records).unwrap().header();
        if !header.attributes.is_transactional() {
            return Ok(());
        }
        self.admit((header.producer_id.get(), header.producer_epoch.get()), partition)
    }

    /// This batch was appended.
    pub(super) fn wrote(&mut self, records: &Bytes) {
        if Batch::parse(records)
            .unwrap()
            .header()
            .attributes
            .is_transactional()
        {
            let values = values_of(records).into_iter();
            self.values
                .extend(values.map(|value| String::from_utf8(value).unwrap()));
        }
    }

    fn end(
        &mut self,
        asked: Identity,
        outcome: TransactionOutcome,
        group: &mut FakeGroup,
    ) -> Result<(), ErrorCode> {
        if asked.0 != self.producer.0 {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let is_current = asked == self.producer;
        let repeats = if self.raises_epochs() {
            asked.1 + 1 == self.producer.1
        } else {
            is_current
        };
        match self.phase {
            Phase::Complete(last) if repeats && last == outcome => Ok(()),
            Phase::Complete(_) if repeats => Err(ErrorCode::InvalidTxnState),
            _ if !is_current => Err(ErrorCode::ProducerFenced),
            Phase::Ongoing => {
                if outcome == TransactionOutcome::Commit {
                    self.committed.append(&mut self.values);
                    group.offsets.append(&mut self.offsets);
                }
                self.finish(outcome);
                Ok(())
            }
            Phase::Empty | Phase::Complete(_)
                if self.raises_epochs() && outcome == TransactionOutcome::Abort =>
            {
                self.producer.1 += 1;
                self.phase = Phase::Complete(outcome);
                Ok(())
            }
            Phase::Empty | Phase::Complete(_) => Err(ErrorCode::InvalidTxnState),
        }
    }

    fn finish(&mut self, outcome: TransactionOutcome) {
        self.ended.push(outcome);
        self.phase = Phase::Complete(outcome);
        self.partitions.clear();
        self.values.clear();
        self.offsets.clear();
        if self.raises_epochs() {
            self.producer.1 += 1;
        }
    }

    fn answer(&self, request: &Incoming, done: Result<(), ErrorCode>) -> Reply {
        let error_code = done.err().map_or(0, |code| code.code());
        let (producer_id, producer_epoch) = self.producer;
        match request.api {
            ApiKey::InitProducerId => request.answer(&InitProducerIdResponseData {
                error_code,
                producer_id,
                producer_epoch,
                ..InitProducerIdResponseData::default()
            }),
            ApiKey::AddPartitionsToTxn => {
                let asked: AddPartitionsToTxnRequestData = request.read();
                let topics = asked.v3_and_below_topics.into_iter();
                let topics = topics.map(|topic| AddPartitionsToTxnTopicResult {
                    name: topic.name,
                    results_by_partition: topic
                        .partitions
                        .into_iter()
                        .map(|partition_index| AddPartitionsToTxnPartitionResult {
                            partition_index,
                            partition_error_code: error_code,
                            ..AddPartitionsToTxnPartitionResult::default()
                        })
                        .collect(),
                    ..AddPartitionsToTxnTopicResult::default()
                });
                request.answer(&AddPartitionsToTxnResponseData {
                    results_by_topic_v3_and_below: topics.collect(),
                    ..AddPartitionsToTxnResponseData::default()
                })
            }
            ApiKey::AddOffsetsToTxn => request.answer(&AddOffsetsToTxnResponseData {
                error_code,
                ..AddOffsetsToTxnResponseData::default()
            }),
            ApiKey::TxnOffsetCommit => {
                let asked: TxnOffsetCommitRequestData = request.read();
                let topics = asked.topics.into_iter();
                let topics = topics.map(|topic| TxnOffsetCommitResponseTopic {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .iter()
                        .map(|row| TxnOffsetCommitResponsePartition {
                            partition_index: row.partition_index,
                            error_code,
                            ..TxnOffsetCommitResponsePartition::default()
                        })
                        .collect(),
                    ..TxnOffsetCommitResponseTopic::default()
                });
                request.answer(&TxnOffsetCommitResponseData {
                    topics: topics.collect(),
                    ..TxnOffsetCommitResponseData::default()
                })
            }
            _ => request.answer(&EndTxnResponseData {
                error_code,
                producer_id,
                producer_epoch,
                ..EndTxnResponseData::default()
            }),
        }
    }
}

/// Where the group's offsets stand.
fn offsets_partition() -> TopicPartition {
    TopicPartition::new("__consumer_offsets", 0)
}
