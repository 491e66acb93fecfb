//! One client instance: what it is told to push, and when it may come. The rules are those of Kafka's `ClientMetricsInstance`.
//!
//! | comes | is taken |
//! |---|---|
//! | a question | when the interval has passed since the last question or push; at once behind a push that told the client to ask |
//! | a push | behind a question; else when the interval has passed since the last push; the last one of a client that ends, always |
//!
//! An instance belongs to the connection that brought it, and to the subscriptions as they were: when either is gone, the next request makes a new one,
//! which knows nothing of what came before but the values.

use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::TimestampMs;

use super::client::{Client, ClientInstanceId};
use super::error::TelemetryError;
use super::series::Series;
use super::subscriptions::Wanted;

/// A client that does not come for so long is forgotten, or for three times its interval if that is longer.
const FORGOTTEN_AFTER_MS: i64 = 60_000;

/// What the broker remembers of a client instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) client: Client,
    pub(super) wanted: Arc<Wanted>,
    subscription_id: i32,
    /// Which state of the subscriptions it was made for.
    subscriptions_version: u64,
    last_question: Option<SteadyMs>,
    last_push: Option<SteadyMs>,
    /// It has asked since its last push.
    has_asked: bool,
    /// Its last push told it to ask again.
    is_to_ask: bool,
    pub(super) is_terminating: bool,
    pub(super) last_seen: SteadyMs,
    /// Its place in the order of use.
    pub(super) used: u64,
    pub(super) pushed_at: Option<TimestampMs>,
    pub(super) series: Arc<Series>,
}

impl Instance {
    pub(super) fn new(
        client: Client,
        id: ClientInstanceId,
        wanted: Arc<Wanted>,
        subscriptions_version: u64,
        now: SteadyMs,
    ) -> Self {
        Self {
            client,
            subscription_id: wanted.subscription_id(id),
            wanted,
            subscriptions_version,
            last_question: None,
            last_push: None,
            has_asked: false,
            is_to_ask: false,
            is_terminating: false,
            last_seen: now,
            used: 0,
            pushed_at: None,
            series: Arc::default(),
        }
    }

    /// With what was shown of the one before it.
    pub(super) fn in_the_place_of(self, before: Self) -> Self {
        Self {
            pushed_at: before.pushed_at,
            series: before.series,
            ..self
        }
    }

    /// Whether its rules still hold for a client that comes now.
    pub(super) fn holds(&self, subscriptions_version: u64, now: SteadyMs) -> bool {
        self.subscriptions_version == subscriptions_version
            && self.client.connection.is_open()
            && !self.is_forgotten(now)
    }

    pub(super) fn is_forgotten(&self, now: SteadyMs) -> bool {
        let limit = FORGOTTEN_AFTER_MS.max(3 * i64::from(self.wanted.interval_ms));
        limit < now.saturating_since(self.last_seen)
    }

    /// The client asks what is wanted.
    pub(super) fn ask(&mut self, now: SteadyMs) -> Result<(), TelemetryError> {
        let last = self.last_question.max(self.last_push);
        if !self.is_to_ask && !self.is_over(last, now) {
            return Err(TelemetryError::TooEarly);
        }
        self.last_question = Some(now);
        self.has_asked = true;
        self.is_to_ask = false;
        Ok(())
    }

    /// The client pushes.
    pub(super) fn push(
        &mut self,
        push: &Push,
        bytes_max: usize,
        now: SteadyMs,
    ) -> Result<(), TelemetryError> {
        let outcome = self.check(push, bytes_max, now);
        self.is_terminating = push.is_terminating;
        self.is_to_ask = matches!(
            outcome,
            Err(TelemetryError::UnknownSubscription | TelemetryError::UnsupportedCompression(_))
        );
        outcome
    }

    fn check(&mut self, push: &Push, bytes_max: usize, now: SteadyMs) -> Result<(), TelemetryError> {
        if self.is_terminating {
            return Err(TelemetryError::Invalid("the client said before that it ends"));
        }
        if self.has_asked || self.is_over(self.last_push, now) {
            self.last_push = Some(now);
            self.has_asked = false;
        } else if !push.is_terminating {
            return Err(TelemetryError::TooEarly);
        }
        if push.subscription_id != self.subscription_id {
            return Err(TelemetryError::UnknownSubscription);
        }
        if !(0..=4).contains(&push.compression) {
            return Err(TelemetryError::UnsupportedCompression(push.compression));
        }
        if bytes_max < push.bytes {
            return Err(TelemetryError::TooLarge(bytes_max));
        }
        Ok(())
    }

    fn is_over(&self, last: Option<SteadyMs>, now: SteadyMs) -> bool {
        last.is_none_or(|last| i64::from(self.wanted.interval_ms) <= now.saturating_since(last))
    }
}

/// What a push says besides its metrics.
#[derive(Debug, Clone, Copy)]
pub struct Push {
    /// What the client was told that is wanted.
    pub subscription_id: i32,
    /// Whether it is the client's last.
    pub is_terminating: bool,
    /// How the metrics are compressed.
    pub compression: i8,
    /// How many bytes they have as they came.
    pub bytes: usize,
}
