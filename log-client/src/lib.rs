//! An async client of the Kafka protocol: producer, with transactions or without, partition consumer, group consumer, admin.
//!
//! Works against Stratalog and against Kafka. From the bottom up, each module using only those before it:
//! `error`, `config`, `retry` ← `api_versions` ← `connection` ← `metadata` ← `cluster` ← `offsets`,
//! `consumer_protocol`, `coordinator` ← `admin`, `producer`, `consumer` ← `group` ← `exactly_once`.

pub mod admin;
pub mod api_versions;
mod by_leader;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod consumer;
mod consumer_protocol;
pub mod coordinator;
pub mod error;
pub mod exactly_once;
pub mod group;
pub mod metadata;
pub mod offsets;
pub mod producer;
pub mod retry;

#[cfg(test)]
mod testing;

pub use error::{Error, Result};

/// The examples of the document compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/CLIENT.md")]
mod document {}
