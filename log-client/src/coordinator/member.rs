//! Who commits for a group, as its coordinator knows the member. What a consumer commits itself it commits in its own name;
//! a transactional producer does it in the name of the consumer that read.

/// A member as its group knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The group's name.
    pub group_id: String,
    /// The member's id.
    pub member_id: String,
    /// The generation of a classic group, or the member's epoch in a consumer group.
    pub epoch: i32,
    /// The name it keeps over restarts, if it has one.
    pub instance_id: Option<String>,
}

impl GroupMember {
    /// Somebody who commits for a group without being one of its members: allowed while it has none.
    #[must_use]
    pub fn nobody(group_id: &str) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: String::new(),
            epoch: -1,
            instance_id: None,
        }
    }
}
