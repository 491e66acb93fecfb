//! How a request names a topic: by its name, or by its id where the protocol has come to that.
//! What is not there has another error for each.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::context::{TopicFacts, Topics};
use crate::coordinator::group::error::GroupError;

/// A topic as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(TopicId),
}

impl TopicRef {
    /// The topic that exists now.
    ///
    /// # Errors
    /// There is none; what that is called depends on how it was named.
    pub fn resolve(&self, topics: &dyn Topics) -> Result<TopicFacts, GroupError> {
        match self {
            Self::Name(name) => topics.by_name(name).ok_or(GroupError::UnknownTopicOrPartition),
            Self::Id(id) => topics.by_id(*id).ok_or(GroupError::UnknownTopicId),
        }
    }
}
