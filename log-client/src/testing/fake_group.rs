//! A consumer group of one member, whose coordinator assigns what the test says and fails on demand.

use std::collections::{BTreeMap, VecDeque};

use log_core::model::{TopicId, TopicPartition};
use log_core::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use log_core::protocol::messages::find_coordinator_response::Coordinator;
use log_core::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use log_core::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use log_core::protocol::messages::{
    ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData, FindCoordinatorRequestData,
    FindCoordinatorResponseData, OffsetCommitRequestData, OffsetCommitResponseData, OffsetFetchRequestData,
    OffsetFetchResponseData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::{Incoming, Reply};

#[derive(Default)]
pub(crate) struct FakeGroup {
    /// Everything the member has said.
    pub heartbeats: Vec<ConsumerGroupHeartbeatRequestData>,
    /// How often the coordinator was looked for.
    pub lookups: usize,
    /// The next request of such an API is answered with that.
    pub errors: VecDeque<(ApiKey, ErrorCode)>,
    /// The commits that were taken, with the epoch they came with.
    pub commits: Vec<(i32, BTreeMap<TopicPartition, i64>)>,
    pub offsets: BTreeMap<TopicPartition, i64>,
    epoch: i32,
    assignment: Vec<(String, i32)>,
    must_assign: bool,
}

impl FakeGroup {
    /// Gives the member these partitions, by a new epoch.
    pub(crate) fn assign(&mut self, partitions: &[(&str, i32)]) {
        let partitions = partitions.iter();
        self.assignment = partitions
            .map(|(topic, index)| ((*topic).to_owned(), *index))
            .collect();
        self.epoch += 1;
        self.must_assign = true;
    }

    /// Counts on without a reason that the member knows.
    pub(crate) fn bump(&mut self) {
        self.epoch += 1;
    }

    /// What the member has said last that it reads, by index.
    pub(crate) fn owned(&self) -> Option<Vec<i32>> {
        let said = self.heartbeats.iter().rev();
        let mut said = said.filter_map(|heartbeat| heartbeat.topic_partitions.as_ref());
        let rows = said.next()?.iter().flat_map(|row| row.partitions.clone());
        Some(rows.collect())
    }

    pub(super) fn serve(&mut self, request: &Incoming, ids: &BTreeMap<String, TopicId>) -> Reply {
        let place = self.errors.iter().position(|(api, _)| *api == request.api);
        let code = place.and_then(|place| self.errors.remove(place));
        let code = code.map_or(0, |(_, code)| code.code());
        match request.api {
            ApiKey::FindCoordinator => {
                self.lookups += 1;
                let asked: FindCoordinatorRequestData = request.read();
                let coordinators = asked.coordinator_keys.into_iter().map(|key| Coordinator {
                    key,
                    node_id: 1,
                    error_code: code,
                    ..Coordinator::default()
                });
                request.answer(&FindCoordinatorResponseData {
                    coordinators: coordinators.collect(),
                    ..FindCoordinatorResponseData::default()
                })
            }
            ApiKey::ConsumerGroupHeartbeat => self.heartbeat(request, code, ids),
            ApiKey::OffsetCommit => self.commit(request, code),
            _ => self.fetch(request),
        }
    }

    fn heartbeat(&mut self, request: &Incoming, code: i16, ids: &BTreeMap<String, TopicId>) -> Reply {
        let asked: ConsumerGroupHeartbeatRequestData = request.read();
        let joins = asked.member_epoch == 0;
        self.heartbeats.push(asked);
        if code != 0 {
            return request.answer(&ConsumerGroupHeartbeatResponseData {
                error_code: code,
                ..ConsumerGroupHeartbeatResponseData::default()
            });
        }
        let assignment = (std::mem::take(&mut self.must_assign) || joins).then(|| {
            let mut topics: BTreeMap<&String, Vec<i32>> = BTreeMap::new();
            for (topic, index) in &self.assignment {
                topics.entry(topic).or_default().push(*index);
            }
            let rows = topics.into_iter().map(|(topic, partitions)| TopicPartitions {
                topic_id: ids[topic].into(),
                partitions,
                ..TopicPartitions::default()
            });
            Box::new(Assignment {
                topic_partitions: rows.collect(),
                ..Assignment::default()
            })
        });
        self.epoch = self.epoch.max(1);
        request.answer(&ConsumerGroupHeartbeatResponseData {
            member_epoch: self.epoch,
            heartbeat_interval_ms: 5,
            assignment,
            ..ConsumerGroupHeartbeatResponseData::default()
        })
    }

    fn commit(&mut self, request: &Incoming, code: i16) -> Reply {
        let asked: OffsetCommitRequestData = request.read();
        let epoch = asked.generation_id_or_member_epoch;
        let code = if code == 0 && epoch != self.epoch {
            ErrorCode::StaleMemberEpoch.code()
        } else {
            code
        };
        let mut offsets = BTreeMap::new();
        let mut topics = Vec::new();
        for topic in &asked.topics {
            let rows = topic.partitions.iter().map(|row| {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                offsets.insert(partition, row.committed_offset);
                OffsetCommitResponsePartition {
                    partition_index: row.partition_index,
                    error_code: code,
                    ..OffsetCommitResponsePartition::default()
                }
            });
            topics.push(OffsetCommitResponseTopic {
                partitions: rows.collect(),
                name: topic.name.clone(),
                ..OffsetCommitResponseTopic::default()
            });
        }
        if code == 0 {
            self.offsets.extend(offsets.clone());
            self.commits.push((epoch, offsets));
        }
        request.answer(&OffsetCommitResponseData {
            topics,
            ..OffsetCommitResponseData::default()
        })
    }

    fn fetch(&mut self, request: &Incoming) -> Reply {
        let asked: OffsetFetchRequestData = request.read();
        let groups = asked.groups.into_iter().map(|group| {
            let topics = group.topics.unwrap_or_default().into_iter().map(|topic| {
                let rows = topic.partition_indexes.iter().map(|index| {
                    let partition = TopicPartition::new(topic.name.as_str(), *index);
                    OffsetFetchResponsePartitions {
                        partition_index: *index,
                        committed_offset: self.offsets.get(&partition).copied().unwrap_or(-1),
                        metadata: Some(KafkaString::default()),
                        ..OffsetFetchResponsePartitions::default()
                    }
                });
                OffsetFetchResponseTopics {
                    partitions: rows.collect(),
                    name: topic.name.clone(),
                    ..OffsetFetchResponseTopics::default()
                }
            });
            OffsetFetchResponseGroup {
                group_id: group.group_id,
                topics: topics.collect(),
                ..OffsetFetchResponseGroup::default()
            }
        });
        request.answer(&OffsetFetchResponseData {
            groups: groups.collect(),
            ..OffsetFetchResponseData::default()
        })
    }
}
