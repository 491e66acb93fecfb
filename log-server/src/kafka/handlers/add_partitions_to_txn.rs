//! `AddPartitionsToTxn`, versions 0 to 5: partitions become part of a transaction.
//!
//! - Versions 0 to 3 come from producers that say beforehand where they will write. One partition that does not exist, or of a topic
//!   that is the broker's own, refuses all of them: it is told so, the others that nothing was attempted.
//! - Version 4 (KIP-890) asks for several transactions at once, and may only ask whether the partitions are part of them; brokers use it.
//!   A partition that is not is `TRANSACTION_ABORTABLE`.
//! - Below version 2 a fenced producer is told `INVALID_PRODUCER_EPOCH`: it does not know the newer code.

use std::collections::BTreeSet;

use log_core::model::TopicPartition;
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use log_core::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use log_core::protocol::messages::{AddPartitionsToTxnRequestData, AddPartitionsToTxnResponseData};

use crate::coordinator::runtime::transaction_coordinator::Admission;
use crate::coordinator::transaction::end::EPOCH_BUMP;
use crate::kafka::admission::verdict_on;
use crate::kafka::error_map::{transaction_code, transaction_error};
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, producer_identity};
use crate::metadata::topic_name;

/// The first version that asks for several transactions.
const BATCHED: i16 = 4;
/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED: i16 = 2;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: AddPartitionsToTxnRequestData,
) -> AddPartitionsToTxnResponseData {
    if BATCHED <= context.version() {
        let mut results = Vec::with_capacity(request.transactions.len());
        for transaction in request.transactions {
            let topic_results = admit(services, context, &transaction).await;
            results.push(AddPartitionsToTxnResult {
                transactional_id: transaction.transactional_id,
                topic_results,
                ..AddPartitionsToTxnResult::default()
            });
        }
        return AddPartitionsToTxnResponseData {
            results_by_transaction: results,
            ..AddPartitionsToTxnResponseData::default()
        };
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        topics: request.v3_and_below_topics,
        ..AddPartitionsToTxnTransaction::default()
    };
    AddPartitionsToTxnResponseData {
        results_by_topic_v3_and_below: admit(services, context, &transaction).await,
        ..AddPartitionsToTxnResponseData::default()
    }
}

async fn admit(
    services: &Services,
    context: &RequestContext,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let refusal = |topic: &AddPartitionsToTxnTopic, index: i32| {
        let name = topic.name.as_str();
        if context.version() < BATCHED && topic_name::is_internal(name) {
            Some(ErrorCode::TopicAuthorizationFailed)
        } else if services.partition(name, index).is_none() {
            Some(ErrorCode::UnknownTopicOrPartition)
        } else {
            None
        }
    };
    let mut topics = transaction.topics.iter();
    if topics.any(|topic| (topic.partitions.iter()).any(|index| refusal(topic, *index).is_some())) {
        return rows(&transaction.topics, |topic, index| {
            refusal(topic, index).unwrap_or(ErrorCode::OperationNotAttempted)
        });
    }
    if transaction.transactional_id.is_empty() {
        return rows(&transaction.topics, |_, _| ErrorCode::InvalidRequest);
    }
    let admission = if transaction.verify_only {
        Admission::Verify
    } else {
        let client_version = if BATCHED <= context.version() {
            EPOCH_BUMP
        } else {
            0
        };
        Admission::Add { client_version }
    };
    let admitted = services
        .transactions
        .admit(
            transaction.transactional_id.as_str(),
            producer_identity(transaction.producer_id, transaction.producer_epoch),
            places(&transaction.topics),
            admission,
        )
        .await;
    match admitted {
        Err(error) => {
            let code = transaction_code(&error, FENCED <= context.version());
            rows(&transaction.topics, |_, _| code)
        }
        Ok(admitted) => rows(&transaction.topics, |topic, index| {
            match verdict_on(&admitted, topic.name.as_str(), index) {
                Some(Err(error)) => transaction_error(error),
                _ => ErrorCode::None,
            }
        }),
    }
}

fn places(topics: &[AddPartitionsToTxnTopic]) -> BTreeSet<TopicPartition> {
    let mut places = BTreeSet::new();
    for topic in topics {
        let name: std::sync::Arc<str> = topic.name.as_str().into();
        let partitions = topic.partitions.iter();
        places.extend(partitions.map(|index| TopicPartition::new(std::sync::Arc::clone(&name), *index)));
    }
    places
}

fn rows(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&AddPartitionsToTxnTopic, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let row = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter();
        let results = partitions.map(|index| AddPartitionsToTxnPartitionResult {
            partition_index: *index,
            partition_error_code: code(topic, *index).code(),
            ..AddPartitionsToTxnPartitionResult::default()
        });
        AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: results.collect(),
            ..AddPartitionsToTxnTopicResult::default()
        }
    };
    topics.iter().map(row).collect()
}
