//! Questions about many partitions, each put to the partition's leader, until all are answered.
//!
//! Leaders move: a partition whose answer is retriable is asked about again, from its new leader, until the
//! deadline; the others keep the answers they have.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use log_core::model::{LeaderEpoch, TopicPartition};
use log_core::protocol::ApiKey;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::metadata::BrokerId;

/// One partition's question on its way to the leader.
#[derive(Debug, Clone)]
pub(crate) struct Question<Q> {
    pub partition: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    pub about: Q,
}

/// What one leader answered about its partitions; a failure of the request counts for each of them.
pub(crate) type Answers<A> = Result<Vec<(TopicPartition, Result<A>)>>;

/// Asks `ask` about each partition, once per leader and round, and returns the answers in the order of the
/// questions.
pub(crate) async fn by_leader<Q, A, F, Fut>(
    cluster: &Cluster,
    api: ApiKey,
    questions: Vec<(TopicPartition, Q)>,
    deadline: Instant,
    ask: F,
) -> Vec<(TopicPartition, Result<A>)>
where
    Q: Clone,
    F: Fn(BrokerId, Vec<Question<Q>>) -> Fut,
    Fut: Future<Output = Answers<A>>,
{
    let mut answers: HashMap<TopicPartition, Result<A>> = HashMap::new();
    let mut open: Vec<_> = questions.iter().collect();
    let mut failures = 0;
    for (partition, _) in &questions {
        cluster.watch_topic(&partition.topic);
    }
    loop {
        let (rounds, unled) = group(cluster, &open);
        answers.extend(unled);
        let asked = futures_util::future::join_all(rounds.into_iter().map(|(leader, questions)| {
            let partitions: Vec<_> = questions
                .iter()
                .map(|question| question.partition.clone())
                .collect();
            let answer = ask(leader, questions);
            async move { (partitions, answer.await) }
        }))
        .await;
        for (partitions, answer) in asked {
            match answer {
                Ok(rows) => answers.extend(rows),
                Err(error) => {
                    let failed = partitions
                        .into_iter()
                        .map(|partition| (partition, Err(error.clone())));
                    answers.extend(failed);
                }
            }
        }

        open.retain(|(partition, _)| match answers.get(partition) {
            Some(Ok(_)) => false,
            Some(Err(error)) => error.is_retriable() || error.wants_metadata(),
            None => true,
        });
        failures += 1;
        // The first look into the metadata of a topic finds nothing, and is not worth waiting for.
        let wait = if cluster.metadata().generation == 0 || failures == 1 {
            std::time::Duration::ZERO
        } else {
            cluster.config().retry_backoff.after(failures - 1)
        };
        if open.is_empty() || deadline <= Instant::now() + wait {
            break;
        }
        tokio::time::sleep(wait).await;
        if let Err(error) = cluster.refresh(cluster.metadata().generation).await
            && !error.is_retriable()
        {
            for (partition, _) in &open {
                answers.insert(partition.clone(), Err(error.clone()));
            }
            break;
        }
    }
    questions
        .into_iter()
        .map(|(partition, _)| {
            let answer = answers.remove(&partition);
            let answer = answer.unwrap_or_else(|| Err(unanswered(cluster, api, &partition)));
            (partition, answer)
        })
        .collect()
}

fn unanswered(cluster: &Cluster, api: ApiKey, partition: &TopicPartition) -> Error {
    Error::Unexpected {
        address: cluster.config().bootstrap.join(", ").into(),
        api,
        what: format!("nothing about {partition}").into(),
    }
}

type Rounds<Q> = BTreeMap<BrokerId, Vec<Question<Q>>>;
type Unled<A> = Vec<(TopicPartition, Result<A>)>;

/// Sorts the questions by leader; those about partitions without one are answered with that.
fn group<Q: Clone, A>(cluster: &Cluster, open: &[&(TopicPartition, Q)]) -> (Rounds<Q>, Unled<A>) {
    let metadata = cluster.metadata();
    let mut rounds: Rounds<Q> = BTreeMap::new();
    let mut unled = Vec::new();
    for (partition, question) in open {
        match metadata.leader(partition) {
            Ok((leader, leader_epoch)) => rounds.entry(leader).or_default().push(Question {
                partition: partition.clone(),
                leader_epoch,
                about: question.clone(),
            }),
            Err(error) => unled.push((partition.clone(), Err(error))),
        }
    }
    (rounds, unled)
}

/// Puts rows that belong to one topic together, as the requests want them.
pub(crate) fn by_topic<T>(
    rows: impl IntoIterator<Item = (TopicPartition, T)>,
) -> BTreeMap<std::sync::Arc<str>, Vec<(i32, T)>> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (partition, row) in rows {
        topics
            .entry(partition.topic)
            .or_default()
            .push((partition.partition, row));
    }
    topics
}
