//! `InitProducerId`, versions 0 to 5: an identity for an idempotent or a transactional producer.
//!
//! - Each id is given out once, also over crashes. Without a transactional id the epoch is always 0: Kafka bumps none
//!   either, and gives a producer that brings an id and epoch (KIP-360) a new id.
//! - With one, the epoch rises, and the producer before is fenced. If that one has a transaction, it is aborted, and the answer is
//!   `CONCURRENT_TRANSACTIONS`: the new producer asks again.
//! - Below version 4 a fenced producer is told `INVALID_PRODUCER_EPOCH`: it does not know the newer code.

use log_core::model::{ProducerEpoch, ProducerId};
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::{InitProducerIdRequestData, InitProducerIdResponseData};

use crate::coordinator::transaction::context::ProducerIdentity;
use crate::coordinator::transaction::init::InitRequest;
use crate::kafka::error_map::{controller_error, transaction_code};
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, producer_identity};

/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED: i16 = 4;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: &InitProducerIdRequestData,
) -> InitProducerIdResponseData {
    match identify(services, context, request).await {
        Ok(producer) => InitProducerIdResponseData {
            producer_id: producer.id.get(),
            producer_epoch: producer.epoch.get(),
            ..InitProducerIdResponseData::default()
        },
        Err(error) => InitProducerIdResponseData {
            error_code: error.code(),
            producer_id: ProducerId::NONE.get(),
            producer_epoch: ProducerEpoch::NONE.get(),
            ..InitProducerIdResponseData::default()
        },
    }
}

async fn identify(
    services: &Services,
    context: &RequestContext,
    request: &InitProducerIdRequestData,
) -> Result<ProducerIdentity, ErrorCode> {
    let has_id = request.producer_id != ProducerId::NONE.get();
    let has_epoch = request.producer_epoch != ProducerEpoch::NONE.get();
    if has_id != has_epoch {
        return Err(ErrorCode::InvalidRequest);
    }
    let Some(transactional_id) = &request.transactional_id else {
        return allocate(services).await.map(ProducerIdentity::first);
    };
    if transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let request = InitRequest {
        transactional_id: transactional_id.as_str().into(),
        timeout_ms: request.transaction_timeout_ms,
        current: has_id.then(|| producer_identity(request.producer_id, request.producer_epoch)),
    };
    let producer = services.transactions.init_producer(request).await;
    producer.map_err(|error| transaction_code(&error, FENCED <= context.version()))
}

async fn allocate(services: &Services) -> Result<ProducerId, ErrorCode> {
    services.controller.allocate_producer_id().await.map_err(|error| {
        tracing::warn!(%error, "no producer id can be given out");
        match controller_error(&error) {
            // Producers ask again.
            ErrorCode::NotController | ErrorCode::KafkaStorageError => ErrorCode::CoordinatorLoadInProgress,
            code => code,
        }
    })
}
