//! The broker's settings that concern transactions.
//! The defaults are Kafka's.

use std::time::Duration;

use crate::config::keys::BrokerConfig;

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSettings {
    /// `transaction.max.timeout.ms`.
    pub timeout_max_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub id_expiration_check_interval: Duration,
}

impl TransactionSettings {
    /// As the broker was started with them.
    #[must_use]
    pub fn from_config(config: &BrokerConfig) -> Self {
        Self {
            timeout_max_ms: config.transaction_max_timeout_ms,
            id_expiration: config.transactional_id_expiration,
            id_expiration_check_interval: config.transactional_id_expiration_check_interval,
        }
    }
}

impl Default for TransactionSettings {
    /// What counts when nobody says anything.
    fn default() -> Self {
        Self::from_config(&BrokerConfig::default())
    }
}
