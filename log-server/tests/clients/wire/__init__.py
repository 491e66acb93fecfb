"""Raw Kafka protocol for tests: messages from their schemas, record batches by hand, and the cases that use them."""
