//! What is said when the broker is ready: where it is, what it promises, and two commands to try.
//!
//! For people it is a few lines on standard error, beside the log; where the log is JSON, one event with the same facts.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::logging::LogFormat;

/// The facts.
#[derive(Debug, Clone)]
pub struct Banner {
    /// The version of this program.
    pub version: &'static str,
    /// From the process's beginning to the first connection.
    pub start_time: Duration,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where HTTP clients connect.
    pub http: SocketAddr,
    /// Where the data is.
    pub data_dirs: Vec<PathBuf>,
    /// Whose data it is.
    pub cluster_id: String,
    /// Topics, internal ones left out.
    pub topics: usize,
    /// Partitions that serve.
    pub partitions: usize,
    /// Partitions that could not be loaded.
    pub offline: usize,
}

impl Banner {
    /// Says it.
    pub fn show(&self, format: LogFormat) {
        if format == LogFormat::Human {
            // Standard error may be closed; the broker serves all the same.
            drop(writeln!(io::stderr().lock(), "{self}"));
            return;
        }
        tracing::info!(
            version = self.version,
            start_ms = u64::try_from(self.start_time.as_millis()).unwrap_or(u64::MAX),
            kafka = %self.kafka,
            http = %self.http,
            data_dirs = %self.data_dirs(),
            cluster_id = %self.cluster_id,
            topics = self.topics,
            partitions = self.partitions,
            offline = self.offline,
            "ready"
        );
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            kafka,
            http,
            cluster_id,
            ..
        } = self;
        let bootstrap = reachable(*kafka);
        let server = if bootstrap.to_string() == "127.0.0.1:9092" {
            String::new()
        } else {
            format!(" --bootstrap {bootstrap}")
        };
        writeln!(formatter)?;
        writeln!(
            formatter,
            "  Stratalog {version} is ready after {} ms",
            self.start_time.as_millis()
        )?;
        writeln!(formatter)?;
        writeln!(formatter, "    Kafka    {kafka}")?;
        writeln!(formatter, "    HTTP     {http}")?;
        writeln!(formatter, "    Console  http://{}/", reachable(*http))?;
        writeln!(formatter, "    Data     {} ({})", self.data_dirs(), self.counts())?;
        writeln!(formatter, "    Cluster  {cluster_id}")?;
        writeln!(
            formatter,
            "    Promise  what acks=all acknowledged is on the disk"
        )?;
        writeln!(formatter)?;
        writeln!(formatter, "  Try, in another terminal:")?;
        writeln!(formatter)?;
        writeln!(
            formatter,
            "    echo 'hello' | stratalog produce greetings{server}"
        )?;
        writeln!(
            formatter,
            "    stratalog consume greetings --from earliest --follow{server}"
        )
    }
}

impl Banner {
    fn data_dirs(&self) -> String {
        let paths: Vec<_> = self
            .data_dirs
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(", ")
    }

    fn counts(&self) -> String {
        if self.partitions == 0 && self.offline == 0 {
            return "empty".to_owned();
        }
        let counts = format!("{} topics, {} partitions", self.topics, self.partitions);
        match self.offline {
            0 => counts,
            offline => format!("{counts}, {offline} off-line: see above"),
        }
    }
}

/// An address to connect to: one that listens everywhere is reached through the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(kafka: &str) -> Banner {
        Banner {
            version: "1.2.3",
            start_time: Duration::from_millis(12),
            kafka: kafka.parse().unwrap(),
            http: "127.0.0.1:8080".parse().unwrap(),
            data_dirs: vec![PathBuf::from("./stratalog-data")],
            cluster_id: "c".to_owned(),
            topics: 0,
            partitions: 0,
            offline: 0,
        }
    }

    #[test]
    fn the_commands_work_as_they_stand() {
        let text = banner("127.0.0.1:9092").to_string();
        assert!(text.contains("ready after 12 ms"), "{text}");
        assert!(text.contains("stratalog produce greetings\n"), "{text}");
        let text = banner("0.0.0.0:19092").to_string();
        assert!(
            text.contains("produce greetings --bootstrap 127.0.0.1:19092\n"),
            "{text}"
        );
        let text = banner("[::]:9092").to_string();
        assert!(text.contains("--bootstrap [::1]:9092"), "{text}");
    }

    #[test]
    fn the_console_is_named_by_an_address_that_a_browser_takes() {
        let mut banner = banner("127.0.0.1:9092");
        banner.http = "[::]:8080".parse().unwrap();
        let text = banner.to_string();
        assert!(text.contains("HTTP     [::]:8080\n"), "{text}");
        assert!(text.contains("Console  http://[::1]:8080/\n"), "{text}");
    }

    #[test]
    fn partitions_that_do_not_serve_are_named() {
        let mut banner = banner("127.0.0.1:9092");
        assert!(banner.to_string().contains("(empty)"));
        (banner.topics, banner.partitions) = (2, 7);
        assert!(banner.to_string().contains("(2 topics, 7 partitions)"));
        banner.offline = 1;
        assert!(banner.to_string().contains("1 off-line"));
    }
}
