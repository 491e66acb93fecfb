//! The records of the metadata log, and their bytes.
//!
//! A record is the value of a Kafka record in the partition `__stratalog_metadata-0`: an envelope (magic `SLmr`, version 1)
//! around this enum in the bincode format. The variant's number is its place in the enum, so variants are only ever added at the
//! end; a variant that must change becomes a new one. Golden bytes below pin them; `docs/FORMAT.md` lists them.
//!
//! Each record carries a whole change (a topic with its configs, all overrides of a topic), so that a crash leaves all of
//! it or nothing.

use log_core::envelope::{self, EnvelopeError, EnvelopeKind, SealError};
use log_core::model::TopicId;
use wincode::{SchemaRead, SchemaWrite};

use crate::config::effective::Overrides;

/// How a record is wrapped.
const KIND: EnvelopeKind = EnvelopeKind {
    name: "metadata record",
    magic: *b"SLmr",
    version_min: 1,
    version: 1,
};

/// One change of the broker's metadata.
#[derive(Debug, Clone, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum MetadataRecord {
    /// The log begins: the cluster has this id from now on.
    ClusterCreated {
        /// 22 characters of URL-safe base64.
        cluster_id: String,
    },
    /// A topic exists.
    TopicCreated {
        /// Its name.
        name: String,
        /// The identity of this life of the name.
        topic_id: [u8; 16],
        /// Partitions 0 to this number, exclusive.
        partition_count: i32,
        /// What it sets itself.
        configs: Overrides,
    },
    /// A topic does not exist any more.
    TopicDeleted {
        /// Its id.
        topic_id: [u8; 16],
    },
    /// A topic has more partitions.
    PartitionsAdded {
        /// Its id.
        topic_id: [u8; 16],
        /// How many it has now.
        partition_count: i32,
    },
    /// Partitions that were added could not be made; the topic goes back to those it had.
    PartitionsWithdrawn {
        /// Its id.
        topic_id: [u8; 16],
        /// How many it has now.
        partition_count: i32,
    },
    /// A topic sets this itself, and nothing else.
    TopicConfigSet {
        /// Its id.
        topic_id: [u8; 16],
        /// All its overrides.
        configs: Overrides,
    },
    /// A broker, or all of them, got these settings while running, and no others.
    BrokerConfigSet {
        /// The node; `None` stands for all.
        node_id: Option<i32>,
        /// All its overrides.
        configs: Overrides,
    },
    /// Producer ids below this one may be in use; they are never handed out again.
    ProducerIdBlock {
        /// The first id that is still free.
        next_producer_id: i64,
    },
    /// A group sets this itself, and nothing else.
    GroupConfigSet {
        /// Its name.
        group: String,
        /// All its overrides.
        configs: Overrides,
    },
    /// A subscription to clients' metrics says this; one that says nothing is gone.
    SubscriptionConfigSet {
        /// Its name.
        subscription: String,
        /// All its settings.
        configs: Overrides,
    },
}

impl MetadataRecord {
    /// The bytes of the record's value.
    ///
    /// # Errors
    /// When a field is so large that it could not be read back.
    pub fn encode(&self) -> Result<Vec<u8>, SealError> {
        envelope::seal(&KIND, self)
    }

    /// Reads the bytes of a record's value.
    ///
    /// # Errors
    /// When they are not a sound record of a version that this code knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        envelope::open(&KIND, bytes)?.decode()
    }

    /// The topic that the record is about, if it is about one.
    #[must_use]
    pub fn topic_id(&self) -> Option<TopicId> {
        match self {
            Self::TopicCreated { topic_id, .. }
            | Self::TopicDeleted { topic_id }
            | Self::PartitionsAdded { topic_id, .. }
            | Self::PartitionsWithdrawn { topic_id, .. }
            | Self::TopicConfigSet { topic_id, .. } => Some(TopicId::from_bytes(*topic_id)),
            Self::ClusterCreated { .. }
            | Self::BrokerConfigSet { .. }
            | Self::ProducerIdBlock { .. }
            | Self::GroupConfigSet { .. }
            | Self::SubscriptionConfigSet { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use log_core::envelope::HEADER_LENGTH;

    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The payload's bytes in hexadecimal, blanks aside; the envelope has its own test.
    fn check(record: &MetadataRecord, payload: &str) {
        let bytes = record.encode().unwrap();
        let mut hex = String::new();
        for byte in &bytes[HEADER_LENGTH..] {
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(hex, payload.replace(' ', ""), "{record:?}");
        assert_eq!(MetadataRecord::decode(&bytes).as_ref(), Ok(record));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(MetadataRecord::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn golden_bytes() {
        let topic_id = *b"0123456789abcdef";
        let id = "30313233343536373839616263646566";
        check(
            &MetadataRecord::ClusterCreated {
                cluster_id: "ab".to_owned(),
            },
            "00000000 0200000000000000 6162",
        );
        check(
            &MetadataRecord::TopicCreated {
                name: "t".to_owned(),
                topic_id,
                partition_count: 3,
                configs: overrides(&[("a", "1"), ("b", "")]),
            },
            &format!(
                "01000000 0100000000000000 74 {id} 03000000 0200000000000000 \
                 0100000000000000 61 0100000000000000 31 0100000000000000 62 0000000000000000"
            ),
        );
        check(
            &MetadataRecord::TopicDeleted { topic_id },
            &format!("02000000 {id}"),
        );
        check(
            &MetadataRecord::PartitionsAdded {
                topic_id,
                partition_count: 4,
            },
            &format!("03000000 {id} 04000000"),
        );
        check(
            &MetadataRecord::PartitionsWithdrawn {
                topic_id,
                partition_count: 3,
            },
            &format!("04000000 {id} 03000000"),
        );
        check(
            &MetadataRecord::TopicConfigSet {
                topic_id,
                configs: overrides(&[]),
            },
            &format!("05000000 {id} 0000000000000000"),
        );
        check(
            &MetadataRecord::BrokerConfigSet {
                node_id: Some(1),
                configs: overrides(&[]),
            },
            "06000000 01 01000000 0000000000000000",
        );
        check(
            &MetadataRecord::BrokerConfigSet {
                node_id: None,
                configs: overrides(&[("a", "1")]),
            },
            "06000000 00 0100000000000000 0100000000000000 61 0100000000000000 31",
        );
        check(
            &MetadataRecord::ProducerIdBlock {
                next_producer_id: 1000,
            },
            "07000000 e803000000000000",
        );
        check(
            &MetadataRecord::GroupConfigSet {
                group: "g".to_owned(),
                configs: overrides(&[("a", "1")]),
            },
            "08000000 0100000000000000 67 0100000000000000 0100000000000000 61 0100000000000000 31",
        );
        check(
            &MetadataRecord::SubscriptionConfigSet {
                subscription: "s".to_owned(),
                configs: overrides(&[("a", "1")]),
            },
            "09000000 0100000000000000 73 0100000000000000 0100000000000000 61 0100000000000000 31",
        );
    }

    #[test]
    fn the_envelope_is_pinned_too() {
        let bytes = MetadataRecord::TopicDeleted { topic_id: [7; 16] }
            .encode()
            .unwrap();
        assert_eq!(&bytes[..10], b"SLmr\x01\0\x14\0\0\0");
        assert_eq!(bytes.len(), HEADER_LENGTH + 20);
    }
}
