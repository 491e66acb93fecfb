//! The options of `stratalog bench`, and the plan that comes of them.
//! What an option does not say is the workload's own default.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use log_bench::load::filling::{Keys, Sizes};
use log_bench::load::plan::{Plan, Workload};
use log_client::config::Acks;
use log_core::record::compression::Compression;

use super::super::connection::ConnectionArgs;
use super::super::failure::{Failure, Outcome};
use super::super::units::{parse_bytes, parse_duration};

/// The workloads as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadName {
    /// Producers alone
    Produce,
    /// Readers that pass over old records
    Fetch,
    /// Producers, and readers that follow them
    EndToEnd,
    /// Producers, several readers that follow them, and readers of old records
    Mixed,
    /// Producers over many partitions
    Partitions,
    /// Producers among many idle connections
    Connections,
    /// Producers, and groups of consumers that follow them
    Groups,
    /// Producers and readers for a long time
    Soak,
}

impl From<WorkloadName> for Workload {
    fn from(name: WorkloadName) -> Self {
        match name {
            WorkloadName::Produce => Self::Produce,
            WorkloadName::Fetch => Self::Fetch,
            WorkloadName::EndToEnd => Self::EndToEnd,
            WorkloadName::Mixed => Self::Mixed,
            WorkloadName::Partitions => Self::Partitions,
            WorkloadName::Connections => Self::Connections,
            WorkloadName::Groups => Self::Groups,
            WorkloadName::Soak => Self::Soak,
        }
    }
}

/// What `stratalog bench` is told.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The shape of the load; the other options have defaults that fit it
    #[arg(value_enum, value_name = "WORKLOAD")]
    pub(crate) workload: Option<WorkloadName>,

    /// How long figures are taken [default: 10s; without end with --records; 1h for soak]
    #[arg(long, short, value_name = "DURATION", value_parser = parse_duration, help_heading = "Length")]
    pub(crate) duration: Option<Duration>,
    /// End after so many records, warm-up included
    #[arg(long, short = 'n', value_name = "NUMBER", help_heading = "Length")]
    pub(crate) records: Option<u64>,
    /// How long the load runs before figures are taken [default: 1s; none with --records]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Length")]
    pub(crate) warm_up: Option<Duration>,

    /// Records a second in all, at times fixed beforehand: an open loop, latency counts from those times; 0 is a closed loop, as fast
    /// as answers come [default: 0 for produce, fetch and partitions; 5000, mixed 20000]
    #[arg(long, short, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) rate: Option<f64>,
    /// Raise the rate step by step, each as long as --duration, until the p99 or the rate gives way, and find the last that held
    #[arg(long, conflicts_with = "records", help_heading = "Load")]
    pub(crate) find_knee: bool,
    /// The p99 at which --find-knee says that a rate does not hold
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = parse_duration, help_heading = "Load")]
    pub(crate) knee_p99: Duration,
    /// Connections that produce [default: 4; 1 for end-to-end; 2 for mixed and soak]
    #[arg(long, short, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) connections: Option<usize>,
    /// Requests on their way on each connection
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = at_least_one, help_heading = "Load")]
    pub(crate) in_flight: usize,
    /// Connections of each pass over the topic [default: 1; 4 for fetch]
    #[arg(long, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) readers: Option<usize>,
    /// How many readers follow each partition [default: 1 for end-to-end and soak; 3 for mixed]
    #[arg(long, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) fan_out: Option<usize>,
    /// How many passes over old records run meanwhile [default: 1 for fetch and mixed]
    #[arg(long, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) replays: Option<usize>,
    /// Groups of consumers that follow the load [default: 2 for groups]
    #[arg(long, value_name = "NUMBER", help_heading = "Groups")]
    pub(crate) groups: Option<usize>,
    /// Members of each group
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = at_least_one, help_heading = "Groups")]
    pub(crate) members: usize,
    /// Groups use the classic protocol, not KIP-848's
    #[arg(long, help_heading = "Groups")]
    pub(crate) classic: bool,
    /// How often a member of a classic group sends heartbeats; in others the broker says
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration, help_heading = "Groups")]
    pub(crate) heartbeat_interval: Duration,
    /// How often a member commits
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration, help_heading = "Groups")]
    pub(crate) commit_interval: Duration,
    /// So often a member of each group leaves and a new one joins: two rebalances
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Groups")]
    pub(crate) rebalance_every: Option<Duration>,
    /// Connections that do nothing [default: 1000 for connections]
    #[arg(long, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) idle_connections: Option<usize>,
    /// Threads of the load [default: as many as processors]
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one, help_heading = "Load")]
    pub(crate) threads: Option<usize>,

    /// Size of values: 1k; 100-2k evenly between; real:1k as events are, 1k being the median
    #[arg(long, short = 's', value_name = "SIZES", default_value = "1k", value_parser = parse_sizes, help_heading = "Records")]
    pub(crate) record_size: Sizes,
    /// A batch is sent at this size, counted before compression
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = parse_bytes, help_heading = "Records")]
    pub(crate) batch: usize,
    /// A batch is sent with so many records
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one, help_heading = "Records")]
    pub(crate) batch_records: Option<usize>,
    /// How long a record waits for its batch to fill, in an open loop
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration, help_heading = "Records")]
    pub(crate) linger: Duration,
    /// What is waited for: all, 1 (the leader) or 0 (nothing)
    #[arg(long, default_value = "all", value_parser = parse_acks, help_heading = "Records")]
    pub(crate) acks: Acks,
    /// Produce with ids and sequences, as clients do by default
    #[arg(long, help_heading = "Records")]
    pub(crate) idempotent: bool,
    /// none, gzip, snappy, lz4 or zstd; compressed batches are made one by one, which takes time of this program
    #[arg(long, value_name = "CODEC", default_value = "none", help_heading = "Records")]
    pub(crate) compression: Compression,
    /// The share of bytes that cannot be compressed, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse_share, help_heading = "Records")]
    pub(crate) entropy: f64,
    /// Give records keys, so many different ones; skewed:N makes a few of them frequent
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = parse_keys, help_heading = "Records")]
    pub(crate) keys: Keys,

    /// How much one fetch asks for
    #[arg(long, value_name = "SIZE", default_value = "1m", value_parser = parse_bytes, help_heading = "Reading")]
    pub(crate) fetch: usize,
    /// How much is produced before old records are read [default: 256m for fetch and mixed]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Reading")]
    pub(crate) prefill: Option<usize>,
    /// Drop the broker's files from the page cache before old records are read; for a broker on this machine
    #[arg(long, help_heading = "Reading")]
    pub(crate) cold: bool,

    /// Use this topic and keep it; otherwise a topic is made and removed
    #[arg(long, value_name = "NAME", help_heading = "Topic")]
    pub(crate) topic: Option<String>,
    /// Partitions of the topic that is made [default: 4; 1000 for partitions]
    #[arg(
        long,
        short,
        value_name = "NUMBER",
        help_heading = "Topic",
        conflicts_with = "topic"
    )]
    pub(crate) partitions: Option<i32>,
    /// Replicas of the topic that is made [default: the broker's]
    #[arg(long, value_name = "NUMBER", help_heading = "Topic", conflicts_with = "topic")]
    pub(crate) replication_factor: Option<i16>,
    /// A setting of the topic that is made, as KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting, help_heading = "Topic", conflicts_with = "topic")]
    pub(crate) topic_config: Vec<(String, String)>,
    /// Leave the topic that was made
    #[arg(long, help_heading = "Topic")]
    pub(crate) keep_topic: bool,

    /// Neither stamp records nor look at what comes back: the cheapest load
    #[arg(long, help_heading = "Result")]
    pub(crate) no_verify: bool,
    /// What all chance follows from [default: 1]
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = "Result")]
    pub(crate) seed: u64,
    /// A name for this run in tables and plots [default: the broker's product]
    #[arg(long, value_name = "TEXT", help_heading = "Result")]
    pub(crate) label: Option<String>,
    /// Also write the result to this file as JSON
    #[arg(long, short, value_name = "FILE", help_heading = "Result")]
    pub(crate) output: Option<PathBuf>,
    /// Also write an HTML page on the result to this file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) report: Option<PathBuf>,
    /// Only the result, no progress and no remarks
    #[arg(long, short, help_heading = "Result")]
    pub(crate) quiet: bool,
}

impl LoadArgs {
    /// The plan.
    pub(crate) fn plan(&self, connection: &ConnectionArgs) -> Outcome<Plan> {
        let workload = self
            .workload
            .ok_or_else(|| Failure::usage("which workload?").advise("`stratalog bench --help` lists them"))?;
        let mut plan = Plan::new(workload.into(), &connection.bootstrap);
        plan.timeout = connection.timeout;
        plan.in_flight = self.in_flight;
        plan.sizes = self.record_size;
        plan.batch_bytes = self.batch;
        plan.linger = self.linger;
        plan.acks = self.acks;
        plan.idempotent = self.idempotent;
        plan.compression = self.compression;
        plan.entropy = self.entropy;
        plan.keys = self.keys;
        plan.fetch_bytes = self.fetch;
        plan.cold = self.cold;
        plan.topic.clone_from(&self.topic);
        plan.replication_factor = self.replication_factor;
        plan.topic_configs.clone_from(&self.topic_config);
        plan.keep_topic = self.keep_topic;
        plan.verify = !self.no_verify;
        plan.seed = self.seed;
        plan.label.clone_from(&self.label);
        plan.command = std::env::args().collect();
        plan.records = self.records;
        if self.records.is_some() {
            // Whoever counts wants to have all of them.
            plan.warm_up = Duration::ZERO;
            plan.duration = Duration::from_hours(24);
        }
        set(&mut plan.duration, self.duration);
        set(&mut plan.warm_up, self.warm_up);
        set(&mut plan.producers, self.connections);
        set(&mut plan.readers, self.readers);
        set(&mut plan.fan_out, self.fan_out);
        set(&mut plan.replays, self.replays);
        set(&mut plan.groups, self.groups);
        plan.members = self.members;
        plan.is_classic = self.classic;
        plan.heartbeat_interval = self.heartbeat_interval;
        plan.commit_interval = self.commit_interval;
        plan.rebalance_every = self.rebalance_every;
        set(&mut plan.idle_connections, self.idle_connections);
        set(&mut plan.threads, self.threads);
        set(&mut plan.batch_records, self.batch_records);
        set(&mut plan.partitions, self.partitions);
        if let Some(prefill) = self.prefill {
            plan.prefill_bytes = u64::try_from(prefill).unwrap_or(u64::MAX);
        }
        match self.rate {
            Some(rate) if !(0.0..=1e9).contains(&rate) => {
                return Err(Failure::usage("--rate is a number of records a second"));
            }
            Some(rate) => plan.rate = (0.0 < rate).then_some(rate),
            None => {}
        }
        if self.find_knee {
            if workload == WorkloadName::Fetch {
                return Err(Failure::usage(
                    "--find-knee raises a rate of producing, and fetch has none",
                ));
            }
            plan.knee_p99 = Some(self.knee_p99);
            plan.rate = self.rate.filter(|rate| 0.0 < *rate);
        }
        if plan.groups == 0 && (self.classic || self.rebalance_every.is_some()) {
            return Err(Failure::usage("there are no groups").advise("--groups makes some"));
        }
        if self.acks != Acks::All && self.idempotent {
            return Err(Failure::usage("--idempotent needs --acks all"));
        }
        Ok(plan)
    }
}

fn set<T: Copy>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if 0 < number => Ok(number),
        _ => Err(format!("{text:?} is not a number from 1 on")),
    }
}

fn parse_acks(text: &str) -> Result<Acks, String> {
    text.parse().map_err(|error: log_client::Error| error.to_string())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is not a share from 0 to 1"))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
    }
}

fn parse_sizes(text: &str) -> Result<Sizes, String> {
    if let Some(median) = text.strip_prefix("real:") {
        return Ok(Sizes::Lognormal(parse_bytes(median)?));
    }
    let Some((low, high)) = text.split_once('-') else {
        return Ok(Sizes::Fixed(parse_bytes(text)?));
    };
    match (parse_bytes(low)?, parse_bytes(high)?) {
        (low, high) if low <= high => Ok(Sizes::Uniform(low, high)),
        _ => Err(format!("{text:?}: the smaller size stands first")),
    }
}

fn parse_keys(text: &str) -> Result<Keys, String> {
    let number = |text: &str| {
        text.parse()
            .map_err(|_| format!("{text:?} is not a number of keys; write 0, 1000 or skewed:1000"))
    };
    if let Some(count) = text.strip_prefix("skewed:") {
        return Ok(Keys::Skewed(number(count)?));
    }
    Ok(match number(text)? {
        0 => Keys::None,
        count => Keys::Uniform(count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_keys_as_they_are_typed() {
        assert_eq!(parse_sizes("1k"), Ok(Sizes::Fixed(1024)));
        assert_eq!(parse_sizes("100-2k"), Ok(Sizes::Uniform(100, 2048)));
        assert_eq!(parse_sizes("real:500"), Ok(Sizes::Lognormal(500)));
        assert!(parse_sizes("2k-1k").is_err() && parse_sizes("x").is_err());
        assert_eq!(parse_keys("0"), Ok(Keys::None));
        assert_eq!(parse_keys("7"), Ok(Keys::Uniform(7)));
        assert_eq!(parse_keys("skewed:9"), Ok(Keys::Skewed(9)));
        assert!(parse_keys("many").is_err());
        assert!(parse_share("1.5").is_err() && parse_setting("=a").is_err());
    }
}
