//! `InitProducerId`, versions 0 to 5: an identity for an idempotent producer.
//!
//! - Each id is given out once, also over crashes. The epoch is always 0: without a transactional id Kafka bumps none
//!   either, and gives a producer that brings an id and epoch (KIP-360) a new id.
//! - Gap: transactions. A transactional id is answered `UNSUPPORTED_VERSION`, which producers take as final.

use log_core::model::{ProducerEpoch, ProducerId};
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::{InitProducerIdRequestData, InitProducerIdResponseData};

use crate::kafka::error_map::controller_error;
use crate::kafka::services::Services;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    request: &InitProducerIdRequestData,
) -> InitProducerIdResponseData {
    match allocate(services, request).await {
        Ok(producer_id) => InitProducerIdResponseData {
            producer_id: producer_id.get(),
            producer_epoch: 0,
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

async fn allocate(services: &Services, request: &InitProducerIdRequestData) -> Result<ProducerId, ErrorCode> {
    let has_id = request.producer_id != ProducerId::NONE.get();
    let has_epoch = request.producer_epoch != ProducerEpoch::NONE.get();
    if has_id != has_epoch {
        return Err(ErrorCode::InvalidRequest);
    }
    match &request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return Err(ErrorCode::InvalidRequest),
        Some(_) => return Err(ErrorCode::UnsupportedVersion),
    }
    services.controller.allocate_producer_id().await.map_err(|error| {
        tracing::warn!(%error, "no producer id can be given out");
        match controller_error(&error) {
            // Producers ask again.
            ErrorCode::NotController | ErrorCode::KafkaStorageError => ErrorCode::CoordinatorLoadInProgress,
            code => code,
        }
    })
}
