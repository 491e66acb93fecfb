//! `EndTxn`, versions 0 to 5: a transaction is committed or aborted.
//!
//! - The answer comes when the decision is on the disk. Markers are written after it, so that a reader may see the records a little
//!   later, and the producer's next transaction may be told `CONCURRENT_TRANSACTIONS` meanwhile.
//! - Version 5 (KIP-890) is spoken by producers whose epoch rises with each transaction; the answer has the new one.
//! - Below version 2 a fenced producer is told `INVALID_PRODUCER_EPOCH`: it does not know the newer code.

use log_core::model::{ProducerEpoch, ProducerId};
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::{EndTxnRequestData, EndTxnResponseData};
use log_core::record::control::TransactionOutcome;

use crate::coordinator::transaction::end::{EPOCH_BUMP, EndRequest};
use crate::kafka::error_map::transaction_code;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, producer_identity};

/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED: i16 = 2;
/// The first version whose clients take a new epoch from the answer.
const BUMPED: i16 = 5;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: EndTxnRequestData,
) -> EndTxnResponseData {
    let refused = |code: ErrorCode| EndTxnResponseData {
        error_code: code.code(),
        producer_id: ProducerId::NONE.get(),
        producer_epoch: ProducerEpoch::NONE.get(),
        ..EndTxnResponseData::default()
    };
    if request.transactional_id.is_empty() {
        return refused(ErrorCode::InvalidRequest);
    }
    let end = EndRequest {
        transactional_id: request.transactional_id.as_str().into(),
        producer: producer_identity(request.producer_id, request.producer_epoch),
        outcome: if request.committed {
            TransactionOutcome::Commit
        } else {
            TransactionOutcome::Abort
        },
        client_version: if BUMPED <= context.version() {
            EPOCH_BUMP
        } else {
            0
        },
    };
    match services.transactions.end_transaction(end).await {
        Ok(producer) => EndTxnResponseData {
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            ..EndTxnResponseData::default()
        },
        Err(error) => refused(transaction_code(&error, FENCED <= context.version())),
    }
}
