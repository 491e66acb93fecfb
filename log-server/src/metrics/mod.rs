//! What is counted while the broker works, and how it is written down for those who ask.
//!
//! | module | owns |
//! |---|---|
//! | [`catalogue`] | every metric there is: name, kind, labels, meaning |
//! | [`counter`] | counters and levels that threads do not fight over |
//! | [`exposition`] | the text that Prometheus reads |
//! | [`front`] | what the Kafka front counts: requests, connections, refusals |
//! | [`histogram`] | how long something took |
//! | [`http_front`] | what the HTTP front counts |
//! | [`logs`] | what partitions count: records in and out, syncs, refusals |
//! | [`spans`] | spans that were sent, or dropped |
//! | [`telemetry`] | what clients push of their own metrics |
//!
//! Counting must not be felt: a Kafka request pays two looks at the clock and a few additions, no lock and no memory. Most numbers are spread over
//! the threads that write them; what readers of one partition took is one number for all of them. An HTTP request finds its row under a lock that is
//! only read. Whoever counts owns its numbers; `monitor` reads them all. Nothing here knows the rest of the broker.

pub mod catalogue;
pub mod counter;
pub mod exposition;
pub mod front;
pub mod histogram;
pub mod http_front;
pub mod logs;
pub mod spans;
pub mod telemetry;
