//! A description that is asked for while the group changes its kind.

use log_core::protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use log_core::protocol::messages::{ConsumerGroupDescribeResponseData, DescribeGroupsResponseData};

use super::*;
use crate::config::ClientConfig;
use crate::testing::{ScriptedBroker, directions};

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
            _ => directions(&request),
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
