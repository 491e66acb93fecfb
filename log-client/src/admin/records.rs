//! Offsets of partitions, and deleting the records before one.
//! Which leader to ask, and to ask again, is the business of `by_leader` and `offsets`.

use log_core::model::{Offset, TopicPartition};
use log_core::protocol::messages::DeleteRecordsRequestData;
use log_core::protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use log_core::protocol::{ApiKey, KafkaString};

use super::{Admin, timeout_ms};
use crate::by_leader::{Answers, Question, by_leader, by_topic};
use crate::config::IsolationLevel;
use crate::error::{self, Result};
use crate::metadata::BrokerId;
use crate::offsets::{ListedOffset, OffsetQuery, list_offsets};

/// Asks a broker to delete everything that consumers have been able to see.
const TO_HIGH_WATERMARK: i64 = -1;

impl Admin {
    /// Looks up offsets; one result each, in the order of the queries.
    pub async fn list_offsets(
        &self,
        queries: Vec<(TopicPartition, OffsetQuery)>,
    ) -> Vec<(TopicPartition, Result<ListedOffset>)> {
        list_offsets(
            &self.cluster,
            queries,
            IsolationLevel::ReadUncommitted,
            self.deadline(),
        )
        .await
    }

    /// Deletes the records before an offset, or all with none; the results say where each log begins now.
    pub async fn delete_records(
        &self,
        targets: Vec<(TopicPartition, Option<Offset>)>,
    ) -> Vec<(TopicPartition, Result<Offset>)> {
        by_leader(
            &self.cluster,
            ApiKey::DeleteRecords,
            targets,
            self.deadline(),
            |leader, questions| self.delete_on(leader, questions),
        )
        .await
    }

    async fn delete_on(&self, leader: BrokerId, questions: Vec<Question<Option<Offset>>>) -> Answers<Offset> {
        let rows = questions.into_iter().map(|asked| (asked.partition, asked.about));
        let topics = by_topic(rows)
            .into_iter()
            .map(|(topic, partitions)| DeleteRecordsTopic {
                name: KafkaString::from(topic.to_string()),
                partitions: partitions
                    .into_iter()
                    .map(|(partition_index, before)| DeleteRecordsPartition {
                        partition_index,
                        offset: before.map_or(TO_HIGH_WATERMARK, Offset::get),
                        ..DeleteRecordsPartition::default()
                    })
                    .collect(),
                ..DeleteRecordsTopic::default()
            })
            .collect();
        let request = DeleteRecordsRequestData {
            topics,
            timeout_ms: timeout_ms(self.cluster.config().request_timeout),
            ..DeleteRecordsRequestData::default()
        };
        let response = self.cluster.call(leader, &request).await?;
        let mut answers = Vec::new();
        for topic in response.topics {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                let checked = error::check(
                    ApiKey::DeleteRecords,
                    row.error_code,
                    &partition.to_string(),
                    None,
                );
                answers.push((partition, checked.map(|()| Offset::new(row.low_watermark))));
            }
        }
        Ok(answers)
    }
}
