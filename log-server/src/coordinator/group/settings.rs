//! The broker's settings that concern groups, with Kafka's defaults.
//! Two differ. The delay before a new group's first rebalance is 0 here, for no other broker's members have to be waited for; and a KIP-848
//! group may be assigned anew at once (Kafka waits a second after the last time): an assignment costs a millisecond here, and who joins
//! during that second would wait for its next heartbeat.

use std::time::Duration;

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
    /// `group.consumer.heartbeat.interval.ms`, unless the group has its own.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.assignment.interval.ms`, unless the group has its own: how long after one assignment the next may come.
    pub consumer_assignment_interval_ms: i32,
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

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::ZERO,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            size_max: usize::MAX,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_assignment_interval_ms: 0,
            consumer_size_max: usize::MAX,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            consumer_migration_policy: MigrationPolicy::Bidirectional,
            consumer_regex_refresh_interval_ms: 600_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}
