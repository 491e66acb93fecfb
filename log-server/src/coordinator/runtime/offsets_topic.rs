//! `__consumer_offsets`: its name, its settings, and which of its partitions a group belongs to.
//! Tools that read the topic find a group by the same rule.

use crate::metadata::plan::NewTopic;

/// Its name.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition that a group's records stand in, as Kafka and its tools compute it: Java's hash of the name, without its sign.
#[must_use]
pub fn partition_for(group: &str, partition_count: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The one number without a positive twin counts as 0.
    hash.checked_abs()
        .unwrap_or(0)
        .checked_rem(partition_count)
        .unwrap_or(0)
}

/// The topic, to be created.
#[must_use]
pub fn new_topic(partition_count: i32, segment_bytes: u64) -> NewTopic {
    let config = |name: &str, value: String| (name.to_owned(), Some(value));
    NewTopic {
        partition_count,
        configs: vec![
            config("cleanup.policy", "compact".to_owned()),
            config("segment.bytes", segment_bytes.to_string()),
            // Whatever other topics do: a commit is answered when it is on the disk.
            config("flush.messages", "1".to_owned()),
        ],
        ..NewTopic::named(OFFSETS_TOPIC)
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
