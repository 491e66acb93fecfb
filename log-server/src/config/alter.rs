//! Changes to a set of overrides: set, delete, append to a list, take from a list, or replace them all.
//!
//! A change names one resource and is made whole or not at all. What comes out is checked and canonical.

use super::effective::{BrokerLayers, ConfigError, Overrides, find_topic_key};
use super::keys::{self, KEYS, Key};
use super::suggestion::did_you_mean;
use super::value::{Kind, Rule, VALUE_BYTES_MAX, canonical, split_list};

/// What is done to one config (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It gets the value.
    Set,
    /// It loses its override.
    Delete,
    /// The elements join its list.
    Append,
    /// The elements leave its list.
    Subtract,
}

impl Operation {
    /// The operation of that number in an `IncrementalAlterConfigs` request.
    #[must_use]
    pub const fn from_wire(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Append => "append to",
            Self::Subtract => "subtract from",
        }
    }
}

/// One change to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The config.
    pub name: String,
    /// What is done to it.
    pub operation: Operation,
    /// With what; not looked at by [`Operation::Delete`].
    pub value: Option<String>,
}

/// What is to be done to the overrides of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// These changes, and nothing else (`IncrementalAlterConfigs`).
    Incremental(Vec<Change>),
    /// These overrides instead of the present ones (`AlterConfigs`).
    Replace(Vec<(String, Option<String>)>),
}

/// A change that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// A value is missing: `INVALID_REQUEST`.
    #[error("{name} needs a value")]
    Null {
        /// The config.
        name: String,
    },
    /// Two changes name the same config: `INVALID_REQUEST`.
    #[error("{name} is given more than once")]
    Twice {
        /// The config.
        name: String,
    },
    /// The broker key cannot be changed while the broker runs: `INVALID_REQUEST`.
    #[error(
        "{name} cannot be changed while the broker runs; set it in the file, by {variable} or by --{flag}, and restart"
    )]
    ReadOnly {
        /// The key.
        name: &'static str,
        /// Its environment variable.
        variable: String,
        /// Its flag.
        flag: String,
    },
    /// What a subscription to clients' metrics does not take: `INVALID_REQUEST`, where topics have `INVALID_CONFIG`.
    #[error("{0}")]
    Subscription(String),
    /// The config is not a list: `INVALID_CONFIG`.
    #[error("cannot {operation} {name}, which is no list")]
    NotAList {
        /// The config.
        name: String,
        /// What was asked.
        operation: &'static str,
    },
    /// The name or the value is refused: `INVALID_CONFIG`.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A config as far as a change needs to know it.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) rule: Rule,
    /// What list operations begin with when there is no override.
    pub(super) default: String,
}

impl BrokerLayers<'_> {
    /// The overrides of a topic after an alteration, checked.
    ///
    /// # Errors
    /// The first change that is refused; nothing is changed then.
    pub fn alter_topic(&self, current: &Overrides, alteration: &Alteration) -> Result<Overrides, AlterError> {
        let altered = alter(current, alteration, |name| {
            let key = find_topic_key(name)?;
            Ok(Target {
                name: key.name,
                kind: key.kind,
                rule: key.rule,
                default: self.topic_default(key).0,
            })
        })?;
        Ok(self.check_topic(&altered)?)
    }

    /// The overrides of this broker, or of all brokers, after an alteration, checked one by one. Whether
    /// topics still agree with themselves under them is [`Self::check_topic`]'s to say.
    ///
    /// # Errors
    /// The first change that is refused; nothing is changed then.
    pub fn alter_broker(
        &self,
        current: &Overrides,
        alteration: &Alteration,
    ) -> Result<Overrides, AlterError> {
        alter(current, alteration, |name| {
            let key = find_broker_key(name)?;
            if !key.is_dynamic {
                return Err(AlterError::ReadOnly {
                    name: key.name,
                    variable: key.variable.clone(),
                    flag: key.flag.clone(),
                });
            }
            Ok(Target {
                name: key.name,
                kind: key.kind,
                rule: key.rule,
                default: self
                    .broker_value(key.name)
                    .map(|(value, _)| value)
                    .unwrap_or_default(),
            })
        })
    }
}

fn find_broker_key(name: &str) -> Result<&'static Key, ConfigError> {
    keys::find(name).ok_or_else(|| ConfigError::Unknown {
        resource: "broker",
        name: name.chars().take(80).collect(),
        suggestion: did_you_mean(name, KEYS.iter().map(|key| key.name)),
    })
}

pub(super) fn alter(
    current: &Overrides,
    alteration: &Alteration,
    find: impl Fn(&str) -> Result<Target, AlterError>,
) -> Result<Overrides, AlterError> {
    let mut altered = match alteration {
        Alteration::Incremental(_) => current.clone(),
        Alteration::Replace(_) => Overrides::new(),
    };
    let changes: Vec<(&str, Operation, Option<&str>)> = match alteration {
        Alteration::Incremental(changes) => changes
            .iter()
            .map(|change| (change.name.as_str(), change.operation, change.value.as_deref()))
            .collect(),
        Alteration::Replace(entries) => entries
            .iter()
            .map(|(name, value)| (name.as_str(), Operation::Set, value.as_deref()))
            .collect(),
    };
    let mut seen = std::collections::BTreeSet::new();
    for (name, operation, value) in changes {
        if !seen.insert(name) {
            return Err(AlterError::Twice {
                name: name.to_owned(),
            });
        }
        if operation == Operation::Delete {
            altered.remove(name);
            continue;
        }
        let Some(value) = value else {
            return Err(AlterError::Null {
                name: name.to_owned(),
            });
        };
        let target = find(name)?;
        let text = match operation {
            Operation::Set | Operation::Delete => value.to_owned(),
            Operation::Append | Operation::Subtract if target.kind != Kind::List => {
                return Err(AlterError::NotAList {
                    name: name.to_owned(),
                    operation: operation.name(),
                });
            }
            // The work below grows with the square of the length.
            Operation::Append | Operation::Subtract if VALUE_BYTES_MAX < value.len() => value.to_owned(),
            Operation::Append | Operation::Subtract => {
                let present = altered.get(name).unwrap_or(&target.default);
                change_list(present, operation, value)
            }
        };
        let value = canonical(target.kind, target.rule, &text).map_err(|source| ConfigError::Value {
            name: target.name,
            source,
        })?;
        altered.insert(name.to_owned(), value);
    }
    Ok(altered)
}

fn change_list(present: &str, operation: Operation, value: &str) -> String {
    let mut elements = split_list(present);
    for element in value.split(',').map(str::trim) {
        if operation == Operation::Subtract {
            elements.retain(|present| *present != element);
        } else if !elements.contains(&element) {
            elements.push(element);
        }
    }
    elements.join(",")
}

/// Checks that a topic may be created with these entries, and returns them as overrides. As in Kafka, the last of
/// several entries of one name counts.
///
/// # Errors
/// A missing value, an unknown name, a value that is refused: all `INVALID_CONFIG` here.
pub fn creation_overrides(
    layers: BrokerLayers<'_>,
    entries: &[(String, Option<String>)],
) -> Result<Overrides, AlterError> {
    let mut overrides = Overrides::new();
    for (name, value) in entries {
        let Some(value) = value else {
            return Err(AlterError::Null { name: name.clone() });
        };
        overrides.insert(name.clone(), value.clone());
    }
    Ok(layers.check_topic(&overrides)?)
}
