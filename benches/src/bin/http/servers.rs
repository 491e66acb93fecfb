//! The processes that are loaded: our broker with both its ports, and the bare handler.
//! Each ends with its value, and a broker's data with it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use log_bench::brokers::{Broker, Kind, Programs};
use log_bench::load::local::usage_of;
use serde_json::{Value, json};

use crate::client::Client;

const START_MAX: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(2);
/// Numbers the data directories.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// When a topic's records are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// When the page cache has them.
    Relaxed,
    /// When the disk has them: our default.
    Synced,
}

impl Promise {
    pub(crate) const BOTH: [Self; 2] = [Self::Relaxed, Self::Synced];

    /// Its name in tables, and of the topic that has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Synced => "synced",
        }
    }

    /// The setting of a topic.
    pub(crate) fn flush_messages(self) -> &'static str {
        match self {
            Self::Relaxed => "9223372036854775807",
            Self::Synced => "1",
        }
    }
}

/// A broker that serves.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) broker: Broker,
    /// Where HTTP clients reach it.
    pub(crate) http: String,
    data: PathBuf,
}

impl Ours {
    /// Starts it in an empty directory, with these settings besides the defaults, and returns when it serves.
    pub(crate) fn start(
        programs: &Programs,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let data = directory.join(format!("http-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::remove_dir_all(&data).ok();
        let ready = data.with_extension("ready");
        std::fs::remove_file(&ready).ok();
        let ready_file = ready.to_str().context("a path that is text")?;
        let settings: Vec<_> = settings
            .iter()
            .copied()
            .chain([("ready-file", ready_file)])
            .collect();
        let (mut broker, began) = Broker::start_with(Kind::Stratalog, programs, &data, &settings)?;
        let line = loop {
            if let Ok(line) = std::fs::read_to_string(&ready) {
                break line;
            }
            broker.check_alive()?;
            ensure!(began.elapsed() < START_MAX, "the broker does not start");
            std::thread::sleep(PAUSE);
        };
        let line: Value = serde_json::from_str(&line)?;
        let http = line.get("http").and_then(Value::as_str);
        Ok(Self {
            broker,
            http: http.context("an HTTP address")?.to_owned(),
            data,
        })
    }

    /// Makes a topic.
    pub(crate) async fn make_topic(
        &self,
        name: &str,
        partitions: usize,
        promise: Promise,
    ) -> anyhow::Result<()> {
        let topic = json!({
            "name": name,
            "partitions": partitions,
            "configs": {"flush.messages": promise.flush_messages()},
        });
        let mut client = Client::connect(&self.http).await?;
        client.call("POST", "/v1/topics", &topic).await?;
        Ok(())
    }

    /// What it has of its own, in MiB.
    pub(crate) fn anonymous_mebibytes(&self) -> anyhow::Result<f64> {
        Ok(self.broker.memory()?.anonymous)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.broker.stop().ok();
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// The bare handler: this program in another process.
#[derive(Debug)]
pub(crate) struct Bare {
    pub(crate) http: String,
    process: Child,
}

impl Bare {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--bare")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("its output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ");
        Ok(Self {
            http: address.context("the bare handler's address")?.to_owned(),
            process,
        })
    }

    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let usage = usage_of(self.process.id()).context("the bare handler has ended")?;
        Ok(usage.cpu_s)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What waits to be written is on the disk, and the disk at rest: one run does not pay for another.
pub(crate) async fn rest() {
    rustix::fs::sync();
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// How long something took, in milliseconds.
pub(crate) fn milliseconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
