//! `DescribeLogDirs`, versions 1 to 5: the data directory, the partitions in it and their sizes.
//!
//! - There is one directory. Version 4 (KIP-827) tells its total and usable bytes.
//! - No list of topics means all of them. A partition that is not there is left out, as Kafka leaves it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use log_core::protocol::messages::{DescribeLogDirsRequestData, DescribeLogDirsResponseData};

use crate::kafka::services::{Services, kafka_string};
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::partition::offset_query::blocking;
use crate::partition::partition::Partition;

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    request: DescribeLogDirsRequestData,
) -> DescribeLogDirsResponseData {
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let mut put = |partition: &Arc<Partition>| {
        let name = partition.name();
        topics
            .entry(Arc::clone(&name.topic))
            .or_default()
            .push(DescribeLogDirsPartition {
                partition_index: name.partition,
                partition_size: i64::try_from(partition.size_in_bytes()).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            });
    };
    match &request.topics {
        None => {
            let all = services.partitions.all();
            all.iter()
                .filter(|partition| *partition.name().topic != *METADATA_TOPIC)
                .for_each(&mut put);
        }
        Some(asked) => {
            for topic in asked {
                let name = topic.topic.as_str();
                let here = topic
                    .partitions
                    .iter()
                    .filter_map(|index| services.partition(name, *index));
                here.for_each(|partition| put(&partition));
            }
        }
    }
    let topics = topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic {
        name: kafka_string(&name),
        partitions,
        ..DescribeLogDirsTopic::default()
    });
    let (total_bytes, usable_bytes) = space(services).await;
    DescribeLogDirsResponseData {
        results: vec![DescribeLogDirsResult {
            error_code: ErrorCode::None.code(),
            log_dir: kafka_string(&services.config.data_dir.to_string_lossy()),
            topics: topics.collect(),
            total_bytes,
            usable_bytes,
            ..DescribeLogDirsResult::default()
        }],
        ..DescribeLogDirsResponseData::default()
    }
}

/// Total and usable bytes of the file system; −1 when it does not say.
async fn space(services: &Services) -> (i64, i64) {
    let manager = Arc::clone(&services.log_manager);
    let asked = blocking(move || manager.space()).await;
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match asked {
        Ok(Ok(space)) => (number(space.total), number(space.available)),
        _ => (-1, -1),
    }
}
