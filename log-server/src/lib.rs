//! The Stratalog broker: fronts above, partitions and metadata below, the log at the bottom.
//!
//! | module | owns |
//! |---|---|
//! | [`banner`] | what is said when the broker is ready |
//! | [`broker`] | the wiring: builds, starts, stops |
//! | [`cli`] | the command line |
//! | [`config`] | settings of the broker and of topics |
//! | [`console`] | the web console: files within the program |
//! | [`coordinator`] | what clients agree on: consumer groups |
//! | [`data_directories`] | opening the data directories |
//! | [`http`] | the HTTP front: records, topics, groups, health |
//! | [`kafka`] | the Kafka front: listener, connections, APIs |
//! | [`logging`] | log lines: where they go and how they look |
//! | [`metadata`] | topics, settings and producer ids |
//! | [`metrics`] | what is counted, and the text that Prometheus reads |
//! | [`monitor`] | how the broker is |
//! | [`offline`] | data directories that no broker uses: dump and verify |
//! | [`partition`] | partitions: append, read, acknowledge, flush, housekeeping |
//! | [`partition_directory`] | the partitions as the metadata's controller sees them |
//! | [`pattern`] | patterns for whole names |
//! | `protobuf` | messages of Protocol Buffers |
//! | [`ready_file`] | tells scripts that clients are served |
//! | [`shutdown`] | the word "stop" and who says it |
//! | [`spans`] | requests as spans, for a collector of traces |
//! | [`system`] | the machine: its time, its limits, its kernel |
//! | [`telemetry`] | what clients measure of themselves |
//! | `time` | points in time, as people write them |
//!
//! Direction: the fronts call `partition` and `metadata`; those call log-core; nothing points back.

pub mod banner;
pub mod broker;
pub mod cli;
pub mod config;
pub mod console;
pub mod coordinator;
pub mod data_directories;
mod entity_tag;
pub mod http;
pub mod kafka;
pub mod logging;
pub mod metadata;
pub mod metrics;
pub mod monitor;
pub mod offline;
pub mod partition;
pub mod partition_directory;
pub mod pattern;
pub mod ports;
mod protobuf;
pub mod ready_file;
pub mod shutdown;
pub mod spans;
pub mod system;
pub mod telemetry;
mod time;
