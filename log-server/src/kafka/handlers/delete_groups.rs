//! `DeleteGroups`, versions 0 to 2: groups without members go, with all that they have committed.
//!
//! A group that the request names twice is deleted once, and answered once.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::delete_groups_response::DeletableGroupResult;
use log_core::protocol::messages::{DeleteGroupsRequestData, DeleteGroupsResponseData};

use crate::kafka::error_map::group_error;
use crate::kafka::services::Services;

/// Answers one request when the groups are gone for good.
pub(crate) async fn handle(
    services: &Services,
    request: DeleteGroupsRequestData,
) -> DeleteGroupsResponseData {
    let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let name: Arc<str> = group_id.as_str().into();
        if !seen.insert(Arc::clone(&name)) {
            continue;
        }
        let group = Arc::clone(&name);
        let deleted = services
            .groups
            .run(&name, move |shard, context| shard.delete_group(context, &group))
            .await;
        let code = match deleted.and_then(|deleted| deleted) {
            Ok(()) => ErrorCode::None,
            Err(error) => group_error(&error),
        };
        results.push(DeletableGroupResult {
            group_id,
            error_code: code.code(),
            ..DeletableGroupResult::default()
        });
    }
    DeleteGroupsResponseData {
        results,
        ..DeleteGroupsResponseData::default()
    }
}
