//! What is compared: loads, and when each broker acknowledges meanwhile.
//!
//! Ours acknowledges `acks=all` when the disk has a record, Kafka when the page cache has it. So the same load comes in
//! several rows: each broker as it is without being told, both from the disk, both from the page cache.

use crate::brokers::Kind;
use crate::loads::Client;

/// The rate of the latency loads, in records per second.
pub const RATE: u64 = 5000;
/// How many records are sent one after the other.
pub const ONE_AT_A_TIME_RECORDS: u64 = 2000;

/// When a topic's records are acknowledged and shown to consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// As the broker does without being told: ours synced, Kafka's from the page cache.
    Default,
    /// When the disk has them.
    Synced,
    /// When the page cache has them.
    PageCache,
}

impl Promise {
    /// In words.
    #[must_use]
    pub fn name(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Synced, _) | (Self::Default, Kind::Stratalog) => "synced",
            (Self::PageCache, _) | (Self::Default, Kind::Kafka) => "page cache",
        }
    }

    /// The topic setting that makes it so, on either broker.
    #[must_use]
    pub fn flush_messages(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Synced => Some("1"),
            Self::PageCache => Some("9223372036854775807"),
        }
    }
}

/// What the clients do.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Produce everything, and read it from the start where [`Load::is_read_back`] says so.
    Throughput {
        /// Through which client.
        client: Client,
        /// The producer's `acks`.
        acks: &'static str,
        /// Of the topic.
        partitions: i32,
    },
    /// A fixed rate through librdkafka.
    Rate {
        /// The producer's `acks`.
        acks: &'static str,
    },
    /// One record after the other, through the Java client.
    OneAtATime {
        /// The producer's `acks`.
        acks: &'static str,
    },
}

/// Work, and what both brokers promise meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What the clients do.
    pub work: Work,
    /// When they acknowledge.
    pub promise: Promise,
}

const fn load(work: Work, promise: Promise) -> Load {
    Load { work, promise }
}

const fn throughput(client: Client, acks: &'static str, partitions: i32) -> Work {
    Work::Throughput {
        client,
        acks,
        partitions,
    }
}

/// What is compared. `acks=1` is answered from the page cache by both, whatever consumers wait for.
pub const LOADS: [Load; 11] = [
    load(throughput(Client::Librdkafka, "1", 1), Promise::Default),
    load(throughput(Client::Librdkafka, "all", 1), Promise::Default),
    load(throughput(Client::Librdkafka, "all", 1), Promise::Synced),
    load(throughput(Client::Librdkafka, "all", 1), Promise::PageCache),
    load(throughput(Client::Librdkafka, "all", 6), Promise::Default),
    load(throughput(Client::Java, "1", 1), Promise::Default),
    load(throughput(Client::Java, "all", 1), Promise::Default),
    load(Work::Rate { acks: "all" }, Promise::Default),
    load(Work::Rate { acks: "all" }, Promise::PageCache),
    load(Work::OneAtATime { acks: "all" }, Promise::Default),
    load(Work::OneAtATime { acks: "all" }, Promise::PageCache),
];

impl Load {
    /// Whether what was produced is read again. Once for each client and topic is enough: how records were
    /// acknowledged does not show when they are read.
    #[must_use]
    pub fn is_read_back(&self) -> bool {
        self.promise == Promise::Default && matches!(self.work, Work::Throughput { acks: "all", .. })
    }

    fn promises(&self) -> String {
        let (ours, theirs) = (self.promise.name(Kind::Stratalog), self.promise.name(Kind::Kafka));
        if ours == theirs {
            format!("both {ours}")
        } else {
            format!("ours {ours}, Kafka {theirs}")
        }
    }

    /// Whose client it goes through.
    #[must_use]
    pub fn client(&self) -> Client {
        match self.work {
            Work::Throughput { client, .. } => client,
            Work::Rate { .. } => Client::Librdkafka,
            Work::OneAtATime { .. } => Client::Java,
        }
    }

    /// Its name in tables.
    #[must_use]
    pub fn name(&self) -> String {
        match self.work {
            Work::Throughput {
                client,
                acks,
                partitions,
            } => {
                let spread = if partitions == 1 {
                    String::new()
                } else {
                    format!(", {partitions} partitions")
                };
                let promises = if acks == "1" {
                    "both page cache".to_owned()
                } else {
                    self.promises()
                };
                format!("{}, acks={acks}{spread}, {promises}", client.name())
            }
            Work::Rate { acks } => {
                format!("{RATE} records/s, librdkafka, acks={acks}, {}", self.promises())
            }
            Work::OneAtATime { acks } => {
                format!("one at a time, Java client, acks={acks}, {}", self.promises())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_load_says_whose_client_it_goes_through() {
        for client in [Client::Librdkafka, Client::Java] {
            let named = LOADS.iter().filter(|load| load.name().contains(client.name()));
            let of_client = LOADS.iter().filter(|load| load.client() == client);
            assert!(named.map(Load::name).eq(of_client.map(Load::name)), "{client:?}");
        }
    }
}
