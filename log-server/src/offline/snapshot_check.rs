//! Producer snapshots against the batches of the log.
//!
//! Each batch that a snapshot remembers must be in the log as it is remembered, as far as the log reaches back. Stretches
//! that compaction may have thinned out, and damaged ones, cannot be judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use log_core::fs::{FileSystem, FsError};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use log_core::producer_state::snapshot::Snapshot;
use log_core::record::batch_header::BatchHeader;
use log_core::segment::file_name::{FileKind, segment_file};

use super::finding::{Finding, Findings, Severity};

/// Larger ones are not written.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// A batch as a snapshot remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    snapshot: Offset,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    last_sequence: Sequence,
}

/// The snapshots of a partition, compared while its log is walked.
#[derive(Debug)]
pub struct SnapshotCheck {
    directory: PathBuf,
    snapshots: Vec<Offset>,
    /// By the offset of the batch's last record.
    remembered: BTreeMap<Offset, Vec<Remembered>>,
}

impl SnapshotCheck {
    /// Reads the snapshots at these offsets.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(
        file_system: &dyn FileSystem,
        directory: &Path,
        offsets: Vec<Offset>,
        findings: &mut Findings,
    ) -> Result<Self, FsError> {
        let mut remembered: BTreeMap<Offset, Vec<Remembered>> = BTreeMap::new();
        for offset in &offsets {
            let path = segment_file(directory, *offset, FileKind::ProducerSnapshot);
            let bytes = file_system.read(&path, SNAPSHOT_BYTES_MAX)?;
            let snapshot = match Snapshot::parse(&bytes, *offset) {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    findings.push(Finding::new(Severity::Repairable, path, error));
                    continue;
                }
            };
            for (producer_id, entry) in snapshot.producers {
                for batch in entry.batches() {
                    remembered.entry(batch.last_offset).or_default().push(Remembered {
                        snapshot: *offset,
                        producer_id,
                        producer_epoch: entry.producer_epoch,
                        last_sequence: batch.last_sequence,
                    });
                }
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            snapshots: offsets,
            remembered,
        })
    }

    /// How many snapshots there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.snapshots.len()).unwrap_or(u64::MAX)
    }

    /// Leaves out what is remembered of batches before this offset: the log does not reach back so far.
    pub fn begin_at(&mut self, start: Offset) {
        self.remembered = self.remembered.split_off(&start);
    }

    /// Compares what is remembered of this batch and of what should stand before it.
    pub fn batch(&mut self, header: &BatchHeader, findings: &mut Findings) {
        while let Some(first) = self.remembered.first_entry()
            && *first.key() <= header.last_offset()
        {
            let (offset, batches) = first.remove_entry();
            for remembered in batches {
                let found = (header.producer_id, header.producer_epoch, header.last_sequence());
                let expected = (
                    remembered.producer_id,
                    remembered.producer_epoch,
                    remembered.last_sequence,
                );
                if offset != header.last_offset() {
                    self.wrong(&remembered, offset, "no batch ends with this offset", findings);
                } else if found != expected {
                    let what = format!(
                        "the batch is of producer {}, epoch {}, and ends with sequence {}",
                        found.0, found.1, found.2
                    );
                    self.wrong(&remembered, offset, &what, findings);
                }
            }
        }
    }

    /// Leaves out what is remembered of a stretch that cannot be judged, up to this offset.
    pub fn skip_to(&mut self, next: Offset) {
        self.remembered = self.remembered.split_off(&next);
    }

    /// Judges what is left when the log ends. Behind `settled_to` a snapshot may be ahead of the log.
    pub fn finish(self, log_end: Offset, settled_to: Offset, findings: &mut Findings) {
        for offset in self.snapshots.iter().filter(|offset| log_end < **offset) {
            let path = segment_file(&self.directory, *offset, FileKind::ProducerSnapshot);
            let severity = if *offset <= settled_to {
                Severity::Repairable
            } else {
                Severity::Note
            };
            let what = format!("it lies behind the log's end {log_end}; the next start removes it");
            findings.push(Finding::new(severity, path, what));
        }
        for (offset, batches) in &self.remembered {
            for remembered in batches.iter().filter(|remembered| remembered.snapshot <= log_end) {
                self.wrong(remembered, *offset, "no batch ends with this offset", findings);
            }
        }
    }

    fn wrong(&self, remembered: &Remembered, offset: Offset, what: &str, findings: &mut Findings) {
        let path = segment_file(&self.directory, remembered.snapshot, FileKind::ProducerSnapshot);
        let what = format!(
            "it remembers a batch of producer {}, epoch {}, that ends with sequence {} at offset {offset}: {what}",
            remembered.producer_id, remembered.producer_epoch, remembered.last_sequence
        );
        findings.push(Finding::new(Severity::Repairable, path, what).about(offset, offset));
    }
}
