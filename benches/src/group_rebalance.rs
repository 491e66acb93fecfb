//! A group of KIP-848 with many members: how long after one joins or leaves everybody has what it is to have in the end.
//!
//! Members are no clients. In each turn all of them send a heartbeat, and then all answers are read; a member that was told something new
//! does it in the next turn: it says what it has from now on. Clients wait for the heartbeat's interval (5 s) between turns in which they were
//! told nothing; these wait a millisecond, when nobody was. So what is measured is the broker's part.

use std::time::{Duration, Instant};

use anyhow::ensure;
use log_core::protocol::messages::ConsumerGroupHeartbeatRequestData;
use log_core::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use log_core::protocol::messages::consumer_group_heartbeat_response::Assignment;

use crate::group_members::{HEARTBEAT_VERSION, PAUSE, joining, still_there};
use crate::raw::{Connection, decode, encode};

const GIVE_UP: Duration = Duration::from_mins(1);

/// A group.
#[derive(Debug)]
pub struct RebalancingGroup {
    address: String,
    name: String,
    topics: String,
    /// Partitions of all topics.
    partitions: usize,
    members: Vec<Member>,
    joined: usize,
}

#[derive(Debug)]
struct Member {
    connection: Connection,
    next: ConsumerGroupHeartbeatRequestData,
    epoch: i32,
    owned: usize,
}

/// What a rebalance took.
#[derive(Debug, Clone, Copy)]
pub struct Rebalanced {
    /// From the moment somebody joined or left until everybody had its assignment.
    pub time: Duration,
    /// Heartbeats of all members meanwhile.
    pub heartbeats: usize,
}

impl RebalancingGroup {
    /// A group without members, for topics separated by commas.
    #[must_use]
    pub fn new(address: &str, name: &str, topics: &str, partitions: usize) -> Self {
        Self {
            address: address.to_owned(),
            name: name.to_owned(),
            topics: topics.to_owned(),
            partitions,
            members: Vec::new(),
            joined: 0,
        }
    }

    /// Some members join at once.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn join(&mut self, count: usize) -> anyhow::Result<Rebalanced> {
        let before = self.epoch();
        let mut joining_members = Vec::with_capacity(count);
        for _ in 0..count {
            self.joined += 1;
            let id = format!("{}-member-{}", self.name, self.joined);
            joining_members.push(Member {
                connection: Connection::open(&self.address).await?,
                next: joining(&self.name, &id, &self.topics),
                epoch: 0,
                owned: 0,
            });
        }
        let begun = Instant::now();
        turn(&mut joining_members).await?;
        self.members.extend(joining_members);
        self.settle(begun, before, count).await
    }

    /// The member that joined first leaves.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn leave(&mut self) -> anyhow::Result<Rebalanced> {
        ensure!(1 < self.members.len(), "somebody must stay");
        let before = self.epoch();
        let mut leaving = self.members.remove(0);
        leaving.next = still_there(&leaving.next, -1);
        let begun = Instant::now();
        let mut leaving = [leaving];
        turn(&mut leaving).await?;
        self.settle(begun, before, 1).await
    }

    /// Everybody leaves.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn end(mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.next = still_there(&member.next, -1);
        }
        turn(&mut self.members).await.map(drop)
    }

    fn epoch(&self) -> i32 {
        self.members.iter().map(|member| member.epoch).max().unwrap_or(0)
    }

    /// Lets members speak until all are in one epoch above `before` and have all partitions. So many heartbeats came before.
    async fn settle(
        &mut self,
        begun: Instant,
        before: i32,
        mut heartbeats: usize,
    ) -> anyhow::Result<Rebalanced> {
        while !self.is_settled(before) {
            let heard = turn(&mut self.members).await?;
            heartbeats += self.members.len();
            ensure!(begun.elapsed() < GIVE_UP, "the group does not settle");
            if !heard {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let time = begun.elapsed();
        // Who was told something last says that it has it.
        turn(&mut self.members).await?;
        Ok(Rebalanced { time, heartbeats })
    }

    fn is_settled(&self, before: i32) -> bool {
        let epoch = self.epoch();
        let owned: usize = self.members.iter().map(|member| member.owned).sum();
        let share = self.partitions / self.members.len();
        before < epoch
            && owned == self.partitions
            && self
                .members
                .iter()
                .all(|member| member.epoch == epoch && share <= member.owned && member.owned <= share + 1)
    }
}

/// Everybody speaks once; answers whether anybody was told something.
async fn turn(members: &mut [Member]) -> anyhow::Result<bool> {
    for member in &mut *members {
        let frame = encode(&member.next, HEARTBEAT_VERSION)?;
        member.connection.send(&frame).await?;
    }
    let mut heard = false;
    for member in members {
        let answer = member.connection.receive().await?;
        let answer = decode::<ConsumerGroupHeartbeatRequestData>(answer, HEARTBEAT_VERSION)?;
        ensure!(
            answer.error_code == 0,
            "ConsumerGroupHeartbeat: error {} {}",
            answer.error_code,
            answer
                .error_message
                .as_ref()
                .map_or("", |message| message.as_str())
        );
        heard |= answer.assignment.is_some() || answer.member_epoch != member.epoch;
        member.epoch = answer.member_epoch;
        member.next = still_there(&member.next, answer.member_epoch);
        if let Some(assignment) = answer.assignment {
            member.has(&assignment);
        }
    }
    Ok(heard)
}

impl Member {
    fn has(&mut self, assignment: &Assignment) {
        let topics = assignment.topic_partitions.iter();
        let owned: Vec<_> = topics
            .map(|topic| TopicPartitions {
                topic_id: topic.topic_id,
                partitions: topic.partitions.clone(),
                ..TopicPartitions::default()
            })
            .collect();
        self.owned = owned.iter().map(|topic| topic.partitions.len()).sum();
        self.next.topic_partitions = Some(owned);
    }
}
