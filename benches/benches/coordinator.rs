//! What a commit of offsets costs the coordinator, disk and network aside: the command, its records encoded, their replay.
//!
//! Groups take turns, each commits the next offset of all its partitions, as consumers do. What a commit costs must not
//! depend on how many other groups there are.

use std::sync::Arc;

use clap::Parser as _;
use log_bench::case::{Case, Options, Watch};
use log_bench::source;
use log_core::clock::SteadyMs;
use log_core::model::TopicId;
use log_server::coordinator::group::context::{Context, LogRange, TopicFacts, Topics};
use log_server::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use log_server::coordinator::group::offsets::topic_ref::TopicRef;
use log_server::coordinator::group::settings::GroupSettings;
use log_server::coordinator::group::shard::GroupShard;
use log_server::coordinator::record::LogRecord as _;

const TOPIC: &str = "measured";

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut cases = Vec::new();
    for (groups, partitions) in [(1, 1), (1, 10), (1, 100), (1000, 1), (1000, 10)] {
        let per_commit = u64::try_from(partitions)?;
        let times = options.times(200_000 / per_commit);
        let mut world = World::new(groups, partitions);
        let name = format!("{partitions} partitions, one of {groups} groups");
        cases.push(Case::new("commit offsets", name, move || {
            Watch::repeat(times, 0, |turn| world.commit(turn))
        }));
    }
    options.run("The coordinator of groups", cases)
}

/// One topic with all partitions anybody asks for.
#[derive(Debug)]
struct OneTopic {
    partitions: i32,
}

impl Topics for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        (name == TOPIC).then(|| TopicFacts {
            name: TOPIC.into(),
            id: TopicId::from_bytes(*b"measured, always"),
            partition_count: self.partitions,
        })
    }

    fn by_id(&self, _id: TopicId) -> Option<TopicFacts> {
        self.by_name(TOPIC)
    }

    fn names(&self) -> Vec<Arc<str>> {
        vec![TOPIC.into()]
    }

    fn log_range(&self, _topic: &str, _partition: i32) -> Option<LogRange> {
        None
    }
}

struct World {
    shard: GroupShard,
    settings: GroupSettings,
    topics: OneTopic,
    requests: Vec<CommitRequest>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl World {
    fn new(groups: usize, partitions: i32) -> Self {
        let request = |number| CommitRequest {
            group: format!("group-{number}").into(),
            member_id: "".into(),
            instance_id: None,
            generation_or_epoch: -1,
            request_version: 9,
            retention_ms: None,
            topics: vec![CommitTopic {
                topic: TopicRef::Name(TOPIC.into()),
                partitions: (0..partitions)
                    .map(|partition| CommitPartition {
                        partition,
                        offset: 0,
                        leader_epoch: 0,
                        metadata: None,
                    })
                    .collect(),
            }],
        };
        Self {
            shard: GroupShard::default(),
            settings: GroupSettings::default(),
            topics: OneTopic { partitions },
            requests: (0..groups).map(request).collect(),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    fn commit(&mut self, turn: u64) -> anyhow::Result<usize> {
        let place = usize::try_from(turn)? % self.requests.len();
        let Some(request) = self.requests.get_mut(place) else {
            return Ok(0);
        };
        for partition in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.offset += 1;
        }
        let mut random_id = || [7; 16];
        let mut context = Context::new(
            source::TIMESTAMP,
            SteadyMs::default(),
            &self.settings,
            &self.topics,
            &mut random_id,
        );
        let answer = self.shard.commit_offsets(&mut context, request);
        anyhow::ensure!(answer.iter().flatten().all(Result::is_ok), "{answer:?}");
        let records = context.records;
        let mut encoded = 0;
        for record in &records {
            self.key.clear();
            self.value.clear();
            record.encode_key(&mut self.key)?;
            record.encode_value(&mut self.value)?;
            encoded += self.key.len() + self.value.len();
            self.shard.replay(record);
        }
        Ok(encoded)
    }
}
