//! `DescribeCluster`, versions 0 to 2: the cluster's id and its one broker, which is the controller too.
//!
//! - Version 1 (KIP-919) can ask for controllers, which a broker's port answers with `MISMATCHED_ENDPOINT_TYPE`.
//! - Version 2 (KIP-1073) tells fenced brokers; there are none.

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use log_core::protocol::messages::{DescribeClusterRequestData, DescribeClusterResponseData};

use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{CLUSTER_OPERATIONS, NO_OPERATIONS, Services, kafka_string, message};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    context: &RequestContext,
    request: &DescribeClusterRequestData,
) -> DescribeClusterResponseData {
    let refuse = |error: ErrorCode, text: &str| DescribeClusterResponseData {
        error_code: error.code(),
        error_message: Some(message(&text)),
        ..DescribeClusterResponseData::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return refuse(
                ErrorCode::MismatchedEndpointType,
                "this is a broker's port, not a controller's",
            );
        }
        _ => {
            return refuse(
                ErrorCode::UnsupportedEndpointType,
                "there are brokers (1) and controllers (2)",
            );
        }
    }
    let endpoint = &context.connection.advertised;
    let node_id = services.config.node_id;
    DescribeClusterResponseData {
        cluster_id: kafka_string(services.controller.image().cluster_id()),
        controller_id: node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: node_id,
            host: kafka_string(&endpoint.host),
            port: i32::from(endpoint.port),
            ..DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            NO_OPERATIONS
        },
        ..DescribeClusterResponseData::default()
    }
}
