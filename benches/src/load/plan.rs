//! What a run is to do: every choice with its effective value. How choices are spelled is the command line's business.
//!
//! Invariant: a plan and a broker are all that a run depends on; all chance follows from the plan's seed.

use std::time::Duration;

use log_client::config::Acks;
use log_core::record::compression::Compression;
use serde::{Serialize, Serializer};

use super::filling::{Keys, Sizes};

/// Which shape of load. Each has its own defaults; all are made of the same parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Producers alone.
    Produce,
    /// Readers that pass over what was produced before.
    Fetch,
    /// Producers, and readers that follow them.
    EndToEnd,
    /// Producers, several readers that follow them, and readers that pass over old records meanwhile.
    Mixed,
    /// Producers over many partitions.
    Partitions,
    /// Producers among many connections that do nothing.
    Connections,
    /// Producers, and groups of consumers that follow them.
    Groups,
    /// Producers and readers for a long time.
    Soak,
}

impl Workload {
    /// Its name, as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::EndToEnd => "end-to-end",
            Self::Mixed => "mixed",
            Self::Partitions => "partitions",
            Self::Connections => "connections",
            Self::Groups => "groups",
            Self::Soak => "soak",
        }
    }
}

/// What a run does.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The broker.
    pub bootstrap: String,
    /// How long to try before giving up.
    pub timeout: Duration,
    /// The shape.
    pub workload: Workload,
    /// A name for the result.
    pub label: Option<String>,
    /// The topic; without one the run makes its own and removes it.
    pub topic: Option<String>,
    /// Whether its own topic stays.
    pub keep_topic: bool,
    /// How many partitions its own topic gets.
    pub partitions: i32,
    /// How many replicas; the broker's default without.
    pub replication_factor: Option<i16>,
    /// Settings of its own topic.
    pub topic_configs: Vec<(String, String)>,
    /// Connections that produce.
    pub producers: usize,
    /// Connections of one pass over the topic.
    pub readers: usize,
    /// How many passes follow the end at the same time.
    pub fan_out: usize,
    /// Passes over old records meanwhile.
    pub replays: usize,
    /// Groups of consumers that follow the load.
    pub groups: usize,
    /// Members of each.
    pub members: usize,
    /// Whether they use the classic protocol.
    pub is_classic: bool,
    /// How often a member of a classic group sends heartbeats; in others the broker says.
    pub heartbeat_interval: Duration,
    /// How often a member commits.
    pub commit_interval: Duration,
    /// How often a member of each group makes place for a new one; never without.
    pub rebalance_every: Option<Duration>,
    /// Connections that do nothing.
    pub idle_connections: usize,
    /// Threads of the load.
    pub threads: usize,
    /// Requests on their way on one connection.
    pub in_flight: usize,
    /// A batch is sent at this size, counted before compression.
    pub batch_bytes: usize,
    /// A batch is sent with so many records.
    pub batch_records: usize,
    /// How long a record waits for its batch to fill, in an open loop.
    pub linger: Duration,
    /// What producers wait for.
    #[serde(serialize_with = "by_code")]
    pub acks: Acks,
    /// Whether producers have ids and sequences of the protocol.
    pub idempotent: bool,
    /// The codec.
    #[serde(serialize_with = "by_name")]
    pub compression: Compression,
    /// How large values are.
    pub sizes: Sizes,
    /// Which keys records have.
    pub keys: Keys,
    /// The share of bytes that do not compress.
    pub entropy: f64,
    /// How much one fetch asks for.
    pub fetch_bytes: usize,
    /// How long a fetch waits for records.
    pub fetch_wait: Duration,
    /// How much is produced before readers of old records begin.
    pub prefill_bytes: u64,
    /// Whether the broker's files are dropped from the page cache before old records are read.
    pub cold: bool,
    /// Records a second in all; none is a closed loop.
    pub rate: Option<f64>,
    /// The limit of the p99 in a search for the knee; without one there is no search. The rate is where it begins, and the duration
    /// that of each step.
    pub knee_p99: Option<Duration>,
    /// How long the load lasts, warm-up aside.
    pub duration: Duration,
    /// The load ends after so many records, if that is earlier.
    pub records: Option<u64>,
    /// How long the load lasts before figures are taken.
    pub warm_up: Duration,
    /// Whether records are stamped and verified.
    pub verify: bool,
    /// What all chance follows from.
    pub seed: u64,
    /// The exact command line, for the result.
    pub command: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by_code<S: Serializer>(acks: &Acks, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(acks_name(*acks))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by_name<S: Serializer>(compression: &Compression, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&compression.to_string())
}

/// As it is typed.
#[must_use]
pub fn acks_name(acks: Acks) -> &'static str {
    match acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    }
}

impl Plan {
    /// A plan with the defaults of a workload.
    #[must_use]
    pub fn new(workload: Workload, bootstrap: &str) -> Self {
        let mut plan = Self {
            bootstrap: bootstrap.to_owned(),
            timeout: Duration::from_secs(15),
            workload,
            label: None,
            topic: None,
            keep_topic: false,
            partitions: 4,
            replication_factor: None,
            topic_configs: Vec::new(),
            producers: 4,
            readers: 1,
            fan_out: 0,
            replays: 0,
            groups: 0,
            members: 2,
            is_classic: false,
            heartbeat_interval: Duration::from_secs(3),
            commit_interval: Duration::from_secs(1),
            rebalance_every: None,
            idle_connections: 0,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            in_flight: 5,
            batch_bytes: 64 << 10,
            batch_records: usize::MAX,
            linger: Duration::ZERO,
            acks: Acks::All,
            idempotent: false,
            compression: Compression::None,
            sizes: Sizes::Fixed(1024),
            keys: Keys::None,
            entropy: 1.0,
            fetch_bytes: 1 << 20,
            fetch_wait: Duration::from_millis(500),
            prefill_bytes: 0,
            cold: false,
            rate: None,
            knee_p99: None,
            duration: Duration::from_secs(10),
            records: None,
            warm_up: Duration::from_secs(1),
            verify: true,
            seed: 1,
            command: Vec::new(),
        };
        match workload {
            Workload::Produce => {}
            Workload::Fetch => {
                plan.producers = 0;
                plan.readers = 4;
                plan.replays = 1;
                plan.prefill_bytes = 256 << 20;
            }
            Workload::EndToEnd => {
                plan.producers = 1;
                plan.fan_out = 1;
                plan.rate = Some(5000.0);
            }
            Workload::Groups => {
                plan.producers = 1;
                plan.groups = 2;
                plan.rate = Some(5000.0);
            }
            Workload::Mixed => {
                plan.producers = 2;
                plan.fan_out = 3;
                plan.replays = 1;
                plan.prefill_bytes = 256 << 20;
                plan.rate = Some(20_000.0);
            }
            Workload::Partitions => plan.partitions = 1000,
            Workload::Connections => {
                plan.idle_connections = 1000;
                plan.rate = Some(5000.0);
            }
            Workload::Soak => {
                plan.producers = 2;
                plan.fan_out = 1;
                plan.rate = Some(5000.0);
                plan.duration = Duration::from_hours(1);
            }
        }
        plan
    }

    /// The end of the load, in nanoseconds of the run's clock.
    #[must_use]
    pub fn load(&self) -> Duration {
        self.warm_up.saturating_add(self.duration)
    }
}
