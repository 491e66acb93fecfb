//! Which value counts for a topic or for the broker, and from where it comes.
//!
//! | rank | source | set by |
//! |---|---|---|
//! | 1 | topic | an override on the topic |
//! | 2 | node | a change to this broker while it runs |
//! | 3 | cluster | a change to all brokers while they run |
//! | 4 | static | file, environment or flag |
//! | 5 | default | nobody |
//!
//! Within one rank the first synonym that has a value counts (`log.retention.ms` before `log.retention.minutes`).

use std::collections::BTreeMap;

use log_core::config::{CleanupPolicy, LogConfig, TimestampType};
use log_core::record::compression::{Codec, Compression};

use super::keys::{self, BrokerConfig};
use super::suggestion::did_you_mean;
use super::topic::{self, TOPIC_KEYS, TopicKey, Unit};
use super::value::{ValueError, canonical, split_list};

/// Names and canonical values that somebody set on a topic or on a running broker.
pub type Overrides = BTreeMap<String, String>;

/// From where a value comes, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The topic itself (`DYNAMIC_TOPIC_CONFIG`).
    Topic,
    /// This broker, changed while it runs (`DYNAMIC_BROKER_CONFIG`).
    Node,
    /// All brokers, changed while they run (`DYNAMIC_DEFAULT_BROKER_CONFIG`).
    Cluster,
    /// File, environment or flag (`STATIC_BROKER_CONFIG`).
    Static,
    /// Nobody (`DEFAULT_CONFIG`).
    Default,
    /// The group itself (`GROUP_CONFIG`).
    Group,
    /// The subscription to clients' metrics itself (`CLIENT_METRICS_CONFIG`).
    Subscription,
}

impl Source {
    /// Its number in a `DescribeConfigs` response.
    #[must_use]
    pub const fn wire_id(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Node => 2,
            Self::Cluster => 3,
            Self::Static => 4,
            Self::Default => 5,
            Self::Group => 8,
            Self::Subscription => 7,
        }
    }
}

/// A setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such config.
    #[error("there is no {resource} config {name}{suggestion}")]
    Unknown {
        /// `topic`, `group` or `broker`.
        resource: &'static str,
        /// The name.
        name: String,
        /// The near miss, as the end of the sentence.
        suggestion: String,
    },
    /// The config does not accept the value.
    #[error("{name}: {source}")]
    Value {
        /// The config.
        name: &'static str,
        /// Why not.
        source: ValueError,
    },
    /// A feature that this broker does not have.
    #[error("{name}: {reason}")]
    Unsupported {
        /// The config.
        name: &'static str,
        /// What is missing.
        reason: &'static str,
    },
    /// Two values contradict each other.
    #[error("{low_name} ({low}) must not be more than {high_name} ({high})")]
    Conflict {
        /// The config whose value should be the smaller.
        low_name: &'static str,
        /// Its value.
        low: i64,
        /// The config whose value should be the larger.
        high_name: &'static str,
        /// Its value.
        high: i64,
    },
}

/// A value that counts or would count, and its source. For a topic config the value is in the topic's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The name under which it was set.
    pub name: &'static str,
    /// As it was set.
    pub value: String,
    /// By whom.
    pub source: Source,
}

/// The broker's settings, with those made while it runs.
#[derive(Debug, Clone, Copy)]
pub struct BrokerLayers<'a> {
    /// Default, file, environment, flags.
    pub config: &'a BrokerConfig,
    /// Changes to all brokers.
    pub cluster: &'a Overrides,
    /// Changes to this broker.
    pub node: &'a Overrides,
}

impl BrokerLayers<'_> {
    /// What the broker key `name` has at `source`.
    fn at(&self, source: Source, name: &'static str) -> Option<Candidate> {
        let value = match source {
            Source::Topic | Source::Group | Source::Subscription => None,
            Source::Node => self.node.get(name).map(String::as_str),
            Source::Cluster => self.cluster.get(name).map(String::as_str),
            Source::Static => self
                .config
                .settings
                .explicit(name)
                .map(|setting| setting.value.as_str()),
            Source::Default => keys::find(name).and_then(|key| key.default),
        };
        value.map(|value| Candidate {
            name,
            value: value.to_owned(),
            source,
        })
    }

    /// All values of these broker keys, the one that counts first.
    pub(super) fn candidates(&self, names: &[&'static str]) -> Vec<Candidate> {
        [Source::Node, Source::Cluster, Source::Static, Source::Default]
            .into_iter()
            .flat_map(|source| names.iter().filter_map(move |name| self.at(source, name)))
            .collect()
    }

    /// The broker-wide default of a topic config, in the topic's unit, and from where it comes.
    #[must_use]
    pub fn topic_default(&self, key: &TopicKey) -> (String, Source) {
        let names: Vec<&'static str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
        match self.candidates(&names).into_iter().next() {
            Some(candidate) => (convert(key, &candidate), candidate.source),
            None => (key.default.to_owned(), Source::Default),
        }
    }

    /// The value of a topic config on a topic with these overrides, and from where it comes.
    #[must_use]
    pub fn topic_value(&self, key: &TopicKey, overrides: &Overrides) -> (String, Source) {
        match overrides.get(key.name) {
            Some(value) => (value.clone(), Source::Topic),
            None => self.topic_default(key),
        }
    }

    /// The value of a broker key that has one, and from where it comes.
    #[must_use]
    pub fn broker_value(&self, name: &'static str) -> Option<(String, Source)> {
        let first = self.candidates(&[name]).into_iter().next()?;
        Some((first.value, first.source))
    }

    /// The value of a broker key as the nearest whole number, if there is one of that size.
    #[must_use]
    pub fn broker_number(&self, name: &'static str) -> Option<u64> {
        whole(self.broker_fraction(name)?)
    }

    /// The value of a broker key that is a share between 0 and 1, in thousandths.
    #[must_use]
    pub fn broker_per_mille(&self, name: &'static str) -> u64 {
        self.broker_fraction(name)
            .and_then(|share| whole(share * 1e3))
            .unwrap_or(0)
    }

    fn broker_fraction(&self, name: &'static str) -> Option<f64> {
        self.broker_value(name)?.0.parse().ok()
    }

    /// Checks the overrides of a topic, one by one and together with what counts beside them, and returns
    /// them in their canonical spelling.
    ///
    /// # Errors
    /// The first that is refused, by name.
    pub fn check_topic(&self, overrides: &Overrides) -> Result<Overrides, ConfigError> {
        let mut checked = Overrides::new();
        for (name, text) in overrides {
            let key = find_topic_key(name)?;
            let value = canonical(key.kind, key.rule, text).map_err(|source| ConfigError::Value {
                name: key.name,
                source,
            })?;
            checked.insert(name.clone(), value);
        }
        if checked
            .get("remote.storage.enable")
            .is_some_and(|value| value == "true")
        {
            return Err(ConfigError::Unsupported {
                name: "remote.storage.enable",
                reason: "this broker has no tiered storage",
            });
        }
        let (low, high) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
        let typed = TopicValues {
            layers: *self,
            overrides: &checked,
        };
        if typed.long(high) < typed.long(low) {
            return Err(ConfigError::Conflict {
                low_name: low,
                low: typed.long(low),
                high_name: high,
                high: typed.long(high),
            });
        }
        Ok(checked)
    }

    /// What the log of a topic with these overrides is told.
    ///
    /// # Panics
    /// When the overrides are not what [`Self::check_topic`] returned.
    #[must_use]
    pub fn log_config(&self, overrides: &Overrides) -> LogConfig {
        let topic = TopicValues {
            layers: *self,
            overrides,
        };
        let policies = topic.text("cleanup.policy");
        let cleanup_policy = CleanupPolicy {
            delete: split_list(&policies).contains(&"delete"),
            compact: split_list(&policies).contains(&"compact"),
        };
        let segment_ms = topic.long("segment.ms");
        let flush_messages = topic.long("flush.messages");
        LogConfig {
            segment_bytes_max: topic.size("segment.bytes"),
            // A record must not wait longer for compaction than it may, and only sealed segments are compacted.
            segment_ms: if cleanup_policy.compact {
                segment_ms.min(topic.long("max.compaction.lag.ms"))
            } else {
                segment_ms
            },
            segment_jitter_ms: topic.long("segment.jitter.ms"),
            index_bytes_max: topic.size("segment.index.bytes"),
            index_interval_bytes: topic.size("index.interval.bytes"),
            retention_ms: Some(topic.long("retention.ms")).filter(|limit| 0 <= *limit),
            retention_bytes: u64::try_from(topic.long("retention.bytes")).ok(),
            batch_bytes_max: topic.size("max.message.bytes"),
            codec: topic.codec(),
            timestamp_type: if topic.text("message.timestamp.type") == "LogAppendTime" {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            timestamp_before_max_ms: topic.long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: topic.long("message.timestamp.after.max.ms"),
            cleanup_policy,
            delete_retention_ms: topic.long("delete.retention.ms"),
            min_cleanable_dirty_per_million: topic.per_million("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: topic.long("min.compaction.lag.ms"),
            max_compaction_lag_ms: topic.long("max.compaction.lag.ms"),
            durable: flush_messages == 1,
            flush_messages,
            flush_ms: topic.long("flush.ms"),
            producer_expiration_ms: self
                .broker_value("producer.id.expiration.ms")
                .and_then(|(value, _)| value.parse().ok())
                .expect("the key has a default and was checked"),
        }
    }
}

fn whole(number: f64) -> Option<u64> {
    format!("{number:.0}").parse().ok()
}

/// The values that count on one topic, taken by their types. All were checked when they were set.
struct TopicValues<'a> {
    layers: BrokerLayers<'a>,
    overrides: &'a Overrides,
}

impl TopicValues<'_> {
    fn text(&self, name: &str) -> String {
        let key = topic::find(name).expect("a name from the catalogue");
        self.layers.topic_value(key, self.overrides).0
    }

    fn long(&self, name: &str) -> i64 {
        self.text(name).parse().expect("checked when it was set")
    }

    /// A share between 0 and 1 in millionths.
    fn per_million(&self, name: &str) -> u64 {
        let share: f64 = self.text(name).parse().expect("checked when it was set");
        whole(share * 1e6).expect("its rule keeps it between 0 and 1")
    }

    /// The codec in which batches are stored; none where that is their producers' affair.
    fn codec(&self) -> Option<Codec> {
        let compression = match self.text("compression.type").as_str() {
            "producer" => return None,
            "uncompressed" => Compression::None,
            name => name.parse().expect("its rule knows the codecs' names"),
        };
        let level = compression.levels().map(|_| {
            let level = self.long(&format!("compression.{compression}.level"));
            i32::try_from(level).expect("its type is an int")
        });
        Some(Codec { compression, level })
    }

    fn size(&self, name: &str) -> u64 {
        u64::try_from(self.long(name)).expect("its rule refuses negative numbers")
    }
}

/// The topic config of that name.
///
/// # Errors
/// [`ConfigError::Unknown`] with the near miss.
pub fn find_topic_key(name: &str) -> Result<&'static TopicKey, ConfigError> {
    topic::find(name).ok_or_else(|| ConfigError::Unknown {
        resource: "topic",
        name: name.chars().take(80).collect(),
        suggestion: did_you_mean(name, TOPIC_KEYS.iter().map(|key| key.name)),
    })
}

/// A synonym's value in the topic config's unit.
fn convert(key: &TopicKey, candidate: &Candidate) -> String {
    let unit = key
        .synonyms
        .iter()
        .find(|synonym| synonym.name == candidate.name)
        .map_or(Unit::Same, |synonym| synonym.unit);
    let factor = match unit {
        Unit::Same | Unit::SameIfSet => return candidate.value.clone(),
        Unit::MinutesIfSet => 60_000,
        Unit::Hours => 3_600_000,
    };
    match candidate.value.parse::<i64>() {
        // -1 stands for "no limit" in every unit.
        Ok(-1) | Err(_) => candidate.value.clone(),
        Ok(number) => number.saturating_mul(factor).to_string(),
    }
}

/// Checks that the defaults of topic configs do not contradict each other.
pub(super) fn check_defaults(config: &BrokerConfig) -> Result<(), ConfigError> {
    let none = Overrides::new();
    let layers = BrokerLayers {
        config,
        cluster: &none,
        node: &none,
    };
    layers.check_topic(&none).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties::Layers;

    fn config(flags: &[(&str, &str)]) -> BrokerConfig {
        let mut layers = Layers::default();
        layers.flags(flags.iter().copied());
        layers.finish().unwrap()
    }

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_topic_that_says_nothing_gets_the_log_s_own_defaults() {
        let (config, none) = (config(&[]), Overrides::new());
        let layers = BrokerLayers {
            config: &config,
            cluster: &none,
            node: &none,
        };
        assert_eq!(layers.log_config(&none), LogConfig::default());
    }

    #[test]
    fn the_better_source_counts_and_units_are_converted() {
        let key = topic::find("retention.ms").unwrap();
        let check = |flags: &[(&str, &str)],
                     cluster: &[(&str, &str)],
                     node: &[(&str, &str)],
                     topic: &[(&str, &str)],
                     expected: (&str, Source)| {
            let (config, cluster, node, topic) = (
                config(flags),
                overrides(cluster),
                overrides(node),
                overrides(topic),
            );
            let layers = BrokerLayers {
                config: &config,
                cluster: &cluster,
                node: &node,
            };
            let (value, source) = layers.topic_value(key, &topic);
            assert_eq!((value.as_str(), source), expected);
        };
        check(&[], &[], &[], &[], ("604800000", Source::Default));
        check(
            &[("log.retention.hours", "2")],
            &[],
            &[],
            &[],
            ("7200000", Source::Static),
        );
        check(
            &[("log.retention.hours", "-1")],
            &[],
            &[],
            &[],
            ("-1", Source::Static),
        );
        let flags = [("log.retention.hours", "2"), ("log.retention.minutes", "3")];
        check(&flags, &[], &[], &[], ("180000", Source::Static));
        let flags = [("log.retention.ms", "5"), ("log.retention.minutes", "3")];
        check(&flags, &[], &[], &[], ("5", Source::Static));
        let cluster = [("log.retention.ms", "6")];
        check(&flags, &cluster, &[], &[], ("6", Source::Cluster));
        check(
            &flags,
            &cluster,
            &[("log.retention.ms", "7")],
            &[],
            ("7", Source::Node),
        );
        check(
            &flags,
            &cluster,
            &[],
            &[("retention.ms", "8")],
            ("8", Source::Topic),
        );
    }

    #[test]
    fn overrides_reach_the_log() {
        let (config, none) = (config(&[("producer.id.expiration.ms", "9")]), Overrides::new());
        let layers = BrokerLayers {
            config: &config,
            cluster: &none,
            node: &none,
        };
        let given = overrides(&[
            ("cleanup.policy", " compact ,delete"),
            ("compression.type", "zstd"),
            ("compression.zstd.level", "-7"),
            ("flush.messages", "100"),
            ("delete.retention.ms", "70"),
            ("max.compaction.lag.ms", "1000"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("min.compaction.lag.ms", "5"),
            ("message.timestamp.type", "LogAppendTime"),
            ("retention.bytes", "-5"),
            ("retention.ms", "-1"),
        ]);
        let checked = layers.check_topic(&given).unwrap();
        assert_eq!(checked["cleanup.policy"], "compact,delete");
        let log = layers.log_config(&checked);
        assert_eq!(
            log.cleanup_policy,
            CleanupPolicy {
                delete: true,
                compact: true
            }
        );
        let zstd = Codec {
            compression: Compression::Zstd,
            level: Some(-7),
        };
        assert_eq!(log.codec, Some(zstd));
        assert_eq!((log.durable, log.flush_messages), (false, 100));
        assert_eq!(log.segment_ms, 1000);
        assert_eq!((log.min_compaction_lag_ms, log.max_compaction_lag_ms), (5, 1000));
        assert_eq!(
            (log.delete_retention_ms, log.min_cleanable_dirty_per_million),
            (70, 250_000)
        );
        assert_eq!(log.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!((log.retention_bytes, log.retention_ms), (None, None));
        assert_eq!(log.producer_expiration_ms, 9);
    }

    /// Every value that the setting takes, and the broker's where a topic says nothing.
    #[test]
    fn the_codec_is_the_topic_s_or_the_broker_s() {
        let check =
            |flags: &[(&str, &str)], topic: &[(&str, &str)], expected: Option<(Compression, Option<i32>)>| {
                let (config, none) = (config(flags), Overrides::new());
                let layers = BrokerLayers {
                    config: &config,
                    cluster: &none,
                    node: &none,
                };
                let topic = layers.check_topic(&overrides(topic)).unwrap();
                let expected = expected.map(|(compression, level)| Codec { compression, level });
                assert_eq!(layers.log_config(&topic).codec, expected);
            };
        check(&[], &[("compression.type", "producer")], None);
        for (value, expected) in [
            ("uncompressed", (Compression::None, None)),
            ("gzip", (Compression::Gzip, Some(-1))),
            ("snappy", (Compression::Snappy, None)),
            ("lz4", (Compression::Lz4, Some(9))),
            ("zstd", (Compression::Zstd, Some(3))),
        ] {
            check(&[], &[("compression.type", value)], Some(expected));
            check(&[("compression.type", value)], &[], Some(expected));
            check(
                &[("compression.type", value)],
                &[("compression.type", "producer")],
                None,
            );
        }
        let flags = [("compression.gzip.level", "2"), ("compression.type", "zstd")];
        check(
            &flags,
            &[("compression.type", "gzip")],
            Some((Compression::Gzip, Some(2))),
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let (config, none) = (config(&[]), Overrides::new());
        let layers = BrokerLayers {
            config: &config,
            cluster: &none,
            node: &none,
        };
        for (pairs, expected) in [
            (
                vec![("retention.sm", "1")],
                "there is no topic config retention.sm; did you mean retention.ms?",
            ),
            (vec![("retention.ms", "x")], "retention.ms: \"x\" is not valid"),
            (vec![("remote.storage.enable", "true")], "no tiered storage"),
            (
                vec![("min.compaction.lag.ms", "100"), ("max.compaction.lag.ms", "50")],
                "min.compaction.lag.ms (100) must not be more than max.compaction.lag.ms (50)",
            ),
        ] {
            let error = layers.check_topic(&overrides(&pairs)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
