//! The Kafka front over real partitions and metadata on a file system in memory: bytes in, bytes out.
//!
//! [`Broker`] has no socket and no flusher threads: a test says when the disk is synced. [`Client`] speaks to it over a pipe, through
//! the whole front: frames, pipeline, dispatch, handlers, encoders.
//!
//! | file | what it proves |
//! |---|---|
//! | `allocations` | how often a request asks for memory |
//! | `negotiation` | versions, closing, hostile bytes, every API in every version |
//! | `produce` | appends, refusals with their codes, who waits for the disk |
//! | `recompression` | Produce to topics that name a codec |
//! | `fetch` | records, limits, long poll, sessions, epochs, topic ids |
//! | `golden` | the bytes of a real Kafka broker |
//! | `topics` | metadata, creating, deleting, partitions, paging |
//! | `offsets` | `ListOffsets`, `OffsetForLeaderEpoch`, `DeleteRecords` |
//! | `transactions` | Produce within one, what committed readers get, `DescribeProducers` |
//! | `transaction_coordinator` | which partitions a transaction has, and its end |
//! | `settings` | describing and altering |
//! | `telemetry` | clients' own metrics |
//! | `traced` | requests as spans |

mod allocations;
mod fetch;
mod golden;
mod negotiation;
mod offsets;
mod produce;
mod recompression;
mod settings;
mod telemetry;
mod topics;
mod traced;
mod transaction_coordinator;
mod transactions;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use log_core::clock::ManualClock;
use log_core::config::LogConfig;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::os::OsFileSystem;
use log_core::log::{LogContext, LogError};
use log_core::log_manager::LogManager;
use log_core::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId};
use log_core::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::produce_response::PartitionProduceResponse;
use log_core::protocol::messages::{CreateTopicsRequestData, ProduceRequestData};
use log_core::protocol::{
    ErrorCode, KafkaString, KafkaUuid, Message, Request, RequestPrefix, read_response_header,
};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::keys::BrokerConfig;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::transaction_coordinator::TransactionCoordinator;
use crate::kafka::apis::{self, FrameClass};
use crate::kafka::connection::{self, ConnectionSettings, End};
use crate::kafka::dispatch::Dispatcher;
use crate::kafka::frame::{Frame, FrameLimits};
use crate::kafka::memory::RequestMemory;
use crate::kafka::request_context::{ConnectionInfo, Endpoint};
use crate::kafka::services::{Coordinators, Services};
use crate::kafka::test_support::frame;
use crate::metadata::controller::{Controller, PartitionDirectory};
use crate::metadata::image::TopicImage;
use crate::metadata::metadata_log::{MetadataLog, Tuning, partition};
use crate::partition::flusher::FlushQueue;
use crate::partition::partition::Partition;
use crate::partition::registry::{PartitionRegistry, TopicSpec};
use crate::shutdown::Shutdown;

const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);
const TUNING: Tuning = Tuning {
    snapshot_records: 1000,
    roll_bytes: 1 << 20,
};
/// Longer than any healthy test; what waits so long would wait for ever.
const HANG: Duration = Duration::from_secs(30);
/// What a quiet connection is given before a test believes that nothing comes.
const QUIET: Duration = Duration::from_millis(50);

/// What `broker.rs` does between metadata and partitions.
#[derive(Debug)]
struct Directory(Arc<PartitionRegistry>);

impl PartitionDirectory for Directory {
    fn create(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError> {
        self.0.create(&TopicSpec {
            name: Arc::clone(&topic.name),
            id: topic.id,
            partition_count: topic.partition_count,
            config: config.clone(),
        })
    }

    fn extend(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError> {
        self.create(topic, config)
    }

    fn withdraw(&self, topic: &TopicImage, partition_count: i32) -> Result<(), LogError> {
        let behind = partition_count..topic.partition_count;
        self.0.discard(&topic.name, topic.id, behind)
    }

    fn delete(&self, topic: &TopicImage) -> Result<(), LogError> {
        self.0.delete(topic.id)
    }

    fn reconfigure(&self, topic: &TopicImage, config: &LogConfig) {
        self.0.reconfigure(topic.id, config);
    }
}

struct Broker {
    files: MemFileSystem,
    queue: FlushQueue<Partition>,
    services: Arc<Services>,
    shutdown: Shutdown,
    /// Whether the disk is synced as soon as a client asks for an answer.
    syncs_by_itself: Arc<AtomicBool>,
}

impl Broker {
    fn start() -> Self {
        Self::start_with(BrokerConfig::default())
    }

    fn start_with(config: BrokerConfig) -> Self {
        let files = MemFileSystem::new();
        let context = LogContext {
            file_system: Arc::new(files.clone()),
            clock: Arc::new(ManualClock::new(NOW)),
        };
        Self {
            files,
            ..Self::open(context, Path::new("/data"), config)
        }
    }

    /// On a real disk.
    fn start_in(directory: &Path) -> Self {
        let context = LogContext {
            file_system: Arc::new(OsFileSystem::new()),
            clock: Arc::new(ManualClock::new(NOW)),
        };
        Self::open(context, directory, BrokerConfig::default())
    }

    fn open(context: LogContext, directory: &Path, config: BrokerConfig) -> Self {
        let (manager, found) = LogManager::open(context, directory.to_owned()).unwrap();
        let manager = Arc::new(manager);
        let (log, image) = MetadataLog::open(Arc::clone(manager.first()), &found, TUNING).unwrap();
        let queue = FlushQueue::without_threads();
        let partitions = PartitionRegistry::new(Arc::clone(&manager), queue.clone(), 1);
        partitions.load(&[], &found, &[partition()]);
        let directory = Arc::new(Directory(Arc::clone(&partitions)));
        let controller = Controller::start(log, image, Arc::new(config), directory).unwrap();
        let shutdown = Shutdown::new();
        let controller = Arc::new(controller);
        let clock = Arc::clone(&manager.context().clock);
        let groups = GroupCoordinator::start(
            Arc::clone(&controller),
            Arc::clone(&partitions),
            Arc::clone(&clock),
        );
        let transactions = TransactionCoordinator::start(
            Arc::clone(&controller),
            Arc::clone(&partitions),
            clock,
            Arc::clone(&groups),
        );
        let coordinators = Coordinators { groups, transactions };
        let services = Services::new(
            controller,
            partitions,
            coordinators,
            Arc::clone(&manager.context().clock),
            shutdown.signal(),
        );
        Self {
            files: MemFileSystem::new(),
            queue,
            services: Arc::new(services),
            shutdown,
            syncs_by_itself: Arc::new(AtomicBool::new(true)),
        }
    }

    /// From now on the disk is synced only when the test says so.
    fn hold_syncs(&self) {
        self.syncs_by_itself.store(false, Ordering::SeqCst);
    }

    /// Syncs what was appended.
    fn sync(&self) {
        self.queue.run_pending();
    }

    fn connect(&self) -> Client {
        let (far, near) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(far);
        let dispatcher = Dispatcher::new(Arc::clone(&self.services));
        let shutdown = self.shutdown.signal();
        let end = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(near);
            let memory = RequestMemory::new(1 << 30);
            connection::run(reader, writer, &dispatcher, info(), &settings(), memory, shutdown).await
        });
        Client {
            read,
            write: Some(write),
            end,
            queue: self.queue.clone(),
            syncs_by_itself: Arc::clone(&self.syncs_by_itself),
            next_id: 0,
        }
    }

    /// Creates a topic and returns its id.
    async fn create_topic(&self, name: &str, partition_count: i32, configs: &[(&str, &str)]) -> TopicId {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: string(name),
            value: Some(string(value)),
            ..CreatableTopicConfig::default()
        };
        let request = CreateTopicsRequestData {
            topics: vec![CreatableTopic {
                name: string(name),
                num_partitions: partition_count,
                replication_factor: -1,
                configs: configs.iter().map(config).collect(),
                ..CreatableTopic::default()
            }],
            ..CreateTopicsRequestData::default()
        };
        let response = self.connect().call(7, request).await;
        let topic = &response.topics[0];
        assert_eq!(topic.error_code, 0, "{topic:?}");
        TopicId::from(topic.topic_id)
    }

    /// Appends a batch of one record for each value, and syncs.
    async fn append(&self, topic: &str, partition: i32, values: &[&str]) {
        let request = produce_request(topic, partition, Some(batch(values)));
        let response = self.connect().call(9, request).await;
        let row = &response.responses[0].partition_responses[0];
        assert_eq!(row.error_code, 0, "{row:?}");
    }
}

fn info() -> Arc<ConnectionInfo> {
    let address = "127.0.0.1:9092".parse().unwrap();
    Arc::new(ConnectionInfo::new(1, address, Endpoint::reached(address)))
}

/// A request as the frame reader hands it on.
fn frame_of(bytes: &[u8], memory: &RequestMemory) -> Frame {
    let bytes = Bytes::copy_from_slice(&bytes[4..]);
    let prefix = RequestPrefix::peek(&bytes).unwrap();
    Frame {
        prefix,
        admission: apis::admit(prefix),
        memory: memory.try_take(bytes.len(), FrameClass::Records).unwrap(),
        bytes,
    }
}

fn settings() -> ConnectionSettings {
    ConnectionSettings {
        frames: Arc::new(FrameLimits {
            records_frame_bytes_max: 8 << 20,
            opaque_frame_bytes_max: 2 << 20,
            structure_frame_bytes_max: 1 << 20,
            idle_timeout: Duration::from_mins(10),
            frame_timeout: Duration::from_secs(30),
            frame_bytes_per_second_min: 128 << 10,
        }),
        in_flight_max: 64,
        write_timeout: Duration::from_mins(10),
        drain_timeout: Duration::from_secs(5),
        http_address: None,
        metrics: Arc::new(apis::metrics()),
    }
}

struct Client {
    read: ReadHalf<DuplexStream>,
    write: Option<WriteHalf<DuplexStream>>,
    end: JoinHandle<End>,
    queue: FlushQueue<Partition>,
    syncs_by_itself: Arc<AtomicBool>,
    next_id: i32,
}

impl Client {
    /// Sends a request and returns its correlation id.
    async fn send<M: Request>(&mut self, version: i16, request: &M) -> i32 {
        self.next_id += 1;
        let bytes = frame(M::API_KEY, version, self.next_id, |buffer| {
            request.write_to(buffer, version).unwrap();
        });
        self.send_bytes(&bytes).await;
        self.next_id
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.write.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    /// The next frame without its length; `None` when the connection ended.
    async fn frame(&mut self) -> Option<Bytes> {
        let syncs_by_itself = Arc::clone(&self.syncs_by_itself);
        let queue = self.queue.clone();
        let sync = async {
            while syncs_by_itself.load(Ordering::SeqCst) {
                queue.run_pending();
                queue.arrival().await;
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            let length = self.read.read_u32().await.ok()?;
            let mut body = BytesMut::zeroed(usize::try_from(length).unwrap());
            self.read.read_exact(&mut body).await.unwrap();
            Some(body.freeze())
        };
        tokio::select! {
            frame = timeout(HANG, read) => frame.expect("no answer came"),
            () = sync => unreachable!("it never ends"),
        }
    }

    /// The answer to the oldest unanswered request, which must be `id`.
    async fn receive<M: Request>(&mut self, version: i16, id: i32) -> M::Response {
        let mut frame = self.frame().await.expect("the connection ended");
        let found = read_response_header(&mut frame, M::API_KEY, version).unwrap();
        assert_eq!(found, id, "answers come in the order of requests");
        let response = M::Response::read_from(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes behind the answer", frame.len());
        response
    }

    async fn call<M: Request>(&mut self, version: i16, request: M) -> M::Response {
        let id = self.send(version, &request).await;
        self.receive::<M>(version, id).await
    }

    /// Whether nothing comes for a while.
    async fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        timeout(QUIET, self.read.read(&mut byte)).await.is_err()
    }

    /// How the broker ended the connection, without another byte.
    async fn closed(mut self) -> String {
        assert_eq!(self.frame().await, None, "an answer came instead of the end");
        self.end.await.unwrap().to_string()
    }
}

fn string(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from(code)
}

/// A batch of one record for each value, all with the same key and time.
fn batch(values: &[&str]) -> Bytes {
    batch_with(values, BatchOptions::default())
}

fn batch_with(values: &[&str], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder
            .append(NOW, Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build()
}

fn idempotent(values: &[&str], epoch: i16, base_sequence: i32) -> Bytes {
    batch_with(
        values,
        BatchOptions {
            producer: BatchProducer {
                id: ProducerId::new(7),
                epoch: ProducerEpoch::new(epoch),
                base_sequence: Sequence::new(base_sequence),
            },
            ..BatchOptions::default()
        },
    )
}

fn produce_request(topic: &str, partition: i32, records: Option<Bytes>) -> ProduceRequestData {
    ProduceRequestData {
        acks: -1,
        timeout_ms: 20_000,
        topic_data: vec![TopicProduceData {
            name: string(topic),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records,
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    }
}

/// The same for a version that names topics by id.
fn produce_by_id(topic: TopicId, partition: i32, records: Bytes) -> ProduceRequestData {
    let mut request = produce_request("", partition, Some(records));
    request.topic_data[0].topic_id = KafkaUuid::from(topic);
    request
}

impl Client {
    /// Produces to one partition and returns its row.
    async fn produce(&mut self, version: i16, request: ProduceRequestData) -> PartitionProduceResponse {
        let mut response = self.call(version, request).await;
        response.responses.remove(0).partition_responses.remove(0)
    }
}
