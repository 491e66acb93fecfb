//! Which segments are cleaned into one.
//! They are neighbours, as long as what they hold now would fit a segment.

use std::sync::Arc;

use crate::config::LogConfig;
use crate::segment::segment::Segment;

/// A time index entry takes this much, the larger of the two kinds.
const INDEX_ENTRY_BYTES: u64 = 12;

/// The segments in groups, both in their order.
pub(super) fn groups(segments: &[Arc<Segment>], config: &LogConfig) -> Vec<Vec<Arc<Segment>>> {
    let bytes_max = config.segment_bytes_max.min(indexed_bytes_max(config));
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    let mut bytes: u64 = 0;
    for segment in segments {
        bytes = bytes.saturating_add(segment.size());
        match groups.last_mut() {
            Some(group) if bytes <= bytes_max && can_name(group, segment) => group.push(Arc::clone(segment)),
            _ => {
                bytes = segment.size();
                groups.push(vec![Arc::clone(segment)]);
            }
        }
    }
    groups
}

/// So much of a log the indexes of one segment can cover.
fn indexed_bytes_max(config: &LogConfig) -> u64 {
    (config.index_bytes_max / INDEX_ENTRY_BYTES).saturating_mul(config.index_interval_bytes.max(1))
}

/// Whether the indexes of the group's segment can name the last offset of this one: they hold 32 bits.
fn can_name(group: &[Arc<Segment>], segment: &Segment) -> bool {
    let base = group
        .first()
        .map_or(segment.base_offset(), |first| first.base_offset());
    segment.next_offset().minus(base) <= i64::from(i32::MAX)
}
