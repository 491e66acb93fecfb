//! A group of either protocol: what both have in common is asked here, and answered by the one it is.
//! A group changes its protocol while it is empty, or member by member (KIP-848 migration).

use crate::coordinator::group::classic::ClassicGroup;
use crate::coordinator::group::consumer::group::ConsumerGroup;

/// A group with or without members. A group that only commits offsets is an empty classic one.
#[derive(Debug)]
pub enum Group {
    /// Of the classic protocol.
    Classic(ClassicGroup),
    /// Of KIP-848.
    Consumer(Box<ConsumerGroup>),
}
