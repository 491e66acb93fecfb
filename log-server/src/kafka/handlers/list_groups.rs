//! `ListGroups`, versions 0 to 5: the groups of this broker.
//!
//! - Version 4 (KIP-518) adds states and a filter by them, 5 (KIP-848) kinds. Filters are compared in whatever case; what no group can
//!   be matches none, and an empty filter all.
//! - While a part of the groups is being loaded, or waits for its log to be mended after a failed write or sync, the answer is its error
//!   and no group: a list with a hole would be believed.
//! - A part that cannot be read (its log is damaged, or its disk gone) is left out, as in Kafka: the others would not be seen for as long as
//!   that lasts. The broker's log says which one it is, and requests that name one of its groups are refused.

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::list_groups_response::ListedGroup;
use log_core::protocol::messages::{ListGroupsRequestData, ListGroupsResponseData};

use crate::coordinator::group::admin::list::GroupFilter;
use crate::coordinator::group::error::GroupError;
use crate::kafka::error_map::group_error;
use crate::kafka::services::{Services, kafka_string};

/// Answers one request.
pub(crate) async fn handle(services: &Services, request: ListGroupsRequestData) -> ListGroupsResponseData {
    let owned = |names: &[log_core::protocol::KafkaString]| {
        let names = names.iter();
        names.map(|name| name.as_str().to_owned()).collect()
    };
    let filter = GroupFilter {
        states: owned(&request.states_filter),
        kinds: owned(&request.types_filter),
    };
    let shards = services
        .groups
        .run_all(|shard, _| shard.list_groups(&filter))
        .await;
    let groups = match of_all(shards) {
        Ok(groups) => groups,
        Err(code) => {
            return ListGroupsResponseData {
                error_code: code.code(),
                ..ListGroupsResponseData::default()
            };
        }
    };
    let groups = groups.into_iter().map(|listed| ListedGroup {
        group_id: kafka_string(&listed.group),
        protocol_type: kafka_string(&listed.protocol_type),
        group_state: kafka_string(listed.state),
        group_type: kafka_string(listed.kind),
        ..ListedGroup::default()
    });
    ListGroupsResponseData {
        groups: groups.collect(),
        ..ListGroupsResponseData::default()
    }
}

/// What the parts have, if enough of them can say so.
fn of_all<T>(parts: Vec<Result<Vec<T>, GroupError>>) -> Result<Vec<T>, ErrorCode> {
    let all_are_lost = !parts.is_empty() && parts.iter().all(Result::is_err);
    let mut groups = Vec::new();
    for part in parts {
        match part {
            Ok(listed) => groups.extend(listed),
            Err(GroupError::Unreadable(_)) if !all_are_lost => {}
            // The broker stops, or a sync failed just now. There is no other coordinator to be looked for.
            Err(GroupError::NotCoordinator) => return Err(ErrorCode::CoordinatorNotAvailable),
            Err(error) => return Err(group_error(&error)),
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Result<Vec<u8>, GroupError> {
        Err(GroupError::Unreadable(
            "the record at offset 7 cannot be read".to_owned(),
        ))
    }

    #[test]
    fn a_damaged_part_hides_no_other() {
        assert_eq!(
            of_all(vec![Ok(vec![1]), lost(), Ok(vec![2, 3])]),
            Ok(vec![1, 2, 3])
        );
        assert_eq!(of_all(vec![lost(), Ok(vec![])]), Ok(vec![]));
        assert_eq!(of_all::<u8>(vec![]), Ok(vec![]));
    }

    #[test]
    fn what_passes_soon_is_waited_for() {
        let loading = || Err(GroupError::LoadInProgress);
        assert_eq!(
            of_all(vec![Ok(vec![1]), loading()]),
            Err(ErrorCode::CoordinatorLoadInProgress)
        );
        let failed = || Err(GroupError::NotAvailable("the last sync failed".to_owned()));
        assert_eq!(
            of_all(vec![Ok(vec![1]), failed()]),
            Err(ErrorCode::CoordinatorNotAvailable)
        );
        let stopping = Err(GroupError::NotCoordinator);
        assert_eq!(
            of_all(vec![Ok(vec![1]), stopping]),
            Err(ErrorCode::CoordinatorNotAvailable)
        );
        assert_eq!(
            of_all(vec![lost(), lost()]),
            Err(ErrorCode::CoordinatorNotAvailable)
        );
    }
}
