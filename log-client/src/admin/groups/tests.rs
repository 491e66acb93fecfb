//! A description that is asked for while the group changes its kind.

use log_core::protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use log_core::protocol::messages::find_coordinator_response::Coordinator as FoundCoordinator;
use log_core::protocol::messages::metadata_response::MetadataResponseBroker;
use log_core::protocol::messages::{
    ConsumerGroupDescribeResponseData, DescribeGroupsResponseData, FindCoordinatorRequestData,
    FindCoordinatorResponseData, MetadataResponseData,
};

use super::*;
use crate::config::ClientConfig;
use crate::testing::{Incoming, Reply, ScriptedBroker};

/// What leads to the group: where brokers are, and which coordinates.
fn way_to_the_group(request: &Incoming) -> Reply {
    let host = KafkaString::from_static("127.0.0.1");
    let port = i32::from(request.port);
    if request.api == ApiKey::Metadata {
        let broker = MetadataResponseBroker {
            node_id: 1,
            host,
            port,
            ..MetadataResponseBroker::default()
        };
        return request.answer(&MetadataResponseData {
            brokers: vec![broker],
            controller_id: 1,
            ..MetadataResponseData::default()
        });
    }
    let asked: FindCoordinatorRequestData = request.read();
    let coordinators = asked.coordinator_keys.into_iter().map(|key| FoundCoordinator {
        key,
        node_id: 1,
        host: host.clone(),
        port,
        ..FoundCoordinator::default()
    });
    request.answer(&FindCoordinatorResponseData {
        coordinators: coordinators.collect(),
        ..FindCoordinatorResponseData::default()
    })
}

/// Describes the group `g`, which is a consumer group from the `from`-th question on, and tells how many were asked.
async fn describe(from: usize) -> (Result<GroupDescription>, usize) {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    let unknown = ErrorCode::GroupIdNotFound.code();
    let broker = ScriptedBroker::serving(move |request| {
        let group_id = KafkaString::from_static("g");
        match request.api {
            ApiKey::ConsumerGroupDescribe => {
                let is_one = from <= count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                request.answer(&ConsumerGroupDescribeResponseData {
                    groups: vec![DescribedConsumerGroup {
                        error_code: if is_one { 0 } else { unknown },
                        group_id,
                        group_state: KafkaString::from_static("Stable"),
                        ..DescribedConsumerGroup::default()
                    }],
                    ..ConsumerGroupDescribeResponseData::default()
                })
            }
            ApiKey::DescribeGroups => {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                request.answer(&DescribeGroupsResponseData {
                    groups: vec![DescribedGroup {
                        error_code: unknown,
                        group_id,
                        ..DescribedGroup::default()
                    }],
                    ..DescribeGroupsResponseData::default()
                })
            }
            _ => way_to_the_group(&request),
        }
    })
    .await;
    let admin = Admin::new(ClientConfig::new(&broker.address)).unwrap();
    let described = admin.describe_groups(&["g"]).await.remove(0);
    (described, asked.load(std::sync::atomic::Ordering::SeqCst))
}

#[tokio::test]
async fn a_group_that_changes_its_kind_between_two_questions_is_found() {
    let (described, asked) = describe(1).await;
    assert_eq!((described.unwrap().state, asked), (GroupState::Stable, 3));
}

#[tokio::test]
async fn a_group_that_nobody_knows_is_unknown() {
    let (described, asked) = describe(usize::MAX).await;
    let error = described.unwrap_err();
    assert_eq!((error.code(), asked), (Some(ErrorCode::GroupIdNotFound), 3));
}
