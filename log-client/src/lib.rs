//! Async Kafka-protocol client: producer, consumer, admin.
