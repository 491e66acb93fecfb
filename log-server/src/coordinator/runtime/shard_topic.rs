//! The topics whose partitions are the logs of shards: their settings, and which partition a group or a transactional id
//! belongs to. Tools that read them find both by the same rule.

use crate::metadata::plan::NewTopic;

/// What groups and their offsets are written to.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// What transactions are written to.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// The partition that a name's records stand in, as Kafka and its tools compute it: Java's hash of the name, without its sign.
#[must_use]
pub fn partition_for(name: &str, partition_count: i32) -> i32 {
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The one number without a positive twin counts as 0.
    hash.checked_abs()
        .unwrap_or(0)
        .checked_rem(partition_count)
        .unwrap_or(0)
}

/// One of the topics, to be created.
#[must_use]
pub fn new_topic(name: &str, partition_count: i32, segment_bytes: u64) -> NewTopic {
    let config = |name: &str, value: String| (name.to_owned(), Some(value));
    NewTopic {
        partition_count,
        configs: vec![
            config("cleanup.policy", "compact".to_owned()),
            config("segment.bytes", segment_bytes.to_string()),
            // Whatever other topics do: what a shard answers is on the disk.
            config("flush.messages", "1".to_owned()),
        ],
        ..NewTopic::named(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_where_kafka_puts_them() {
        // Computed by Java: Utils.abs("...".hashCode()) % 50.
        for (group, partition) in [
            ("", 0),
            ("a", 47),
            ("test", 48),
            // Its hash is Integer.MIN_VALUE.
            ("polygenelubricants", 0),
        ] {
            assert_eq!(partition_for(group, 50), partition, "{group}");
        }
        assert_eq!(partition_for("anything", 1), 0);
    }
}
