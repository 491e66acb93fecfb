//! The broker's own keys: one table, from which the typed [`BrokerConfig`], the flags, the environment variables, the
//! help and the documentation are made.
//!
//! A key that Kafka has keeps Kafka's dotted spelling, a key of our own is written with dashes. Keys that give
//! topics their defaults are not written down here: they come from the topic catalogue ([`super::topic`]).

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use super::properties::{ConfigProblem, Settings};
use super::topic::{TOPIC_KEYS, TopicKey, Unit};
use super::value::{Kind, Rule, split_list};
use crate::logging::LogFormat;

/// What a key is about; the order of help and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Where the broker lives and what it says.
    Basics,
    /// What clients may ask for, and how much.
    Limits,
    /// The HTTP port's limits.
    Http,
    /// Topics and the broker's memory of producers.
    Topics,
    /// Groups of consumers and their offsets.
    Groups,
    /// Transactions.
    Transactions,
    /// Threads, checkpoints and tidying up.
    Storage,
    /// What a topic does that says nothing itself.
    TopicDefaults,
}

impl Section {
    /// As a heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Basics => "Basics",
            Self::Limits => "Limits",
            Self::Http => "HTTP",
            Self::Topics => "Topics",
            Self::Groups => "Groups",
            Self::Transactions => "Transactions",
            Self::Storage => "Storage",
            Self::TopicDefaults => "Defaults of topic configs",
        }
    }
}

/// One key of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name in files and in `DescribeConfigs`.
    pub name: &'static str,
    /// The flag, without its two dashes: `num.partitions` is `num-partitions`.
    pub flag: String,
    /// The environment variable: `num.partitions` is `STRATALOG_NUM_PARTITIONS`.
    pub variable: String,
    /// What it is about.
    pub section: Section,
    /// Its type.
    pub kind: Kind,
    /// Which values it accepts.
    pub rule: Rule,
    /// What counts when nobody says anything; `None` leaves the key without a value.
    pub default: Option<&'static str>,
    /// Whether clients may change it while the broker runs.
    pub is_dynamic: bool,
    /// What it does.
    pub doc: Cow<'static, str>,
}

impl Key {
    /// The names that follow from `name`.
    fn named(name: &'static str) -> (String, String) {
        let upper = name.replace(['.', '-'], "_").to_ascii_uppercase();
        (name.replace('.', "-"), format!("STRATALOG_{upper}"))
    }
}

/// The key of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// All keys: by section, and in the order of the tables within.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut keys = own_keys();
    keys.extend(TOPIC_KEYS.iter().flat_map(default_keys));
    keys
});

/// The broker keys that give `topic` its default.
fn default_keys(topic: &'static TopicKey) -> impl Iterator<Item = Key> {
    topic.synonyms.iter().enumerate().map(move |(index, synonym)| {
        let about = format!("Default of the topic config `{}`", topic.name);
        let (kind, rule, default, doc) = match synonym.unit {
            Unit::Same if index == 0 => (
                topic.kind,
                topic.rule,
                Some(topic.default),
                format!("{about}. {}", topic.doc),
            ),
            Unit::Same => (
                topic.kind,
                topic.rule,
                Some(topic.default),
                format!("{about}, if the keys above have no value."),
            ),
            Unit::SameIfSet => (topic.kind, topic.rule, None, format!("{about}. {}", topic.doc)),
            Unit::MinutesIfSet => (
                Kind::Int,
                in_unit(topic.rule),
                None,
                format!("{about} in minutes, if the key above has no value."),
            ),
            Unit::Hours => (
                Kind::Int,
                in_unit(topic.rule),
                Some(hours(topic.default)),
                format!("{about} in hours, if the keys above have no value."),
            ),
        };
        let (flag, variable) = Key::named(synonym.name);
        Key {
            name: synonym.name,
            flag,
            variable,
            section: Section::TopicDefaults,
            kind,
            rule,
            default,
            // As in Kafka: only the key that counts first can be changed while the broker runs.
            is_dynamic: index == 0,
            doc: Cow::Owned(doc),
        }
    })
}

/// The rule of a key in minutes or hours: 0 of them would be no time at all, which only some configs accept.
const fn in_unit(rule: Rule) -> Rule {
    match rule {
        Rule::AtLeast(-1) => Rule::BetweenOr(1, i64::MAX, -1),
        other => other,
    }
}

/// A default in milliseconds, in hours. There are two, and a constant needs a text that lives for ever.
fn hours(milliseconds: &str) -> &'static str {
    match milliseconds {
        "604800000" => "168",
        "0" => "0",
        other => unreachable!("no default of {other} ms is given in hours"),
    }
}

/// A value of the typed configuration, made from a setting's canonical text.
pub(super) trait Typed: Sized {
    /// `None` when the text does not fit the type, which the key's rule should have prevented.
    fn typed(text: Option<&str>) -> Option<Self>;
}

macro_rules! typed_by_parsing {
    ($($type:ty),*) => {$(
        impl Typed for $type {
            fn typed(text: Option<&str>) -> Option<Self> {
                text?.parse().ok()
            }
        }
    )*};
}

typed_by_parsing!(bool, f64, i32, i64, u64, usize, String, PathBuf);

impl<T: Typed> Typed for Option<T> {
    fn typed(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(None),
            Some(_) => T::typed(text).map(Some),
        }
    }
}

impl Typed for Duration {
    fn typed(text: Option<&str>) -> Option<Self> {
        text?.parse().ok().map(Self::from_millis)
    }
}

impl Typed for Vec<String> {
    fn typed(text: Option<&str>) -> Option<Self> {
        Some(split_list(text?).into_iter().map(str::to_owned).collect())
    }
}

impl Typed for Vec<PathBuf> {
    fn typed(text: Option<&str>) -> Option<Self> {
        Some(split_list(text?).into_iter().map(PathBuf::from).collect())
    }
}

impl Typed for LogFormat {
    fn typed(text: Option<&str>) -> Option<Self> {
        match text? {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Each item: documentation, field and its type, name, type and rule of the value, default.
macro_rules! broker_keys {
    ($($section:ident {$(
        $(#[doc = $doc:literal])+
        $field:ident: $type:ty = $name:literal, $kind:ident, $rule:expr, $default:expr $(, $dynamic:ident)?;
    )+})+) => {
        /// The broker's configuration, typed, together with the texts and places it came from.
        #[derive(Debug, Clone, PartialEq)]
        pub struct BrokerConfig {
            $($(
                $(#[doc = $doc])+
                pub $field: $type,
            )+)+
            /// What was set, and where.
            pub settings: Settings,
        }

        impl BrokerConfig {
            /// Takes checked settings into types.
            ///
            /// # Errors
            /// Names the key whose value does not fit this machine's types.
            pub(super) fn from_settings(settings: Settings) -> Result<Self, ConfigProblem> {
                Ok(Self {
                    $($($field: settings.typed($name)?,)+)+
                    settings,
                })
            }
        }

        fn own_keys() -> Vec<Key> {
            vec![$($({
                let (flag, variable) = Key::named($name);
                Key {
                name: $name,
                flag,
                variable,
                section: Section::$section,
                kind: Kind::$kind,
                rule: $rule,
                default: $default,
                is_dynamic: broker_keys!(@dynamic $($dynamic)?),
                doc: Cow::Borrowed(concat!($($doc),+).trim()),
                }
            },)+)+]
        }
    };
    (@dynamic) => { false };
    (@dynamic dynamic) => { true };
}

broker_keys! {
    Basics {
        /// The directory of all data; made when it is missing, locked while the broker runs. Several, with commas between, share the partitions.
        data_dirs: Vec<PathBuf> = "data-dir", List, Rule::Any, Some("./stratalog-data");
        /// The same under Kafka's name; one of the two keys may be set.
        log_dirs: Option<Vec<PathBuf>> = "log.dirs", List, Rule::Any, None;
        /// Where Kafka clients connect. Port 0 lets the system choose.
        kafka_listen: String = "kafka-listen", String, Rule::Address, Some("127.0.0.1:9092");
        /// Where HTTP clients connect. Port 0 lets the system choose.
        http_listen: String = "http-listen", String, Rule::Address, Some("127.0.0.1:8080");
        /// The address that Kafka clients are told. Without it each is told the address through which it came,
        /// which is right unless there is a proxy or a port mapping between.
        kafka_advertise: Option<String> = "kafka-advertise", String, Rule::Address, None;
        /// A file that gets one line of JSON with addresses and process id as soon as clients are served.
        ready_file: Option<PathBuf> = "ready-file", String, Rule::Any, None;
        /// How log lines look: for people, or one JSON object a line.
        log_format: LogFormat = "log-format", String, Rule::OneOf(&["human", "json"]), Some("human");
        /// Which log lines are written: error, warn, info, debug, trace, or directives such as `info,log_server::kafka=debug`.
        log_level: String = "log-level", String, Rule::Any, Some("info");
        /// The number of this node.
        node_id: i32 = "node.id", Int, Rule::AtLeast(0), Some("1");
        /// How long an orderly stop may take before what is left is dropped (and recovered at the next start).
        shutdown_timeout: Duration = "shutdown-timeout-ms", Long, Rule::AtLeast(0), Some("30000");
        /// Threads that serve connections; 0 takes one for each core.
        runtime_threads: usize = "runtime-threads", Int, Rule::Between(0, 1024), Some("0");
        /// A collector of traces, such as `http://localhost:4318`: it gets requests as spans, by OpenTelemetry's protocol over HTTP. `/v1/traces` is put behind what
        /// stands here. Without it there are no spans.
        otlp_endpoint: Option<String> = "otlp-endpoint", String, Rule::HttpEndpoint, None;
        /// The share of requests that become spans, from 0 to 1. Those of a trace that came with `traceparent` over HTTP follow that, and with 0 are the only ones.
        otlp_sample_ratio: f64 = "otlp-sample-ratio", Double, Rule::Between(0, 1), Some("0.01");
    }
    Limits {
        /// Connections at once; one more is closed at once. Kafka has no limit by default.
        max_connections: usize = "max.connections", Int, Rule::AtLeast(1), Some("10000");
        /// Connections at once from one address; one more is closed at once.
        max_connections_per_ip: usize = "max.connections.per.ip", Int, Rule::AtLeast(1), Some("2147483647");
        /// A connection that asks for nothing for so long is closed.
        connections_max_idle: Duration = "connections.max.idle.ms", Long, Rule::AtLeast(1), Some("600000");
        /// A connection whose request is not complete so long after its first byte is closed.
        request_receive_timeout: Duration = "request-receive-timeout-ms", Long, Rule::AtLeast(1), Some("30000");
        /// The largest request; a larger one closes its connection before memory is taken for it.
        socket_request_max_bytes: usize = "socket.request.max.bytes", Int, Rule::AtLeast(1024), Some("104857600");
        /// Requests of one connection that may wait for their answer; further ones are not read until one is answered.
        connection_requests_max: usize = "connection-requests-max", Int, Rule::AtLeast(1), Some("64");
        /// Bytes of requests that are held in memory at once, all connections together; beyond, reading pauses.
        /// -1: no limit, Kafka's default.
        queued_max_request_bytes: i64 = "queued.max.request.bytes", Long, Rule::BetweenOr(1_048_576, i64::MAX, -1), Some("536870912");
        /// The most that one fetch returns, whatever the client asks for.
        fetch_max_bytes: usize = "fetch.max.bytes", Int, Rule::AtLeast(1024), Some("57671680");
        /// Incremental fetch sessions that are remembered; 0 refuses them, and clients send whole fetches.
        max_incremental_fetch_session_cache_slots: usize = "max.incremental.fetch.session.cache.slots", Int, Rule::AtLeast(0), Some("1000");
        /// The most bytes of their own metrics (KIP-714) that clients may push at a time, packed as they come. Unpacked they may have four times as many.
        telemetry_max_bytes: usize = "telemetry.max.bytes", Int, Rule::Between(1, 4_194_304), Some("1048576");
        /// Topics that `/metrics` shows one by one: those with the most traffic since the start, then the largest.
        metrics_topics_max: usize = "metrics-topics-max", Int, Rule::Between(0, 5_000), Some("200");
        /// Partitions in one answer to `DescribeTopicPartitions`.
        max_request_partition_size_limit: usize = "max.request.partition.size.limit", Int, Rule::AtLeast(1), Some("2000");
    }
    Http {
        /// Names under which browsers reach the port, with a port or for any, besides `localhost` and addresses: that of a proxy, or one in
        /// `/etc/hosts`. Where the port listens on a loopback address, or this is set, requests to other names are refused, so that no web page can
        /// reach the broker under a name of its own.
        http_hosts: Vec<String> = "http-hosts", List, Rule::Any, Some("");
        /// Other sites whose web pages may use the API (CORS), such as `https://app.example`. None by default: whoever may ask may do everything.
        http_cors_origins: Vec<String> = "http-cors-origins", List, Rule::Origins, Some("");
        /// Connections at once; one more is told so and closed.
        http_max_connections: usize = "http-max-connections", Int, Rule::AtLeast(1), Some("4096");
        /// The largest body that is read whole, and the longest line of a stream. A stream may have any number of lines.
        http_request_max_bytes: usize = "http-request-max-bytes", Int, Rule::Between(1024, 268_435_456), Some("16777216");
        /// Bytes of bodies, and of large answers, that are held in memory at once, all connections together; beyond, requests are told to come again. A body that is
        /// read whole counts twice, so less than twice `http-request-max-bytes` keeps the largest bodies out.
        http_queued_max_request_bytes: usize = "http-queued-max-request-bytes", Long, Rule::AtLeast(1_048_576), Some("268435456");
        /// A connection that sends no whole request head for so long is closed.
        http_idle_timeout: Duration = "http-idle-timeout-ms", Long, Rule::AtLeast(1), Some("60000");
        /// A request whose body is silent for so long is given up.
        http_read_timeout: Duration = "http-read-timeout-ms", Long, Rule::AtLeast(1), Some("30000");
        /// A client that takes nothing of its answer, or whose socket answers no ping, for so long is disconnected.
        http_write_timeout: Duration = "http-write-timeout-ms", Long, Rule::AtLeast(1), Some("30000");
    }
    Topics {
        /// Partitions of a topic that is created without saying how many.
        num_partitions: i32 = "num.partitions", Int, Rule::Between(1, 10_000), Some("1");
        /// Replicas of a topic that is created without saying how many. One node has one.
        default_replication_factor: i32 = "default.replication.factor", Int, Rule::Between(1, 1), Some("1");
        /// Whether asking for a topic that does not exist creates it, where the client allows it too.
        auto_create_topics_enable: bool = "auto.create.topics.enable", Boolean, Rule::Any, Some("true");
        /// Whether topics can be deleted.
        delete_topic_enable: bool = "delete.topic.enable", Boolean, Rule::Any, Some("true");
        /// How long a producer is remembered after its last batch; then a late retry is no longer recognised.
        producer_id_expiration: Duration = "producer.id.expiration.ms", Int, Rule::AtLeast(1), Some("86400000"), dynamic;
        /// How often forgotten producers are looked for.
        producer_id_expiration_check_interval: Duration = "producer.id.expiration.check.interval.ms", Int, Rule::AtLeast(1), Some("600000");
        /// After how many records of the metadata log its state is stored, so that the next start replays only what follows.
        metadata_snapshot_records: u64 = "metadata-snapshot-records", Int, Rule::AtLeast(1), Some("10000");
    }
    Groups {
        /// The partitions of `__consumer_offsets` when it is made, at the first question about a group; what it was made with stays.
        /// Kafka's 50 spread groups over many brokers. On one, every partition that is written to needs a sync of its own,
        /// and commits share a sync only with those of their partition: the more, the more work for each commit. 4 are synced at once by as
        /// many `flush-threads`.
        offsets_topic_partitions: i32 = "offsets.topic.num.partitions", Int, Rule::Between(1, 10_000), Some("4");
        /// Replicas of `__consumer_offsets`. One node has one.
        offsets_topic_replication_factor: i32 = "offsets.topic.replication.factor", Short, Rule::Between(1, 1), Some("1");
        /// `segment.bytes` of `__consumer_offsets` when it is made.
        offsets_topic_segment_bytes: u64 = "offsets.topic.segment.bytes", Int, Rule::AtLeast(1_048_576), Some("104857600");
        /// How long offsets are kept once their group has no members, or, of a group that never had any, after the last commit.
        offsets_retention_minutes: i64 = "offsets.retention.minutes", Int, Rule::AtLeast(1), Some("10080");
        /// How often such offsets are looked for.
        offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms", Long, Rule::AtLeast(1), Some("600000");
        /// The longest text that a client may store beside an offset.
        offset_metadata_max_bytes: usize = "offset.metadata.max.bytes", Int, Rule::AtLeast(0), Some("4096");
        /// How long a new classic group waits for more members before it assigns partitions for the first time. Kafka's
        /// 3000 spares many members that start together some rebalances, and makes every single one wait; those who come later
        /// join by a rebalance either way.
        group_initial_rebalance_delay: Duration = "group.initial.rebalance.delay.ms", Int, Rule::AtLeast(0), Some("0");
        /// The shortest session timeout that a member of a classic group may ask for.
        group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms", Int, Rule::AtLeast(0), Some("6000");
        /// The longest.
        group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms", Int, Rule::AtLeast(0), Some("1800000");
        /// Members that a classic group may have.
        group_max_size: usize = "group.max.size", Int, Rule::AtLeast(1), Some("2147483647");
        /// After how long without a heartbeat a member of a KIP-848 group is gone.
        group_consumer_session_timeout_ms: i32 = "group.consumer.session.timeout.ms", Int, Rule::AtLeast(1), Some("45000");
        /// The least that a group may set for itself.
        group_consumer_min_session_timeout_ms: i32 = "group.consumer.min.session.timeout.ms", Int, Rule::AtLeast(1), Some("45000");
        /// The most that a group may set for itself.
        group_consumer_max_session_timeout_ms: i32 = "group.consumer.max.session.timeout.ms", Int, Rule::AtLeast(1), Some("60000");
        /// How often members of a KIP-848 group are told to send heartbeats; one that waits for partitions of others is told 500, if that is less.
        group_consumer_heartbeat_interval_ms: i32 = "group.consumer.heartbeat.interval.ms", Int, Rule::AtLeast(1), Some("5000");
        /// The least that a group may set for itself.
        group_consumer_min_heartbeat_interval_ms: i32 = "group.consumer.min.heartbeat.interval.ms", Int, Rule::AtLeast(1), Some("5000");
        /// The most that a group may set for itself.
        group_consumer_max_heartbeat_interval_ms: i32 = "group.consumer.max.heartbeat.interval.ms", Int, Rule::AtLeast(1), Some("15000");
        /// How long after an assignment of a KIP-848 group the next may come. With Kafka's 1000, a member that joins within a second after another
        /// gets nothing before its second heartbeat, five seconds later; assigning costs a millisecond here.
        group_consumer_assignment_interval_ms: i32 = "group.consumer.assignment.interval.ms", Int, Rule::AtLeast(0), Some("0");
        /// The least that a group may set for itself.
        group_consumer_min_assignment_interval_ms: i32 = "group.consumer.min.assignment.interval.ms", Int, Rule::AtLeast(0), Some("0");
        /// The most that a group may set for itself.
        group_consumer_max_assignment_interval_ms: i32 = "group.consumer.max.assignment.interval.ms", Int, Rule::AtLeast(0), Some("15000");
        /// Members that a KIP-848 group may have.
        group_consumer_max_size: usize = "group.consumer.max.size", Int, Rule::AtLeast(1), Some("2147483647");
        /// The assignors that a member of a KIP-848 group may choose; who chooses none gets the first.
        group_consumer_assignors: Vec<String> = "group.consumer.assignors", List, Rule::ListOf(&["uniform", "range"]), Some("uniform,range");
        /// Which groups with members may change their protocol; empty ones always may.
        group_consumer_migration_policy: String = "group.consumer.migration.policy", String, Rule::OneOf(&["bidirectional", "upgrade", "downgrade", "disabled"]), Some("bidirectional");
        /// How often the lag of all groups is looked at for `/metrics` and the console.
        lag_interval: Duration = "lag-interval-ms", Long, Rule::AtLeast(100), Some("5000");
        /// Accepted for Kafka's sake: here a pattern is looked up again whenever topics come or go.
        group_consumer_regex_refresh_interval_ms: i64 = "group.consumer.regex.refresh.interval.ms", Int, Rule::AtLeast(10_000), Some("600000");
    }
    Transactions {
        /// The longest timeout that a producer may ask for its transactions. One that lasts longer than its timeout is aborted.
        transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms", Int, Rule::AtLeast(1), Some("900000");
        /// How long a transactional id is remembered after its producer last did something; then it begins anew.
        transactional_id_expiration: Duration = "transactional.id.expiration.ms", Int, Rule::AtLeast(1), Some("604800000");
        /// How often forgotten transactional ids are looked for.
        transactional_id_expiration_check_interval: Duration = "transaction.remove.expired.transaction.cleanup.interval.ms", Int, Rule::AtLeast(1), Some("3600000");
        /// The partitions of `__transaction_state` when it is made, at the first question about a transactional id; what it was made
        /// with stays. Kafka's 50 spread producers over many brokers; on one, 4 are synced at once by as many `flush-threads`.
        transaction_state_log_partitions: i32 = "transaction.state.log.num.partitions", Int, Rule::Between(1, 10_000), Some("4");
        /// Replicas of `__transaction_state`. One node has one.
        transaction_state_log_replication_factor: i32 = "transaction.state.log.replication.factor", Short, Rule::Between(1, 1), Some("1");
        /// How many of them have to be there. One node has one.
        transaction_state_log_min_isr: i32 = "transaction.state.log.min.isr", Int, Rule::Between(1, 1), Some("1");
        /// `segment.bytes` of `__transaction_state` when it is made.
        transaction_state_log_segment_bytes: u64 = "transaction.state.log.segment.bytes", Int, Rule::AtLeast(1_048_576), Some("104857600");
    }
    Storage {
        /// Threads that bring logs to the disk; each syncs one partition at a time.
        flush_threads: usize = "flush-threads", Int, Rule::Between(1, 256), Some("4");
        /// Threads that open and recover logs at a start. Kafka has 2: after a kill each log waits for the disk several times,
        /// and a disk does many such waits at once.
        num_recovery_threads: usize = "num.recovery.threads.per.data.dir", Int, Rule::Between(1, 256), Some("16");
        /// How often segments behind the retention limits are looked for.
        log_retention_check_interval: Duration = "log.retention.check.interval.ms", Long, Rule::AtLeast(1), Some("300000");
        /// How often the places from which recovery must read are stored.
        log_flush_offset_checkpoint_interval: Duration = "log.flush.offset.checkpoint.interval.ms", Int, Rule::AtLeast(1), Some("60000");
        /// How often the first offsets of the logs are stored.
        log_flush_start_offset_checkpoint_interval: Duration = "log.flush.start.offset.checkpoint.interval.ms", Int, Rule::AtLeast(1), Some("60000");
        /// After a failed write or sync, how long until the log is reopened; doubled after each further failure.
        log_reopen_backoff: Duration = "log-reopen-backoff-ms", Long, Rule::AtLeast(1), Some("1000");
        /// The longest wait before a failed log is reopened again.
        log_reopen_backoff_max: Duration = "log-reopen-backoff-max-ms", Long, Rule::AtLeast(1), Some("60000");
        /// Memory maps of segments at once; beyond, segments are read without one. The kernel's own limit
        /// (`vm.max_map_count`, 65,530 by default) must leave room for the rest of the process.
        maps_max: usize = "maps-max", Int, Rule::Between(0, 1_000_000), Some("16384");
        /// A sealed segment that nobody read for so long loses its memory map.
        map_idle: Duration = "map-idle-ms", Long, Rule::AtLeast(1), Some("300000");
        /// Whether compacted topics are compacted. Without it they grow without limit.
        log_cleaner_enable: bool = "log.cleaner.enable", Boolean, Rule::Any, Some("true");
        /// Threads that compact logs, one log each at a time.
        log_cleaner_threads: usize = "log.cleaner.threads", Int, Rule::Between(1, 64), Some("1");
        /// The most memory that all of them together take for the keys of the logs they compact, at 24 bytes a key. What is not
        /// needed is not taken. A log with more new keys is compacted in several rounds.
        log_cleaner_dedupe_buffer_size: u64 = "log.cleaner.dedupe.buffer.size", Long, Rule::AtLeast(1_048_576), Some("134217728"), dynamic;
        /// How full that memory may become. Fuller holds more keys, which take longer to find.
        log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor", Double, Rule::Between(0, 1), Some("0.9"), dynamic;
        /// How much all of these threads together copy and write at a time.
        log_cleaner_io_buffer_size: u64 = "log.cleaner.io.buffer.size", Int, Rule::AtLeast(0), Some("524288"), dynamic;
        /// How many bytes per second they may read and write, all together.
        log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second", Double, Rule::AtLeast(1), Some("1.7976931348623157E308"), dynamic;
        /// How long a thread waits when no log is dirty enough.
        log_cleaner_backoff: Duration = "log.cleaner.backoff.ms", Long, Rule::AtLeast(0), Some("15000"), dynamic;
    }
}

impl Default for BrokerConfig {
    /// What counts when nobody says anything.
    fn default() -> Self {
        Self::from_settings(Settings::default()).expect("defaults fit their own types")
    }
}
