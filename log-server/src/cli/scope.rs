//! Some partitions of a topic, or all of them, as the command line says it.
//! Which these are, the metadata say.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use log_client::admin::Admin;
use log_core::model::TopicPartition;

use super::failure::Outcome;

/// Some partitions of a topic, or all: `orders` or `orders:0,1,2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    topic: String,
    /// None for all.
    partitions: Option<Vec<i32>>,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is neither a topic nor of the form TOPIC:0,1,2");
        let (topic, numbers) = match text.split_once(':') {
            None => (text, None),
            Some((topic, numbers)) => (topic, Some(numbers)),
        };
        if topic.is_empty() {
            return Err(expected());
        }
        let number = |text: &str| {
            let number: Option<i32> = text.trim().parse().ok();
            number.filter(|number| 0 <= *number).ok_or_else(expected)
        };
        let partitions = numbers
            .map(|numbers| numbers.split(',').map(number).collect())
            .transpose()?;
        Ok(Self {
            topic: topic.to_owned(),
            partitions,
        })
    }
}

impl From<&TopicPartition> for Scope {
    fn from(partition: &TopicPartition) -> Self {
        Self {
            topic: partition.topic.to_string(),
            partitions: Some(vec![partition.partition]),
        }
    }
}

/// Reads one partition: `orders-0`, as it is shown everywhere, or `orders:0`.
pub(crate) fn parse_partition(text: &str) -> Result<TopicPartition, String> {
    // No topic has a colon in its name, and the last dash is the one in front of the number.
    let parts = text.rsplit_once([':', '-']);
    let parts = parts.filter(|(topic, _)| !topic.is_empty() && !topic.contains(':'));
    let partition = parts.and_then(|(topic, number)| {
        let number: i32 = number.parse().ok()?;
        (0 <= number).then(|| TopicPartition::new(topic, number))
    });
    partition.ok_or_else(|| format!("{text:?} is not a partition; write for example orders-0"))
}

/// The partitions that scopes name.
///
/// # Errors
/// The first topic or partition that does not exist.
pub(crate) async fn in_scope(scopes: &[Scope], admin: &Admin) -> Outcome<BTreeSet<TopicPartition>> {
    let names: Vec<&str> = scopes.iter().map(|scope| scope.topic.as_str()).collect();
    let mut partitions = BTreeSet::new();
    for (scope, topic) in scopes.iter().zip(admin.describe_topics(&names).await?) {
        let topic = topic?;
        let all = topic.partitions.iter().map(|partition| partition.partition);
        let numbers: Vec<i32> = scope.partitions.clone().unwrap_or_else(|| all.collect());
        for number in numbers {
            topic.partition(number)?;
            partitions.insert(TopicPartition::new(Arc::clone(&topic.name), number));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_with_and_without_partitions() {
        let check = |text: &str, expected: Option<(&str, Option<&[i32]>)>| {
            let expected = expected.map(|(topic, partitions)| Scope {
                topic: topic.to_owned(),
                partitions: partitions.map(<[i32]>::to_vec),
            });
            assert_eq!(text.parse::<Scope>().ok(), expected, "{text:?}");
        };
        check("orders", Some(("orders", None)));
        check("orders:3", Some(("orders", Some(&[3]))));
        check("orders:0, 1,2", Some(("orders", Some(&[0, 1, 2]))));
        for wrong in ["", ":1", "orders:", "orders:-1", "orders:a", "orders:1,,2"] {
            check(wrong, None);
        }
    }

    #[test]
    fn single_partitions() {
        let check = |text: &str, expected: Option<(&str, i32)>| {
            let expected = expected.map(|(topic, number)| TopicPartition::new(topic, number));
            assert_eq!(parse_partition(text).ok(), expected, "{text:?}");
        };
        check("orders-0", Some(("orders", 0)));
        check("orders:12", Some(("orders", 12)));
        check("orders-eu-3", Some(("orders-eu", 3)));
        check("orders-1:2", Some(("orders-1", 2)));
        for wrong in [
            "orders",
            "-1",
            ":1",
            "orders-",
            "orders:0,1",
            "orders:-1",
            "orders-99999999999",
        ] {
            check(wrong, None);
        }
    }
}
