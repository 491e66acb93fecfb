//! Producer snapshots, checkpoints, and snapshots of the metadata.
//! They are read whole; a damaged one is named, and nothing of it is shown.

use std::path::Path;
use std::sync::Arc;

use log_core::checkpoint::clean_shutdown::CleanShutdown;
use log_core::checkpoint::error::CheckpointFile;
use log_core::checkpoint::{leader_epoch_checkpoint, offset_checkpoint, partition_metadata};
use log_core::model::Offset;
use log_core::producer_state::snapshot::Snapshot;
use serde_json::json;

use super::index::length;
use super::segment::{describe_metadata, number};
use super::{Dump, fields};
use crate::cli::failure::Outcome;
use crate::metadata::snapshot::{self, Snapshots};
use crate::time::Rfc3339;

/// The offset in the name of a snapshot of the metadata.
pub(super) fn metadata_snapshot_offset(name: &str) -> Option<Offset> {
    snapshot::parse_name(name)
}

impl Dump<'_> {
    pub(super) fn producer_snapshot(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        let end = Self::base_of(path);
        self.heading(path, length(&bytes), &format!("producers before offset {end}"))?;
        let snapshot = match Snapshot::parse(&bytes, end) {
            Ok(snapshot) => snapshot,
            Err(error) => return self.damaged(path, None, &error),
        };
        let columns = format!(
            "{:<12} {:>5} {:>12} {:>12} {:<24} TRANSACTION SINCE",
            "PRODUCER", "EPOCH", "SEQUENCE", "LAST OFFSET", "TIMESTAMP"
        );
        self.columns(snapshot.producers.len(), &columns)?;
        for (producer_id, entry) in &snapshot.producers {
            let last = entry.last_batch().map(|batch| batch.last_offset);
            if self.output.is_json() {
                let batches: Vec<_> = entry
                    .batches()
                    .map(|batch| {
                        json!({
                            "first_sequence": batch.first_sequence().get(),
                            "last_sequence": batch.last_sequence.get(),
                            "base_offset": number(batch.base_offset()),
                            "last_offset": number(batch.last_offset),
                            "timestamp": batch.timestamp.get(),
                        })
                    })
                    .collect();
                let producer = json!({
                    "producer_id": producer_id.get(),
                    "producer_epoch": entry.producer_epoch.get(),
                    "last_sequence": entry.last_sequence().get(),
                    "last_offset": last.map(Offset::get),
                    "last_timestamp": entry.last_timestamp.get(),
                    "coordinator_epoch": entry.coordinator_epoch,
                    "transaction_first_offset": entry.transaction_first_offset.map(Offset::get),
                    "batches": batches,
                });
                self.object(path, "producer", fields(producer))?;
                continue;
            }
            let dash = |offset: Option<Offset>| offset.map_or_else(|| "-".to_owned(), |at| at.to_string());
            let line = format!(
                "  {:<12} {:>5} {:>12} {:>12} {:<24} {}",
                producer_id,
                entry.producer_epoch,
                entry.last_sequence(),
                dash(last),
                Rfc3339(entry.last_timestamp),
                dash(entry.transaction_first_offset)
            );
            self.output.line(line)?;
        }
        Ok(())
    }

    pub(super) fn leader_epochs(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "leader epochs")?;
        let entries = match leader_epoch_checkpoint::parse(&bytes) {
            Ok(entries) => entries,
            Err(error) => return self.damaged(path, None, &error),
        };
        self.columns(entries.len(), &format!("{:<8} START OFFSET", "EPOCH"))?;
        for entry in entries {
            if self.output.is_json() {
                let epoch = json!({ "epoch": entry.epoch.get(), "start_offset": number(entry.start_offset) });
                self.object(path, "leader_epoch", fields(epoch))?;
            } else {
                let line = format!("  {:<8} {}", entry.epoch, entry.start_offset);
                self.output.line(line)?;
            }
        }
        Ok(())
    }

    pub(super) fn offset_checkpoint(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "an offset for each partition")?;
        // The three differ only in what errors call them.
        let known = [
            CheckpointFile::RecoveryPoint,
            CheckpointFile::LogStartOffset,
            CheckpointFile::HighWatermark,
        ];
        let name = path.file_name().and_then(|name| name.to_str());
        let kind = known.into_iter().find(|kind| name == Some(kind.name()));
        let kind = kind.unwrap_or(CheckpointFile::RecoveryPoint);
        let offsets = match offset_checkpoint::parse(kind, &bytes) {
            Ok(offsets) => offsets,
            Err(error) => return self.damaged(path, None, &error),
        };
        self.columns(offsets.len(), &format!("{:>12} PARTITION", "OFFSET"))?;
        for (partition, offset) in offsets {
            if self.output.is_json() {
                let entry = json!({
                    "topic": &*partition.topic,
                    "partition": partition.partition,
                    "offset": number(offset),
                });
                self.object(path, "offset", fields(entry))?;
            } else {
                self.output.line(format_args!("  {offset:>12} {partition}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn partition_metadata(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "whose partition it is")?;
        match partition_metadata::parse(&bytes) {
            Ok(id) if self.output.is_json() => {
                let id = json!({ "topic_id": id.to_string() });
                self.object(path, "partition_metadata", fields(id))
            }
            Ok(id) => self.output.line(format_args!("  topic id {id}")),
            Err(error) => self.damaged(path, None, &error),
        }
    }

    pub(super) fn clean_shutdown(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "the last stop was in order")?;
        match CleanShutdown::parse(&bytes) {
            Ok(marker) if self.output.is_json() => {
                let marker = json!({ "broker_epoch": marker.broker_epoch });
                self.object(path, "clean_shutdown", fields(marker))
            }
            Ok(marker) => {
                let epoch = marker
                    .broker_epoch
                    .map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
                self.output.line(format_args!("  broker epoch {epoch}"))
            }
            Err(error) => self.damaged(path, None, &error),
        }
    }

    pub(super) fn metadata_snapshot(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        let name = path.file_name().and_then(|name| name.to_str());
        let offset = name.and_then(metadata_snapshot_offset).unwrap_or(Offset::ZERO);
        let what = format!("metadata before offset {offset}");
        self.heading(path, length(&bytes), &what)?;
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        let snapshots = Snapshots::new(Arc::clone(&self.file_system), directory);
        let image = match snapshots.read(offset) {
            Ok((image, _)) => image,
            Err(error) => return self.damaged(path, None, &error),
        };
        for record in image.to_records() {
            let text = describe_metadata(&record);
            if self.output.is_json() {
                self.object(path, "metadata", fields(json!({ "meaning": text })))?;
            } else {
                self.output.line(format_args!("  {text}"))?;
            }
        }
        Ok(())
    }
}
