//! Members in words: who they are, and that something has to wait until they are gone.
//! What they read is shown by `describe`.

use log_client::admin::{GroupDescription, GroupState, MemberDescription};

use crate::cli::failure::Failure;
use crate::cli::text::shown;

/// So many members are named one by one.
const NAMED_MAX: usize = 5;

/// Where a member connects from; Kafka puts a slash in front.
pub(super) fn host(member: &MemberDescription) -> &str {
    member.client_host.trim_start_matches('/')
}

/// Whether the group is at work: only what nobody works with can be set or deleted.
pub(super) fn is_active(group: &GroupDescription) -> bool {
    let rests = matches!(group.state, GroupState::Empty | GroupState::Dead);
    !group.members.is_empty() || !rests
}

/// Why `what` is refused: somebody is in the group.
pub(super) fn active(group: &GroupDescription, what: &str) -> Failure {
    let name = shown(&group.group_id);
    Failure::new(format!("{what} of group {name} has to wait: {}", present(group))).advise(
        "stop these consumers and try again; one that died counts until its session is over (45 s by default)",
    )
}

/// `it is Stable with 2 members: a at 10.0.0.1, b at 10.0.0.2`.
pub(super) fn present(group: &GroupDescription) -> String {
    let mut named: Vec<String> = group.members.iter().take(NAMED_MAX).map(introduced).collect();
    let others = group.members.len().saturating_sub(NAMED_MAX);
    if 0 < others {
        named.push(format!("and {others} more"));
    }
    let state = &group.state;
    match group.members.len() {
        0 => format!("it is {state}"),
        1 => format!("it is {state} with the member {}", named.join(", ")),
        count => format!("it is {state} with {count} members: {}", named.join(", ")),
    }
}

fn introduced(member: &MemberDescription) -> String {
    let (client, host, id) = (&member.client_id, host(member), &member.member_id);
    format!("{} at {} ({})", shown(client), shown(host), shown(id))
}

#[cfg(test)]
pub(super) mod tests {
    use log_client::admin::GroupType;

    use super::*;

    /// A group with so many members, for tests.
    pub(in crate::cli::group) fn group(state: GroupState, members: usize) -> GroupDescription {
        let member = |number: usize| MemberDescription {
            member_id: format!("m{number}"),
            instance_id: None,
            client_id: "app".to_owned(),
            client_host: "/10.0.0.1".to_owned(),
            rack_id: None,
            epoch: None,
            is_classic: true,
            topics: Vec::new(),
            topic_regex: None,
            assignment: Vec::new(),
            target: None,
        };
        GroupDescription {
            group_id: "g".to_owned(),
            kind: GroupType::Classic,
            state,
            protocol_type: "consumer".to_owned(),
            assignor: String::new(),
            group_epoch: None,
            assignment_epoch: None,
            coordinator: 1,
            members: (0..members).map(member).collect(),
        }
    }

    #[test]
    fn whoever_is_in_the_way_is_named() {
        let said = |members| active(&group(GroupState::Stable, members), "x").message.unwrap();
        assert_eq!(
            said(1),
            "x of group g has to wait: it is Stable with the member app at 10.0.0.1 (m0)"
        );
        assert!(said(2).ends_with("2 members: app at 10.0.0.1 (m0), app at 10.0.0.1 (m1)"));
        assert!(said(8).ends_with("(m4), and 3 more"), "{}", said(8));
    }

    #[test]
    fn a_group_rests_when_nobody_is_in_it() {
        for (state, members, expected) in [
            (GroupState::Empty, 0, false),
            (GroupState::Dead, 0, false),
            (GroupState::Stable, 1, true),
            (GroupState::PreparingRebalance, 0, true),
        ] {
            assert_eq!(is_active(&group(state.clone(), members)), expected, "{state}");
        }
    }
}
