//! What a partition counts: what goes in and out of it, and what it refuses.
//! The numbers are `metrics`'s; here is what they are taken from.

use bytes::Bytes;
use log_core::record::batch::batches;
use log_core::record::validator::ValidatedBatch;

use crate::metrics::logs::TrafficCounts;
use crate::partition::error::PartitionError;
use crate::partition::partition::Partition;

impl Partition {
    /// Under the writer's lock.
    pub(super) fn count_received(&self, batch: &ValidatedBatch) {
        let records = u64::from(batch.header().record_count);
        let bytes = u64::try_from(batch.size()).unwrap_or(u64::MAX);
        self.context.metrics.received(&self.traffic, records, bytes);
    }

    /// To be called with batches that leave for a reader; a read that is thrown away or done again does not count.
    pub fn count_sent(&self, records: &Bytes) {
        if !records.is_empty() {
            self.count_sent_records(estimate_records(records), records.len());
        }
    }

    /// The same for records in another form.
    pub fn count_sent_records(&self, records: u64, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.context.metrics.sent(&self.traffic, records, bytes);
    }

    /// What went in and out since it was loaded.
    #[must_use]
    pub fn traffic(&self) -> TrafficCounts {
        self.traffic.counts()
    }

    pub(super) fn count_refused_append(&self, error: &PartitionError) {
        if let Some(refusal) = error.refusal() {
            self.context.metrics.appends_refused.count(refusal);
        }
    }

    pub(super) fn count_refused_read(&self, error: &PartitionError) {
        if let Some(refusal) = error.refusal() {
            self.context.metrics.reads_refused.count(refusal);
        }
    }
}

/// How many records there are in batches as they are sent. So many headers are looked at, each of them a line of memory that nobody has
/// read yet; behind them the bytes tell.
fn estimate_records(records: &Bytes) -> u64 {
    const HEADERS_MAX: usize = 32;
    let (mut headers, mut seen, mut bytes) = (0, 0_u64, 0);
    for batch in batches(records).take(HEADERS_MAX).map_while(Result::ok) {
        headers += 1;
        seen += u64::from(batch.header().record_count);
        bytes += batch.bytes().len();
    }
    if headers < HEADERS_MAX {
        // A batch that the limit cut off is sent again, and counted then.
        return seen;
    }
    let [all, bytes] = [records.len(), bytes].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
    seen.saturating_mul(all) / bytes.max(1)
}
