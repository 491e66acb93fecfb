//! `ListTransactions`, versions 0 to 2: the transactional ids of this broker.
//!
//! - Version 1 (KIP-994) filters by how long ago a transaction began, 2 (KIP-1152) by a pattern for the transactional id.
//! - While a part of them is being loaded, or waits for its log to be mended, the answer is its error and no transaction: a list with a
//!   hole would be believed. A part that cannot be read is left out, as in `ListGroups`.

use std::collections::BTreeSet;

use log_core::model::ProducerId;
use log_core::protocol::messages::list_transactions_response::TransactionState as ListedState;
use log_core::protocol::messages::{ListTransactionsRequestData, ListTransactionsResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::coordinator::transaction::admin::{ListedTransaction, TransactionFilter};
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::state::TransactionState;
use crate::kafka::error_map::transaction_error;
use crate::kafka::services::{Services, kafka_string};
use crate::pattern::WholeNamePattern;

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    request: ListTransactionsRequestData,
) -> ListTransactionsResponseData {
    let refused = |code: ErrorCode| ListTransactionsResponseData {
        error_code: code.code(),
        ..ListTransactionsResponseData::default()
    };
    let (filter, unknown) = match filter(request) {
        Ok(filter) => filter,
        Err(code) => return refused(code),
    };
    let listed = match of_all(services.transactions.list(&filter).await) {
        Ok(listed) => listed,
        Err(code) => return refused(code),
    };
    let states = listed.into_iter().map(|listed| ListedState {
        transactional_id: kafka_string(&listed.transactional_id),
        producer_id: listed.producer_id.get(),
        transaction_state: kafka_string(listed.state.name()),
        ..ListedState::default()
    });
    ListTransactionsResponseData {
        unknown_state_filters: unknown,
        transaction_states: states.collect(),
        ..ListTransactionsResponseData::default()
    }
}

/// What is asked for, and the states that there are not.
fn filter(request: ListTransactionsRequestData) -> Result<(TransactionFilter, Vec<KafkaString>), ErrorCode> {
    let pattern = request
        .transactional_id_pattern
        .filter(|pattern| !pattern.is_empty());
    let pattern = pattern
        .map(|pattern| WholeNamePattern::new(pattern.as_str()))
        .transpose();
    let pattern = pattern.map_err(|_| ErrorCode::InvalidRegularExpression)?;
    let named = !request.state_filters.is_empty();
    let mut states = BTreeSet::new();
    let mut unknown = Vec::new();
    for name in request.state_filters {
        match TransactionState::from_name(name.as_str()) {
            Some(state) => drop(states.insert(state)),
            None => unknown.push(name),
        }
    }
    let filter = TransactionFilter {
        states: named.then_some(states),
        producer_ids: request
            .producer_id_filters
            .into_iter()
            .map(ProducerId::new)
            .collect(),
        longer_than_ms: Some(request.duration_filter).filter(|duration| 0 <= *duration),
        pattern,
    };
    Ok((filter, unknown))
}

/// What the parts have, if enough of them can say so.
fn of_all(
    parts: Vec<Result<Vec<ListedTransaction>, TransactionError>>,
) -> Result<Vec<ListedTransaction>, ErrorCode> {
    let all_are_lost = !parts.is_empty() && parts.iter().all(Result::is_err);
    let mut all = Vec::new();
    for part in parts {
        match part {
            Ok(listed) => all.extend(listed),
            Err(TransactionError::Unreadable(_)) if !all_are_lost => {}
            // The broker stops, or a sync failed just now. There is no other coordinator to be looked for.
            Err(TransactionError::NotCoordinator) => return Err(ErrorCode::CoordinatorNotAvailable),
            Err(error) => return Err(transaction_error(&error)),
        }
    }
    Ok(all)
}
