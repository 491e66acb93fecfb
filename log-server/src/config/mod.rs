//! Settings: the broker's own keys and the topics', each described once, in Kafka's words where Kafka has the key.
//!
//! | module | owns |
//! |---|---|
//! | [`value`] | types of settings, which values they accept, and how a value is written |
//! | [`topic`] | the catalogue of topic configs with their broker-wide defaults |
//! | [`keys`] | the table of the broker's own keys and [`keys::BrokerConfig`] |
//! | [`properties`] | the layers: default, file, environment, flags |
//! | [`effective`] | which value counts for a topic or the broker, and from where it comes |
//! | [`client_metrics`] | subscriptions to what clients measure of themselves |
//! | `group` | what the settings of groups must have in common |
//! | [`group_keys`] | what a group may set for itself |
//! | [`alter`] | changes to a set of overrides |
//! | [`describe`] | rows for `DescribeConfigs` |
//! | [`help`] | `--help` and the table in `docs/OPERATIONS.md` |
//! | [`suggestion`] | the near miss of an unknown name |
//!
//! Values travel as text in one canonical spelling; types are taken on at the edge, where a setting is used.

pub mod alter;
pub mod client_metrics;
pub mod describe;
mod directories;
pub mod effective;
mod group;
pub mod group_keys;
pub mod help;
pub mod keys;
pub mod properties;
pub mod suggestion;
pub mod topic;
pub mod value;

#[cfg(test)]
mod tests;
