//! What a group may set for itself, as a setting of its own over the broker's of the same meaning: only KIP-848 groups have use for it.
//! The broker's minimum and maximum hold for it.

use std::ops::RangeInclusive;

use super::alter::{AlterError, Alteration, Target, alter};
use super::describe::Row;
use super::effective::{BrokerLayers, Candidate, ConfigError, Overrides, Source};
use super::keys::{self, BrokerConfig};
use super::suggestion::did_you_mean;
use super::value::{Kind, Rule};

/// How long a member may be silent.
pub const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
/// How often it is to say something.
pub const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";
/// How long after one assignment the next may come.
pub const ASSIGNMENT_INTERVAL: &str = "consumer.assignment.interval.ms";

/// A setting of a group.
struct GroupKey {
    name: &'static str,
    /// What counts where the group says nothing.
    broker: &'static str,
    range: fn(&BrokerConfig) -> RangeInclusive<i32>,
}

const GROUP_KEYS: [GroupKey; 3] = [
    GroupKey {
        name: ASSIGNMENT_INTERVAL,
        broker: "group.consumer.assignment.interval.ms",
        range: |config| {
            config.group_consumer_min_assignment_interval_ms
                ..=config.group_consumer_max_assignment_interval_ms
        },
    },
    GroupKey {
        name: HEARTBEAT_INTERVAL,
        broker: "group.consumer.heartbeat.interval.ms",
        range: |config| {
            config.group_consumer_min_heartbeat_interval_ms..=config.group_consumer_max_heartbeat_interval_ms
        },
    },
    GroupKey {
        name: SESSION_TIMEOUT,
        broker: "group.consumer.session.timeout.ms",
        range: |config| {
            config.group_consumer_min_session_timeout_ms..=config.group_consumer_max_session_timeout_ms
        },
    },
];

fn find(name: &str) -> Result<&'static GroupKey, ConfigError> {
    let key = GROUP_KEYS.iter().find(|key| key.name == name);
    key.ok_or_else(|| ConfigError::Unknown {
        resource: "group",
        name: name.chars().take(80).collect(),
        suggestion: did_you_mean(name, GROUP_KEYS.iter().map(|key| key.name)),
    })
}

impl BrokerLayers<'_> {
    /// The overrides of a group after an alteration, checked.
    ///
    /// # Errors
    /// The first change that is refused; nothing is changed then.
    pub fn alter_group(&self, current: &Overrides, alteration: &Alteration) -> Result<Overrides, AlterError> {
        let altered = alter(current, alteration, |name| {
            let key = find(name)?;
            let range = (key.range)(self.config);
            Ok(Target {
                name: key.name,
                kind: Kind::Int,
                rule: Rule::Between(i64::from(*range.start()), i64::from(*range.end())),
                default: String::new(),
            })
        })?;
        let heartbeat =
            number(&altered, HEARTBEAT_INTERVAL).unwrap_or(self.config.group_consumer_heartbeat_interval_ms);
        let session =
            number(&altered, SESSION_TIMEOUT).unwrap_or(self.config.group_consumer_session_timeout_ms);
        if session <= heartbeat {
            return Err(AlterError::Config(ConfigError::Conflict {
                low_name: HEARTBEAT_INTERVAL,
                low: i64::from(heartbeat),
                high_name: SESSION_TIMEOUT,
                high: i64::from(session),
            }));
        }
        Ok(altered)
    }

    /// All settings of a group with these overrides.
    #[must_use]
    pub fn describe_group(&self, overrides: &Overrides) -> Vec<Row> {
        let row = |key: &GroupKey| {
            let own = overrides.get(key.name).map(|value| Candidate {
                name: key.name,
                value: value.clone(),
                source: Source::Group,
            });
            let synonyms: Vec<Candidate> = own.into_iter().chain(self.candidates(&[key.broker])).collect();
            let first = synonyms.first();
            Row {
                name: key.name,
                value: first.map(|first| first.value.clone()),
                source: first.map_or(Source::Default, |first| first.source),
                kind: Kind::Int,
                synonyms,
                is_read_only: false,
                is_sensitive: false,
                documentation: keys::find(key.broker).map_or_else(Default::default, |key| key.doc.clone()),
            }
        };
        GROUP_KEYS.iter().map(row).collect()
    }
}

/// A group's own value of one of the settings, as a number.
#[must_use]
pub fn number(overrides: &Overrides, name: &str) -> Option<i32> {
    overrides.get(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::alter::{Change, Operation};

    fn set(name: &str, value: &str) -> Alteration {
        Alteration::Incremental(vec![Change {
            name: name.to_owned(),
            operation: Operation::Set,
            value: Some(value.to_owned()),
        }])
    }

    #[test]
    fn a_groups_settings_lie_in_the_brokers_range_and_do_not_contradict_each_other() {
        let mut config = BrokerConfig::default();
        let none = Overrides::new();
        let try_set = |config: &BrokerConfig, current: &Overrides, name, value| {
            let layers = BrokerLayers {
                config,
                cluster: &none,
                node: &none,
            };
            layers.alter_group(current, &set(name, value))
        };
        for (name, value, is_taken) in [
            (SESSION_TIMEOUT, "44999", false),
            (SESSION_TIMEOUT, "45000", true),
            (SESSION_TIMEOUT, "60000", true),
            (SESSION_TIMEOUT, "60001", false),
            (SESSION_TIMEOUT, "x", false),
            (HEARTBEAT_INTERVAL, "15001", false),
            (ASSIGNMENT_INTERVAL, "0", true),
            ("consumer.session.timeout", "50000", false),
        ] {
            let result = try_set(&config, &none, name, value);
            assert_eq!(result.is_ok(), is_taken, "{name} {value}: {result:?}");
        }
        config.group_consumer_max_heartbeat_interval_ms = 60_000;
        assert!(matches!(
            try_set(&config, &none, HEARTBEAT_INTERVAL, "45000"),
            Err(AlterError::Config(ConfigError::Conflict { .. }))
        ));
        let longer = try_set(&config, &none, SESSION_TIMEOUT, "50000").unwrap();
        assert!(try_set(&config, &longer, HEARTBEAT_INTERVAL, "45000").is_ok());
    }
}
