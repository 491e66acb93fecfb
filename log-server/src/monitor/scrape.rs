//! The page of metrics, part by part in the order of the catalogue.
//!
//! Its size does not follow the number of partitions: series are by topic, group or API, and of topics and groups the first few hundred.
//! What is looked at does: a few loads for each partition.

use std::time::UNIX_EPOCH;

use crate::http::health::{HealthSource as _, PartitionCounts, Status};
use crate::metrics::catalogue::{self as all, Family};
use crate::metrics::exposition::Page;
use crate::metrics::front::Waited;
use crate::monitor::Monitor;
use crate::monitor::topics::{TopicTotals, totals, whole};
use crate::partition::disk::SpaceGauge;
use crate::system::process::{ProcessStatus, open_files, open_files_max, processor_time};

/// Pairs of group and topic whose lag is shown,
const GROUP_TOPICS_MAX: usize = 500;
/// if their names have no more than so much together: all of them stand on the page twice, and a name may have 249 characters.
const GROUP_TOPICS_BYTES_MAX: usize = 100 << 10;
/// What a page with a few topics takes.
const PAGE_BYTES: usize = 64 << 10;

/// A metric by topic, and where its value is found.
type Column = (&'static Family, fn(&TopicTotals) -> u64);

/// A metric by data directory, and where its value is found.
type DiskColumn = (&'static Family, fn(&SpaceGauge) -> Option<u64>);

impl Monitor {
    /// The page. Takes some milliseconds where there are many partitions.
    pub(super) fn scrape(&self) -> String {
        let partitions = self.look().partitions;
        let mut page = Page::with_capacity(PAGE_BYTES);
        self.process(&mut page);
        self.broker(&mut page, partitions);
        self.fronts(&mut page);
        self.logs(&mut page, partitions);
        self.topics(&mut page);
        self.groups(&mut page);
        self.clients(&mut page);
        self.disk(&mut page);
        page.finish()
    }

    fn process(&self, page: &mut Page) {
        let status = ProcessStatus::read();
        page.one(all::PROCESS_CPU, processor_time().as_secs_f64());
        for (family, value) in [
            (all::PROCESS_RESIDENT, status.resident_bytes),
            (all::PROCESS_ANONYMOUS, status.anonymous_bytes),
            (all::PROCESS_VIRTUAL, status.virtual_bytes),
            (
                all::PROCESS_FDS,
                open_files().and_then(|files| u64::try_from(files).ok()),
            ),
            (all::PROCESS_FDS_MAX, open_files_max()),
            (all::PROCESS_THREADS, status.threads),
        ] {
            if let Some(value) = value {
                page.one(family, value);
            }
        }
        let started = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.one(all::PROCESS_START, started.as_secs_f64());
    }

    fn broker(&self, page: &mut Page, partitions: PartitionCounts) {
        let labels = [env!("CARGO_PKG_VERSION"), &*self.parts.cluster_id];
        page.begin(all::BUILD).sample(&labels, 1_u64);
        let found = self.status(partitions);
        let mut statuses = page.begin(all::STATUS);
        for (status, label) in [
            (Status::Ok, "ok"),
            (Status::Degraded, "degraded"),
            (Status::Stopping, "stopping"),
        ] {
            statuses.sample(&[label], u64::from(status == found));
        }
        page.one(all::READY, u64::from(self.readiness().ready));
    }

    fn fronts(&self, page: &mut Page) {
        let (front, http) = (&self.parts.front, &self.parts.http);
        let mut times = page.begin(all::REQUEST_SECONDS);
        for (api, waited, counts) in front.times() {
            let waited = match waited {
                Waited::No => "no",
                Waited::Yes => "yes",
            };
            times.histogram(&[api, waited], &counts);
        }
        let mut open = page.begin(all::CONNECTIONS);
        open.sample(&["kafka"], front.connections.get());
        open.sample(&["http"], http.connections.get());
        let mut accepted = page.begin(all::CONNECTIONS_ACCEPTED);
        accepted.sample(&["kafka"], front.accepted.get());
        accepted.sample(&["http"], http.accepted.get());
        let mut refused = page.begin(all::CONNECTIONS_REFUSED);
        for (reason, count) in front.refusals() {
            refused.sample(&[reason], count);
        }
        refused.sample(&["http-max-connections"], http.refused.get());
        page.one(all::KAFKA_RECEIVED, front.received_bytes.get());
        page.one(all::KAFKA_SENT, front.sent_bytes.get());
        let mut times = page.begin(all::HTTP_SECONDS);
        http.for_each(|route, method, status, counts| times.histogram(&[route, method, status], counts));
        page.one(all::HTTP_STREAMS, http.streams.get());
        page.one(
            all::WAITING_FETCHES,
            self.parts.registry.metrics().waiting_fetches.get(),
        );
    }

    fn logs(&self, page: &mut Page, counts: PartitionCounts) {
        let (mut topics, mut held_back) = (0_usize, 0_usize);
        self.parts.registry.for_each_topic(|_, partitions| {
            topics += 1;
            let segments = partitions.iter().map(|partition| partition.held_back_segments());
            held_back += segments.sum::<usize>();
        });
        page.one(all::TOPICS, topics);
        let mut partitions = page.begin(all::PARTITIONS);
        partitions.sample(&["online"], counts.online);
        partitions.sample(&["latched"], counts.latched);
        partitions.sample(&["offline"], counts.offline);
        let cleaner = self.parts.cleaner.report();
        page.one(all::UNCLEANABLE, counts.uncleanable);
        page.one(all::HELD_BACK, held_back);
        page.one(all::CLEANINGS, cleaner.cleanings);
        page.one(all::CLEANER_READ, cleaner.bytes_read);
        page.one(all::CLEANER_WRITTEN, cleaner.bytes_written);

        let metrics = self.parts.registry.metrics();
        let sums = metrics.totals();
        page.one(all::RECEIVED_BYTES, sums.received_bytes);
        page.one(all::RECEIVED_RECORDS, sums.received_records);
        page.one(all::RECEIVED_BATCHES, metrics.batches());
        page.one(all::RECOMPRESSED, metrics.recompressed_batches.get());
        page.one(all::SENT_BYTES, sums.sent_bytes);
        page.one(all::SENT_RECORDS, sums.sent_records);
        let mut refused = page.begin(all::APPENDS_REFUSED);
        for (reason, count) in metrics.appends_refused.by_label() {
            refused.sample(&[reason], count);
        }
        let mut refused = page.begin(all::READS_REFUSED);
        for (reason, count) in metrics.reads_refused.by_label() {
            refused.sample(&[reason], count);
        }
        page.one(all::COLD_READS, metrics.cold_reads.get());
        page.begin(all::SYNC_SECONDS)
            .histogram(&[], &metrics.syncs.counts());
        page.one(all::SYNCS_FAILED, metrics.failed_syncs.get());
    }

    fn topics(&self, page: &mut Page) {
        let topics = totals(&self.parts.registry);
        let (shown, hidden) = topics.split_at(topics.len().min(self.parts.topics_max));
        let columns: [Column; 6] = [
            (all::TOPIC_RECEIVED_BYTES, |topic| topic.traffic.received_bytes),
            (all::TOPIC_RECEIVED_RECORDS, |topic| {
                topic.traffic.received_records
            }),
            (all::TOPIC_SENT_BYTES, |topic| topic.traffic.sent_bytes),
            (all::TOPIC_SENT_RECORDS, |topic| topic.traffic.sent_records),
            (all::TOPIC_SIZE, |topic| topic.size_bytes),
            (all::TOPIC_PARTITIONS, |topic| {
                u64::try_from(topic.partitions).unwrap_or(u64::MAX)
            }),
        ];
        for (family, value) in columns {
            let mut samples = page.begin(family);
            for topic in shown {
                samples.sample(&[&topic.name], value(topic));
            }
        }
        page.one(all::TOPICS_HIDDEN, hidden.len());
    }

    fn groups(&self, page: &mut Page) {
        let picture = self.lag.picture();
        let mut groups = page.begin(all::GROUPS);
        for (state, count) in &picture.states {
            groups.sample(&[state], *count);
        }
        page.one(all::GROUPS_HIDDEN, picture.hidden_count());
        let pairs = picture.groups.iter().flat_map(|group| {
            let name = &*group.group.group;
            group.topics.iter().map(move |topic| (name, topic))
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|(group, lag)| (std::cmp::Reverse(lag.records), *group, &*lag.topic));
        let lengths = pairs.iter().map(|(group, lag)| group.len() + lag.topic.len());
        let (shown, hidden) = pairs.split_at(shown_count(lengths));
        let mut records = page.begin(all::GROUP_LAG_RECORDS);
        for (group, lag) in shown {
            records.sample(&[group, &lag.topic], lag.records.max(0).cast_unsigned());
        }
        let mut seconds = page.begin(all::GROUP_LAG_SECONDS);
        for (group, lag) in shown {
            if let Some(time_ms) = lag.time_ms {
                seconds.sample(
                    &[group, &lag.topic],
                    whole(time_ms.max(0).cast_unsigned()) / 1000.0,
                );
            }
        }
        page.one(all::GROUP_TOPICS_HIDDEN, hidden.len());
        if let Some(at) = picture.at {
            page.one(all::LAG_LOOKED, whole(at.get().max(0).cast_unsigned()) / 1000.0);
        }
        page.one(all::OUT_OF_RANGE, self.parts.groups.out_of_range_count());
        let mut states = page.begin(all::COORDINATOR_SHARDS);
        for (coordinator, shards) in [
            ("groups", self.parts.groups.shard_counts()),
            ("transactions", self.parts.transactions.shard_counts()),
        ] {
            states.sample(&[coordinator, "serving"], shards.serving);
            states.sample(&[coordinator, "loading"], shards.loading);
            states.sample(&[coordinator, "absent"], shards.absent);
        }
    }

    fn clients(&self, page: &mut Page) {
        let clients = &self.parts.clients;
        page.one(all::CLIENT_INSTANCES, clients.client_count());
        page.one(all::CLIENT_PUSHES, clients.metrics().pushes.get());
        let mut refused = page.begin(all::CLIENT_PUSHES_REFUSED);
        for (reason, count) in clients.metrics().refusals() {
            refused.sample(&[reason], count);
        }
        page.one(all::SPANS_EXPORTED, self.parts.spans.exported.get());
        page.one(all::SPANS_DROPPED, self.parts.spans.dropped.get());
    }

    fn disk(&self, page: &mut Page) {
        let registry = &self.parts.registry;
        page.one(all::OFFLINE_LOG_DIRECTORIES, registry.offline_directory_count());
        let gauges: Vec<_> = self.parts.space.iter().collect();
        let paths: Vec<_> = gauges
            .iter()
            .map(|gauge| gauge.directory().display().to_string())
            .collect();
        let columns: [DiskColumn; 2] = [
            (all::DISK_AVAILABLE, SpaceGauge::available),
            (all::DISK_TOTAL, SpaceGauge::total),
        ];
        for (family, value) in columns {
            let mut samples = page.begin(family);
            for (path, gauge) in paths.iter().zip(&gauges) {
                if let Some(bytes) = value(gauge) {
                    samples.sample(&[path], bytes);
                }
            }
        }
        let mut hours = page.begin(all::DISK_FULL_HOURS);
        for (path, forecast) in paths.iter().zip(&self.forecasts) {
            hours.sample(&[path], forecast.full_in_hours());
        }
        page.one(all::MAPS, self.parts.maps.used());
        page.one(all::MAPS_MAX, self.parts.maps.max());
    }
}

/// Of so many names of these lengths, how many have room on the page.
fn shown_count(lengths: impl Iterator<Item = usize>) -> usize {
    let ends = lengths.take(GROUP_TOPICS_MAX).scan(0_usize, |end, length| {
        *end = end.saturating_add(length);
        Some(*end)
    });
    ends.take_while(|end| *end <= GROUP_TOPICS_BYTES_MAX).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_leave_room_for_fewer_pairs() {
        assert_eq!(shown_count(std::iter::repeat_n(20, 300)), 300);
        assert_eq!(shown_count(std::iter::repeat_n(20, 9000)), GROUP_TOPICS_MAX);
        assert_eq!(shown_count(std::iter::repeat_n(2 * 249, 9000)), 205);
        assert_eq!(shown_count(std::iter::once(usize::MAX)), 0);
    }
}
