//! `consume --group`: the records that a group gives to this member.
//!
//! What was written counts as done, and is committed then: a record is shown at least once. A group goes on until
//! somebody ends it, and then leaves in order, so that others take over at once.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::ValueEnum;
use log_client::config::{ConsumerConfig, StartAt};
use log_client::consumer::PartitionRecords;
use log_client::group::{
    AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol, Rebalance, RebalanceListener,
};
use log_core::model::TopicPartition;
use tokio::sync::mpsc;

use super::format::Formatter;
use super::{ConsumeArgs, Reading};
use crate::cli::connection::ConnectionArgs;
use crate::cli::failure::{Failure, Kind, Outcome};
use crate::cli::output::{Output, is_watched};
use crate::cli::partitions::ranges;
use crate::cli::signals::told_to_stop;

/// How long leaving the group may take, when somebody waits for the command's end.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// How a group works out who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    /// Its members do
    Classic,
    /// The broker does
    Consumer,
}

/// Where a group begins that has committed nothing yet.
pub(super) fn first_start(arguments: &ConsumeArgs) -> Outcome<AutoOffsetReset> {
    match arguments.asked_offset() {
        None | Some(StartAt::Earliest) => Ok(AutoOffsetReset::Earliest),
        Some(StartAt::Latest) => Ok(AutoOffsetReset::Latest),
        Some(_) => Err(Failure::usage(
            "a group goes on where it has committed; where it begins the first time is earliest or latest",
        )
        .advise("`stratalog group reset-offsets` sets where it goes on")),
    }
}

pub(super) async fn run(
    arguments: &ConsumeArgs,
    group: &str,
    connection: &ConnectionArgs,
    output: &mut Output,
) -> Outcome {
    let formatter = Formatter::new(&arguments.format, output.is_json())?;
    let mut consumer = GroupConsumer::new(GroupConfig {
        consumer: ConsumerConfig {
            client: connection.config(),
            isolation: arguments.isolation_level,
            ..ConsumerConfig::new("")
        },
        group_protocol: match arguments.protocol {
            Some(Protocol::Classic) => GroupProtocol::Classic,
            Some(Protocol::Consumer) | None => GroupProtocol::Consumer,
        },
        enable_auto_commit: !arguments.no_commit,
        auto_offset_reset: first_start(arguments)?,
        close_timeout: CLOSE_MAX,
        ..GroupConfig::new("", group)
    })?;
    check_topics(&arguments.topics, &consumer).await?;
    let (sender, mut news) = mpsc::unbounded_channel();
    if is_watched() {
        consumer.set_listener(Teller {
            group: group.to_owned(),
            held: BTreeSet::new(),
            news: sender,
        });
    }
    match &arguments.pattern {
        Some(pattern) => consumer.subscribe_pattern(pattern)?,
        None => consumer.subscribe(&arguments.topics)?,
    }

    let mut reading = Reading::following(arguments, formatter);
    let outcome = tokio::select! {
        outcome = read(&mut consumer, &mut reading, &mut news, output) => outcome,
        stopped = told_to_stop() => stopped,
    };
    let closed = tokio::select! {
        closed = consumer.close() => closed.map_err(Failure::from),
        // Told a second time, it does not wait for the group.
        stopped = told_to_stop() => stopped.and(Err(Failure::silent(Kind::Interrupted))),
    };
    while let Ok(text) = news.try_recv() {
        output.remark(text);
    }
    let closed = closed.map_err(|failure| failure.during(format_args!("leaving group {group}")));
    outcome.and(reading.formatter.end(output)).and(closed)
}

/// A topic that is not there is not waited for: it was mistyped, or will be created by hand.
async fn check_topics(topics: &[String], consumer: &GroupConsumer) -> Outcome {
    let cluster = consumer.cluster();
    for topic in topics {
        cluster.watch_topic(topic);
    }
    cluster.refresh(cluster.metadata().generation).await?;
    let metadata = cluster.metadata();
    for topic in topics {
        metadata.topic(topic)?;
    }
    Ok(())
}

async fn read(
    consumer: &mut GroupConsumer,
    reading: &mut Reading,
    news: &mut mpsc::UnboundedReceiver<String>,
    output: &mut Output,
) -> Outcome {
    while !reading.is_over() {
        let pieces = tokio::select! {
            pieces = consumer.poll() => pieces?,
            Some(text) = news.recv() => {
                output.remark(text);
                continue;
            }
        };
        if let Err(failure) = show(&pieces, consumer, reading, output) {
            // Nobody has seen them: they are not committed.
            for piece in &pieces {
                go_on_at(piece, piece.asked_offset(), consumer);
            }
            return Err(failure);
        }
    }
    Ok(())
}

fn show(
    pieces: &[PartitionRecords],
    consumer: &mut GroupConsumer,
    reading: &mut Reading,
    output: &mut Output,
) -> Outcome {
    for piece in pieces {
        let next = reading.show(piece, None, output)?;
        if next < piece.next_offset() {
            // No more were wanted: the group goes on with the first that was not shown.
            go_on_at(piece, next, consumer);
        }
    }
    output.flush()
}

fn go_on_at(piece: &PartitionRecords, offset: log_core::model::Offset, consumer: &mut GroupConsumer) {
    // A partition that was given up meanwhile is somebody else's.
    consumer.seek(piece.partition(), StartAt::Offset(offset)).ok();
}

/// Tells who watches what this member reads.
struct Teller {
    group: String,
    held: BTreeSet<TopicPartition>,
    news: mpsc::UnboundedSender<String>,
}

impl Teller {
    fn tell(&self, text: &str) {
        // Nobody listens any more when the command ends.
        self.news.send(format!("group {}: {text}", self.group)).ok();
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.held.remove(partition);
        }
    }
}

impl RebalanceListener for Teller {
    fn assigned(&mut self, partitions: &[TopicPartition], _rebalance: &mut Rebalance) {
        self.held.extend(partitions.iter().cloned());
        if !partitions.is_empty() {
            self.tell(&format!("begins with {}", ranges(partitions)));
        } else if self.held.is_empty() {
            self.tell("nothing to read for this member; it waits for partitions that others give up");
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition], _rebalance: &mut Rebalance) {
        self.forget(partitions);
        self.tell(&format!("gives up {}", ranges(partitions)));
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.forget(partitions);
        let lost = ranges(partitions);
        self.tell(&format!("has lost {lost}: it was silent for too long"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_is_told_what_is_read() {
        let (news, mut told) = mpsc::unbounded_channel();
        let mut teller = Teller {
            group: "g".to_owned(),
            held: BTreeSet::new(),
            news,
        };
        let partitions: Vec<_> = (0..3).map(|number| TopicPartition::new("t", number)).collect();
        let mut rebalance = Rebalance::default();
        let mut check = |expected: Option<&str>| {
            assert_eq!(told.try_recv().ok().as_deref(), expected);
        };
        teller.assigned(&[], &mut rebalance);
        check(Some(
            "group g: nothing to read for this member; it waits for partitions that others give up",
        ));
        teller.assigned(&partitions, &mut rebalance);
        check(Some("group g: begins with t 0-2"));
        teller.revoked(&partitions[..1], &mut rebalance);
        check(Some("group g: gives up t 0"));
        // A change that gave this member nothing new.
        teller.assigned(&[], &mut rebalance);
        check(None);
        teller.lost(&partitions[1..]);
        check(Some("group g: has lost t 1-2: it was silent for too long"));
    }
}
