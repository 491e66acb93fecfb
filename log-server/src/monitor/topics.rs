//! Sums by topic, and which topics are shown where not all can be.
//!
//! Those with the most traffic since the start come first, then the largest, then by name. The order changes slowly, so a topic that is shown
//! mostly stays; and a counter that was hidden for a while goes on where it was.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::logs::TrafficCounts;
use crate::partition::registry::PartitionRegistry;

/// One topic.
#[derive(Debug, Clone)]
pub(super) struct TopicTotals {
    pub(super) name: Arc<str>,
    pub(super) partitions: usize,
    pub(super) size_bytes: u64,
    pub(super) traffic: TrafficCounts,
}

impl TopicTotals {
    fn rank(&self) -> (Reverse<u64>, Reverse<u64>, Arc<str>) {
        let traffic = self.traffic.received_bytes + self.traffic.sent_bytes;
        (Reverse(traffic), Reverse(self.size_bytes), Arc::clone(&self.name))
    }
}

/// All topics, those to be shown first.
pub(super) fn totals(registry: &PartitionRegistry) -> Vec<TopicTotals> {
    let mut topics = Vec::new();
    registry.for_each_topic(|name, partitions| {
        let mut totals = TopicTotals {
            name: Arc::clone(name),
            partitions: partitions.len(),
            size_bytes: 0,
            traffic: TrafficCounts::default(),
        };
        for partition in partitions {
            totals.size_bytes += partition.size_in_bytes();
            totals.traffic += partition.traffic();
        }
        topics.push(totals);
    });
    topics.sort_by_cached_key(TopicTotals::rank);
    topics
}

/// What a topic takes and gives in a second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopicRate {
    pub(super) name: Arc<str>,
    pub(super) received_bytes: f64,
    pub(super) sent_bytes: f64,
}

/// The busiest topics between two looks.
#[derive(Debug, Default)]
pub(super) struct Rates {
    before: HashMap<Arc<str>, TrafficCounts>,
}

impl Rates {
    /// The busiest first, at most `count`; those without traffic are left out.
    pub(super) fn look(&mut self, topics: &[TopicTotals], since: Duration, count: usize) -> Vec<TopicRate> {
        let seconds = since.as_secs_f64().max(0.001);
        let mut rates: Vec<TopicRate> = topics
            .iter()
            .filter_map(|topic| {
                let before = self.before.get(&topic.name)?;
                // A topic that was deleted and made again begins anew.
                let rate = |now: u64, before: u64| whole(now.saturating_sub(before)) / seconds;
                Some(TopicRate {
                    name: Arc::clone(&topic.name),
                    received_bytes: rate(topic.traffic.received_bytes, before.received_bytes),
                    sent_bytes: rate(topic.traffic.sent_bytes, before.sent_bytes),
                })
            })
            .filter(|rate| 0.0 < rate.received_bytes + rate.sent_bytes)
            .collect();
        let busy = |rate: &TopicRate| rate.received_bytes + rate.sent_bytes;
        rates.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then_with(|| a.name.cmp(&b.name)));
        rates.truncate(count);
        let now = topics
            .iter()
            .map(|topic| (Arc::clone(&topic.name), topic.traffic));
        self.before = now.collect();
        rates
    }
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "rates are shown to three digits")]
pub(super) fn whole(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, received_bytes: u64) -> TopicTotals {
        TopicTotals {
            name: name.into(),
            partitions: 1,
            size_bytes: 7,
            traffic: TrafficCounts {
                received_bytes,
                ..TrafficCounts::default()
            },
        }
    }

    #[test]
    fn the_busiest_come_first_and_idle_ones_not_at_all() {
        let mut rates = Rates::default();
        let second = Duration::from_secs(2);
        assert!(
            rates
                .look(&[topic("a", 5), topic("b", 5), topic("c", 5)], second, 9)
                .is_empty()
        );
        let seen = rates.look(
            &[topic("a", 7), topic("b", 15), topic("c", 5), topic("new", 9)],
            second,
            9,
        );
        let seen: Vec<_> = seen
            .iter()
            .map(|rate| (&*rate.name, rate.received_bytes))
            .collect();
        assert_eq!(seen, [("b", 5.0), ("a", 1.0)]);
        let seen = rates.look(&[topic("a", 1), topic("b", 16), topic("new", 19)], second, 1);
        assert_eq!(seen.len(), 1);
        assert_eq!(&*seen[0].name, "new");
    }

    #[test]
    fn traffic_ranks_before_size_and_size_before_name() {
        let large = TopicTotals {
            size_bytes: 9,
            ..topic("z", 0)
        };
        let mut topics = [topic("b", 0), topic("a", 0), topic("busy", 1), large];
        topics.sort_by_cached_key(TopicTotals::rank);
        let names: Vec<_> = topics.iter().map(|topic| &*topic.name).collect();
        assert_eq!(names, ["busy", "z", "a", "b"]);
    }
}
