//! The competition: each peer as a process, and the same load on all of them in alternation.
//!
//! | module | owns |
//! |---|---|
//! | [`peer`] | who can be compared, and what its settings promise |
//! | [`server`] | a peer's process, its data and what it costs |
//! | [`shape`] | what a load asks for, read from the plan of `stratalog bench` |
//! | [`protocol`] | what such a load needs of a protocol |
//! | [`foreign`] | that load on a broker that does not speak Kafka's protocol |
//! | [`redis`] | Redis streams |
//! | [`nats`] | NATS with `JetStream` |
//!
//! Who speaks Kafka's protocol is loaded by `stratalog bench` itself, as a process of its own. The others get a load of the
//! same shape from here, with records that are as cheap to make: they are encoded once.

pub mod foreign;
pub mod nats;
pub mod peer;
pub mod protocol;
pub mod redis;
pub mod server;
pub mod shape;
