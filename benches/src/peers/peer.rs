//! Who can be compared, and what its settings promise.
//! Several peers may be one process: what differs is a setting of the topic.

use clap::ValueEnum;

use crate::load::result::DurabilityMode;

/// A peer with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Ours with its defaults: an acknowledged record is on the disk
    Stratalog,
    /// Ours with flushing relaxed: acknowledged from the page cache
    StratalogRelaxed,
    /// A real Kafka with its defaults: acknowledged from the page cache
    Kafka,
    /// A real Kafka with flush.messages=1: an acknowledged record is on the disk
    KafkaSynced,
    /// The null broker: the limit of page-cache acknowledgements
    Null,
    /// The null broker, answering fetches from a map of its files in place of sendfile
    NullMap,
    /// The null broker with a group commit into zero-filled space: the limit of durable ones
    NullSynced,
    /// Redis streams, append-only file synced every second
    Redis,
    /// Redis streams, append-only file synced before each answer
    RedisSynced,
    /// NATS with its streams on files, which this version syncs every two minutes
    Nats,
}

/// Which process serves a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Our server.
    Stratalog,
    /// A real Kafka.
    Kafka,
    /// The null broker, acknowledging from the page cache.
    Null,
    /// The null broker, answering fetches from a map.
    NullMap,
    /// The null broker, acknowledging from the disk.
    NullSynced,
    /// Redis with `appendfsync everysec`.
    Redis,
    /// Redis with `appendfsync always`.
    RedisSynced,
    /// NATS.
    Nats,
}

impl Program {
    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stratalog => "stratalog",
            Self::Kafka => "kafka",
            Self::Null => "null",
            Self::NullMap => "null-map",
            Self::NullSynced => "null-synced",
            Self::Redis => "redis",
            Self::RedisSynced => "redis-synced",
            Self::Nats => "nats",
        }
    }
}

impl Peer {
    /// Its name in tables; how it acknowledges is said beside it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Stratalog | Self::StratalogRelaxed => "Stratalog",
            Self::Kafka | Self::KafkaSynced => "Kafka",
            Self::Null | Self::NullSynced => "null broker",
            Self::NullMap => "null broker with maps",
            Self::Redis | Self::RedisSynced => "Redis",
            Self::Nats => "NATS",
        }
    }

    /// Who serves it.
    #[must_use]
    pub fn program(self) -> Program {
        match self {
            Self::Stratalog | Self::StratalogRelaxed => Program::Stratalog,
            Self::Kafka | Self::KafkaSynced => Program::Kafka,
            Self::Null => Program::Null,
            Self::NullMap => Program::NullMap,
            Self::NullSynced => Program::NullSynced,
            Self::Redis => Program::Redis,
            Self::RedisSynced => Program::RedisSynced,
            Self::Nats => Program::Nats,
        }
    }

    /// Whether `stratalog bench` can load it.
    #[must_use]
    pub fn speaks_kafka(self) -> bool {
        !matches!(self, Self::Redis | Self::RedisSynced | Self::Nats)
    }

    /// The topic setting that makes it promise what it should.
    #[must_use]
    pub fn topic_setting(self) -> Option<&'static str> {
        match self {
            Self::StratalogRelaxed => Some("flush.messages=9223372036854775807"),
            Self::KafkaSynced => Some("flush.messages=1"),
            _ => None,
        }
    }

    /// What an acknowledgement means.
    #[must_use]
    pub fn durability(self) -> DurabilityMode {
        match self {
            Self::Stratalog | Self::KafkaSynced | Self::NullSynced | Self::RedisSynced => {
                DurabilityMode::Synced
            }
            Self::StratalogRelaxed | Self::Kafka | Self::Null | Self::NullMap | Self::Redis | Self::Nats => {
                DurabilityMode::PageCache
            }
        }
    }
}
