//! Reads that wait for a disk, off the runtime's threads.
//!
//! What is in memory is read at once, where the caller runs; only what is not costs the way to another thread.

use std::sync::Arc;

use log_core::segment::segment::Patience;

use crate::partition::error::PartitionError;
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Partition, PartitionRead, PartitionSlice};

impl Partition {
    /// Reads, and waits for the disk if only the disk has the records.
    ///
    /// # Errors
    /// The offset is not there, the disk failed, or there is no log.
    pub async fn read_patiently(
        self: &Arc<Self>,
        read: PartitionRead,
    ) -> Result<PartitionSlice, PartitionError> {
        match self.read(&read, Patience::MustNotBlock) {
            Err(PartitionError::WouldBlock) => {}
            result => return result,
        }
        self.context.metrics.cold_reads.add(1);
        let partition = Arc::clone(self);
        blocking(move || partition.read(&read, Patience::MayBlock)).await?
    }
}
