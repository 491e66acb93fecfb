//! A group of one member, whose coordinator fails on demand. As a consumer group it assigns what the test says; as a
//! classic one it makes the member the leader, and passes on what that works out.

use std::collections::{BTreeMap, VecDeque};

use log_core::model::{TopicId, TopicPartition};
use log_core::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use log_core::protocol::messages::find_coordinator_response::Coordinator;
use log_core::protocol::messages::join_group_response::JoinGroupResponseMember;
use log_core::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use log_core::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use log_core::protocol::messages::{
    ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData, FindCoordinatorRequestData,
    FindCoordinatorResponseData, HeartbeatRequestData, HeartbeatResponseData, JoinGroupRequestData,
    JoinGroupResponseData, LeaveGroupResponseData, OffsetCommitRequestData, OffsetCommitResponseData,
    OffsetFetchRequestData, OffsetFetchResponseData, SyncGroupRequestData, SyncGroupResponseData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::{Incoming, Reply};
use crate::consumer_protocol::{Subscription, decode_assignment, decode_subscription, encode_subscription};

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
    /// Every commit is answered with that.
    pub refuses_commits: Option<ErrorCode>,
    pub commit_tries: usize,
    /// How often the member has joined as a classic one.
    pub joins: usize,
    /// How often it has told as a classic one that it is there; refused in a generation that is not the group's.
    pub beats: usize,
    /// What the leader has worked out for itself, each time.
    pub worked_out: Vec<Vec<TopicPartition>>,
    /// The id that it came with, each time it has joined as a classic one.
    pub joined_as: Vec<String>,
    /// Where the member stands, each time it has joined as a classic one.
    pub racks: Vec<Option<String>>,
    /// What another member of the classic group wants, which never says anything.
    pub wanted_by_another: Vec<String>,
    /// How often it has left as a classic one.
    pub leaves: usize,
    /// Whether consumer groups are not served any more.
    pub is_classic: bool,
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

    /// Whether this is the group's epoch.
    pub(super) fn is_current(&self, epoch: i32) -> bool {
        epoch == self.epoch
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
            ApiKey::JoinGroup => self.join(request, code),
            ApiKey::SyncGroup => self.sync(request, code),
            ApiKey::Heartbeat => self.beat(request, code),
            ApiKey::LeaveGroup => {
                self.leaves += 1;
                request.answer(&LeaveGroupResponseData {
                    error_code: code,
                    ..LeaveGroupResponseData::default()
                })
            }
            _ => self.fetch(request),
        }
    }

    fn join(&mut self, request: &Incoming, code: i16) -> Reply {
        let asked: JoinGroupRequestData = request.read();
        let member_id = KafkaString::from_static("member");
        if code != 0 || (asked.member_id.is_empty() && asked.group_instance_id.is_none()) {
            let required = ErrorCode::MemberIdRequired.code();
            return request.answer(&JoinGroupResponseData {
                error_code: if code == 0 { required } else { code },
                member_id,
                ..JoinGroupResponseData::default()
            });
        }
        self.joins += 1;
        self.joined_as.push(asked.member_id.to_string());
        self.epoch += 1;
        let chosen = asked.protocols.into_iter().next().unwrap();
        let wanted = decode_subscription(&chosen.metadata).unwrap();
        self.racks.push(wanted.rack_id);
        let mut members = vec![JoinGroupResponseMember {
            member_id: member_id.clone(),
            metadata: chosen.metadata,
            ..JoinGroupResponseMember::default()
        }];
        if !self.wanted_by_another.is_empty() {
            let wanted = Subscription {
                topics: self.wanted_by_another.clone(),
                ..Subscription::default()
            };
            members.push(JoinGroupResponseMember {
                member_id: KafkaString::from_static("another"),
                metadata: encode_subscription(&wanted).unwrap(),
                ..JoinGroupResponseMember::default()
            });
        }
        request.answer(&JoinGroupResponseData {
            generation_id: self.epoch,
            protocol_type: Some(asked.protocol_type),
            protocol_name: Some(chosen.name),
            leader: member_id.clone(),
            member_id,
            members,
            ..JoinGroupResponseData::default()
        })
    }

    fn sync(&mut self, request: &Incoming, code: i16) -> Reply {
        let asked: SyncGroupRequestData = request.read();
        let mut rows = asked.assignments.iter();
        let mine = rows.find(|row| row.member_id == asked.member_id).unwrap();
        let assignment = mine.assignment.clone();
        let partitions = decode_assignment(&assignment).unwrap().partitions;
        self.worked_out.push(partitions);
        request.answer(&SyncGroupResponseData {
            error_code: code,
            assignment,
            ..SyncGroupResponseData::default()
        })
    }

    /// A heartbeat of a classic member.
    fn beat(&mut self, request: &Incoming, code: i16) -> Reply {
        let asked: HeartbeatRequestData = request.read();
        self.beats += 1;
        let is_late = asked.generation_id != self.epoch;
        let late = is_late.then_some(ErrorCode::IllegalGeneration.code());
        request.answer(&HeartbeatResponseData {
            error_code: if code == 0 { late.unwrap_or(0) } else { code },
            ..HeartbeatResponseData::default()
        })
    }

    fn heartbeat(&mut self, request: &Incoming, code: i16, ids: &BTreeMap<String, TopicId>) -> Reply {
        let asked: ConsumerGroupHeartbeatRequestData = request.read();
        let joins = asked.member_epoch == 0;
        self.heartbeats.push(asked);
        let unserved = self.is_classic.then_some(ErrorCode::UnsupportedVersion.code());
        let code = unserved.unwrap_or(code);
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
        self.commit_tries += 1;
        let code = self.refuses_commits.map_or(code, |code| code.code());
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
