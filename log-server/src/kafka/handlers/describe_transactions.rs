//! `DescribeTransactions`, version 0: all that is known of transactional ids.
//!
//! - One that nobody knows is `TRANSACTIONAL_ID_NOT_FOUND`.

use log_core::protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use log_core::protocol::messages::{DescribeTransactionsRequestData, DescribeTransactionsResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::coordinator::transaction::record::Transaction;
use crate::kafka::error_map::transaction_error;
use crate::kafka::services::{Services, kafka_string};

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    request: DescribeTransactionsRequestData,
) -> DescribeTransactionsResponseData {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        states.push(describe(services, id).await);
    }
    DescribeTransactionsResponseData {
        transaction_states: states,
        ..DescribeTransactionsResponseData::default()
    }
}

async fn describe(services: &Services, transactional_id: KafkaString) -> TransactionState {
    let refused = |code: ErrorCode| TransactionState {
        error_code: code.code(),
        ..TransactionState::default()
    };
    let state = if transactional_id.is_empty() {
        refused(ErrorCode::InvalidRequest)
    } else {
        match services.transactions.describe(transactional_id.as_str()).await {
            Ok(transaction) => described(&transaction),
            Err(error) => refused(transaction_error(&error)),
        }
    };
    TransactionState {
        transactional_id,
        ..state
    }
}

fn described(transaction: &Transaction) -> TransactionState {
    let topics = transaction.topics().into_iter();
    let topics = topics.map(|(topic, partitions)| TopicData {
        topic: kafka_string(&topic),
        partitions,
        ..TopicData::default()
    });
    TransactionState {
        transaction_state: kafka_string(transaction.state.name()),
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_start_time_ms: transaction.started.get(),
        producer_id: transaction.producer.id.get(),
        producer_epoch: transaction.producer.epoch.get(),
        topics: topics.collect(),
        ..TransactionState::default()
    }
}
