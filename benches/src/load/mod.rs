//! The load harness: it drives any broker of the Kafka protocol, verifies what comes back, and says what the figures mean.
//!
//! | module | owns |
//! |---|---|
//! | [`result`] | what a run gave, as it is written to JSON |

pub mod result;
