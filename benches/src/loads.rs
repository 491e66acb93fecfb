//! The client programs of the comparison, and what they say.
//!
//! The clients are not ours on purpose: librdkafka, and Kafka's own Java client, which produces through Kafka's own
//! performance tool.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Whose client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// librdkafka, the C client below most languages' clients.
    Librdkafka,
    /// Kafka's Java client.
    Java,
}

impl Client {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Librdkafka => "librdkafka",
            Self::Java => "Java client",
        }
    }
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half of the records are faster.
    pub p50: f64,
    /// One in a hundred is slower.
    pub p99: f64,
}

/// Where the client programs are.
#[derive(Debug)]
pub struct Clients<'a> {
    /// What `peers/setup.sh` made.
    pub directory: &'a Path,
    /// The file that says where Java's log lines go.
    pub log_settings: &'a Path,
    /// How large the records of all loads are.
    pub record_bytes: u64,
}

impl Clients<'_> {
    /// Produces `records` as fast as the client can; megabytes (10^6 bytes) of values in a second.
    ///
    /// # Errors
    /// When a record is refused, or the program fails.
    pub fn produce(
        &self,
        client: Client,
        address: &str,
        topic: &str,
        records: u64,
        acks: &str,
    ) -> anyhow::Result<f64> {
        let (records_text, bytes) = (records.to_string(), self.record_bytes.to_string());
        match client {
            Client::Librdkafka => {
                let said = self.load(&["produce", address, topic, &records_text, &bytes, acks])?;
                number(&said, "/mb_per_second")
            }
            Client::Java => {
                let acks = format!("acks={acks}");
                let said = self.java(&[
                    "org.apache.kafka.tools.ProducerPerformance",
                    "--topic",
                    topic,
                    "--num-records",
                    &records_text,
                    "--record-size",
                    &bytes,
                    "--throughput",
                    "-1",
                    "--bootstrap-server",
                    address,
                    "--command-property",
                    &acks,
                ])?;
                let expected = format!("{records} records sent, ");
                let last = said.lines().rev().find_map(|line| line.strip_prefix(&expected));
                let per_second: f64 = last
                    .and_then(|rest| rest.split_whitespace().next())
                    .with_context(|| format!("no result in {said:?}"))?
                    .parse()?;
                Ok(per_second * crate::report::count(self.record_bytes) / 1e6)
            }
        }
    }

    /// Reads `records` from the start of the topic's partitions; megabytes of values in a second.
    ///
    /// # Errors
    /// When they do not come, or the program fails.
    pub fn consume(
        &self,
        client: Client,
        address: &str,
        topic: &str,
        records: u64,
        partitions: i32,
    ) -> anyhow::Result<f64> {
        let (records, partitions) = (records.to_string(), partitions.to_string());
        let said = match client {
            Client::Librdkafka => self.load(&["consume", address, topic, &records, &partitions])?,
            Client::Java => self.java(&["Consume", address, topic, &records, &partitions])?,
        };
        number(&said, "/mb_per_second")
    }

    /// Latency from producer to consumer at a fixed rate, counted from when each record was due.
    ///
    /// # Errors
    /// When a record is lost, or the program fails.
    pub fn latency(
        &self,
        address: &str,
        topic: &str,
        rate: u64,
        seconds: u64,
        acks: &str,
    ) -> anyhow::Result<Latency> {
        let (rate, seconds, bytes) = (
            rate.to_string(),
            seconds.to_string(),
            self.record_bytes.to_string(),
        );
        let said = self.load(&["latency", address, topic, &rate, &seconds, &bytes, acks])?;
        Ok(Latency {
            p50: number(&said, "/end_to_end/p50_us")? / 1e3,
            p99: number(&said, "/end_to_end/p99_us")? / 1e3,
        })
    }

    /// Latency from producer to consumer of one record after the other, through the Java client.
    ///
    /// # Errors
    /// When a record does not arrive, or the program fails.
    pub fn one_at_a_time(
        &self,
        address: &str,
        topic: &str,
        records: u64,
        acks: &str,
    ) -> anyhow::Result<Latency> {
        let (records, bytes) = (records.to_string(), self.record_bytes.to_string());
        let said = self.java(&["OneAtATime", address, topic, &records, acks, &bytes])?;
        Ok(Latency {
            p50: number(&said, "/p50_us")? / 1e3,
            p99: number(&said, "/p99_us")? / 1e3,
        })
    }

    /// The version of librdkafka.
    ///
    /// # Errors
    /// When the program fails.
    pub fn librdkafka_version(&self) -> anyhow::Result<String> {
        Ok(self.load(&["version"])?.trim().to_owned())
    }

    fn load(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Command::new(self.directory.join("load")).args(arguments))
    }

    fn java(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let class_path = std::fs::read_to_string(self.directory.join("class-path"))?;
        let log = format!("-Dlog4j2.configurationFile={}", self.log_settings.display());
        let mut command = Command::new("java");
        command.args([&log, "-cp", class_path.trim()]).args(arguments);
        run(&mut command)
    }
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    let (said, complained) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    ensure!(
        done.status.success(),
        "{}: {said}\n{complained}",
        command.get_program().display()
    );
    Ok(said.into_owned())
}

fn number(json: &str, pointer: &str) -> anyhow::Result<f64> {
    let value: Value = serde_json::from_str(json.trim()).with_context(|| format!("read {json:?}"))?;
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("no {pointer} in {json}"))
}
