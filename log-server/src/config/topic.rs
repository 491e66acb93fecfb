//! The catalogue of topic configs: all of Kafka 4.3, by its names, types, ranges and defaults.
//!
//! Each config is one item here; its broker-wide default keys (`log.segment.bytes` for `segment.bytes`) are made from the
//! same item. One default differs from Kafka's on purpose: `flush.messages` is 1, so that a record
//! is on the disk before it is acknowledged. What a config does is the log's affair; configs of features that this broker
//! does not have (tiered storage, replication throttles) are checked and kept, as Kafka without those features does.

use super::value::{Kind, Rule};

/// How much a config matters to somebody who reads the list for the first time, in Kafka's grades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Nearly everyone looks at it.
    High,
    /// Worth knowing.
    Medium,
    /// For special cases.
    Low,
}

/// A broker key that gives a topic config its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// The broker's key.
    pub name: &'static str,
    /// How its value becomes the topic's.
    pub unit: Unit,
}

/// How the value of a [`Synonym`] becomes the topic config's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As it is; the key's default is the topic config's.
    Same,
    /// As it is; without a value, the next synonym counts.
    SameIfSet,
    /// Minutes to milliseconds; without a value, the next synonym counts.
    MinutesIfSet,
    /// Hours to milliseconds; the key's default is the topic config's.
    Hours,
}

/// One topic config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Which values it accepts.
    pub rule: Rule,
    /// What counts when nobody says anything.
    pub default: &'static str,
    /// Kafka's grade.
    pub importance: Importance,
    /// The broker's keys that give the default, the first that has a value counts.
    pub synonyms: &'static [Synonym],
    /// What it does.
    pub doc: &'static str,
}

/// The item of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

const LONGEST: &str = "9223372036854775807";
const WEEK_MS: &str = "604800000";

const fn key(
    name: &'static str,
    kind: Kind,
    rule: Rule,
    default: &'static str,
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> TopicKey {
    TopicKey {
        name,
        kind,
        rule,
        default,
        // Kafka grades every topic config of 4.3 alike.
        importance: Importance::Medium,
        synonyms,
        doc,
    }
}

const fn broker(name: &'static str, unit: Unit) -> Synonym {
    Synonym { name, unit }
}

/// All of them, by name.
pub const TOPIC_KEYS: &[TopicKey] = &[
    key(
        "cleanup.policy",
        Kind::List,
        Rule::ListOf(&["compact", "delete"]),
        "delete",
        &[broker("log.cleanup.policy", Unit::Same)],
        "What happens to old segments: `delete` removes those behind the retention limits, `compact` keeps the last record \
         of each key. Both may be given; the empty list keeps everything.",
    ),
    key(
        "compression.gzip.level",
        Kind::Int,
        Rule::BetweenOr(1, 9, -1),
        "-1",
        &[broker("compression.gzip.level", Unit::Same)],
        "How hard gzip tries where compression.type is gzip; -1 is zlib's own choice.",
    ),
    key(
        "compression.lz4.level",
        Kind::Int,
        Rule::Between(1, 17),
        "9",
        &[broker("compression.lz4.level", Unit::Same)],
        "Kept for compatibility, without effect: lz4 has one speed here, the fast one.",
    ),
    key(
        "compression.type",
        Kind::String,
        Rule::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        &[broker("compression.type", Unit::Same)],
        "How batches are stored: as the producer compressed them (`producer`), or in one codec. Then batches of another one are \
         written anew, which takes the broker's processors; batches of the same codec stay as they are. Control batches are \
         never compressed.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int,
        Rule::Between(-131_072, 22),
        "3",
        &[broker("compression.zstd.level", Unit::Same)],
        "How hard zstd tries where compression.type is zstd.",
    ),
    key(
        "delete.retention.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "86400000",
        &[broker("log.cleaner.delete.retention.ms", Unit::Same)],
        "How long compaction keeps the marker of a deleted key, so that a reader that began before sees the deletion.",
    ),
    key(
        "file.delete.delay.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "60000",
        &[broker("log.segment.delete.delay.ms", Unit::Same)],
        "How long a removed segment's file stays. Kept for compatibility: here a file may go at once, because readers hold \
         their own handle.",
    ),
    key(
        "flush.messages",
        Kind::Long,
        Rule::AtLeast(1),
        "1",
        &[broker("log.flush.interval.messages", Unit::Same)],
        "After how many records the log is brought to the disk. 1, the default here, makes acks=all and consumers wait for \
         the disk; a larger value acknowledges from memory, as Kafka does by default.",
    ),
    key(
        "flush.ms",
        Kind::Long,
        Rule::AtLeast(0),
        LONGEST,
        &[
            broker("log.flush.interval.ms", Unit::SameIfSet),
            broker("log.flush.scheduler.interval.ms", Unit::Same),
        ],
        "How old an unflushed record may become before the log is brought to the disk, where flush.messages is not 1.",
    ),
    key(
        "follower.replication.throttled.replicas",
        Kind::List,
        Rule::ReplicaList,
        "",
        &[],
        "Followers whose replication is throttled. Kept for compatibility: one node replicates nothing.",
    ),
    key(
        "index.interval.bytes",
        Kind::Int,
        Rule::AtLeast(0),
        "4096",
        &[broker("log.index.interval.bytes", Unit::Same)],
        "After how many bytes of log the offset index gets an entry; an index with 4,096 entries keeps the newest 512 so, and fewer of the \
         older ones.",
    ),
    key(
        "leader.replication.throttled.replicas",
        Kind::List,
        Rule::ReplicaList,
        "",
        &[],
        "Leaders whose replication is throttled. Kept for compatibility: one node replicates nothing.",
    ),
    key(
        "local.retention.bytes",
        Kind::Long,
        Rule::AtLeast(-2),
        "-2",
        &[broker("log.local.retention.bytes", Unit::Same)],
        "How many bytes stay on the local disk with tiered storage; -2 takes retention.bytes. Kept for compatibility.",
    ),
    key(
        "local.retention.ms",
        Kind::Long,
        Rule::AtLeast(-2),
        "-2",
        &[broker("log.local.retention.ms", Unit::Same)],
        "How long segments stay on the local disk with tiered storage; -2 takes retention.ms. Kept for compatibility.",
    ),
    key(
        "max.compaction.lag.ms",
        Kind::Long,
        Rule::AtLeast(1),
        LONGEST,
        &[broker("log.cleaner.max.compaction.lag.ms", Unit::Same)],
        "How long a record of a compacted topic may go uncompacted; segments are rolled in time for it.",
    ),
    key(
        "max.message.bytes",
        Kind::Int,
        Rule::AtLeast(0),
        "1048588",
        &[broker("message.max.bytes", Unit::Same)],
        "The largest batch that is accepted, as it stands on the wire: header included, compressed. Where compression.type has it \
         written anew, also as it is stored.",
    ),
    key(
        "message.timestamp.after.max.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "3600000",
        &[broker("log.message.timestamp.after.max.ms", Unit::Same)],
        "How far a record's time may lie ahead of the broker's; beyond, it is refused.",
    ),
    key(
        "message.timestamp.before.max.ms",
        Kind::Long,
        Rule::AtLeast(0),
        LONGEST,
        &[broker("log.message.timestamp.before.max.ms", Unit::Same)],
        "How far a record's time may lie behind the broker's; beyond, it is refused.",
    ),
    key(
        "message.timestamp.type",
        Kind::String,
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        &[broker("log.message.timestamp.type", Unit::Same)],
        "Whose clock a record's time is from: the producer's (`CreateTime`) or the broker's (`LogAppendTime`).",
    ),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        Rule::Between(0, 1),
        "0.5",
        &[broker("log.cleaner.min.cleanable.ratio", Unit::Same)],
        "Which share of a log must be uncompacted before compaction is worth its while.",
    ),
    key(
        "min.compaction.lag.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "0",
        &[broker("log.cleaner.min.compaction.lag.ms", Unit::Same)],
        "How long a record is safe from compaction.",
    ),
    key(
        "min.insync.replicas",
        Kind::Int,
        Rule::AtLeast(1),
        "1",
        &[broker("min.insync.replicas", Unit::Same)],
        "Kept for compatibility: one node has one replica, and acks=all is answered when that has the record, whatever it says.",
    ),
    key(
        "preallocate",
        Kind::Boolean,
        Rule::Any,
        "false",
        &[broker("log.preallocate", Unit::Same)],
        "Whether a segment takes all its space at once. Kept for compatibility: space is always prepared ahead of the \
         writer, as much as the traffic asks for.",
    ),
    key(
        "remote.log.copy.disable",
        Kind::Boolean,
        Rule::Any,
        "false",
        &[],
        "Whether tiered data becomes read-only. Kept for compatibility.",
    ),
    key(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        Rule::Any,
        "false",
        &[],
        "Whether tiered data goes when tiering is switched off. Kept for compatibility.",
    ),
    key(
        "remote.storage.enable",
        Kind::Boolean,
        Rule::Any,
        "false",
        &[],
        "Whether segments are tiered to an object store. Only false is accepted: this broker has no tiered storage yet.",
    ),
    key(
        "retention.bytes",
        Kind::Long,
        Rule::Any,
        "-1",
        &[broker("log.retention.bytes", Unit::Same)],
        "How many bytes of a partition are kept; the oldest segments beyond go. Below 0: no limit.",
    ),
    key(
        "retention.ms",
        Kind::Long,
        Rule::AtLeast(-1),
        WEEK_MS,
        &[
            broker("log.retention.ms", Unit::SameIfSet),
            broker("log.retention.minutes", Unit::MinutesIfSet),
            broker("log.retention.hours", Unit::Hours),
        ],
        "How long records are kept; segments whose newest record is older go. A record with a time ahead keeps its segment, and \
        those behind it, until then. -1: no limit.",
    ),
    key(
        "segment.bytes",
        Kind::Int,
        Rule::AtLeast(1_048_576),
        "1073741824",
        &[broker("log.segment.bytes", Unit::Same)],
        "How large a segment may become before the next one is begun.",
    ),
    key(
        "segment.index.bytes",
        Kind::Int,
        Rule::AtLeast(4),
        "10485760",
        &[broker("log.index.size.max.bytes", Unit::Same)],
        "How large an index of a segment may become before the next segment is begun.",
    ),
    key(
        "segment.jitter.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "0",
        &[
            broker("log.roll.jitter.ms", Unit::SameIfSet),
            broker("log.roll.jitter.hours", Unit::Hours),
        ],
        "Up to how much is taken off segment.ms, by chance, so that many segments do not end at once.",
    ),
    key(
        "segment.ms",
        Kind::Long,
        Rule::AtLeast(1),
        WEEK_MS,
        &[
            broker("log.roll.ms", Unit::SameIfSet),
            broker("log.roll.hours", Unit::Hours),
        ],
        "How old a segment may become before the next one is begun, even if it is not full.",
    ),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        Rule::Any,
        "false",
        &[broker("unclean.leader.election.enable", Unit::Same)],
        "Whether a replica that lags may become leader. Kept for compatibility: one node has one replica.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::canonical;

    #[test]
    fn names_are_sorted_and_defaults_are_canonical() {
        assert!(TOPIC_KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for key in TOPIC_KEYS {
            assert_eq!(
                canonical(key.kind, key.rule, key.default).unwrap(),
                key.default,
                "{}",
                key.name
            );
            assert_eq!(find(key.name), Some(key));
            assert!(!key.doc.is_empty());
        }
        assert_eq!(find("segment.byte"), None);
    }
}
