//! Partitions of several topics, in words and as JSON.
//! Where they stand and who reads them is shown by the commands.

use std::collections::BTreeMap;

use log_core::model::TopicPartition;

/// The partitions of each topic, in order.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics
            .entry(&partition.topic)
            .or_default()
            .push(partition.partition);
    }
    for numbers in topics.values_mut() {
        numbers.sort_unstable();
        numbers.dedup();
    }
    topics
}

/// `orders 0-2,5 payments 0`.
pub(crate) fn ranges(partitions: &[TopicPartition]) -> String {
    let topics: Vec<String> = by_topic(partitions)
        .into_iter()
        .map(|(topic, numbers)| format!("{topic} {}", runs(&numbers)))
        .collect();
    topics.join(" ")
}

/// `0-2,5`.
fn runs(numbers: &[i32]) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let shown = |(first, last): &(i32, i32)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    runs.iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_in_runs() {
        let check = |partitions: &[(&str, i32)], expected: &str| {
            let partitions: Vec<_> = partitions
                .iter()
                .map(|(topic, number)| TopicPartition::new(*topic, *number))
                .collect();
            assert_eq!(ranges(&partitions), expected);
        };
        check(&[], "");
        check(&[("a", 3)], "a 3");
        check(&[("a", 0), ("a", 1), ("a", 2), ("a", 5)], "a 0-2,5");
        check(&[("b", 1), ("a", 7), ("b", 0), ("b", 3)], "a 7 b 0-1,3");
        check(&[("a", i32::MAX), ("a", 0)], "a 0,2147483647");
    }
}
