//! The names of partition directories that are on their way out, or set aside.
//! They end in ways that no partition's directory does, and carry the topic's id: a topic of the same name may come again.

use crate::model::{TopicId, TopicPartition};

/// A partition directory on its way out.
pub(super) const DELETE_SUFFIX: &str = "-delete";
/// A partition directory that belongs to no known topic.
pub(super) const STRAY_SUFFIX: &str = "-stray";
/// The longest name that common file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The names for a directory that is on its way out or set aside, in the order to try them: the second and later ones have a
/// number.
pub(super) fn names_aside(
    partition: &TopicPartition,
    id: TopicId,
    suffix: &str,
) -> impl Iterator<Item = String> {
    let first = std::iter::once(String::new());
    let numbered = (2..=u32::MAX).map(|number| format!(".{number}"));
    first
        .chain(numbered)
        .map(move |number| name_aside(partition, &format!(".{id}{number}{suffix}")))
}

/// Of a topic with a long name it has the beginning alone, as in Kafka: the id tells them apart, and a name that is too long could not
/// be given.
fn name_aside(partition: &TopicPartition, ending: &str) -> String {
    let rest = format!("-{}{ending}", partition.partition);
    let room = NAME_BYTES_MAX.saturating_sub(rest.len());
    let (topic, _) = partition
        .topic
        .split_at(partition.topic.floor_char_boundary(room));
    format!("{topic}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_topic_can_be_set_aside() {
        let id = TopicId::from_bytes([0xfb, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        let names = |topic: &str, partition| {
            let partition = TopicPartition::new(topic, partition);
            names_aside(&partition, id, "-delete").take(2).collect::<Vec<_>>()
        };
        let name = |topic: &str, partition| names(topic, partition).remove(0);
        let expected = [
            "orders-3.-_8BAgMEBQYHCAkKCwwNDg-delete",
            "orders-3.-_8BAgMEBQYHCAkKCwwNDg.2-delete",
        ];
        assert_eq!(names("orders", 3), expected);
        let longest = "x".repeat(249);
        assert_eq!(name(&longest, 0).len(), NAME_BYTES_MAX);
        assert!(name(&longest, i32::MAX).ends_with("-2147483647.-_8BAgMEBQYHCAkKCwwNDg-delete"));
        assert!(name(&"ü".repeat(125), 0).len() < NAME_BYTES_MAX + 1);
    }
}
