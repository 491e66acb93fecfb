//! The broker's settings that concern groups, with Kafka's defaults.
//! Two differ. The delay before a new group's first rebalance is 0 here, for no other broker's members have to be waited for; and a KIP-848
//! group may be assigned anew at once (Kafka waits a second after the last time): an assignment costs a millisecond here, and who joins
//! during that second would wait for its next heartbeat.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::keys::BrokerConfig;

const MINUTE_MS: i64 = 60_000;

/// When a classic group may become one of the other protocol, and back (`group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// In both directions.
    Bidirectional,
    /// From classic to consumer.
    Upgrade,
    /// From consumer to classic.
    Downgrade,
    /// Never.
    Disabled,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i32,
    /// `group.max.size`.
    pub size_max: usize,
    /// `group.consumer.session.timeout.ms`, unless the group has its own.
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.{min,max}.session.timeout.ms`: what a group may set for itself.
    pub consumer_session_timeout_range_ms: RangeInclusive<i32>,
    /// `group.consumer.heartbeat.interval.ms`, unless the group has its own.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.{min,max}.heartbeat.interval.ms`: what a group may set for itself.
    pub consumer_heartbeat_interval_range_ms: RangeInclusive<i32>,
    /// `group.consumer.assignment.interval.ms`, unless the group has its own: how long after one assignment the next may come.
    pub consumer_assignment_interval_ms: i32,
    /// `group.consumer.{min,max}.assignment.interval.ms`: what a group may set for itself.
    pub consumer_assignment_interval_range_ms: RangeInclusive<i32>,
    /// `group.consumer.max.size`.
    pub consumer_size_max: usize,
    /// `group.consumer.assignors`: names, the default first.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration_policy: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub consumer_regex_refresh_interval_ms: i64,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
}

impl GroupSettings {
    /// As the broker was started with them.
    #[must_use]
    pub fn from_config(config: &BrokerConfig) -> Self {
        Self {
            initial_rebalance_delay: config.group_initial_rebalance_delay,
            session_timeout_min_ms: config.group_min_session_timeout_ms,
            session_timeout_max_ms: config.group_max_session_timeout_ms,
            size_max: config.group_max_size,
            consumer_session_timeout_ms: config.group_consumer_session_timeout_ms,
            consumer_session_timeout_range_ms: config.group_consumer_min_session_timeout_ms
                ..=config.group_consumer_max_session_timeout_ms,
            consumer_heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
            consumer_heartbeat_interval_range_ms: config.group_consumer_min_heartbeat_interval_ms
                ..=config.group_consumer_max_heartbeat_interval_ms,
            consumer_assignment_interval_ms: config.group_consumer_assignment_interval_ms,
            consumer_assignment_interval_range_ms: config.group_consumer_min_assignment_interval_ms
                ..=config.group_consumer_max_assignment_interval_ms,
            consumer_size_max: config.group_consumer_max_size,
            consumer_assignors: config.group_consumer_assignors.clone(),
            consumer_migration_policy: migration_policy(&config.group_consumer_migration_policy),
            consumer_regex_refresh_interval_ms: config.group_consumer_regex_refresh_interval_ms,
            offset_metadata_bytes_max: config.offset_metadata_max_bytes,
            offsets_retention_ms: config.offsets_retention_minutes.saturating_mul(MINUTE_MS),
            offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        }
    }
}

impl Default for GroupSettings {
    /// What counts when nobody says anything.
    fn default() -> Self {
        Self::from_config(&BrokerConfig::default())
    }
}

fn migration_policy(name: &str) -> MigrationPolicy {
    match name {
        "upgrade" => MigrationPolicy::Upgrade,
        "downgrade" => MigrationPolicy::Downgrade,
        "disabled" => MigrationPolicy::Disabled,
        _ => MigrationPolicy::Bidirectional,
    }
}
