//! Micro benchmarks by layer and the load harness for Stratalog and other Kafka-protocol brokers.
