//! What classic consumers tell each other through the coordinator, which passes it on unread: the topics a
//! member wants and the partitions it gets, in Kafka's own encoding, so that they share groups with Java's.
//!
//! Each begins with its version. A version from the future is read as the newest that is known, which is what
//! Kafka's own clients do: new versions only add fields at the end.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log_core::model::TopicPartition;
use log_core::protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use log_core::protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedTopic;
use log_core::protocol::messages::{ConsumerProtocolAssignmentData, ConsumerProtocolSubscriptionData};
use log_core::protocol::{CodecError, KafkaString, Message};

use crate::by_leader::by_topic;

/// What classic groups of consumers call what they do.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// The newest version of both encodings.
const VERSION: i16 = 3;

/// The version comes first.
const VERSION_SIZE: usize = 2;

/// Bytes that are not what a member of a group of consumers says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the bytes end before the version does")]
    TooShort,
    #[error("version {0} never was")]
    Version(i16),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// What one member wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Subscription {
    pub topics: Vec<String>,
    /// What it reads at the moment, as far as it keeps that while the group works things out.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got them; none in versions before 2.
    pub generation: Option<i32>,
    pub rack_id: Option<String>,
    /// Belongs to the assignor.
    pub user_data: Option<Bytes>,
}

/// What one member gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Assignment {
    pub partitions: Vec<TopicPartition>,
}

pub(crate) fn encode_subscription(subscription: &Subscription) -> Result<Bytes, CodecError> {
    let mut topics = subscription.topics.clone();
    topics.sort_unstable();
    let owned = grouped(&subscription.owned)
        .into_iter()
        .map(|(topic, partitions)| OwnedTopic {
            topic,
            partitions,
            ..OwnedTopic::default()
        });
    encode(&ConsumerProtocolSubscriptionData {
        topics: topics.into_iter().map(KafkaString::from).collect(),
        user_data: subscription.user_data.clone(),
        owned_partitions: owned.collect(),
        generation_id: subscription.generation.unwrap_or(-1),
        rack_id: subscription.rack_id.clone().map(KafkaString::from),
        ..ConsumerProtocolSubscriptionData::default()
    })
}

pub(crate) fn decode_subscription(bytes: &Bytes) -> Result<Subscription, DecodeError> {
    let (version, data): (_, ConsumerProtocolSubscriptionData) = decode(bytes)?;
    let owned = data.owned_partitions.iter();
    Ok(Subscription {
        topics: data.topics.iter().map(ToString::to_string).collect(),
        owned: flat(owned.map(|topic| (topic.topic.as_str(), topic.partitions.as_slice()))),
        generation: (2 <= version && 0 <= data.generation_id).then_some(data.generation_id),
        rack_id: data.rack_id.as_ref().map(ToString::to_string),
        user_data: data.user_data,
    })
}

pub(crate) fn encode_assignment(assignment: &Assignment) -> Result<Bytes, CodecError> {
    let topics = grouped(&assignment.partitions).into_iter();
    encode(&ConsumerProtocolAssignmentData {
        assigned_partitions: topics
            .map(|(topic, partitions)| AssignedTopic {
                topic,
                partitions,
                ..AssignedTopic::default()
            })
            .collect(),
        user_data: None,
        ..ConsumerProtocolAssignmentData::default()
    })
}

/// Reads what a member gets. No bytes at all mean that nobody has worked it out, which is not the same as
/// getting nothing; but to the member it comes to the same.
pub(crate) fn decode_assignment(bytes: &Bytes) -> Result<Assignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(Assignment::default());
    }
    let (_, data): (_, ConsumerProtocolAssignmentData) = decode(bytes)?;
    let topics = data.assigned_partitions.iter();
    Ok(Assignment {
        partitions: flat(topics.map(|topic| (topic.topic.as_str(), topic.partitions.as_slice()))),
    })
}

fn encode<M: Message>(message: &M) -> Result<Bytes, CodecError> {
    let mut bytes = BytesMut::with_capacity(VERSION_SIZE + message.encoded_len(VERSION)?);
    bytes.put_i16(VERSION);
    message.write_to(&mut bytes, VERSION)?;
    Ok(bytes.freeze())
}

fn decode<M: Message>(bytes: &Bytes) -> Result<(i16, M), DecodeError> {
    let mut bytes = bytes.clone();
    if bytes.len() < VERSION_SIZE {
        return Err(DecodeError::TooShort);
    }
    let version = bytes.get_i16();
    if version < 0 {
        return Err(DecodeError::Version(version));
    }
    let version = version.min(VERSION);
    // What stands behind it is from a newer version.
    Ok((version, M::read_from(&mut bytes, version)?))
}

fn grouped(partitions: &[TopicPartition]) -> Vec<(KafkaString, Vec<i32>)> {
    let rows = partitions.iter().map(|partition| (partition.clone(), ()));
    by_topic(rows)
        .into_iter()
        .map(|(topic, rows)| {
            let mut indexes: Vec<_> = rows.into_iter().map(|(index, ())| index).collect();
            indexes.sort_unstable();
            (KafkaString::from(topic.to_string()), indexes)
        })
        .collect()
}

fn flat<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for (topic, indexes) in topics {
        let topic: Arc<str> = topic.into();
        let rows = indexes.iter();
        partitions.extend(rows.map(|index| TopicPartition::new(Arc::clone(&topic), *index)));
    }
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, index: i32) -> TopicPartition {
        TopicPartition::new(topic, index)
    }

    #[test]
    fn a_subscription_has_the_bytes_of_the_java_client() {
        let subscription = Subscription {
            topics: vec!["b".to_owned(), "a".to_owned()],
            owned: vec![partition("a", 1), partition("a", 0)],
            generation: Some(7),
            rack_id: None,
            user_data: None,
        };
        let expected: &[u8] = &[
            0, 3, // version
            0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b', // topics, sorted
            0xff, 0xff, 0xff, 0xff, // no user data
            0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, // owned
            0, 0, 0, 7, // generation
            0xff, 0xff, // no rack
        ];
        let bytes = encode_subscription(&subscription).unwrap();
        assert_eq!(&bytes[..], expected);
        let decoded = decode_subscription(&bytes).unwrap();
        assert_eq!(decoded.topics, ["a", "b"]);
        assert_eq!(decoded.owned, [partition("a", 0), partition("a", 1)]);
        assert_eq!(decoded.generation, Some(7));
    }

    #[test]
    fn old_and_new_versions_are_read() {
        let oldest = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 9]);
        let decoded = decode_subscription(&oldest).unwrap();
        assert_eq!(decoded.topics, ["a"]);
        assert_eq!(decoded.generation, None);
        assert_eq!(decoded.user_data.as_deref(), Some(&[9][..]));

        let mut newer = BytesMut::new();
        newer.put_i16(9);
        newer.extend_from_slice(&encode_subscription(&Subscription::default()).unwrap()[2..]);
        newer.extend_from_slice(b"more");
        assert_eq!(
            decode_subscription(&newer.freeze()).unwrap(),
            Subscription::default()
        );

        for bad in [&b""[..], &[0], &[0xff, 0xff], &[0, 3, 0x7f, 0xff, 0xff, 0xff]] {
            assert!(
                decode_subscription(&Bytes::copy_from_slice(bad)).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn an_assignment_has_the_bytes_of_the_java_client() {
        let assignment = Assignment {
            partitions: vec![partition("t", 5)],
        };
        let expected: &[u8] = &[
            0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff,
        ];
        let bytes = encode_assignment(&assignment).unwrap();
        assert_eq!(&bytes[..], expected);
        assert_eq!(decode_assignment(&bytes).unwrap(), assignment);
        assert_eq!(decode_assignment(&Bytes::new()).unwrap(), Assignment::default());
    }
}
