//! From a frame to its handler: header, body, and how far the request is when `dispatch` returns.
//!
//! | API | carried out | answered |
//! |---|---|---|
//! | Produce | at once; where a transaction begins, when its coordinator knows | when its records are on the disk, beside later requests |
//! | Fetch | at once | at once, or when records come, beside later requests |
//! | all others | before the next request begins | when done |

use std::collections::VecDeque;
use std::error::Error;
use std::iter::successors;
use std::sync::Arc;

use bytes::Bytes;
use log_core::protocol::{
    ApiKey, CodecError, Message, Request, RequestPrefix, messages::AddOffsetsToTxnRequestData,
    messages::AddPartitionsToTxnRequestData, messages::AlterConfigsRequestData,
    messages::ApiVersionsRequestData, messages::ConsumerGroupDescribeRequestData,
    messages::ConsumerGroupHeartbeatRequestData, messages::CreatePartitionsRequestData,
    messages::CreateTopicsRequestData, messages::DeleteGroupsRequestData, messages::DeleteRecordsRequestData,
    messages::DeleteTopicsRequestData, messages::DescribeClusterRequestData,
    messages::DescribeConfigsRequestData, messages::DescribeGroupsRequestData,
    messages::DescribeLogDirsRequestData, messages::DescribeProducersRequestData,
    messages::DescribeTopicPartitionsRequestData, messages::DescribeTransactionsRequestData,
    messages::EndTxnRequestData, messages::FetchRequestData, messages::FindCoordinatorRequestData,
    messages::GetTelemetrySubscriptionsRequestData, messages::HeartbeatRequestData,
    messages::IncrementalAlterConfigsRequestData, messages::InitProducerIdRequestData,
    messages::LeaveGroupRequestData, messages::ListConfigResourcesRequestData,
    messages::ListGroupsRequestData, messages::ListOffsetsRequestData, messages::ListTransactionsRequestData,
    messages::MetadataRequestData, messages::OffsetCommitRequestData, messages::OffsetDeleteRequestData,
    messages::OffsetFetchRequestData, messages::OffsetForLeaderEpochRequestData,
    messages::ProduceRequestData, messages::PushTelemetryRequestData, messages::TxnOffsetCommitRequestData,
    messages::WriteTxnMarkersRequestData, read_request_header,
};

use crate::kafka::apis::Admission;
use crate::kafka::connection::{Answer, CloseReason, Dispatch, Dispatched};
use crate::kafka::frame::Frame;
use crate::kafka::handlers;
use crate::kafka::memory::MemoryPermit;
use crate::kafka::request_context::{ConnectionInfo, RequestContext};
use crate::kafka::request_guard;
use crate::kafka::response::Response;
use crate::kafka::services::Services;

/// A header is two numbers, a client id of at most 32 KiB, and tags. It is read from this much of a frame, because the memory
/// that reading tags may take grows with what is there.
const HEADER_BYTES_MAX: usize = 40 << 10;

/// Carries out requests by the broker's services.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    services: Arc<Services>,
}

/// A request whose header has been read.
struct Incoming {
    context: RequestContext,
    body: Bytes,
    memory: MemoryPermit,
}

impl Dispatcher {
    /// A dispatcher to these services.
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    fn carry_out(&self, api: ApiKey, request: Incoming) -> Result<Dispatched, CloseReason> {
        use handlers as h;
        request_guard::check(api, &request.body, request.context.version())?;
        match api {
            ApiKey::Produce => {
                let body: ProduceRequestData = decode(&request.context, request.body)?;
                let dispatched = h::produce::handle(&self.services, &request.context, body);
                Ok(holding(request.memory, dispatched))
            }
            ApiKey::Fetch => {
                let body: FetchRequestData = decode(&request.context, request.body)?;
                Ok(h::fetch::handle(&self.services, &request.context, &body))
            }
            ApiKey::ApiVersions => now(request, |context, body: ApiVersionsRequestData| {
                h::api_versions::handle(context, &body)
            }),
            ApiKey::DescribeCluster => now(request, |context, body: DescribeClusterRequestData| {
                h::describe_cluster::handle(&self.services, context, &body)
            }),
            ApiKey::DescribeConfigs => now(request, |_, body: DescribeConfigsRequestData| {
                h::describe_configs::handle(&self.services, body)
            }),
            ApiKey::ListConfigResources => now(request, |context, body: ListConfigResourcesRequestData| {
                h::list_config_resources::handle(&self.services, context, &body)
            }),
            ApiKey::GetTelemetrySubscriptions => {
                now(request, |context, body: GetTelemetrySubscriptionsRequestData| {
                    h::get_telemetry_subscriptions::handle(&self.services, context, &body)
                })
            }
            ApiKey::PushTelemetry => self.barrier(
                request,
                |services, context, body: PushTelemetryRequestData| async move {
                    h::push_telemetry::handle(&services, &context, body).await
                },
            ),
            ApiKey::DescribeTopicPartitions => now(request, |_, body: DescribeTopicPartitionsRequestData| {
                h::describe_topic_partitions::handle(&self.services, &body)
            }),
            ApiKey::OffsetForLeaderEpoch => now(request, |_, body: OffsetForLeaderEpochRequestData| {
                h::offset_for_leader_epoch::handle(&self.services, body)
            }),
            ApiKey::FindCoordinator => self.barrier(
                request,
                |services, context, body: FindCoordinatorRequestData| async move {
                    h::find_coordinator::handle(&services, &context, body).await
                },
            ),
            ApiKey::Metadata => self.barrier(
                request,
                |services, context, body: MetadataRequestData| async move {
                    h::metadata::handle(&services, &context, body).await
                },
            ),
            ApiKey::ListOffsets => self.barrier(
                request,
                |services, context, body: ListOffsetsRequestData| async move {
                    h::list_offsets::handle(&services, &context, body).await
                },
            ),
            ApiKey::OffsetCommit => self.barrier(
                request,
                |services, context, body: OffsetCommitRequestData| async move {
                    h::offset_commit::handle(&services, &context, body).await
                },
            ),
            ApiKey::OffsetFetch => self.barrier(
                request,
                |services, context, body: OffsetFetchRequestData| async move {
                    h::offset_fetch::handle(&services, &context, body).await
                },
            ),
            ApiKey::TxnOffsetCommit => self.barrier(
                request,
                |services, context, body: TxnOffsetCommitRequestData| async move {
                    h::txn_offset_commit::handle(&services, &context, body).await
                },
            ),
            ApiKey::OffsetDelete => {
                self.barrier(request, |services, _, body: OffsetDeleteRequestData| async move {
                    h::offset_delete::handle(&services, body).await
                })
            }
            ApiKey::ListGroups => {
                self.barrier(request, |services, _, body: ListGroupsRequestData| async move {
                    h::list_groups::handle(&services, body).await
                })
            }
            ApiKey::DescribeGroups => self.barrier(
                request,
                |services, context, body: DescribeGroupsRequestData| async move {
                    h::describe_groups::handle(&services, &context, body).await
                },
            ),
            ApiKey::DeleteGroups => {
                self.barrier(request, |services, _, body: DeleteGroupsRequestData| async move {
                    h::delete_groups::handle(&services, body).await
                })
            }
            ApiKey::DeleteRecords => self.barrier(
                request,
                |services, _, body: DeleteRecordsRequestData| async move {
                    h::delete_records::handle(&services, body).await
                },
            ),
            ApiKey::CreateTopics => {
                self.barrier(request, |services, _, body: CreateTopicsRequestData| async move {
                    h::create_topics::handle(&services, body).await
                })
            }
            ApiKey::DeleteTopics => self.barrier(
                request,
                |services, context, body: DeleteTopicsRequestData| async move {
                    h::delete_topics::handle(&services, &context, body).await
                },
            ),
            ApiKey::CreatePartitions => self.barrier(
                request,
                |services, _, body: CreatePartitionsRequestData| async move {
                    h::create_partitions::handle(&services, body).await
                },
            ),
            ApiKey::InitProducerId => self.barrier(
                request,
                |services, context, body: InitProducerIdRequestData| async move {
                    h::init_producer_id::handle(&services, &context, &body).await
                },
            ),
            ApiKey::AddPartitionsToTxn => self.barrier(
                request,
                |services, context, body: AddPartitionsToTxnRequestData| async move {
                    h::add_partitions_to_txn::handle(&services, &context, body).await
                },
            ),
            ApiKey::AddOffsetsToTxn => self.barrier(
                request,
                |services, context, body: AddOffsetsToTxnRequestData| async move {
                    h::add_offsets_to_txn::handle(&services, &context, body).await
                },
            ),
            ApiKey::EndTxn => {
                self.barrier(request, |services, context, body: EndTxnRequestData| async move {
                    h::end_txn::handle(&services, &context, body).await
                })
            }
            ApiKey::WriteTxnMarkers => self.barrier(
                request,
                |services, _, body: WriteTxnMarkersRequestData| async move {
                    h::write_txn_markers::handle(&services, body).await
                },
            ),
            ApiKey::DescribeTransactions => self.barrier(
                request,
                |services, _, body: DescribeTransactionsRequestData| async move {
                    h::describe_transactions::handle(&services, body).await
                },
            ),
            ApiKey::ListTransactions => self.barrier(
                request,
                |services, _, body: ListTransactionsRequestData| async move {
                    h::list_transactions::handle(&services, body).await
                },
            ),
            ApiKey::AlterConfigs => {
                self.barrier(request, |services, _, body: AlterConfigsRequestData| async move {
                    h::alter_configs::handle(&services, body).await
                })
            }
            ApiKey::IncrementalAlterConfigs => self.barrier(
                request,
                |services, _, body: IncrementalAlterConfigsRequestData| async move {
                    h::incremental_alter_configs::handle(&services, body).await
                },
            ),
            ApiKey::DescribeLogDirs => self.barrier(
                request,
                |services, _, body: DescribeLogDirsRequestData| async move {
                    h::describe_log_dirs::handle(&services, body).await
                },
            ),
            ApiKey::DescribeProducers => self.barrier(
                request,
                |services, _, body: DescribeProducersRequestData| async move {
                    h::describe_producers::handle(services, body).await
                },
            ),
            ApiKey::ConsumerGroupHeartbeat => self.barrier(
                request,
                |services, context, body: ConsumerGroupHeartbeatRequestData| async move {
                    h::consumer_group_heartbeat::handle(&services, &context, body).await
                },
            ),
            ApiKey::JoinGroup => self.parked(request, h::join_group::handle),
            ApiKey::SyncGroup => self.parked(request, h::sync_group::handle),
            ApiKey::Heartbeat => {
                self.barrier(request, |services, _, body: HeartbeatRequestData| async move {
                    h::heartbeat::handle(&services, &body).await
                })
            }
            ApiKey::LeaveGroup => self.barrier(
                request,
                |services, context, body: LeaveGroupRequestData| async move {
                    h::leave_group::handle(&services, &context, &body).await
                },
            ),
            ApiKey::ConsumerGroupDescribe => self.barrier(
                request,
                |services, _, body: ConsumerGroupDescribeRequestData| async move {
                    h::consumer_group_describe::handle(&services, body).await
                },
            ),
            other => unreachable!("{other:?} is not in the table of APIs"),
        }
    }

    /// Decodes the body and hands it to `handle`, whose future must end before the next request begins.
    fn barrier<M, F, A>(&self, request: Incoming, handle: F) -> Result<Dispatched, CloseReason>
    where
        M: Request + Send + 'static,
        M::Response: Send,
        F: FnOnce(Arc<Services>, RequestContext, M) -> A,
        A: Future<Output = M::Response> + Send + 'static,
    {
        let Incoming {
            context,
            body,
            memory,
        } = request;
        let prefix = context.prefix;
        let body = decode(&context, body)?;
        let work = handle(Arc::clone(&self.services), context, body);
        Ok(Dispatched::Barrier(Box::pin(async move {
            let response = work.await;
            drop(memory);
            Answer::from_response(Response::encode(prefix, &response))
        })))
    }

    /// The same for a request that may wait for other clients, for minutes: `handle` takes from the body what it needs, and the request's
    /// memory is given back before the wait begins.
    fn parked<M, F, A>(&self, request: Incoming, handle: F) -> Result<Dispatched, CloseReason>
    where
        M: Request + Send + 'static,
        M::Response: Send,
        F: FnOnce(Arc<Services>, &RequestContext, &M) -> A,
        A: Future<Output = M::Response> + Send + 'static,
    {
        let prefix = request.context.prefix;
        let body = decode(&request.context, request.body)?;
        let work = handle(Arc::clone(&self.services), &request.context, &body);
        Ok(Dispatched::Barrier(Box::pin(async move {
            Answer::from_response(Response::encode(prefix, &work.await))
        })))
    }
}

impl Dispatch for Dispatcher {
    fn dispatch(&self, connection: &Arc<ConnectionInfo>, frame: Frame) -> Dispatched {
        let dispatched = match frame.admission {
            Admission::Serve(api) => read_header(connection, frame).and_then(|request| {
                tracing::trace!(
                    peer = %request.context.connection.peer, api = ?api.key,
                    version = request.context.version(), client_id = request.context.client_id(), "request"
                );
                self.carry_out(api.key, request)
            }),
            Admission::NegotiateDown => read_header(connection, frame)
                .map(|request| Dispatched::Now(handlers::api_versions::too_new(request.context.prefix))),
            Admission::UnknownApi | Admission::UnsupportedVersion(_) => {
                unreachable!("the frame reader ends the connection instead")
            }
        };
        dispatched.unwrap_or_else(|reason| Dispatched::Now(Answer::Close(reason)))
    }

    fn dispatch_produces(
        &self,
        connection: &Arc<ConnectionInfo>,
        frames: &mut VecDeque<Frame>,
    ) -> Vec<Dispatched> {
        let mut together = handlers::produce::Together::new(&self.services, frames.len());
        let mut memory = Vec::with_capacity(frames.len());
        let mut close = None;
        while let Some(frame) = frames.pop_front() {
            match read_produce(connection, frame) {
                Ok(((context, request), permit)) => {
                    memory.push(permit);
                    if together.take(&context, request).is_break() {
                        break;
                    }
                }
                Err(reason) => {
                    close = Some(Dispatched::Now(Answer::Close(reason)));
                    break;
                }
            }
        }
        let mut dispatched = together.finish();
        // Only the last one may still have to wait.
        if let Some((last, permit)) = dispatched.pop().zip(memory.pop()) {
            dispatched.push(holding(permit, last));
        }
        dispatched.extend(close);
        dispatched
    }
}

/// Holds a request's memory for as long as its records wait to be appended.
fn holding(memory: MemoryPermit, dispatched: Dispatched) -> Dispatched {
    match dispatched {
        Dispatched::Begun(rest) => Dispatched::Begun(Box::pin(async move {
            let dispatched = rest.await;
            drop(memory);
            dispatched
        })),
        other => other,
    }
}

fn read_produce(
    connection: &Arc<ConnectionInfo>,
    frame: Frame,
) -> Result<((RequestContext, ProduceRequestData), MemoryPermit), CloseReason> {
    let Incoming {
        context,
        body,
        memory,
    } = read_header(connection, frame)?;
    request_guard::check(ApiKey::Produce, &body, context.version())?;
    let request = decode(&context, body)?;
    Ok(((context, request), memory))
}

fn read_header(connection: &Arc<ConnectionInfo>, frame: Frame) -> Result<Incoming, CloseReason> {
    let Frame {
        prefix,
        bytes,
        memory,
        ..
    } = frame;
    let mut head = bytes.slice(..bytes.len().min(HEADER_BYTES_MAX));
    let available = head.len();
    let header = read_request_header(&mut head, prefix).map_err(|error| malformed(prefix, &error))?;
    let header_bytes = available - head.len();
    let context = RequestContext {
        connection: Arc::clone(connection),
        prefix,
        client_id: header.client_id,
    };
    Ok(Incoming {
        context,
        body: bytes.slice(header_bytes..),
        memory,
    })
}

/// Decodes a body and carries it out on the spot.
fn now<M: Request>(
    request: Incoming,
    handle: impl FnOnce(&RequestContext, M) -> M::Response,
) -> Result<Dispatched, CloseReason> {
    let body = decode(&request.context, request.body)?;
    let response = handle(&request.context, body);
    let response = Response::encode(request.context.prefix, &response);
    Ok(Dispatched::Now(Answer::from_response(response)))
}

/// Reads a body. Bytes behind it are ignored, as Kafka ignores them.
fn decode<M: Message>(context: &RequestContext, mut body: Bytes) -> Result<M, CloseReason> {
    M::read_from(&mut body, context.version()).map_err(|error| malformed(context.prefix, &error))
}

fn malformed(prefix: RequestPrefix, error: &CodecError) -> CloseReason {
    // The codec's errors say where; their sources say what.
    let first: &dyn Error = error;
    let chain: Vec<String> = successors(Some(first), |error: &&dyn Error| (*error).source())
        .map(ToString::to_string)
        .collect();
    CloseReason::Malformed {
        api_key: prefix.api_key,
        api_version: prefix.api_version,
        reason: chain.join(": "),
    }
}
