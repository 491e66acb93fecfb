//! Where `consume` begins and ends in each partition.
//!
//! A place outside of a partition is moved to its nearest end: of several partitions one may be shorter
//! than the offset that was asked for. Records that are deleted already are mentioned.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use log_client::config::StartAt;
use log_client::consumer::Consumer;
use log_client::offsets::OffsetQuery;
use log_core::model::{Offset, TopicPartition};

use crate::cli::failure::Outcome;

/// `--offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetArgument(pub(super) StartAt);

impl FromStr for OffsetArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "an offset, earliest, latest, or -N for N records before the end".to_owned();
        let start = match text {
            "earliest" | "beginning" => StartAt::Earliest,
            "latest" | "end" => StartAt::Latest,
            _ => {
                if let Some(digits) = text.strip_prefix('-') {
                    StartAt::BeforeEnd(digits.parse().map_err(|_| expected())?)
                } else {
                    StartAt::Offset(Offset::new(text.parse().map_err(|_| expected())?))
                }
            }
        };
        Ok(Self(start))
    }
}

/// What is read of one partition: from `begin` up to, but not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) partition: TopicPartition,
    pub(super) begin: Offset,
    pub(super) end: Offset,
}

/// What is read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ranges: Vec<Range>,
    /// Partitions that no longer have the offset that was asked for, and their first one.
    pub(super) cut: Vec<(TopicPartition, Offset)>,
}

impl Plan {
    /// Looks up begin and end of these partitions of each topic, or of all if none is named.
    pub(super) async fn make(
        consumer: &Consumer,
        topics: &[String],
        partitions: &[i32],
        start: StartAt,
    ) -> Outcome<Self> {
        let cluster = consumer.cluster();
        // A topic that is not there is not waited for: it was mistyped, or will be created by hand.
        for topic in topics {
            cluster.watch_topic(topic);
        }
        cluster.refresh(cluster.metadata().generation).await?;
        let metadata = cluster.metadata();
        // One that is named twice is read once.
        let mut named = BTreeSet::new();
        for topic in topics {
            let found = metadata.topic(topic)?;
            let all = found.partitions.iter().map(|partition| partition.partition);
            let numbers: Vec<i32> = if partitions.is_empty() {
                all.collect()
            } else {
                partitions.to_vec()
            };
            for number in numbers {
                found.partition(number)?;
                named.insert(TopicPartition::new(Arc::clone(&found.name), number));
            }
        }

        let offsets = |query: OffsetQuery| {
            let queries = named.iter().map(|partition| (partition.clone(), query)).collect();
            consumer.list_offsets(queries)
        };
        let starts = named.iter().map(|partition| (partition.clone(), start)).collect();
        let (first, end, begin) = tokio::join!(
            offsets(OffsetQuery::Earliest),
            offsets(OffsetQuery::Latest),
            consumer.starting_offsets(starts)
        );
        let mut first = listed(first)?;
        let mut end = listed(end)?;
        let mut plan = Self {
            ranges: Vec::new(),
            cut: Vec::new(),
        };
        for (partition, begin) in begin {
            let first = first.remove(&partition).unwrap_or_default();
            // Records that came in between do not make a partition end before it begins.
            let end = end.remove(&partition).unwrap_or_default().max(first);
            let begin = begin?;
            if begin < first {
                plan.cut.push((partition.clone(), first));
            }
            plan.ranges.push(Range {
                partition,
                begin: begin.clamp(first, end),
                end,
            });
        }
        Ok(plan)
    }

    pub(super) fn end_of(&self, partition: &TopicPartition) -> Option<Offset> {
        let range = self.ranges.iter().find(|range| range.partition == *partition)?;
        Some(range.end)
    }

    /// How many records that is at most; compaction may have taken some out.
    pub(super) fn records(&self) -> u64 {
        let counts = self.ranges.iter().map(|range| range.end.minus(range.begin));
        counts.filter_map(|count| u64::try_from(count).ok()).sum()
    }
}

type Listed = Vec<(
    TopicPartition,
    log_client::Result<log_client::offsets::ListedOffset>,
)>;

fn listed(answers: Listed) -> Outcome<BTreeMap<TopicPartition, Offset>> {
    let mut offsets = BTreeMap::new();
    for (partition, answer) in answers {
        offsets.insert(partition, answer?.offset.unwrap_or_default());
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_in_all_their_forms() {
        for (text, expected) in [
            ("0", Some(StartAt::Offset(Offset::new(0)))),
            (
                "123456789012",
                Some(StartAt::Offset(Offset::new(123_456_789_012))),
            ),
            ("earliest", Some(StartAt::Earliest)),
            ("latest", Some(StartAt::Latest)),
            ("-5", Some(StartAt::BeforeEnd(5))),
            ("-0", Some(StartAt::BeforeEnd(0))),
            ("", None),
            ("-", None),
            ("--5", None),
            ("newest", None),
            ("1.5", None),
            ("99999999999999999999", None),
        ] {
            let parsed = text.parse::<OffsetArgument>().ok();
            assert_eq!(parsed.map(|OffsetArgument(start)| start), expected, "{text:?}");
        }
    }

    #[test]
    fn a_plan_counts_what_it_reads() {
        let range = |partition, begin, end| Range {
            partition: TopicPartition::new("t", partition),
            begin: Offset::new(begin),
            end: Offset::new(end),
        };
        let plan = Plan {
            ranges: vec![range(0, 5, 12), range(1, 3, 3)],
            cut: Vec::new(),
        };
        assert_eq!(plan.records(), 7);
        assert_eq!(plan.end_of(&TopicPartition::new("t", 0)), Some(Offset::new(12)));
        assert_eq!(plan.end_of(&TopicPartition::new("t", 2)), None);
    }
}
