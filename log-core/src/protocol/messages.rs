//! Kafka's messages, by the names of their schemas: `ProduceRequestData` answers to `ProduceResponseData`.
//!
//! Each API's module is re-exported whole, so that nested types keep the place that tells two of the same
//! name apart (`fetch_response::PartitionData`, `metadata_response::MetadataResponseTopic`).

use bytes::{Bytes, BytesMut};

use super::{ApiKey, CodecError, Message, Request};

pub use kacrab_protocol::generated::request_header::RequestHeaderData;
pub use kacrab_protocol::generated::response_header::ResponseHeaderData;

// What members of classic groups of consumers tell each other; no API of its own, and preceded by its version.
pub use kacrab_protocol::generated::consumer_protocol_assignment::ConsumerProtocolAssignmentData;
pub use kacrab_protocol::generated::consumer_protocol_subscription::ConsumerProtocolSubscriptionData;
pub use kacrab_protocol::generated::{consumer_protocol_assignment, consumer_protocol_subscription};

macro_rules! apis {
    ($($api:ident: $request_module:ident $request:ident, $response_module:ident $response:ident;)*) => {
        $(
            pub use kacrab_protocol::generated::{$request_module, $response_module};
            pub use kacrab_protocol::generated::$request_module::$request;
            pub use kacrab_protocol::generated::$response_module::$response;

            apis!(@message $request);
            apis!(@message $response);

            impl Request for $request {
                const API_KEY: ApiKey = ApiKey::$api;
                type Response = $response;
            }
        )*
    };
    (@message $message:ident) => {
        impl Message for $message {
            fn read_from(buffer: &mut Bytes, version: i16) -> Result<Self, CodecError> {
                Ok(Self::read(buffer, version)?)
            }

            fn write_to(&self, buffer: &mut BytesMut, version: i16) -> Result<(), CodecError> {
                Ok(self.write(buffer, version)?)
            }

            fn encoded_len(&self, version: i16) -> Result<usize, CodecError> {
                Ok(self.encoded_len(version)?)
            }
        }
    };
}

apis! {
    Produce: produce_request ProduceRequestData, produce_response ProduceResponseData;
    Fetch: fetch_request FetchRequestData, fetch_response FetchResponseData;
    ListOffsets: list_offsets_request ListOffsetsRequestData, list_offsets_response ListOffsetsResponseData;
    Metadata: metadata_request MetadataRequestData, metadata_response MetadataResponseData;
    OffsetCommit: offset_commit_request OffsetCommitRequestData, offset_commit_response OffsetCommitResponseData;
    OffsetFetch: offset_fetch_request OffsetFetchRequestData, offset_fetch_response OffsetFetchResponseData;
    FindCoordinator: find_coordinator_request FindCoordinatorRequestData, find_coordinator_response FindCoordinatorResponseData;
    JoinGroup: join_group_request JoinGroupRequestData, join_group_response JoinGroupResponseData;
    Heartbeat: heartbeat_request HeartbeatRequestData, heartbeat_response HeartbeatResponseData;
    LeaveGroup: leave_group_request LeaveGroupRequestData, leave_group_response LeaveGroupResponseData;
    SyncGroup: sync_group_request SyncGroupRequestData, sync_group_response SyncGroupResponseData;
    DescribeGroups: describe_groups_request DescribeGroupsRequestData, describe_groups_response DescribeGroupsResponseData;
    ListGroups: list_groups_request ListGroupsRequestData, list_groups_response ListGroupsResponseData;
    SaslHandshake: sasl_handshake_request SaslHandshakeRequestData, sasl_handshake_response SaslHandshakeResponseData;
    ApiVersions: api_versions_request ApiVersionsRequestData, api_versions_response ApiVersionsResponseData;
    CreateTopics: create_topics_request CreateTopicsRequestData, create_topics_response CreateTopicsResponseData;
    DeleteTopics: delete_topics_request DeleteTopicsRequestData, delete_topics_response DeleteTopicsResponseData;
    DeleteRecords: delete_records_request DeleteRecordsRequestData, delete_records_response DeleteRecordsResponseData;
    InitProducerId: init_producer_id_request InitProducerIdRequestData, init_producer_id_response InitProducerIdResponseData;
    OffsetForLeaderEpoch: offset_for_leader_epoch_request OffsetForLeaderEpochRequestData, offset_for_leader_epoch_response OffsetForLeaderEpochResponseData;
    AddPartitionsToTxn: add_partitions_to_txn_request AddPartitionsToTxnRequestData, add_partitions_to_txn_response AddPartitionsToTxnResponseData;
    AddOffsetsToTxn: add_offsets_to_txn_request AddOffsetsToTxnRequestData, add_offsets_to_txn_response AddOffsetsToTxnResponseData;
    EndTxn: end_txn_request EndTxnRequestData, end_txn_response EndTxnResponseData;
    WriteTxnMarkers: write_txn_markers_request WriteTxnMarkersRequestData, write_txn_markers_response WriteTxnMarkersResponseData;
    TxnOffsetCommit: txn_offset_commit_request TxnOffsetCommitRequestData, txn_offset_commit_response TxnOffsetCommitResponseData;
    DescribeConfigs: describe_configs_request DescribeConfigsRequestData, describe_configs_response DescribeConfigsResponseData;
    AlterConfigs: alter_configs_request AlterConfigsRequestData, alter_configs_response AlterConfigsResponseData;
    DescribeLogDirs: describe_log_dirs_request DescribeLogDirsRequestData, describe_log_dirs_response DescribeLogDirsResponseData;
    SaslAuthenticate: sasl_authenticate_request SaslAuthenticateRequestData, sasl_authenticate_response SaslAuthenticateResponseData;
    CreatePartitions: create_partitions_request CreatePartitionsRequestData, create_partitions_response CreatePartitionsResponseData;
    DeleteGroups: delete_groups_request DeleteGroupsRequestData, delete_groups_response DeleteGroupsResponseData;
    IncrementalAlterConfigs: incremental_alter_configs_request IncrementalAlterConfigsRequestData, incremental_alter_configs_response IncrementalAlterConfigsResponseData;
    OffsetDelete: offset_delete_request OffsetDeleteRequestData, offset_delete_response OffsetDeleteResponseData;
    DescribeCluster: describe_cluster_request DescribeClusterRequestData, describe_cluster_response DescribeClusterResponseData;
    DescribeProducers: describe_producers_request DescribeProducersRequestData, describe_producers_response DescribeProducersResponseData;
    DescribeTransactions: describe_transactions_request DescribeTransactionsRequestData, describe_transactions_response DescribeTransactionsResponseData;
    ListTransactions: list_transactions_request ListTransactionsRequestData, list_transactions_response ListTransactionsResponseData;
    ConsumerGroupHeartbeat: consumer_group_heartbeat_request ConsumerGroupHeartbeatRequestData, consumer_group_heartbeat_response ConsumerGroupHeartbeatResponseData;
    ConsumerGroupDescribe: consumer_group_describe_request ConsumerGroupDescribeRequestData, consumer_group_describe_response ConsumerGroupDescribeResponseData;
    GetTelemetrySubscriptions: get_telemetry_subscriptions_request GetTelemetrySubscriptionsRequestData, get_telemetry_subscriptions_response GetTelemetrySubscriptionsResponseData;
    PushTelemetry: push_telemetry_request PushTelemetryRequestData, push_telemetry_response PushTelemetryResponseData;
    ListConfigResources: list_config_resources_request ListConfigResourcesRequestData, list_config_resources_response ListConfigResourcesResponseData;
    DescribeTopicPartitions: describe_topic_partitions_request DescribeTopicPartitionsRequestData, describe_topic_partitions_response DescribeTopicPartitionsResponseData;
}

apis!(@message ConsumerProtocolSubscriptionData);
apis!(@message ConsumerProtocolAssignmentData);
