//! Micro benchmarks by layer, and the comparison with other Kafka-protocol brokers.
//!
//! | module | owns |
//! |---|---|
//! | [`load`] | the load harness: `stratalog bench` |
//! | [`case`] | a case, its samples, and the rounds in which cases take turns |
//! | [`report`] | medians and ratios as a table and as JSON |
//! | [`rounds`] | options, rounds and the file of figures of the programs that compare |
//! | [`source`] | bytes and batches to work on |
//! | [`workload`] | what is compared |
//! | [`brokers`] | our server and a real Kafka, as processes |
//! | [`loads`] | the client programs that load them |
//! | [`probe`] | the time from a start to the first acknowledged record |
//! | [`comparison`] | what both gave, and the ratios |
//! | [`null_broker`] | the least a broker must do: the physical limit |
//! | [`peers`] | the competition, and the same load on all of it |
//! | [`versus`] | several runs side by side |
//! | [`page`] | one HTML page on them |
//! | [`raw`] | connections without a client library |
//! | [`proxy`] | answers that are changed on their way, so that mistakes can be planted |
//! | [`group_commits`] | groups that commit offsets, and read them after a start |
//! | [`group_members`] | the first member of a group, and when it has its partitions |
//! | [`group_rebalance`] | a large group, and when everybody has its partitions |
//!
//! A machine that others use as well has no steady speed. So cases take turns within a round, a round's ratios are what
//! counts, medians over the rounds are told with their extremes, and CPU time stands beside elapsed time. Figures come with
//! the workload and the machine they belong to.

pub mod brokers;
pub mod case;
pub mod comparison;
pub mod group_commits;
pub mod group_members;
pub mod group_rebalance;
pub mod load;
pub mod loads;
pub mod null_broker;
pub mod page;
pub mod peers;
pub mod probe;
pub mod proxy;
pub mod raw;
pub mod report;
pub mod rounds;
pub mod source;
pub mod versus;
pub mod workload;
