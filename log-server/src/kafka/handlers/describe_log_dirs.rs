//! `DescribeLogDirs`, versions 1 to 5: the data directories, the partitions in them and their sizes.
//!
//! - A directory that serves nothing is answered with `KAFKA_STORAGE_ERROR` alone. Version 4 (KIP-827) tells total and usable bytes.
//! - No list of topics means all of them. A partition that is not there is left out, as Kafka leaves it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use log_core::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use log_core::protocol::messages::{DescribeLogDirsRequestData, DescribeLogDirsResponseData};

use crate::kafka::services::{Services, kafka_string};
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::partition::log_dirs::LogDir;
use crate::partition::partition::Partition;

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    request: DescribeLogDirsRequestData,
) -> DescribeLogDirsResponseData {
    let wanted = request.topics.as_deref().map(Wanted::new);
    let log_dirs = services.partitions.log_dirs().await;
    let results = log_dirs.iter().map(|log_dir| result(log_dir, wanted.as_ref()));
    DescribeLogDirsResponseData {
        results: results.collect(),
        ..DescribeLogDirsResponseData::default()
    }
}

/// The partitions that a request names.
#[derive(Debug)]
struct Wanted<'a>(BTreeSet<(&'a str, i32)>);

impl<'a> Wanted<'a> {
    fn new(topics: &'a [DescribableLogDirTopic]) -> Self {
        let partitions = topics.iter().flat_map(|topic| {
            let name = topic.topic.as_str();
            topic.partitions.iter().map(move |index| (name, *index))
        });
        Self(partitions.collect())
    }

    fn has(&self, partition: &Partition) -> bool {
        let name = partition.name();
        self.0.contains(&(&*name.topic, name.partition))
    }
}

fn result(log_dir: &LogDir, wanted: Option<&Wanted<'_>>) -> DescribeLogDirsResult {
    let path = kafka_string(&log_dir.path.to_string_lossy());
    if log_dir.failure.is_some() {
        return DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError.code(),
            log_dir: path,
            total_bytes: -1,
            usable_bytes: -1,
            ..DescribeLogDirsResult::default()
        };
    }
    let is_wanted = |partition: &&Arc<Partition>| {
        *partition.name().topic != *METADATA_TOPIC && wanted.is_none_or(|wanted| wanted.has(partition))
    };
    let mut topics: BTreeMap<&Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in log_dir.partitions.iter().filter(is_wanted) {
        let name = partition.name();
        topics
            .entry(&name.topic)
            .or_default()
            .push(DescribeLogDirsPartition {
                partition_index: name.partition,
                partition_size: i64::try_from(partition.size_in_bytes()).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            });
    }
    let topics = topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic {
        name: kafka_string(name),
        partitions,
        ..DescribeLogDirsTopic::default()
    });
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (total_bytes, usable_bytes) = match &log_dir.space {
        Ok(space) => (number(space.total), number(space.available)),
        Err(_) => (-1, -1),
    };
    DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: path,
        topics: topics.collect(),
        total_bytes,
        usable_bytes,
        ..DescribeLogDirsResult::default()
    }
}
