//! One produce request: what it says, and what its response says about each batch.
//!
//! When to send which batches is `sender`'s business, what an answer means for a batch `in_order`'s.

use std::collections::HashMap;

use log_core::model::{Offset, TimestampMs, TopicId, TopicPartition};
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::produce_response::PartitionProduceResponse;
use log_core::protocol::messages::{ProduceRequestData, ProduceResponseData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::in_order::{Answer, SealedBatch};
use crate::config::{Acks, ProducerConfig};
use crate::connection::Connection;
use crate::error::{self, Error, Result};

/// Sends a request and waits for its response, if there will be one.
pub(super) async fn exchange(
    connection: &Connection,
    request: &ProduceRequestData,
    version: i16,
    acks: Acks,
) -> Result<Option<ProduceResponseData>> {
    if acks == Acks::None {
        connection.send_unanswered(request, version).await?;
        return Ok(None);
    }
    let timeout = connection.request_timeout();
    connection.call_version(request, version, timeout).await.map(Some)
}

/// One request for all these batches, of which no two are of one partition.
pub(super) fn produce_request(
    config: &ProducerConfig,
    transactional_id: Option<&str>,
    batches: &[(&TopicPartition, &SealedBatch)],
    ids: &[TopicId],
) -> ProduceRequestData {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for ((partition, batch), id) in batches.iter().zip(ids) {
        let place = *places.entry(&*partition.topic).or_insert_with(|| {
            topics.push(TopicProduceData {
                name: KafkaString::from(partition.topic.to_string()),
                topic_id: (*id).into(),
                ..TopicProduceData::default()
            });
            topics.len() - 1
        });
        if let Some(topic) = topics.get_mut(place) {
            topic.partition_data.push(PartitionProduceData {
                index: partition.partition,
                records: Some(batch.records.clone()),
                ..PartitionProduceData::default()
            });
        }
    }
    ProduceRequestData {
        transactional_id: transactional_id.map(|id| KafkaString::from(id.to_owned())),
        acks: config.acks.code(),
        timeout_ms: i32::try_from(config.client.request_timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: topics,
        ..ProduceRequestData::default()
    }
}

/// How a response names a topic.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum TopicKey<'a> {
    Id(TopicId),
    Name(&'a str),
}

/// What a response says about each batch.
pub(super) type Rows<'a> = HashMap<(TopicKey<'a>, i32), &'a PartitionProduceResponse>;

/// The rows of a response by what they are about.
pub(super) fn rows_of(response: &ProduceResponseData) -> Rows<'_> {
    let mut rows = HashMap::new();
    for topic in &response.responses {
        let id = TopicId::from(topic.topic_id);
        for row in &topic.partition_responses {
            let key = if id == TopicId::ZERO {
                TopicKey::Name(topic.name.as_str())
            } else {
                TopicKey::Id(id)
            };
            rows.insert((key, row.index), row);
        }
    }
    rows
}

/// What a row says about its batch.
pub(super) fn answer(partition: &TopicPartition, row: &PartitionProduceResponse) -> Answer {
    let message = row.error_message.as_ref().map(KafkaString::as_str);
    let text = partition.to_string();
    let Err(error) = error::check(ApiKey::Produce, row.error_code, &text, message) else {
        return Answer::Appended {
            base_offset: (row.base_offset >= 0).then_some(Offset::new(row.base_offset)),
            log_append_time: (row.log_append_time_ms >= 0)
                .then_some(TimestampMs::new(row.log_append_time_ms)),
        };
    };
    let records = row.record_errors.iter().filter_map(|refused| {
        let own = refused
            .batch_index_error_message
            .as_ref()
            .map(KafkaString::as_str);
        let code = ErrorCode::from(row.error_code);
        let error = Error::broker(ApiKey::Produce, code, text.as_str(), own.or(message));
        Some((u32::try_from(refused.batch_index).ok()?, error))
    });
    Answer::Refused {
        error,
        records: records.collect(),
    }
}

/// A batch that the response does not mention.
pub(super) fn unanswered(partition: &TopicPartition) -> Error {
    Error::broker(
        ApiKey::Produce,
        ErrorCode::NetworkException,
        partition.to_string(),
        Some("the response does not mention it"),
    )
}
