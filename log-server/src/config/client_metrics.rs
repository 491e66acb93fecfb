//! Subscriptions to what clients measure of themselves (KIP-714): the settings of one, and what they say together.
//!
//! | setting | says |
//! |---|---|
//! | `metrics` | which metrics: beginnings of their names, or `*` for all |
//! | `interval.ms` | how often they come |
//! | `match` | of which clients: `attribute=pattern`, several of which must all fit |
//!
//! What is refused has Kafka's code, which is not always that of topics.

use std::collections::BTreeMap;

use super::alter::{AlterError, Alteration, Target, alter};
use super::describe::Row;
use super::effective::{Candidate, ConfigError, Overrides, Source};
use super::value::{Kind, Rule, ValueError, split_list};
use crate::pattern::WholeNamePattern;

/// How often a client reports that no subscription wants something of.
pub const INTERVAL_MS_DEFAULT: i32 = 300_000;
/// All metrics.
pub const ALL_METRICS: &str = "*";

/// Pairs in `match`. There are six attributes; patterns are compiled, which takes time and memory.
const PAIRS_MAX: usize = 32;

const METRICS: &str = "metrics";
const INTERVAL: &str = "interval.ms";
const MATCH: &str = "match";
/// From a tenth of a second to an hour.
const INTERVAL_MS_MIN: i32 = 100;
const INTERVAL_MS_MAX: i32 = 3_600_000;

/// A setting of a subscription.
struct SubscriptionKey {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
}

const SUBSCRIPTION_KEYS: [SubscriptionKey; 3] = [
    SubscriptionKey {
        name: METRICS,
        kind: Kind::List,
        default: "",
        doc: "Which metrics: beginnings of their names, or * for all of them.",
    },
    SubscriptionKey {
        name: INTERVAL,
        kind: Kind::Int,
        default: "300000",
        doc: "How often clients report: 100 ms to an hour. Of several subscriptions to a client the shortest counts.",
    },
    SubscriptionKey {
        name: MATCH,
        kind: Kind::List,
        default: "",
        doc: "Of which clients: pairs of an attribute and a pattern for all of it, such as client_software_name=.*java.*, which must \
              all fit. Attributes are client_instance_id, client_id, client_software_name, client_software_version, \
              client_source_address and client_source_port.",
    },
];

/// What a subscription may choose clients by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAttribute {
    /// The id that the broker gave the client.
    InstanceId,
    /// The name that the client gave itself.
    ClientId,
    /// Which library it is.
    SoftwareName,
    /// Which release of it.
    SoftwareVersion,
    /// Where it comes from.
    SourceAddress,
    /// The port at its side.
    SourcePort,
}

impl ClientAttribute {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "client_instance_id" => Self::InstanceId,
            "client_id" => Self::ClientId,
            "client_software_name" => Self::SoftwareName,
            "client_software_version" => Self::SoftwareVersion,
            "client_source_address" => Self::SourceAddress,
            "client_source_port" => Self::SourcePort,
            _ => return None,
        })
    }
}

/// What its settings say together.
#[derive(Debug)]
pub struct Subscription {
    /// Beginnings of the names of metrics, or [`ALL_METRICS`].
    pub metrics: Vec<String>,
    /// How often they come.
    pub interval_ms: i32,
    selectors: BTreeMap<ClientAttribute, WholeNamePattern>,
}

impl Subscription {
    /// Reads the settings of one subscription.
    ///
    /// # Errors
    /// The first that says nothing sensible.
    pub fn of(overrides: &Overrides) -> Result<Self, AlterError> {
        let text = |name: &str| overrides.get(name).map_or("", String::as_str);
        let interval_ms = match overrides.get(INTERVAL) {
            Some(text) => interval(text)?,
            None => INTERVAL_MS_DEFAULT,
        };
        let pairs = split_list(text(MATCH));
        if PAIRS_MAX < pairs.len() {
            return Err(AlterError::Subscription(format!(
                "{MATCH}: more than {PAIRS_MAX} pairs"
            )));
        }
        let mut selectors = BTreeMap::new();
        for pair in pairs {
            // As in Kafka, the last of several for one attribute counts.
            let (attribute, pattern) = selector(pair).map_err(|reason| not_a_selector(pair, reason))?;
            selectors.insert(attribute, pattern);
        }
        Ok(Self {
            metrics: split_list(text(METRICS)).into_iter().map(str::to_owned).collect(),
            interval_ms,
            selectors,
        })
    }

    /// Whether it is about a client with these attributes. As in Kafka, no pattern fits an attribute that a client does not have.
    #[must_use]
    pub fn selects<'a>(&self, attribute: impl Fn(ClientAttribute) -> Option<&'a str>) -> bool {
        self.selectors
            .iter()
            .all(|(selector, pattern)| attribute(*selector).is_some_and(|value| pattern.matches(value)))
    }
}

fn interval(text: &str) -> Result<i32, AlterError> {
    let interval_ms = text.parse().unwrap_or_default();
    if (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&interval_ms) {
        return Ok(interval_ms);
    }
    Err(AlterError::Subscription(format!(
        "{INTERVAL}: {text} is not within {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}"
    )))
}

fn selector(pair: &str) -> Result<(ClientAttribute, WholeNamePattern), String> {
    // Kafka splits at `=`, and Java leaves out what is empty at the end.
    let (name, pattern) = pair
        .trim_end_matches('=')
        .split_once('=')
        .map(|(name, pattern)| (name.trim(), pattern.trim()))
        .filter(|(_, pattern)| !pattern.is_empty() && !pattern.contains('='))
        .ok_or("expected attribute=pattern")?;
    let attribute = ClientAttribute::named(name).ok_or("there is no such attribute of clients")?;
    let pattern = WholeNamePattern::new(pattern).map_err(|error| error.to_string())?;
    Ok((attribute, pattern))
}

fn not_a_selector(pair: &str, reason: String) -> AlterError {
    AlterError::Config(ConfigError::Value {
        name: MATCH,
        source: ValueError {
            value: pair.chars().take(80).collect(),
            reason,
        },
    })
}

/// The settings of a subscription after an alteration, checked.
///
/// # Errors
/// The first change that is refused; nothing is changed then.
pub fn alter_subscription(current: &Overrides, alteration: &Alteration) -> Result<Overrides, AlterError> {
    let altered = alter(current, alteration, |name| {
        let key = SUBSCRIPTION_KEYS.iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| {
            let name: String = name.chars().take(80).collect();
            AlterError::Subscription(format!("there is no setting {name} of client metrics"))
        })?;
        Ok(Target {
            name: key.name,
            kind: key.kind,
            rule: Rule::Any,
            default: key.default.to_owned(),
        })
    })?;
    Subscription::of(&altered)?;
    Ok(altered)
}

/// All settings of a subscription.
#[must_use]
pub fn describe_subscription(overrides: &Overrides) -> Vec<Row> {
    let row = |key: &SubscriptionKey| {
        let candidate = |value: &str, source| Candidate {
            name: key.name,
            value: value.to_owned(),
            source,
        };
        let own = overrides
            .get(key.name)
            .map(|value| candidate(value, Source::Subscription));
        let default = candidate(key.default, Source::Default);
        let counting = own.clone().unwrap_or(default);
        Row {
            name: key.name,
            value: Some(counting.value),
            source: counting.source,
            kind: key.kind,
            // As in Kafka, a default is not shown by itself.
            synonyms: own.into_iter().collect(),
            is_read_only: false,
            is_sensitive: false,
            documentation: key.doc.into(),
        }
    };
    SUBSCRIPTION_KEYS.iter().map(row).collect()
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

    /// Which of Kafka's two codes a refusal gets.
    fn refusal(name: &str, value: &str) -> Option<&'static str> {
        match alter_subscription(&Overrides::new(), &set(name, value)) {
            Ok(_) => None,
            Err(AlterError::Subscription(_)) => Some("INVALID_REQUEST"),
            Err(_) => Some("INVALID_CONFIG"),
        }
    }

    #[test]
    fn what_is_refused_has_kafkas_code() {
        for (name, value, expected) in [
            (METRICS, "", None),
            (METRICS, "*", None),
            (METRICS, "org.apache.kafka.producer.,a", None),
            (INTERVAL, "100", None),
            (INTERVAL, "3600000", None),
            (INTERVAL, "99", Some("INVALID_REQUEST")),
            (INTERVAL, "3600001", Some("INVALID_REQUEST")),
            (INTERVAL, "often", Some("INVALID_CONFIG")),
            (MATCH, "client_id=a.*, client_source_port = 1[0-9]+", None),
            (MATCH, "client_id", Some("INVALID_CONFIG")),
            (MATCH, "client_id=", Some("INVALID_CONFIG")),
            (MATCH, "client_id=a=b", Some("INVALID_CONFIG")),
            (MATCH, "client_id=a==", None),
            (
                MATCH,
                &["client_id=a"; PAIRS_MAX + 1].join(","),
                Some("INVALID_REQUEST"),
            ),
            (MATCH, &["client_id=a"; PAIRS_MAX].join(","), None),
            (MATCH, "client_id=(", Some("INVALID_CONFIG")),
            (MATCH, "color=red", Some("INVALID_CONFIG")),
            ("interval", "100", Some("INVALID_REQUEST")),
        ] {
            assert_eq!(refusal(name, value), expected, "{name}={value}");
        }
    }

    #[test]
    fn a_client_is_selected_by_all_patterns_and_whole() {
        let overrides = Overrides::from([(
            MATCH.to_owned(),
            "client_id=never,client_id=app-[0-9]+,client_software_name=.*java".to_owned(),
        )]);
        let subscription = Subscription::of(&overrides).unwrap();
        let selects = |id: &'static str, software: &'static str| {
            subscription.selects(|attribute| match attribute {
                ClientAttribute::ClientId => Some(id),
                ClientAttribute::SoftwareName => Some(software),
                _ => None,
            })
        };
        assert!(selects("app-7", "apache-kafka-java"));
        assert!(!selects("app-7x", "apache-kafka-java"), "all of the name");
        assert!(!selects("app-7", "librdkafka"), "every pattern");
        let everyone = Subscription::of(&Overrides::new()).unwrap();
        assert!(everyone.selects(|_| None));
        let named = Overrides::from([(MATCH.to_owned(), "client_id=.*".to_owned())]);
        let named = Subscription::of(&named).unwrap();
        assert!(named.selects(|_| Some("")));
        assert!(
            !named.selects(|_| None),
            "a client without a name has none that fits"
        );
        assert_eq!(everyone.interval_ms, INTERVAL_MS_DEFAULT);
    }

    #[test]
    fn a_subscription_is_described_with_its_defaults() {
        let overrides = Overrides::from([(INTERVAL.to_owned(), "5000".to_owned())]);
        let rows = describe_subscription(&overrides);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.name, row.value.as_deref(), row.source))
            .collect();
        let expected = [
            (METRICS, Some(""), Source::Default),
            (INTERVAL, Some("5000"), Source::Subscription),
            (MATCH, Some(""), Source::Default),
        ];
        assert_eq!(told, expected);
    }
}
