//! `Fetch`, versions 4 to 18.
//!
//! - Sessions (KIP-227, version 7): `fetch_session`. Topic ids (KIP-516, version 13): `UNKNOWN_TOPIC_ID` for an id that nobody
//!   has, `INCONSISTENT_TOPIC_ID` when the name that went with it has another by now.
//! - Long poll: when fewer than `min_bytes` are there, the answer waits until they are, the time is over, or
//!   something has to be told. An error of a partition is told at once; one that is unknown does not cut the wait of
//!   the others. Where too many partitions are waited for already, the answer is what is there now.
//! - Leader epochs (KIP-320, version 9) and truncation found by them (KIP-595, version 12): `read`.
//! - A follower (replica id 0 and up) is not one of ours: `NOT_LEADER_OR_FOLLOWER`, or with an epoch `UNKNOWN_LEADER_EPOCH`.
//! - Rack and preferred replica (KIP-392) mean nothing with one node.
//! - A reader of committed records (KIP-98) gets what lies below the last stable offset, with the aborted transactions among it.
//! - Records are never converted and never copied.

mod read;

use std::sync::Arc;
use std::time::Duration;

use log_core::model::TopicId;
use log_core::protocol::messages::FetchRequestData;
use log_core::protocol::{KafkaString, KafkaUuid, RequestPrefix};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use self::read::{Pass, Reader, Terms};
use crate::kafka::connection::{Answer, Dispatched};
use crate::kafka::fetch_response::{self, FetchHead, FetchTopic, NodeEndpoint, PartitionRow};
use crate::kafka::fetch_session::{
    ClosingRequest, FetchContext, FetchTarget, PartitionFetch, SessionRequest,
};
use crate::kafka::request_context::{Endpoint, RequestContext};
use crate::kafka::services::Services;
use crate::metadata::image::MetadataImage;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::offset_query::blocking;
use crate::partition::partition::Isolation;
use log_core::segment::segment::Patience;

/// The first version that names topics by id.
const BY_ID: i16 = 13;
const READ_COMMITTED: i8 = 1;

/// Reads, and answers at once or when it may.
pub(crate) fn handle(
    services: &Arc<Services>,
    context: &RequestContext,
    request: &FetchRequestData,
) -> Dispatched {
    let version = context.version();
    let image = services.controller.image();
    let (session, targets) = {
        let opening = session_request(&image, version, request);
        services
            .sessions
            .open(opening, services.steady_ms(), |id| name_of(&image, id))
    };
    let fetch = Fetch {
        services: Arc::clone(services),
        prefix: context.prefix,
        endpoint: context.connection.advertised.clone(),
        closing: ClosingRequest {
            epoch: request.session_epoch,
            by_id: BY_ID <= version,
        },
        session,
        reader: Arc::new(Reader::new(services, targets, terms(services, version, request))),
    };
    if let FetchContext::Refused(_) = fetch.session {
        return Dispatched::Now(fetch.answer(Vec::new()));
    }
    match fetch.reader.pass(Patience::MustNotBlock) {
        Some(pass) if fetch.reader.is_enough(&pass) || request.max_wait_ms <= 0 => {
            Dispatched::Now(fetch.answer(pass.rows))
        }
        first => {
            let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
            let until = Instant::now() + wait;
            match fetch.room() {
                Some(room) => Dispatched::Later(Box::pin(async move {
                    let rows = fetch.wait(first, until).await;
                    drop(room);
                    fetch.answer(rows)
                })),
                // Nothing is held for a client that has to ask again, and it does not get to its next request before.
                None => Dispatched::Barrier(Box::pin(async move {
                    let rows = fetch.wait(first, Instant::now()).await;
                    fetch.answer(rows)
                })),
            }
        }
    }
}

fn name_of(image: &MetadataImage, id: TopicId) -> Option<Arc<str>> {
    image.topic_by_id(id).map(|topic| Arc::clone(&topic.name))
}

fn terms(services: &Services, version: i16, request: &FetchRequestData) -> Terms {
    let number = |wire: i32| usize::try_from(wire).unwrap_or(0);
    let bytes_max = number(request.max_bytes).min(services.config.fetch_max_bytes);
    let replica_id = if 15 <= version {
        request.replica_state.replica_id
    } else {
        request.replica_id
    };
    Terms {
        bytes_max,
        bytes_min: number(request.min_bytes).min(bytes_max),
        isolation: match request.isolation_level {
            READ_COMMITTED => Isolation::Committed,
            _ => Isolation::Uncommitted,
        },
        is_follower: 0 <= replica_id,
        // Clients before version 6 do not know KAFKA_STORAGE_ERROR.
        knows_storage_error: 6 <= version,
        node_id: services.config.node_id,
    }
}

fn session_request(image: &MetadataImage, version: i16, request: &FetchRequestData) -> SessionRequest {
    let topic = |name: &KafkaString, id: KafkaUuid| named(image, version, name, id);
    let targets = request.topics.iter().flat_map(|asked| {
        let topic = topic(&asked.topic, asked.topic_id);
        asked.partitions.iter().map(move |partition| FetchTarget {
            topic: topic.clone(),
            partition: partition.partition,
            fetch: PartitionFetch {
                offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            },
        })
    });
    let forgotten = request.forgotten_topics_data.iter().flat_map(|forgotten| {
        let topic = topic(&forgotten.topic, forgotten.topic_id);
        forgotten
            .partitions
            .iter()
            .map(move |partition| (topic.clone(), *partition))
    });
    SessionRequest {
        session_id: request.session_id,
        epoch: request.session_epoch,
        by_id: BY_ID <= version,
        targets: targets.collect(),
        forgotten: forgotten.collect(),
    }
}

/// The topic with all that is known of it. Names are the image's own, so that no session keeps a request's bytes.
fn named(image: &MetadataImage, version: i16, name: &KafkaString, id: KafkaUuid) -> FetchTopic {
    if BY_ID <= version {
        let id = TopicId::from(id);
        return FetchTopic {
            id,
            name: name_of(image, id),
        };
    }
    let name = name.as_str();
    let known = image.topic(name).map(|topic| Arc::clone(&topic.name));
    FetchTopic {
        id: TopicId::ZERO,
        name: Some(known.unwrap_or_else(|| Arc::from(name))),
    }
}

/// A request under way.
struct Fetch {
    services: Arc<Services>,
    prefix: RequestPrefix,
    endpoint: Endpoint,
    closing: ClosingRequest,
    session: FetchContext,
    reader: Arc<Reader>,
}

impl Fetch {
    /// What entitles it to wait; `None` when too many partitions are waited for already.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(self.reader.targets().len()).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.services.waiting_partitions);
        free.try_acquire_many_owned(count).ok()
    }

    /// The rows once there is enough to tell, or at `until`, or when the broker stops. `first` is what was there at first,
    /// or nothing if only the disk had it.
    async fn wait(&self, first: Option<Pass>, until: Instant) -> Vec<PartitionRow> {
        let mut pass = match first {
            Some(pass) => pass,
            None => self.read().await,
        };
        if self.reader.is_enough(&pass) {
            return pass.rows;
        }
        let _counted = self.services.partitions.metrics().waiting_fetches.hold();
        let waiter = FetchWaiter::new();
        // First watch, then look: what comes between the two is seen by the look.
        let _watches = self.reader.watch(&waiter);
        let mut shutdown = self.services.shutdown.clone();
        loop {
            if self.reader.may_have_more(&pass) {
                pass = self.read().await;
                if self.reader.is_enough(&pass) {
                    return pass.rows;
                }
            }
            tokio::select! {
                biased;
                () = waiter.notified() => {}
                () = sleep_until(until) => break,
                _ = shutdown.requested() => break,
            }
        }
        if self.reader.has_moved(&pass) {
            pass = self.read().await;
        }
        pass.rows
    }

    /// Reads all partitions, off this thread if the disk has to be asked.
    async fn read(&self) -> Pass {
        if let Some(pass) = self.reader.pass(Patience::MustNotBlock) {
            return pass;
        }
        self.services.partitions.metrics().cold_reads.add(1);
        let reader = Arc::clone(&self.reader);
        match blocking(move || reader.pass(Patience::MayBlock)).await {
            Ok(pass) => pass.expect("a reader that may block does not refuse to"),
            // The runtime ends; so does the connection.
            Err(_) => Pass::default(),
        }
    }

    fn answer(&self, mut rows: Vec<PartitionRow>) -> Answer {
        self.reader.count_sent(&rows);
        let now_ms = self.services.steady_ms();
        let targets = self.reader.targets();
        let (error, session_id) =
            self.services
                .sessions
                .close(&self.session, self.closing, targets, &mut rows, now_ms);
        let head = FetchHead {
            error_code: error.code(),
            session_id,
        };
        let leader = NodeEndpoint {
            node_id: self.services.config.node_id,
            host: &self.endpoint.host,
            port: i32::from(self.endpoint.port),
        };
        let names_leader = rows.iter().any(|row| row.current_leader.is_some());
        let endpoints = if names_leader {
            std::slice::from_ref(&leader)
        } else {
            &[]
        };
        Answer::from_response(fetch_response::encode(self.prefix, head, &mut rows, endpoints))
    }
}
