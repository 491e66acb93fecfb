//! What clients measure of themselves and push to the broker (KIP-714): accepted as Kafka accepts it, kept for a while, and shown.
//!
//! | module | owns |
//! |---|---|
//! | [`client`] | who a client instance is |
//! | [`error`] | why a client is refused |
//! | [`instance`] | one client instance: what it is told, and when it may come |
//! | [`manager`] | all of them, within limits |
//! | [`report`] | what one push says |
//! | [`series`] | the last values of a client's metrics |
//! | [`subscriptions`] | what is wanted of which clients |
//!
//! Kafka hands what clients push to a plugin and keeps nothing; here the last values are kept, for as long as the client comes. Nothing of it is on the
//! disk: subscriptions are (`metadata`), and after a restart each client is asked again.

pub mod client;
pub mod error;
pub mod instance;
pub mod manager;
pub mod report;
pub mod series;
pub mod subscriptions;

#[cfg(test)]
mod tests;
