//! Micro benchmarks by layer and the load harness for Stratalog and other Kafka-protocol brokers.
//! Figures come with the workload and the machine they belong to.
