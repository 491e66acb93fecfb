//! `ListGroups`, versions 0 to 5: the groups of this broker.
//!
//! - Version 4 (KIP-518) adds states and a filter by them, 5 (KIP-848) kinds. Filters are compared in whatever case; what no group can
//!   be matches none, and an empty filter all.
//! - While a part of the groups is being loaded the answer is its error and no group: a list with a hole would be believed.

use log_core::protocol::messages::list_groups_response::ListedGroup;
use log_core::protocol::messages::{ListGroupsRequestData, ListGroupsResponseData};

use crate::coordinator::group::admin::list::GroupFilter;
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
    let mut groups = Vec::new();
    for listed in shards {
        match listed {
            Ok(listed) => groups.extend(listed),
            Err(error) => {
                return ListGroupsResponseData {
                    error_code: group_error(&error).code(),
                    ..ListGroupsResponseData::default()
                };
            }
        }
    }
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
