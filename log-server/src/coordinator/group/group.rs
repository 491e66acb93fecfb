//! A group of either protocol.

use crate::coordinator::group::classic::ClassicGroup;
use crate::coordinator::group::consumer::ConsumerGroup;

/// A group with or without members. A group that only commits offsets is an empty classic one.
#[derive(Debug)]
pub enum Group {
    /// Of the classic protocol.
    Classic(ClassicGroup),
    /// Of KIP-848.
    Consumer(ConsumerGroup),
}
