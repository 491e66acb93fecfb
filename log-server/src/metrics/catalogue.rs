//! Every metric there is. `/metrics` can show nothing else, and the table of docs/OPERATIONS.md is made from this one.
//!
//! Names are Prometheus's way: a prefix, the unit at the end, `_total` on what only grows. What every process has carries the names that
//! Prometheus's own libraries give it.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by bounds, with a sum.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, in one line.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: &Family = &Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them, in the order of the page.
        pub const FAMILIES: &[&Family] = &[$($constant),*];
    };
}

families! {
    PROCESS_CPU: Counter "process_cpu_seconds_total" [] "Time of processors that the process used, user and system together.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" [] "Memory that the process occupies, mapped pages of logs included.";
    PROCESS_ANONYMOUS: Gauge "stratalog_process_anonymous_memory_bytes" [] "The part of it that is no file's: what the system cannot take back.";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" [] "Address space; most of it is reserved for segments and occupies nothing.";
    PROCESS_FDS: Gauge "process_open_fds" [] "Open file descriptors.";
    PROCESS_FDS_MAX: Gauge "process_max_fds" [] "How many there may be.";
    PROCESS_THREADS: Gauge "process_threads" [] "Threads.";
    PROCESS_START: Gauge "process_start_time_seconds" [] "When the process began, in seconds since 1970.";
    BUILD: Gauge "stratalog_build_info" ["version", "cluster_id"] "Always 1; the labels say which program it is and whose data.";
    STATUS: Gauge "stratalog_status" ["status"] "1 for the word that /healthz says, 0 for the others.";
    READY: Gauge "stratalog_ready" [] "1 when /readyz answers 200.";

    REQUEST_SECONDS: Histogram "stratalog_request_seconds" ["api", "waited"] "From the last byte of a Kafka request to its answer being ready. waited=\"yes\": a Produce that waited for the disk, a Fetch that waited for records (up to its max.wait) or for the disk.";
    CONNECTIONS: Gauge "stratalog_connections" ["listener"] "Open connections.";
    CONNECTIONS_ACCEPTED: Counter "stratalog_connections_accepted_total" ["listener"] "Connections that were accepted.";
    CONNECTIONS_REFUSED: Counter "stratalog_connections_refused_total" ["reason"] "Connections that the broker refused or ended, by reason.";
    KAFKA_RECEIVED: Counter "stratalog_kafka_received_bytes_total" [] "Bytes of Kafka requests.";
    KAFKA_SENT: Counter "stratalog_kafka_sent_bytes_total" [] "Bytes of Kafka answers.";
    HTTP_SECONDS: Histogram "stratalog_http_request_seconds" ["route", "method", "status"] "From the head of an HTTP request to the head of its answer, by route and class of status.";
    HTTP_STREAMS: Gauge "stratalog_http_streams" [] "Followers over HTTP that are connected.";
    WAITING_FETCHES: Gauge "stratalog_waiting_fetches" [] "Fetches that wait for records.";

    TOPICS: Gauge "stratalog_topics" [] "Topics, internal ones included.";
    PARTITIONS: Gauge "stratalog_partitions" ["state"] "Partitions: online; latched (they refuse writes until they are reopened); offline (their logs could not be opened).";
    UNCLEANABLE: Gauge "stratalog_uncleanable_partitions" [] "Compacted partitions that cannot be compacted, because something in them cannot be read.";
    HELD_BACK: Gauge "stratalog_held_back_segments" [] "Segments that retention would let go, were it not for a record with a time ahead of the clock, in them or before them.";
    CLEANINGS: Counter "stratalog_cleanings_total" [] "Compactions of a partition that came to their end.";
    CLEANER_READ: Counter "stratalog_cleaner_read_bytes_total" [] "Bytes of segments before they were compacted.";
    CLEANER_WRITTEN: Counter "stratalog_cleaner_written_bytes_total" [] "Bytes of segments after they were compacted.";
    RECEIVED_BYTES: Counter "stratalog_received_bytes_total" [] "Bytes of batches that were appended, to all topics.";
    RECEIVED_RECORDS: Counter "stratalog_received_records_total" [] "Records that were appended, to all topics.";
    RECEIVED_BATCHES: Counter "stratalog_received_batches_total" [] "Batches that were appended, to all topics.";
    RECOMPRESSED: Counter "stratalog_recompressed_batches_total" [] "Batches that were written anew in their topic's codec (compression.type), refused ones among them.";
    SENT_BYTES: Counter "stratalog_sent_bytes_total" [] "Bytes that were given to readers, of all topics: batches to Kafka clients, bodies over HTTP.";
    SENT_RECORDS: Counter "stratalog_sent_records_total" [] "Records that were given to readers, of all topics; of large answers estimated from their first batches.";
    APPENDS_REFUSED: Counter "stratalog_appends_refused_total" ["reason"] "Batches that were refused, by reason.";
    READS_REFUSED: Counter "stratalog_reads_refused_total" ["reason"] "Reads that were refused, by reason.";
    COLD_READS: Counter "stratalog_cold_reads_total" [] "Reads that had to go to the disk.";
    SYNC_SECONDS: Histogram "stratalog_sync_seconds" [] "How long it took to bring a partition's new records to the disk (fdatasync).";
    SYNCS_FAILED: Counter "stratalog_syncs_failed_total" [] "Syncs that failed; each latches its log.";

    TOPIC_RECEIVED_BYTES: Counter "stratalog_topic_received_bytes_total" ["topic"] "Bytes of batches that were appended, by topic.";
    TOPIC_RECEIVED_RECORDS: Counter "stratalog_topic_received_records_total" ["topic"] "Records that were appended, by topic.";
    TOPIC_SENT_BYTES: Counter "stratalog_topic_sent_bytes_total" ["topic"] "Bytes that were given to readers, by topic.";
    TOPIC_SENT_RECORDS: Counter "stratalog_topic_sent_records_total" ["topic"] "Records that were given to readers, by topic.";
    TOPIC_SIZE: Gauge "stratalog_topic_size_bytes" ["topic"] "Bytes of the topic's segments.";
    TOPIC_PARTITIONS: Gauge "stratalog_topic_partitions" ["topic"] "Partitions of the topic.";
    TOPICS_HIDDEN: Gauge "stratalog_topics_hidden" [] "Topics that the series by topic leave out, because there are more than metrics-topics-max.";

    GROUPS: Gauge "stratalog_groups" ["state"] "Consumer groups by state; all of them.";
    GROUPS_HIDDEN: Gauge "stratalog_groups_hidden" [] "Groups whose lag is not looked at, because there are more than 1000; the first by name are.";
    GROUP_LAG_RECORDS: Gauge "stratalog_group_lag_records" ["group", "topic"] "Records that a group has not read yet, over all partitions of the topic.";
    GROUP_LAG_SECONDS: Gauge "stratalog_group_lag_seconds" ["group", "topic"] "Age of the oldest record that a group has not read yet; of the partition that is furthest behind.";
    GROUP_TOPICS_HIDDEN: Gauge "stratalog_group_topics_hidden" [] "Pairs of group and topic, of the groups that are looked at, that the series of lag leave out because there are more than 500, or their names have more than 100 KiB; the largest lags are shown.";
    LAG_LOOKED: Gauge "stratalog_group_lag_looked_at_seconds" [] "When the lags were looked at, in seconds since 1970.";
    OUT_OF_RANGE: Counter "stratalog_group_offsets_out_of_range_total" [] "Committed offsets that were asked for and lie outside their logs: such a consumer starts anew.";
    COORDINATOR_SHARDS: Gauge "stratalog_coordinator_shards" ["coordinator", "state"] "Parts of the coordinators of groups and of transactions: serving; loading (their log is being read); absent (their log failed).";

    CLIENT_INSTANCES: Gauge "stratalog_client_instances" [] "Clients that asked lately which of their own metrics they are to push (KIP-714).";
    CLIENT_PUSHES: Counter "stratalog_client_pushes_total" [] "Pushes of clients' own metrics that were taken.";
    CLIENT_PUSHES_REFUSED: Counter "stratalog_client_pushes_refused_total" ["reason"] "Such pushes, and questions before them, that were refused, by reason.";
    SPANS_EXPORTED: Counter "stratalog_spans_exported_total" [] "Spans that the collector of otlp-endpoint took.";
    SPANS_DROPPED: Counter "stratalog_spans_dropped_total" [] "Spans that found too many waiting, or that the collector did not take.";

    OFFLINE_LOG_DIRECTORIES: Gauge "stratalog_offline_log_directories" [] "Data directories that serve nothing: they could not be opened, or failed (Kafka's OfflineLogDirectoryCount).";
    DISK_AVAILABLE: Gauge "stratalog_disk_available_bytes" ["directory"] "What the disk of a data directory still has.";
    DISK_TOTAL: Gauge "stratalog_disk_total_bytes" ["directory"] "What it has in all.";
    DISK_FULL_HOURS: Gauge "stratalog_disk_full_in_hours" ["directory"] "When it is full if it goes on like in the last hour; +Inf if it does not fill.";
    MAPS: Gauge "stratalog_memory_maps" [] "Memory maps of segments.";
    MAPS_MAX: Gauge "stratalog_memory_maps_max" [] "How many there may be; beyond, segments are read without one.";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut seen = std::collections::BTreeSet::new();
        for family in FAMILIES {
            let name = family.name;
            assert!(seen.insert(name), "{name} stands twice");
            assert!(
                name.starts_with("process_") || name.starts_with("stratalog_"),
                "{name}"
            );
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(
                family.help.ends_with('.') && !family.help.contains('\n'),
                "{name}"
            );
            assert!(!family.labels.contains(&"le"), "{name}");
        }
    }

    /// The table as docs/OPERATIONS.md has it.
    fn table() -> String {
        let mut table = String::from("| metric | kind | labels | what it tells |\n|---|---|---|---|\n");
        for family in FAMILIES {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, labels) = (family.name, family.kind.name(), labels.join(", "));
            writeln!(table, "| `{name}` | {kind} | {labels} | {} |", family.help).unwrap();
        }
        table
    }

    #[test]
    fn the_page_shows_this_table() {
        const BEGIN: &str = "<!-- metrics, made from the code: begin -->\n";
        const END: &str = "<!-- metrics, made from the code: end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, behind) = page
            .split_once(BEGIN)
            .expect("the page has a place for the table");
        let (_, after) = behind.split_once(END).expect("the table ends");
        let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
        if std::env::var_os("STRATALOG_UPDATE").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            wanted,
            "run the test with STRATALOG_UPDATE=1 to write the table"
        );
    }

    /// Names of metrics in a text that is not ours alone: words of letters, digits and underscores with one of our prefixes.
    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("stratalog_") || word.starts_with("process_"))
    }

    /// The metric that a name in a query means, and whether the query may use it so.
    fn is_known(name: &str) -> bool {
        let parts = ["_bucket", "_sum", "_count"];
        FAMILIES.iter().any(|family| match family.kind {
            Kind::Histogram => parts
                .iter()
                .any(|part| name.strip_suffix(part) == Some(family.name)),
            Kind::Counter | Kind::Gauge => family.name == name,
        })
    }

    #[test]
    fn the_dashboard_and_the_alerts_name_metrics_that_are_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring");
        let mut seen = 0;
        for file in ["dashboard.json", "alerts.yml"] {
            let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
            let unknown: Vec<_> = names_in(&text).filter(|name| !is_known(name)).collect();
            assert!(unknown.is_empty(), "{file}: {unknown:?}");
            seen += names_in(&text).count();
        }
        assert!(60 < seen, "{seen} names were looked at");
        let dashboard = std::fs::read_to_string(format!("{folder}/dashboard.json")).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let plots = panels.iter().filter(|panel| panel["type"] != "row");
        assert!(plots.clone().all(|panel| panel["targets"][0]["expr"].is_string()));
        assert!(20 < plots.count());
    }

    /// Labels in braces behind a name are labels that the metric has.
    #[test]
    fn queries_select_by_labels_that_are_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring");
        let text = std::fs::read_to_string(format!("{folder}/alerts.yml")).unwrap()
            + &std::fs::read_to_string(format!("{folder}/dashboard.json"))
                .unwrap()
                .replace("\\\"", "\"");
        let mut seen = 0;
        for family in FAMILIES {
            for behind in text.split(family.name).skip(1) {
                let behind = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| behind.strip_prefix(part))
                    .unwrap_or(behind);
                let Some((inside, _)) = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'))
                else {
                    continue;
                };
                for selector in inside.split("\",") {
                    let label = selector.split(['=', '!']).next().unwrap();
                    let is_prometheus_own = ["instance", "job"].contains(&label);
                    assert!(
                        is_prometheus_own || family.labels.contains(&label),
                        "{}{{{inside}}}",
                        family.name
                    );
                    seen += 1;
                }
            }
        }
        assert!(40 < seen, "{seen} selectors were looked at");
    }
}
