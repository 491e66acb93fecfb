//! What the metadata log says should be in a data directory: its topics, read from the newest sound
//! snapshot and the records behind it.

use std::path::Path;
use std::sync::Arc;

use log_core::fs::{FileSystem, FsError, FsErrorKind};
use log_core::model::Offset;
use log_core::record::batch::Batch;
use log_core::record::compression::DECOMPRESSED_BYTES_MAX;
use log_core::segment::file_name::{FileKind, parse_segment_file, segment_file};

use super::finding::{Finding, Findings, Severity};
use super::segment_walk::{Piece, SegmentWalk};
use crate::metadata::image::MetadataImage;
use crate::metadata::metadata_log;
use crate::metadata::records::MetadataRecord;
use crate::metadata::snapshot::Snapshots;

/// The topics, if the directory has a metadata log that can be read to its end. What is wrong with its
/// snapshots and records is reported; its batches are the business of `partition_check`.
///
/// # Errors
/// The file system's.
pub fn known_topics(
    file_system: &Arc<dyn FileSystem>,
    data_dir: &Path,
    findings: &mut Findings,
) -> Result<Option<MetadataImage>, FsError> {
    let directory = data_dir.join(metadata_log::partition().to_string());
    let entries = match file_system.list(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut image, from) = newest_snapshot(file_system, data_dir, findings)?;
    let mut bases: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| parse_segment_file(&entry.name))
        .filter(|(_, kind)| *kind == FileKind::Log)
        .map(|(base, _)| base)
        .collect();
    bases.sort_unstable();
    if bases.first().is_some_and(|first| from < *first) {
        let what = format!(
            "no sound snapshot holds the state before offset {}",
            bases.first().map_or(0, |first| first.get())
        );
        findings.push(Finding::new(Severity::Damage, directory, what));
        return Ok(None);
    }
    for base in bases {
        let path = segment_file(&directory, base, FileKind::Log);
        let mut walk = SegmentWalk::open(file_system.as_ref(), &path)?;
        while let Some(piece) = walk.next_piece()? {
            match piece {
                Piece::Batch(found) if found.checksum.is_ok() => {
                    if let Err((offset, what)) = replay(&mut image, &found.bytes, from) {
                        let finding = Finding::new(Severity::Damage, path, what);
                        findings.push(finding.at(found.position).about(offset, offset));
                        return Ok(None);
                    }
                }
                // Told of where the partition is checked; what follows cannot be relied on.
                Piece::Batch(_) | Piece::Damage { .. } => return Ok(None),
                Piece::Tail { .. } => {}
            }
        }
    }
    Ok(Some(image))
}

fn newest_snapshot(
    file_system: &Arc<dyn FileSystem>,
    data_dir: &Path,
    findings: &mut Findings,
) -> Result<(MetadataImage, Offset), FsError> {
    let snapshots = Snapshots::new(Arc::clone(file_system), data_dir.to_owned());
    let mut newest = None;
    for offset in snapshots.list()? {
        match snapshots.read(offset) {
            Ok(restored) => newest = newest.or(Some(restored)),
            Err(error) => {
                let finding = Finding::new(Severity::Repairable, snapshots.path(offset), error);
                findings.push(finding);
            }
        }
    }
    Ok(newest.unwrap_or_else(|| (MetadataImage::default(), Offset::ZERO)))
}

/// Takes the records of a batch from `from` on into the image.
fn replay(image: &mut MetadataImage, bytes: &[u8], from: Offset) -> Result<(), (Offset, String)> {
    let at = |offset: Offset| move |error: &dyn std::fmt::Display| (offset, error.to_string());
    let batch = Batch::parse(bytes).map_err(|error| at(from)(&error))?;
    let base = batch.header().base_offset;
    let mut scratch = Vec::new();
    let records = batch.records(&mut scratch, DECOMPRESSED_BYTES_MAX);
    for record in records.map_err(|error| at(base)(&error))? {
        let record = record.map_err(|error| at(base)(&error))?;
        if from <= record.offset {
            let value = record.value.unwrap_or_default();
            let change = MetadataRecord::decode(value).map_err(|error| at(record.offset)(&error))?;
            image.replay(&change).map_err(|error| at(record.offset)(&error))?;
        }
    }
    Ok(())
}
