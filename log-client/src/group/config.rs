//! The settings of a group consumer, by Kafka's names, with Kafka's defaults and ranges.
//!
//! What a setting does stands in the module that obeys it.

use std::time::Duration;

use super::assignor::Assignor;
use crate::config::{ConsumerConfig, OffsetReset};
use crate::error::{Error, Result};

/// How a member and its group work out who reads what (`group.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// The coordinator works it out (KIP-848); where the broker does not serve that, as [`Self::Classic`].
    #[default]
    Consumer,
    /// One of the members works it out.
    Classic,
}

/// Where a partition is begun for which the group has committed nothing (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// At its first record.
    Earliest,
    /// At its end.
    #[default]
    Latest,
    /// Nowhere: that is an error, for the caller to seek.
    None,
    /// At the first record that is no older than this (`by_duration:PT1H`, KIP-1106).
    Back(Duration),
}

/// What a group consumer has on top of [`ConsumerConfig`].
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// How to reach the cluster and how to fetch. Its `offset_reset` follows `auto_offset_reset`.
    pub consumer: ConsumerConfig,
    /// The group's name (`group.id`).
    pub group_id: String,
    /// A name that the member keeps over restarts (`group.instance.id`, KIP-345).
    pub group_instance_id: Option<String>,
    /// `group.protocol`.
    pub group_protocol: GroupProtocol,
    /// Which of the coordinator's assignors to use (`group.remote.assignor`); its own choice otherwise.
    pub remote_assignor: Option<String>,
    /// What a classic group may use, the best first (`partition.assignment.strategy`).
    pub assignors: Vec<Assignor>,
    /// After so much silence a classic group goes on without the member (`session.timeout.ms`).
    pub session_timeout: Duration,
    /// How often a member of a classic group says that it is there (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// How long a member may take between polls, and to give partitions up (`max.poll.interval.ms`).
    pub max_poll_interval: Duration,
    /// How many records [`super::GroupConsumer::poll_records`] returns at most (`max.poll.records`).
    pub max_poll_records: usize,
    /// Whether positions are committed without being asked (`enable.auto.commit`).
    pub enable_auto_commit: bool,
    /// How often that happens (`auto.commit.interval.ms`).
    pub auto_commit_interval: Duration,
    /// `auto.offset.reset`.
    pub auto_offset_reset: AutoOffsetReset,
    /// Whether a pattern leaves out the broker's own topics in a classic group (`exclude.internal.topics`).
    pub exclude_internal_topics: bool,
    /// Where the member stands (`client.rack`).
    pub client_rack: Option<String>,
    /// How long closing may take with all it does.
    pub close_timeout: Duration,
}

impl GroupConfig {
    /// Settings with defaults for all but the addresses and the group's name.
    #[must_use]
    pub fn new(bootstrap: &str, group_id: &str) -> Self {
        Self {
            consumer: ConsumerConfig::new(bootstrap),
            group_id: group_id.to_owned(),
            group_instance_id: None,
            group_protocol: GroupProtocol::default(),
            remote_assignor: None,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_mins(5),
            max_poll_records: 500,
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            auto_offset_reset: AutoOffsetReset::default(),
            exclude_internal_topics: true,
            client_rack: None,
            close_timeout: Duration::from_secs(30),
        }
    }

    /// Gives the setting with Kafka's name `name` a value in Kafka's spelling.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a name that is not known and a value that is not allowed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let text = || Some(value.to_owned()).filter(|text| !text.is_empty());
        let client = &mut self.consumer.client;
        match name {
            "bootstrap.servers" => {
                client.bootstrap = crate::config::ClientConfig::new(value).bootstrap;
            }
            "client.id" => value.clone_into(&mut client.client_id),
            "request.timeout.ms" => client.request_timeout = millis(name, value, 1)?,
            "default.api.timeout.ms" => client.api_timeout = millis(name, value, 0)?,
            "retry.backoff.ms" => client.retry_backoff.first = millis(name, value, 0)?,
            "retry.backoff.max.ms" => client.retry_backoff.longest = millis(name, value, 0)?,
            "reconnect.backoff.ms" => client.reconnect_backoff.first = millis(name, value, 0)?,
            "reconnect.backoff.max.ms" => client.reconnect_backoff.longest = millis(name, value, 0)?,
            "metadata.max.age.ms" => client.metadata_max_age = millis(name, value, 0)?,
            "allow.auto.create.topics" => client.auto_create_topics = boolean(name, value)?,
            "fetch.min.bytes" => self.consumer.fetch_bytes_min = number(name, value, 0)?,
            "fetch.max.bytes" => self.consumer.fetch_bytes_max = number(name, value, 0)?,
            "max.partition.fetch.bytes" => self.consumer.partition_bytes_max = number(name, value, 0)?,
            "fetch.max.wait.ms" => self.consumer.fetch_wait_max = millis(name, value, 0)?,
            "isolation.level" => self.consumer.isolation = value.parse()?,
            "check.crcs" => self.consumer.check_crcs = boolean(name, value)?,
            "group.id" => value.clone_into(&mut self.group_id),
            "group.instance.id" => self.group_instance_id = text(),
            "group.protocol" => {
                self.group_protocol = match value.to_ascii_lowercase().as_str() {
                    "consumer" => GroupProtocol::Consumer,
                    "classic" => GroupProtocol::Classic,
                    _ => return Err(not_one_of(name, value, "consumer and classic")),
                }
            }
            "group.remote.assignor" => self.remote_assignor = text(),
            "partition.assignment.strategy" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                self.assignors = names.map(str::parse).collect::<Result<_>>()?;
            }
            "session.timeout.ms" => self.session_timeout = millis(name, value, 1)?,
            "heartbeat.interval.ms" => self.heartbeat_interval = millis(name, value, 1)?,
            "max.poll.interval.ms" => self.max_poll_interval = millis(name, value, 1)?,
            "max.poll.records" => {
                let records = number(name, value, 1)?;
                self.max_poll_records = usize::try_from(records).unwrap_or(usize::MAX);
            }
            "enable.auto.commit" => self.enable_auto_commit = boolean(name, value)?,
            "auto.commit.interval.ms" => self.auto_commit_interval = millis(name, value, 0)?,
            "auto.offset.reset" => self.auto_offset_reset = offset_reset(name, value)?,
            "exclude.internal.topics" => self.exclude_internal_topics = boolean(name, value)?,
            "client.rack" => self.client_rack = text(),
            _ => return Err(Error::config(format!("a group consumer has no setting {name:?}"))),
        }
        Ok(())
    }

    /// Refuses settings that cannot work together.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the reason.
    pub fn validate(&self) -> Result<()> {
        self.consumer.client.validate()?;
        if self.group_id.is_empty() {
            return Err(Error::config("group.id must not be empty"));
        }
        if self.group_instance_id.as_ref().is_some_and(String::is_empty) {
            return Err(Error::config("group.instance.id must not be empty"));
        }
        if self.max_poll_records == 0 {
            return Err(Error::config("max.poll.records is at least 1"));
        }
        if self.assignors.is_empty() {
            return Err(Error::config("partition.assignment.strategy names no assignor"));
        }
        if self.session_timeout <= self.heartbeat_interval {
            return Err(Error::config(
                "session.timeout.ms must be larger than heartbeat.interval.ms",
            ));
        }
        for (name, duration) in [
            ("session.timeout.ms", self.session_timeout),
            ("max.poll.interval.ms", self.max_poll_interval),
        ] {
            if i32::try_from(duration.as_millis()).is_err() {
                return Err(Error::config(format!("{name} is at most {}", i32::MAX)));
            }
        }
        Ok(())
    }

    /// The settings of the partition consumer, which resets as the group does.
    pub(crate) fn of_partitions(&self) -> ConsumerConfig {
        let mut config = self.consumer.clone();
        config.offset_reset = match self.auto_offset_reset {
            AutoOffsetReset::Earliest => OffsetReset::Earliest,
            AutoOffsetReset::Latest => OffsetReset::Latest,
            AutoOffsetReset::None => OffsetReset::Fail,
            AutoOffsetReset::Back(duration) => OffsetReset::Back(duration),
        };
        config
    }

    /// Whether members keep their partitions while a classic group works things out: all that may be used
    /// must allow it, because which one it will be is not known beforehand.
    pub(crate) fn is_cooperative(&self) -> bool {
        self.assignors.iter().all(|assignor| assignor.is_cooperative())
    }
}

fn millis(name: &str, value: &str, least: u64) -> Result<Duration> {
    let millis: u64 = parsed(name, value)?;
    if millis < least {
        return Err(Error::config(format!("{name} is at least {least}, not {value}")));
    }
    Ok(Duration::from_millis(millis))
}

fn number(name: &str, value: &str, least: i32) -> Result<i32> {
    let number = parsed(name, value)?;
    if number < least {
        return Err(Error::config(format!("{name} is at least {least}, not {value}")));
    }
    Ok(number)
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    let parsed = value.trim().parse();
    parsed.map_err(|_| Error::config(format!("{name} is a number, not {value:?}")))
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(not_one_of(name, value, "true and false")),
    }
}

fn not_one_of(name: &str, value: &str, values: &str) -> Error {
    Error::config(format!("{name} is one of {values}, not {value:?}"))
}

fn offset_reset(name: &str, value: &str) -> Result<AutoOffsetReset> {
    let lower = value.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "earliest" => AutoOffsetReset::Earliest,
        "latest" => AutoOffsetReset::Latest,
        "none" => AutoOffsetReset::None,
        _ => {
            let duration = lower.strip_prefix("by_duration:").and_then(iso_duration);
            let duration = duration.ok_or_else(|| {
                not_one_of(name, value, "earliest, latest, none and by_duration:PnDTnHnMn.nS")
            })?;
            AutoOffsetReset::Back(duration)
        }
    })
}

/// Reads a duration as ISO 8601 writes it, in lower case: `p1dt2h3m4.5s`.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('p')?;
    let (days, times) = text.split_once('t').unwrap_or((text, ""));
    if days.is_empty() && times.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    for (mut rest, units) in [
        (days, &[('d', 86_400.0)][..]),
        (times, &[('h', 3600.0), ('m', 60.0), ('s', 1.0)]),
    ] {
        for (unit, size) in units {
            if let Some((number, behind)) = rest.split_once(*unit) {
                let number: f64 = number.parse().ok().filter(|number| 0.0 <= *number)?;
                seconds += number * size;
                rest = behind;
            }
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GroupConfig {
        GroupConfig::new("localhost:9092", "g")
    }

    #[test]
    fn settings_have_kafkas_names() {
        let mut config = config();
        for (name, value) in [
            ("group.id", "orders"),
            ("group.instance.id", "first"),
            ("group.protocol", "CLASSIC"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "2000"),
            ("max.poll.interval.ms", "60000"),
            ("max.poll.records", "7"),
            ("enable.auto.commit", "false"),
            ("auto.commit.interval.ms", "0"),
            ("auto.offset.reset", "by_duration:PT1H30M"),
            ("partition.assignment.strategy", "cooperative-sticky, range"),
            ("fetch.max.wait.ms", "50"),
            ("isolation.level", "read_committed"),
            ("client.rack", ""),
        ] {
            config.set(name, value).unwrap();
        }
        config.validate().unwrap();
        assert_eq!(config.group_id, "orders");
        assert_eq!(config.group_instance_id.as_deref(), Some("first"));
        assert_eq!(config.group_protocol, GroupProtocol::Classic);
        assert_eq!(config.session_timeout, Duration::from_secs(6));
        assert_eq!(config.max_poll_records, 7);
        assert!(!config.enable_auto_commit);
        assert_eq!(
            config.auto_offset_reset,
            AutoOffsetReset::Back(Duration::from_mins(90))
        );
        assert_eq!(config.assignors, [Assignor::CooperativeSticky, Assignor::Range]);
        assert!(!config.is_cooperative(), "range may be chosen");
        assert_eq!(config.client_rack, None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (name, value) in [
            ("no.such.setting", "1"),
            ("session.timeout.ms", "soon"),
            ("session.timeout.ms", "0"),
            ("max.poll.interval.ms", "-1"),
            ("enable.auto.commit", "maybe"),
            ("group.protocol", "streams"),
            ("auto.offset.reset", "by_duration:"),
            ("auto.offset.reset", "by_duration:P"),
            ("auto.offset.reset", "by_duration:PT1X"),
            ("auto.offset.reset", "by_duration:PT-1S"),
            ("partition.assignment.strategy", "sticky"),
            ("isolation.level", "serializable"),
        ] {
            assert!(config().set(name, value).is_err(), "{name}={value}");
        }
        let refused = |change: fn(&mut GroupConfig)| {
            let mut config = config();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|config| config.group_id.clear()).contains("group.id"));
        assert!(refused(|config| config.heartbeat_interval = config.session_timeout).contains("larger"));
        assert!(refused(|config| config.assignors.clear()).contains("strategy"));
        assert!(refused(|config| config.max_poll_interval = Duration::MAX).contains("max.poll"));
    }

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("pt1s", 1.0),
            ("p1d", 86_400.0),
            ("p1dt1h1m0.5s", 90_060.5),
            ("pt0s", 0.0),
        ] {
            assert_eq!(
                iso_duration(text),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
    }
}
