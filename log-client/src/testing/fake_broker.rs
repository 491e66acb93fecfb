//! A small working broker: topics in memory, Kafka's rules for producer ids and sequences, and faults on
//! demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use log_core::model::{LeaderEpoch, Offset, Sequence, TopicId, TopicPartition};
use log_core::protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use log_core::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use log_core::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use log_core::protocol::messages::{
    ApiVersionsResponseData, FetchRequestData, FetchResponseData, InitProducerIdRequestData,
    InitProducerIdResponseData, ListOffsetsRequestData, ListOffsetsResponseData, MetadataRequestData,
    MetadataResponseData, ProduceRequestData, ProduceResponseData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};
use log_core::record::batch::Batch;
use parking_lot::Mutex;

use super::fake_group::FakeGroup;
use super::fake_transactions::FakeTransactions;
use super::{Incoming, Reply, ScriptedBroker, all_versions};

/// What happens to one batch of a produce request, or to one request about transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is treated as it deserves.
    None,
    /// It is refused without being looked at, unless it is there already.
    Refuse(ErrorCode),
    /// It is treated as it deserves, and then this is answered.
    Pretend(ErrorCode),
    /// The connection is closed before the request is looked at.
    HangUpBefore,
    /// The connection is closed with the request carried out.
    HangUpAfter,
    /// The request is carried out and never answered.
    Silence,
}

type FaultPlan = Box<dyn FnMut(&str, i32, usize) -> Fault + Send>;

/// A broker with number 1.
pub(crate) struct FakeBroker {
    broker: ScriptedBroker,
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    pub topics: BTreeMap<String, FakeTopic>,
    next_producer_id: i64,
    /// Asked about each batch: topic, partition and how many batches came before.
    pub fault: FaultPlan,
    /// Batches that were sent, whatever became of them.
    pub batches_seen: usize,
    pub requests: Vec<(ApiKey, i16)>,
    pub batch_bytes_max: usize,
    /// Answers each fetch with this error, as long as there are some.
    pub fetch_errors: VecDeque<ErrorCode>,
    /// Answers metadata requests with this error for each topic.
    pub topic_error: Option<ErrorCode>,
    /// Answers metadata requests with these errors for these topics.
    pub topics_refused: BTreeMap<&'static str, ErrorCode>,
    /// The names in each metadata request.
    pub topics_asked: Vec<Vec<String>>,
    /// The one group that it keeps.
    pub group: FakeGroup,
    /// The one transactional id that it knows.
    pub transactions: FakeTransactions,
}

#[derive(Default)]
pub(crate) struct FakeTopic {
    pub id: TopicId,
    pub partitions: Vec<FakePartition>,
}

#[derive(Default)]
pub(crate) struct FakePartition {
    /// The batches, each with its offsets.
    pub batches: Vec<(i64, i64, Bytes)>,
    pub log_start: i64,
    pub log_end: i64,
    producers: HashMap<i64, FakeProducer>,
}

struct FakeProducer {
    epoch: i16,
    /// First and last sequence and base offset of the last five batches.
    recent: VecDeque<(Sequence, Sequence, i64)>,
}

impl FakeBroker {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            topics: BTreeMap::new(),
            next_producer_id: 1000,
            fault: Box::new(|_, _, _| Fault::None),
            batches_seen: 0,
            requests: Vec::new(),
            batch_bytes_max: 1 << 20,
            fetch_errors: VecDeque::new(),
            topic_error: None,
            topics_refused: BTreeMap::new(),
            topics_asked: Vec::new(),
            group: FakeGroup::default(),
            transactions: FakeTransactions::default(),
        }));
        let shared = Arc::clone(&state);
        let broker = ScriptedBroker::start(move |request| match request.api {
            ApiKey::ApiVersions => request.answer(&ApiVersionsResponseData {
                finalized_features: shared.lock().transactions.features(),
                ..all_versions()
            }),
            _ => shared.lock().serve(&request),
        })
        .await;
        Self { broker, state }
    }

    pub(crate) fn address(&self) -> &str {
        &self.broker.address
    }

    pub(crate) fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn create(&self, topic: &str, partitions: usize) {
        let mut state = self.state.lock();
        let number = fastrand::u8(1..);
        let created = FakeTopic {
            id: TopicId::from_bytes([number; 16]),
            partitions: (0..partitions).map(|_| FakePartition::default()).collect(),
        };
        state.topics.insert(topic.to_owned(), created);
    }

    /// The values of a partition, in order.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<Vec<u8>> {
        self.state.lock().topics[topic].partitions[partition].values()
    }
}

impl FakePartition {
    /// The values, in order.
    pub(crate) fn values(&self) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for (_, _, bytes) in &self.batches {
            values.extend(values_of(bytes));
        }
        values
    }

    /// Appends a batch by Kafka's rules; its offset, or the code of the refusal.
    pub(crate) fn append(&mut self, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let batch = Batch::parse(bytes).map_err(|_| ErrorCode::CorruptMessage)?;
        batch.verify_checksum().map_err(|_| ErrorCode::CorruptMessage)?;
        let header = *batch.header();
        if header.has_producer_id() {
            let (first, last) = (header.base_sequence, header.last_sequence());
            let known = self.producers.get(&header.producer_id.get());
            if let Some(known) = known {
                let epoch = header.producer_epoch.get();
                if epoch < known.epoch {
                    return Err(ErrorCode::InvalidProducerEpoch);
                }
                if known.epoch < epoch {
                    if first.get() != 0 {
                        return Err(ErrorCode::OutOfOrderSequenceNumber);
                    }
                } else {
                    let same = known.recent.iter().find(|(f, l, _)| (*f, *l) == (first, last));
                    if let Some((_, _, offset)) = same {
                        return Ok(*offset);
                    }
                    if known.recent.back().unwrap().1.plus(1) != first {
                        return Err(ErrorCode::OutOfOrderSequenceNumber);
                    }
                }
            }
            let producer = self.producers.entry(header.producer_id.get());
            let producer = producer.or_insert(FakeProducer {
                epoch: header.producer_epoch.get(),
                recent: VecDeque::new(),
            });
            if producer.epoch != header.producer_epoch.get() {
                producer.epoch = header.producer_epoch.get();
                producer.recent.clear();
            }
            producer.recent.push_back((first, last, self.log_end));
            if producer.recent.len() > 5 {
                producer.recent.pop_front();
            }
        }
        Ok(self.store(bytes))
    }

    /// Whether it is one of the last five batches of its producer.
    pub(crate) fn has(&self, bytes: &Bytes) -> bool {
        let header = *Batch::parse(bytes).unwrap().header();
        self.producers
            .get(&header.producer_id.get())
            .is_some_and(|known| {
                known.epoch == header.producer_epoch.get()
                    && known.recent.iter().any(|(first, last, _)| {
                        (*first, *last) == (header.base_sequence, header.last_sequence())
                    })
            })
    }

    /// Puts a batch at the end.
    pub(crate) fn store(&mut self, bytes: &Bytes) -> i64 {
        let batch = Batch::parse(bytes).unwrap();
        let mut header = *batch.header();
        let base = self.log_end;
        header.base_offset = Offset::new(base);
        header.leader_epoch = LeaderEpoch::FIRST;
        let mut stamped = BytesMut::from(&header.to_bytes()[..]);
        stamped.extend_from_slice(batch.body());
        let last = header.last_offset().get();
        self.batches.push((base, last, stamped.freeze()));
        self.log_end = last + 1;
        base
    }

    /// Forgets every producer, as a broker does whose log was emptied.
    pub(crate) fn forget_producers(&mut self) {
        self.producers.clear();
    }
}

impl State {
    fn serve(&mut self, request: &Incoming) -> Reply {
        self.requests.push((request.api, request.version));
        match request.api {
            ApiKey::Metadata => self.metadata(request),
            ApiKey::InitProducerId
                if request
                    .read::<InitProducerIdRequestData>()
                    .transactional_id
                    .is_none() =>
            {
                self.next_producer_id += 1;
                request.answer(&InitProducerIdResponseData {
                    producer_id: self.next_producer_id,
                    producer_epoch: 0,
                    ..InitProducerIdResponseData::default()
                })
            }
            ApiKey::InitProducerId
            | ApiKey::AddPartitionsToTxn
            | ApiKey::AddOffsetsToTxn
            | ApiKey::TxnOffsetCommit
            | ApiKey::EndTxn => self.transactions.serve(request, &mut self.group),
            ApiKey::Produce => self.produce(request),
            ApiKey::Fetch => self.fetch(request),
            ApiKey::ListOffsets => self.list_offsets(request),
            ApiKey::FindCoordinator
            | ApiKey::ConsumerGroupHeartbeat
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch => {
                let ids = self.topics.iter().map(|(name, topic)| (name.clone(), topic.id));
                self.group.serve(request, &ids.collect())
            }
            api => panic!("the fake broker does not serve {api:?}"),
        }
    }

    fn metadata(&mut self, request: &Incoming) -> Reply {
        let asked: MetadataRequestData = request.read();
        let row = |name: &KafkaString| {
            let unknown = self
                .topics
                .get(name.as_str())
                .ok_or(ErrorCode::UnknownTopicOrPartition);
            let refused = self.topics_refused.get(name.as_str()).copied();
            let topic = refused.or(self.topic_error).map_or(unknown, Err);
            let topic = match topic {
                Ok(topic) => topic,
                Err(code) => {
                    return MetadataResponseTopic {
                        error_code: code.code(),
                        name: Some(name.clone()),
                        ..MetadataResponseTopic::default()
                    };
                }
            };
            MetadataResponseTopic {
                name: Some(name.clone()),
                topic_id: topic.id.into(),
                partitions: (0..)
                    .zip(&topic.partitions)
                    .map(|(partition_index, _)| MetadataResponsePartition {
                        partition_index,
                        leader_id: 1,
                        ..MetadataResponsePartition::default()
                    })
                    .collect(),
                ..MetadataResponseTopic::default()
            }
        };
        let topics = asked.topics.unwrap_or_default();
        let names = topics.iter().filter_map(|topic| topic.name.as_ref());
        self.topics_asked.push(names.map(ToString::to_string).collect());
        request.answer(&MetadataResponseData {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: KafkaString::from_static("127.0.0.1"),
                port: i32::from(request.port),
                ..MetadataResponseBroker::default()
            }],
            controller_id: 1,
            topics: topics
                .iter()
                .filter_map(|topic| topic.name.as_ref())
                .map(row)
                .collect(),
            ..MetadataResponseData::default()
        })
    }

    /// A topic by the name or id that a request gave.
    fn name_of(&self, name: &KafkaString, id: log_core::protocol::KafkaUuid) -> Option<String> {
        if !name.is_empty() {
            return self.topics.contains_key(name.as_str()).then(|| name.to_string());
        }
        let found = self.topics.iter().find(|(_, topic)| topic.id == id.into());
        found.map(|(name, _)| name.clone())
    }

    fn produce(&mut self, request: &Incoming) -> Reply {
        let asked: ProduceRequestData = request.read();
        let mut hang_up = false;
        let mut silence = asked.acks == 0;
        let mut responses = Vec::new();
        for topic in &asked.topic_data {
            let name = self.name_of(&topic.name, topic.topic_id);
            let mut partition_responses = Vec::new();
            for row in &topic.partition_data {
                let Some(name) = &name else {
                    partition_responses.push(PartitionProduceResponse {
                        index: row.index,
                        error_code: ErrorCode::UnknownTopicId.code(),
                        ..PartitionProduceResponse::default()
                    });
                    continue;
                };
                let fault = (self.fault)(name, row.index, self.batches_seen);
                self.batches_seen += 1;
                match fault {
                    Fault::HangUpBefore => return Reply::Close,
                    Fault::HangUpAfter => hang_up = true,
                    Fault::Silence => silence = true,
                    _ => {}
                }
                let response = self.produce_one(name, row.index, row.records.as_ref().unwrap(), &fault);
                partition_responses.push(response);
            }
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses,
                ..TopicProduceResponse::default()
            });
        }
        if hang_up {
            return Reply::Close;
        }
        if silence {
            return Reply::Nothing;
        }
        request.answer(&ProduceResponseData {
            responses,
            ..ProduceResponseData::default()
        })
    }

    fn produce_one(
        &mut self,
        topic: &str,
        index: i32,
        records: &Bytes,
        fault: &Fault,
    ) -> PartitionProduceResponse {
        let mut response = PartitionProduceResponse {
            index,
            base_offset: -1,
            log_append_time_ms: -1,
            ..PartitionProduceResponse::default()
        };
        let partition = &mut self.topics.get_mut(topic).unwrap().partitions[usize::try_from(index).unwrap()];
        if let Fault::Refuse(code) = fault
            && !partition.has(records)
        {
            response.error_code = code.code();
            if *code == ErrorCode::InvalidRecord {
                response.record_errors = vec![BatchIndexAndErrorMessage {
                    batch_index: 0,
                    batch_index_error_message: Some(KafkaString::from_static("no key")),
                    ..BatchIndexAndErrorMessage::default()
                }];
            }
            return response;
        }
        if self.batch_bytes_max < records.len() {
            response.error_code = ErrorCode::MessageTooLarge.code();
            return response;
        }
        let is_new = !partition.has(records);
        let admitted = self
            .transactions
            .admit_batch(TopicPartition::new(topic, index), records);
        match admitted.and_then(|()| partition.append(records)) {
            Ok(offset) => {
                response.base_offset = offset;
                if is_new {
                    self.transactions.wrote(records);
                }
            }
            Err(code) => response.error_code = code.code(),
        }
        if let Fault::Pretend(code) = fault {
            response.error_code = code.code();
            response.base_offset = -1;
        }
        response
    }

    fn fetch(&mut self, request: &Incoming) -> Reply {
        let asked: FetchRequestData = request.read();
        let mut responses = Vec::new();
        let mut is_empty = true;
        for topic in &asked.topics {
            let name = self.name_of(&topic.topic, topic.topic_id);
            let mut partitions = Vec::new();
            for row in &topic.partitions {
                let mut data = PartitionData {
                    partition_index: row.partition,
                    diverging_epoch: EpochEndOffset::default(),
                    ..PartitionData::default()
                };
                let partition = name.as_ref().and_then(|name| {
                    let index = usize::try_from(row.partition).unwrap();
                    self.topics[name].partitions.get(index)
                });
                let injected = self.fetch_errors.pop_front();
                match (injected, partition) {
                    (Some(code), _) => data.error_code = code.code(),
                    (None, None) => data.error_code = ErrorCode::UnknownTopicId.code(),
                    (None, Some(partition)) => {
                        data.high_watermark = partition.log_end;
                        data.last_stable_offset = partition.log_end;
                        data.log_start_offset = partition.log_start;
                        if row.fetch_offset < partition.log_start || partition.log_end < row.fetch_offset {
                            data.error_code = ErrorCode::OffsetOutOfRange.code();
                        } else {
                            data.records = Some(slice(partition, row.fetch_offset, row.partition_max_bytes));
                        }
                    }
                }
                is_empty &= data.error_code == 0 && data.records.as_ref().is_none_or(Bytes::is_empty);
                partitions.push(data);
            }
            responses.push(FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions,
                ..FetchableTopicResponse::default()
            });
        }
        let reply = request.answer(&FetchResponseData {
            responses,
            ..FetchResponseData::default()
        });
        match reply {
            // Nobody tells this broker about new records, so it looks again soon.
            Reply::Bytes(bytes) if is_empty => Reply::Later(Duration::from_millis(2), bytes),
            reply => reply,
        }
    }

    fn list_offsets(&mut self, request: &Incoming) -> Reply {
        let asked: ListOffsetsRequestData = request.read();
        let topics = asked.topics.iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|row| {
                    let index = usize::try_from(row.partition_index).unwrap();
                    let partition = &self.topics[topic.name.as_str()].partitions[index];
                    let (offset, timestamp) = match row.timestamp {
                        -1 => (partition.log_end, -1),
                        -2 => (partition.log_start, -1),
                        target => first_since(partition, target),
                    };
                    ListOffsetsPartitionResponse {
                        partition_index: row.partition_index,
                        offset,
                        timestamp,
                        ..ListOffsetsPartitionResponse::default()
                    }
                })
                .collect(),
            ..ListOffsetsTopicResponse::default()
        });
        let topics = topics.collect();
        request.answer(&ListOffsetsResponseData {
            topics,
            ..ListOffsetsResponseData::default()
        })
    }
}

/// The values of a batch.
pub(super) fn values_of(records: &Bytes) -> Vec<Vec<u8>> {
    let mut scratch = Vec::new();
    let batch = Batch::parse(records).unwrap();
    batch.verify_checksum().unwrap();
    let records = batch.records(&mut scratch, 1 << 30).unwrap();
    records
        .map(|record| record.unwrap().value.unwrap().to_vec())
        .collect()
}

/// Whole batches from the one that holds `offset`, then whatever fits, the last one cut off.
fn slice(partition: &FakePartition, offset: i64, bytes_max: i32) -> Bytes {
    let mut bytes = BytesMut::new();
    let bytes_max = usize::try_from(bytes_max).unwrap();
    for (_, last, batch) in &partition.batches {
        if *last < offset {
            continue;
        }
        let room = bytes_max.saturating_sub(bytes.len());
        if bytes.is_empty() || batch.len() <= room {
            bytes.extend_from_slice(batch);
        } else {
            bytes.extend_from_slice(&batch[..room]);
            break;
        }
    }
    bytes.freeze()
}

fn first_since(partition: &FakePartition, target: i64) -> (i64, i64) {
    for (_, _, bytes) in &partition.batches {
        let mut scratch = Vec::new();
        for record in Batch::parse(bytes)
            .unwrap()
            .records(&mut scratch, 1 << 30)
            .unwrap()
        {
            let record = record.unwrap();
            if target <= record.timestamp.get() {
                return (record.offset.get(), record.timestamp.get());
            }
        }
    }
    (-1, -1)
}
