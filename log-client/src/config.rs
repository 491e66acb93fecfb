//! The settings of a client. Defaults are those of the Java client unless a comment says otherwise.
//! What a setting does stands in the module that obeys it.

use std::sync::Arc;
use std::time::Duration;

use log_core::model::TimestampMs;

use crate::error::{Error, Result};
use crate::retry::Backoff;

/// What every client has: how to reach the cluster and how long to try.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Addresses (`host:port`) to find the cluster by; one that answers is enough.
    pub bootstrap: Vec<String>,
    /// The name under which the broker knows this client.
    pub client_id: String,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// How long one request may take before its connection is given up.
    pub request_timeout: Duration,
    /// How long an operation may take with all its attempts (Kafka: `default.api.timeout.ms`).
    pub api_timeout: Duration,
    /// Between attempts.
    pub retry_backoff: Backoff,
    /// Between attempts to connect to one address.
    pub reconnect_backoff: Backoff,
    /// After which age the picture of the cluster is fetched again.
    pub metadata_max_age: Duration,
    /// Whether asking for a topic that does not exist may create it, if the broker allows that.
    /// Only producers set it; Kafka's consumers do by default, which turns misspelt names into topics.
    pub auto_create_topics: bool,
    /// Requests on their way on one connection.
    pub in_flight_max: usize,
    /// A response larger than this is refused before memory is taken for it.
    pub response_bytes_max: usize,
}

impl ClientConfig {
    /// Settings with the given addresses, separated by commas, and defaults for the rest.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap
                .split(',')
                .map(str::trim)
                .filter(|address| !address.is_empty())
                .map(str::to_owned)
                .collect(),
            client_id: "stratalog-client".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_mins(1),
            retry_backoff: Backoff {
                first: Duration::from_millis(100),
                longest: Duration::from_secs(1),
            },
            reconnect_backoff: Backoff {
                first: Duration::from_millis(50),
                longest: Duration::from_secs(1),
            },
            metadata_max_age: Duration::from_mins(5),
            auto_create_topics: false,
            in_flight_max: 64,
            // The largest fetch of 50 MiB may exceed its limit by one batch, which a topic may allow to be large.
            response_bytes_max: 256 << 20,
        }
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the reason.
    pub fn validate(&self) -> Result<()> {
        if self.bootstrap.is_empty() {
            return Err(Error::config("no bootstrap address is given (host:port)"));
        }
        for address in &self.bootstrap {
            let port = address
                .rsplit_once(':')
                .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten());
            if port.is_none_or(|port| port == 0) {
                return Err(Error::config(format!(
                    "the bootstrap address {address:?} is not of the form host:port"
                )));
            }
        }
        if self.in_flight_max == 0 {
            return Err(Error::config("in_flight_max must be at least 1"));
        }
        Ok(())
    }
}

/// What the broker does before it answers a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// It does not answer; a record counts as delivered once it is written to the socket.
    None,
    /// The leader has appended it.
    Leader,
    /// Every in-sync replica has it; Stratalog also has it on the disk.
    #[default]
    All,
}

impl Acks {
    /// The number in the request.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

impl std::str::FromStr for Acks {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "0" | "none" => Ok(Self::None),
            "1" | "leader" => Ok(Self::Leader),
            "-1" | "all" => Ok(Self::All),
            _ => Err(Error::config(format!("acks is all, 1 or 0, not {text:?}"))),
        }
    }
}

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// The record with this offset, or the first one after it.
    Offset(log_core::model::Offset),
    /// The first record that the partition still has.
    Earliest,
    /// Only what comes from now on.
    Latest,
    /// The first record with this timestamp or a later one; the end, if there is none.
    Timestamp(TimestampMs),
    /// So many records before the end, or the first record.
    BeforeEnd(u64),
}

/// Which records a consumer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// All.
    #[default]
    ReadUncommitted,
    /// Those of no transaction and of committed ones, up to the first of a transaction that is still open.
    ReadCommitted,
}

impl IsolationLevel {
    /// The number in requests.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

impl std::str::FromStr for IsolationLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "read_uncommitted" => Ok(Self::ReadUncommitted),
            "read_committed" => Ok(Self::ReadCommitted),
            _ => Err(Error::config(format!(
                "isolation.level is read_uncommitted or read_committed, not {text:?}"
            ))),
        }
    }
}

/// What a consumer does when its position is outside of what the partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Report it. The default, unlike in Kafka: skipping records should be somebody's decision.
    #[default]
    Fail,
    /// Go on from the first record.
    Earliest,
    /// Go on from the end.
    Latest,
    /// Go on from the first record that is no older than this (KIP-1106).
    Back(Duration),
}

/// What a partition consumer has on top of [`ClientConfig`].
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// How to reach the cluster.
    pub client: ClientConfig,
    /// The broker answers as soon as it has so much.
    pub fetch_bytes_min: i32,
    /// The size of one fetch over all partitions; a first batch larger than that is given whole.
    pub fetch_bytes_max: i32,
    /// The share of one partition in it.
    pub partition_bytes_max: i32,
    /// How long the broker waits for `fetch_bytes_min`.
    pub fetch_wait_max: Duration,
    /// Whether the checksum of each batch is checked.
    pub check_crcs: bool,
    /// What to do when the position is outside of what the partition has.
    pub offset_reset: OffsetReset,
    /// Which records are shown (`isolation.level`).
    pub isolation: IsolationLevel,
    /// The size to which one batch may decompress.
    pub decompressed_bytes_max: usize,
}

impl ConsumerConfig {
    /// Settings with defaults for all but the addresses.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            client: ClientConfig::new(bootstrap),
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            fetch_wait_max: Duration::from_millis(500),
            check_crcs: true,
            offset_reset: OffsetReset::Fail,
            isolation: IsolationLevel::default(),
            // A thousand times the default limit of a batch on the wire would still be refused.
            decompressed_bytes_max: 512 << 20,
        }
    }
}

/// What a producer has on top of [`ClientConfig`].
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// How to reach the cluster.
    pub client: ClientConfig,
    /// What the broker does before it answers.
    pub acks: Acks,
    /// Whether retries are kept from duplicating and reordering records; needs [`Acks::All`].
    pub idempotent: bool,
    /// The codec of batches.
    pub compression: log_core::record::compression::Compression,
    /// The codec's level, where it has levels; its own default otherwise.
    pub compression_level: Option<i32>,
    /// A batch is sent once it has so many bytes, counted before compression.
    pub batch_bytes: usize,
    /// How long a batch waits for more records. Without it a batch leaves at once, but what arrives while
    /// five requests are on their way still travels together.
    pub linger: Duration,
    /// The size of one request, and so of one record.
    pub request_bytes_max: usize,
    /// The memory for records that are not acknowledged yet; when it is full, `send` waits.
    pub buffer_memory: usize,
    /// How long `send` waits for memory or for the topic's metadata.
    pub max_block: Duration,
    /// How long a record may take from `send` to its acknowledgement.
    pub delivery_timeout: Duration,
    /// The metadata of a topic to which nothing was sent for so long are not kept fresh any more; the next record
    /// fetches them again (Kafka: `metadata.max.idle.ms`).
    pub metadata_max_idle: Duration,
    /// Requests on their way to one broker; at most 5 with `idempotent`, which is how far brokers look back.
    pub in_flight_max: usize,
}

/// How many batches of a producer a broker remembers per partition.
pub(crate) const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

impl ProducerConfig {
    /// Settings with defaults for all but the addresses.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        let mut client = ClientConfig::new(bootstrap);
        client.auto_create_topics = true;
        Self {
            client,
            acks: Acks::All,
            idempotent: true,
            compression: log_core::record::compression::Compression::None,
            compression_level: None,
            batch_bytes: 16 << 10,
            linger: Duration::from_millis(5),
            request_bytes_max: 1 << 20,
            buffer_memory: 32 << 20,
            max_block: Duration::from_mins(1),
            delivery_timeout: Duration::from_mins(2),
            metadata_max_idle: Duration::from_mins(5),
            in_flight_max: IDEMPOTENT_IN_FLIGHT_MAX,
        }
    }

    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the reason.
    pub fn validate(&self) -> Result<()> {
        self.client.validate()?;
        if self.idempotent && self.acks != Acks::All {
            return Err(Error::config("an idempotent producer needs acks=all"));
        }
        if self.idempotent && IDEMPOTENT_IN_FLIGHT_MAX < self.in_flight_max {
            return Err(Error::config(
                "an idempotent producer has at most 5 requests in flight",
            ));
        }
        if self.in_flight_max == 0 {
            return Err(Error::config("in_flight_max must be at least 1"));
        }
        if self.delivery_timeout < self.linger + self.client.request_timeout {
            return Err(Error::config(
                "delivery_timeout must leave time for linger and one request_timeout",
            ));
        }
        if self.buffer_memory < self.request_bytes_max.min(self.batch_bytes) {
            return Err(Error::config("buffer_memory must hold at least one batch"));
        }
        Ok(())
    }
}

/// What a transactional producer has on top of [`ProducerConfig`].
#[derive(Debug, Clone)]
pub struct TransactionalConfig {
    /// How to send; idempotent in any case.
    pub producer: ProducerConfig,
    /// The name that the producer keeps over restarts, and under which no second one may be at work
    /// (`transactional.id`).
    pub transactional_id: String,
    /// After how long the coordinator aborts a transaction that was not ended (`transaction.timeout.ms`).
    pub transaction_timeout: Duration,
}

impl TransactionalConfig {
    /// Settings with defaults for all but the addresses and the transactional id.
    #[must_use]
    pub fn new(bootstrap: &str, transactional_id: &str) -> Self {
        Self {
            producer: ProducerConfig::new(bootstrap),
            transactional_id: transactional_id.to_owned(),
            transaction_timeout: Duration::from_mins(1),
        }
    }

    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the reason.
    pub fn validate(&self) -> Result<()> {
        self.producer.validate()?;
        if !self.producer.idempotent {
            return Err(Error::config("a transactional producer is idempotent"));
        }
        if self.transactional_id.is_empty() {
            return Err(Error::config("transactional.id must not be empty"));
        }
        if i32::try_from(self.transaction_timeout.as_millis()).is_err() {
            return Err(Error::config(format!(
                "transaction.timeout.ms is at most {}",
                i32::MAX
            )));
        }
        Ok(())
    }
}

/// The topic, partition and so on that an error is about, as text.
pub(crate) fn joined(addresses: &[Arc<str>]) -> Arc<str> {
    addresses.join(", ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_tried() {
        let check = |bootstrap: &str, expected: usize| {
            let config = ClientConfig::new(bootstrap);
            assert_eq!(
                config.validate().is_ok().then_some(config.bootstrap.len()),
                (expected > 0).then_some(expected),
                "{bootstrap:?}"
            );
        };
        check("127.0.0.1:9092", 1);
        check("a:1, b:2 ,[::1]:3", 3);
        check("", 0);
        check("localhost", 0);
        check("localhost:port", 0);
        check(":9092", 0);
        check("a:0", 0);
        check("a:99999", 0);
    }

    #[test]
    fn idempotence_demands_what_it_needs() {
        let refused = |change: fn(&mut ProducerConfig)| {
            let mut config = ProducerConfig::new("a:1");
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(ProducerConfig::new("a:1").validate().is_ok());
        assert!(refused(|config| config.acks = Acks::Leader).contains("acks=all"));
        assert!(refused(|config| config.in_flight_max = 6).contains("at most 5"));
        assert!(refused(|config| config.delivery_timeout = Duration::from_secs(1)).contains("linger"));
    }
}
