//! What keeps the segments of a log in it while somebody reads them without the writer's lock.
//!
//! A cleaning takes long, and a file that is opened by its name must be there. So each log has a hold, each view and each
//! cleaning of it a clone, and as long as one of these lives only a swap takes segments out.

use std::sync::Arc;

/// One log's hold on its segments. Clones of it are the same, and nothing else is.
#[derive(Debug, Clone, Default)]
pub struct SegmentHold(Arc<()>);

impl SegmentHold {
    /// Whether there is no clone.
    pub(crate) fn is_alone(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
    }
}
