//! The leader epochs of a log and their file: made to agree with the log when it is opened, raised where records may have
//! been lost.

use std::path::Path;

use crate::checkpoint::leader_epoch_checkpoint;
use crate::fs::{FsError, FsErrorKind};
use crate::leader_epoch::LeaderEpochCache;
use crate::log::error::LogError;
use crate::log::loader::{LoadReport, Loader, SMALL_FILE_BYTES_MAX};
use crate::log::log::LogContext;
use crate::log::recovery_scan::damage;
use crate::model::{FilePosition, LeaderEpoch, Offset};
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segments::Segments;

/// The name of the file with the leader epochs.
pub const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";

impl Loader<'_> {
    /// The leader epochs, made to agree with the log; raised after an unclean stop that may have lost records. Also returns whether
    /// they were stored, which makes all names in the directory durable.
    pub(super) fn load_epochs(
        &self,
        segments: &Segments,
        log_start: Offset,
        end: Offset,
        clean: bool,
        may_have_lost: bool,
        report: &mut LoadReport,
    ) -> Result<(LeaderEpochCache, bool), LogError> {
        let path = self.directory.join(LEADER_EPOCH_FILE);
        let stored = match self.context.file_system.read(&path, SMALL_FILE_BYTES_MAX) {
            Ok(bytes) => leader_epoch_checkpoint::parse(&bytes).ok(),
            Err(error) if error.kind == FsErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is_new = stored.is_none();
        let mut epochs = LeaderEpochCache::from_entries(stored.unwrap_or_default());
        if is_new {
            self.epochs_from_batches(segments, &mut epochs)?;
        }
        let mut changed = is_new;
        // An epoch that anybody may have seen is never used for other records.
        let seen = epochs.latest().map(|entry| entry.epoch);
        // The epoch that begins at the log end has no records yet, and stays.
        changed |= epochs.truncate_from_end(end.plus(1));
        changed |= epochs.truncate_from_start(log_start);
        let latest = epochs.latest().map(|entry| entry.epoch);
        match seen {
            None => changed |= epochs.assign(LeaderEpoch::FIRST, end),
            Some(seen) if latest != Some(seen) || (!clean && may_have_lost) => {
                report.epoch_raised = epochs.assign(seen.next(), end);
                changed |= report.epoch_raised;
            }
            Some(_) => {}
        }
        if changed {
            store_epochs(self.context, &self.directory, &epochs)?;
        }
        Ok((epochs, changed))
    }

    fn epochs_from_batches(
        &self,
        segments: &Segments,
        epochs: &mut LeaderEpochCache,
    ) -> Result<(), LogError> {
        for segment in segments.iter().filter(|segment| 0 < segment.size()) {
            let path = segment_file(&self.directory, segment.base_offset(), FileKind::Log);
            let open = segment.open()?;
            let mut walk = Walk::headers(open.view(), FilePosition::ZERO, segment.size());
            let broken =
                |error: ScanError| damage(path.clone(), &error, segment.base_offset(), segment.next_offset());
            while let Some((_, header)) = walk.next_header().map_err(broken)? {
                epochs.assign_if_later(header.leader_epoch, header.base_offset);
            }
        }
        Ok(())
    }
}

/// Writes the leader epochs. Durable when it returns.
pub(crate) fn store_epochs(
    context: &LogContext,
    directory: &Path,
    epochs: &LeaderEpochCache,
) -> Result<(), FsError> {
    let bytes = leader_epoch_checkpoint::to_bytes(epochs.entries());
    context
        .file_system
        .replace(&directory.join(LEADER_EPOCH_FILE), &bytes)
}
