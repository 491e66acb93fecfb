//! Rows for `DescribeConfigs`: value, source, type, synonyms and documentation of each config, as a real Kafka broker lists them.
//! Which value counts is `effective`'s to say; how a row looks on the wire is the handler's.

use std::borrow::Cow;

use super::effective::{BrokerLayers, Candidate, Overrides, Source};
use super::keys::{KEYS, Key};
use super::topic::TOPIC_KEYS;
use super::value::Kind;

/// One config of a topic or broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The config.
    pub name: &'static str,
    /// The value that counts, if there is one.
    pub value: Option<String>,
    /// From where it comes.
    pub source: Source,
    /// Its type.
    pub kind: Kind,
    /// All values that were set or would count, the one that counts first.
    pub synonyms: Vec<Candidate>,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether the value must not be shown. None of the present configs is a secret.
    pub is_sensitive: bool,
    /// What it does.
    pub documentation: Cow<'static, str>,
}

impl BrokerLayers<'_> {
    /// All configs of a topic with these overrides.
    #[must_use]
    pub fn describe_topic(&self, overrides: &Overrides) -> Vec<Row> {
        let row = |key: &'static super::topic::TopicKey| {
            let (value, source) = self.topic_value(key, overrides);
            let names: Vec<&'static str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
            let mut synonyms: Vec<Candidate> = overrides
                .get(key.name)
                .map(|value| Candidate {
                    name: key.name,
                    value: value.clone(),
                    source: Source::Topic,
                })
                .into_iter()
                .collect();
            synonyms.extend(self.synonyms(&names));
            Row {
                name: key.name,
                value: Some(value),
                source,
                kind: key.kind,
                synonyms,
                is_read_only: false,
                is_sensitive: false,
                documentation: Cow::Borrowed(key.doc),
            }
        };
        TOPIC_KEYS.iter().map(row).collect()
    }

    /// All configs of this broker.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<Row> {
        let row = |key: &'static Key| {
            let counting = self.broker_value(key.name);
            let (value, source) = match counting {
                Some((value, source)) => (Some(value), source),
                None => (None, Source::Default),
            };
            Row {
                name: key.name,
                value,
                source,
                kind: key.kind,
                synonyms: self.synonyms(&family(key.name)),
                is_read_only: !key.is_dynamic,
                is_sensitive: false,
                documentation: key.doc.clone(),
            }
        };
        KEYS.iter().map(row).collect()
    }

    /// The configs that were set for all brokers while they run (`BROKER` with an empty name).
    #[must_use]
    pub fn describe_cluster(&self) -> Vec<Row> {
        let row = |key: &'static Key| {
            let value = self.cluster.get(key.name)?.clone();
            Some(Row {
                name: key.name,
                value: Some(value.clone()),
                source: Source::Cluster,
                kind: key.kind,
                synonyms: vec![Candidate {
                    name: key.name,
                    value,
                    source: Source::Cluster,
                }],
                is_read_only: !key.is_dynamic,
                is_sensitive: false,
                documentation: key.doc.clone(),
            })
        };
        KEYS.iter().filter_map(row).collect()
    }

    /// The values of a family of broker keys. As in Kafka, a default under a later name of the family
    /// (`log.retention.hours`) is not shown by itself.
    fn synonyms(&self, names: &[&'static str]) -> Vec<Candidate> {
        let candidates = self.candidates(names);
        let first = candidates.first();
        if first.is_some_and(|first| first.source == Source::Default && Some(&first.name) != names.first()) {
            return Vec::new();
        }
        candidates
    }
}

/// A broker key and those that stand in for it.
fn family(name: &'static str) -> Vec<&'static str> {
    let stands_in =
        |key: &super::topic::TopicKey| key.synonyms.first().is_some_and(|first| first.name == name);
    match TOPIC_KEYS.iter().find(|key| stands_in(key)) {
        Some(key) => key.synonyms.iter().map(|synonym| synonym.name).collect(),
        None => vec![name],
    }
}
