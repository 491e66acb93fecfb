//! `AddOffsetsToTxn`, versions 0 to 4: the offsets of a group become part of a transaction.
//!
//! - Below version 2 a fenced producer is told `INVALID_PRODUCER_EPOCH`: it does not know the newer code.

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::{AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData};

use crate::kafka::error_map::transaction_code;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, producer_identity};

/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED: i16 = 2;
/// Those who send this request speak the protocol before version 2, which needs none.
const CLIENT_VERSION: i16 = 0;

/// Carries out one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: AddOffsetsToTxnRequestData,
) -> AddOffsetsToTxnResponseData {
    let code = if request.transactional_id.is_empty() {
        ErrorCode::InvalidRequest
    } else {
        let added = services
            .transactions
            .add_offsets(
                request.transactional_id.as_str(),
                producer_identity(request.producer_id, request.producer_epoch),
                request.group_id.as_str(),
                CLIENT_VERSION,
            )
            .await;
        added.map_or_else(
            |error| transaction_code(&error, FENCED <= context.version()),
            |()| ErrorCode::None,
        )
    };
    AddOffsetsToTxnResponseData {
        error_code: code.code(),
        ..AddOffsetsToTxnResponseData::default()
    }
}
