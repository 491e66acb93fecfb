//! What a run gave, in the form in which it is written to JSON and read again by reports.
//!
//! Units stand in the names: `_s` seconds, `_us` microseconds, `_ms` milliseconds; bytes are bytes, 1 GB is 10⁹ of them. What was not
//! measured is `null`. Invariant: a field keeps its meaning as long as [`SCHEMA_VERSION`] stays the same; new fields may appear, and have
//! defaults for results that lack them.

use serde::{Deserialize, Serialize};

use crate::report::count;
use crate::versus::quantity::Unit;

/// The version of this form.
pub const SCHEMA_VERSION: u32 = 1;

/// One run: what was asked, where it ran, what it gave, and whether the records were what they should be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunResult {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// The version of the program that wrote it.
    pub program_version: String,
    /// A name for this run in tables and plots; the broker's product unless the user gave another.
    pub label: String,
    /// The workload's name: `produce`, `fetch`, `end-to-end`, …
    pub workload: String,
    /// The exact command line.
    pub command: Vec<String>,
    /// When it began, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// What all random choices follow from.
    pub seed: u64,
    /// What was asked, every option with its effective value.
    pub plan: serde_json::Value,
    /// Where the load ran.
    pub machine: Machine,
    /// What it was put on.
    pub broker: BrokerTruth,
    /// How long the load ran before figures were taken.
    pub warm_up_s: f64,
    /// How long figures were taken.
    pub measured_s: f64,
    /// What was produced.
    pub produced: Option<Flow>,
    /// What was fetched, by all readers together.
    pub fetched: Option<Flow>,
    /// From the moment a record was to be sent to its arrival at a reader that follows the end.
    pub end_to_end: Option<Latency>,
    /// What groups of consumers did.
    pub groups: Option<Groups>,
    /// What it cost.
    pub cost: Cost,
    /// How the figures went on over time, the warm-up included: moments before `warm_up_s` are its.
    pub timeline: Vec<Moment>,
    /// The steps of a search for the knee.
    pub knee: Option<Knee>,
    /// Whether the records that came back are those that were sent; `None` when it was not looked at.
    pub verification: Option<Verification>,
    /// What a reader of the figures should know.
    pub warnings: Vec<String>,
}

/// The machine on which the load ran.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// How many processors the system sees.
    pub cpus: usize,
    /// What they call themselves.
    pub cpu_model: Option<String>,
    /// The memory of the machine.
    pub memory_bytes: Option<u64>,
    /// The kernel and its release.
    pub kernel: Option<String>,
}

/// In a line.
impl std::fmt::Display for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = vec![format!("{} processors", self.cpus)];
        parts.extend(self.cpu_model.clone());
        parts.extend(self.memory_bytes.map(|bytes| Unit::Bytes.show(count(bytes))));
        parts.extend(self.kernel.clone());
        formatter.write_str(&parts.join(", "))
    }
}

/// What is known of the broker, from itself and, when it runs on this machine, from the system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerTruth {
    /// The address it was reached at.
    pub address: String,
    /// `Stratalog`, `Kafka`, or `unknown`.
    pub product: String,
    /// Its version, as far as it tells.
    pub version: Option<String>,
    /// How many brokers its cluster has.
    pub brokers: usize,
    /// When it acknowledges.
    pub durability: Durability,
    /// The topic the load ran on, with its partitions.
    pub topic: String,
    /// How many partitions that topic has.
    pub partitions: usize,
    /// Its process, when that is one of this machine.
    pub process: Option<Process>,
    /// Where its data lie, when that is a directory of this machine.
    pub storage: Option<Storage>,
}

/// When a broker acknowledges a record, read from its settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Durability {
    /// How sure an acknowledged record is.
    pub mode: DurabilityMode,
    /// `flush.messages` of the topic.
    pub flush_messages: Option<i64>,
    /// `flush.ms` of the topic.
    pub flush_ms: Option<i64>,
    /// What the producers waited for: `all`, `1` or `0`.
    pub acks: String,
    /// How many replicas the topic has.
    pub replication_factor: usize,
}

/// How sure an acknowledged record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DurabilityMode {
    /// On the disk.
    Synced,
    /// With the operating system, in the page cache.
    PageCache,
    /// Nobody said.
    #[default]
    Unknown,
}

impl std::fmt::Display for DurabilityMode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Synced => "synced",
            Self::PageCache => "page cache",
            Self::Unknown => "unknown",
        })
    }
}

/// A process of this machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its command line, cut where it is long.
    pub command: String,
}

/// Where data lie.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// The directory, as the broker names it.
    pub path: String,
    /// The file system's kind: `ext4`.
    pub filesystem: Option<String>,
    /// The device: `/dev/vda`.
    pub device: Option<String>,
    /// The device's model or driver, as far as the system tells.
    pub model: Option<String>,
}

/// Records that went one way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Records that were acknowledged, or arrived.
    pub records: u64,
    /// Their bytes as batches, compressed if they were.
    pub bytes: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that were answered with an error, or not at all.
    pub errors: u64,
    /// Records a second.
    pub records_per_s: f64,
    /// Bytes a second, in units of 10⁶.
    pub mb_per_s: f64,
    /// Requests a second.
    pub requests_per_s: f64,
    /// The records a second that were asked for, in an open loop.
    pub target_records_per_s: Option<f64>,
    /// From the intended time of sending to the acknowledgement, or from the request to its answer.
    pub latency: Option<Latency>,
}

/// Latencies, counted from the moment a thing was to be done, so that a stall counts for all it held up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// What one latency is of: `record`, `request`, `commit` or `rebalance`.
    pub of: String,
    /// How many were counted.
    pub count: u64,
    /// The smallest.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half are not above.
    pub p50_us: f64,
    /// 90 of 100 are not above.
    pub p90_us: f64,
    /// 99 of 100 are not above.
    pub p99_us: f64,
    /// 999 of 1,000 are not above.
    pub p999_us: f64,
    /// 9,999 of 10,000 are not above.
    pub p9999_us: f64,
    /// The largest.
    pub max_us: f64,
    /// The curve for plots: percentile (0 to 100) and latency, rising in both.
    pub curve: Vec<(f64, f64)>,
}

/// What a run cost.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// CPU seconds of this program while figures were taken.
    pub client_cpu_s: f64,
    /// The same for each GB that was moved, either way.
    pub client_cpu_s_per_gb: Option<f64>,
    /// CPU seconds of the broker's process while figures were taken.
    pub broker_cpu_s: Option<f64>,
    /// The same for each GB that was moved, either way.
    pub broker_cpu_s_per_gb: Option<f64>,
    /// CPU seconds that neither took, but something else on this machine.
    pub others_cpu_s: Option<f64>,
    /// The share of the machine's time that others had.
    pub others_share: Option<f64>,
    /// The broker's resident memory before the load.
    pub broker_rss_before_bytes: Option<u64>,
    /// The largest resident memory that was seen.
    pub broker_rss_max_bytes: Option<u64>,
    /// Its resident memory at the end of the load.
    pub broker_rss_after_bytes: Option<u64>,
    /// What of that is its own, pages of mapped files left out.
    pub broker_anonymous_after_bytes: Option<u64>,
    /// The largest of that which was seen.
    pub broker_anonymous_max_bytes: Option<u64>,
}

/// One stretch of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Moment {
    /// When it ended, counted from the start of the load.
    pub at_s: f64,
    /// How long it was.
    pub length_s: f64,
    /// Records acknowledged in it.
    pub produced_records: u64,
    /// Their bytes.
    pub produced_bytes: u64,
    /// Records that arrived in it.
    pub fetched_records: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Latency of what counts in this workload: end to end where records are followed, else of requests.
    pub p50_us: Option<f64>,
    /// 99 of 100 are not above.
    pub p99_us: Option<f64>,
    /// The largest.
    pub max_us: Option<f64>,
    /// CPU seconds of the broker in it.
    pub broker_cpu_s: Option<f64>,
    /// The broker's resident memory at its end.
    pub broker_rss_bytes: Option<u64>,
    /// What of that is its own.
    pub broker_anonymous_bytes: Option<u64>,
}

/// What groups of consumers did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Groups {
    /// How many groups.
    pub groups: usize,
    /// How many members in all.
    pub members: usize,
    /// The protocol: `consumer` (KIP-848) or `classic`.
    pub protocol: String,
    /// From the start of the members until every partition had an owner in every group.
    pub assigned_after_ms: f64,
    /// Commits that were made, those of partitions that were given up aside.
    pub commits: u64,
    /// Commits that were refused; members try again with the next.
    pub commit_errors: u64,
    /// How long a commit took.
    pub commit_latency: Option<Latency>,
    /// Rebalances that were asked for: a member left, or a new one came.
    pub rebalances: u64,
    /// From its leaving or coming until every partition had its owner.
    pub rebalance_latency: Option<Latency>,
}

/// A search for the rate at which a broker gives way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Knee {
    /// The largest rate that held, in records a second.
    pub records_per_s: Option<f64>,
    /// What of the two gave way beyond it: `p99` or `rate`; none when nothing did.
    pub gave_way: Option<String>,
    /// The limit of the p99.
    pub p99_limit_us: f64,
    /// Each rate that was tried, in the order of the trials.
    pub steps: Vec<KneeStep>,
}

/// One rate of a search.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KneeStep {
    /// What was asked for, in records a second.
    pub target_records_per_s: f64,
    /// What was acknowledged.
    pub records_per_s: f64,
    /// In units of 10⁶ bytes a second.
    pub mb_per_s: f64,
    /// Whether it held.
    pub held: bool,
    /// Its latency.
    pub latency: Latency,
}

/// What the records that came back were.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verification {
    /// Whether nothing was wrong.
    pub passed: bool,
    /// Records that were looked at.
    pub checked: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// There, but behind a record that was sent later.
    pub reordered: u64,
    /// There, but not what was sent.
    pub corrupt: u64,
    /// There, though nobody acknowledged them: allowed, because an answer can be lost on its way.
    pub unacknowledged: u64,
    /// The first few findings, each with partition and offset.
    pub findings: Vec<String>,
}
