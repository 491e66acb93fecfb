//! Why a client's question about telemetry, or a push of it, is refused.
//! What a client does next follows from the code alone, which the Kafka front's `error_map` gives.

use log_core::record::compression::CompressionError;

/// A refusal. Behind each what clients do then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// They stop for good.
    #[error("{0}")]
    Invalid(&'static str),
    /// They come again after their interval.
    #[error("the client came before its interval was over")]
    TooEarly,
    /// They come again after their interval.
    #[error("too many pushes wait to be read")]
    Busy,
    /// They ask what is wanted, at once.
    #[error("the subscriptions have changed since the client asked")]
    UnknownSubscription,
    /// They ask how it is wanted, at once.
    #[error("there is no compression {0}")]
    UnsupportedCompression(i8),
    /// They come again after their interval.
    #[error("the metrics have more than {0} bytes")]
    TooLarge(usize),
    /// They stop for good.
    #[error("the metrics cannot be read: {0}")]
    Unreadable(String),
}

impl TelemetryError {
    /// What is refused, as a label of metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::TooEarly => "too-early",
            Self::Busy => "busy",
            Self::UnknownSubscription => "unknown-subscription",
            Self::UnsupportedCompression(_) => "compression",
            Self::TooLarge(_) => "too-large",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl From<CompressionError> for TelemetryError {
    fn from(error: CompressionError) -> Self {
        match error {
            CompressionError::TooLarge { limit, .. } => Self::TooLarge(limit),
            damaged @ CompressionError::Damaged { .. } => Self::Unreadable(damaged.to_string()),
        }
    }
}
