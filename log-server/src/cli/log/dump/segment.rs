//! Batches and records of a `.log` file.
//! Both are shown as they stand there, also where a checksum is wrong; what they mean is added where it is known.

use std::path::Path;

use log_core::config::TimestampType;
use log_core::model::{FilePosition, Offset};
use log_core::record::batch::Batch;
use log_core::record::batch_header::BatchHeader;
use log_core::record::compression::DECOMPRESSED_BYTES_MAX;
use log_core::record::control::{ControlRecord, EndTransactionMarker, TransactionOutcome};
use log_core::record::record::Record;
use serde_json::{Value, json};

use super::{Dump, fields, unreadable};
use crate::cli::failure::Outcome;
use crate::cli::text;
use crate::metadata::metadata_log;
use crate::metadata::records::MetadataRecord;
use crate::offline::segment_walk::{FoundBatch, Piece, SegmentWalk};
use crate::time::Rfc3339;

/// Narrower terminals get the producer of a batch on a line of its own.
const COLUMNS_FOR_ONE_LINE: u16 = 118;
/// Keys and values are cut to so many characters, unless all is asked for.
const SHOWN_MAX: usize = 100;

impl Dump<'_> {
    pub(super) fn segment(&mut self, path: &Path) -> Outcome {
        let mut walk =
            SegmentWalk::open(self.file_system.as_ref(), path).map_err(|error| unreadable(&error))?;
        let base = Self::base_of(path);
        self.heading(path, walk.length(), &format!("segment from offset {base}"))?;
        if !self.output.is_json() && 0 < walk.length() {
            let heading = format!(
                "  {:<9} {:<15} {:>6} {:>7} {:<6} {:<24} {}",
                "POSITION", "OFFSETS", "COUNT", "BYTES", "CODEC", "MAX TIMESTAMP", "EPOCH"
            );
            let heading = self.output.palette.faint(heading);
            self.output.line(heading)?;
        }
        let mut shown: u64 = 0;
        while let Some(piece) = walk.next_piece().map_err(|error| unreadable(&error))? {
            match piece {
                Piece::Batch(found) => {
                    let last = found.header.last_offset().get();
                    if self.arguments.from.is_some_and(|from| last < from) {
                        continue;
                    }
                    if self.arguments.batches.is_some_and(|most| most <= shown) {
                        return Ok(());
                    }
                    shown = shown.saturating_add(1);
                    self.batch(path, &found)?;
                }
                Piece::Damage { range, cause } => {
                    let bytes = range.end.saturating_sub(range.start);
                    let what = format_args!("{bytes} bytes are no batch: {cause}");
                    self.damaged(path, Some(FilePosition::new(range.start)), &what)?;
                }
                Piece::Tail { range, cause } => {
                    let (position, bytes) = (
                        FilePosition::new(range.start),
                        range.end.saturating_sub(range.start),
                    );
                    match cause {
                        Some(cause) => {
                            let what = format_args!("the last {bytes} bytes are no batch: {cause}");
                            self.damaged(path, Some(position), &what)?;
                        }
                        None => self.space(path, position, bytes)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn space(&mut self, path: &Path, position: FilePosition, bytes: u64) -> Outcome {
        if self.output.is_json() {
            let space = json!({ "position": position.get(), "bytes": bytes });
            return self.object(path, "space", fields(space));
        }
        let what = self
            .output
            .palette
            .faint(format_args!("{bytes} bytes of zeros: space for more batches"));
        self.output.line(format_args!("  {position:<9} {what}"))
    }

    fn batch(&mut self, path: &Path, found: &FoundBatch) -> Outcome {
        let header = &found.header;
        if self.output.is_json() {
            let document = batch_fields(header, found.position, found.checksum.is_ok());
            self.object(path, "batch", fields(document))?;
        } else {
            self.batch_line(found)?;
        }
        if let Err(error) = &found.checksum {
            self.damaged(path, Some(found.position), error)?;
        }
        if self.arguments.records {
            self.records(path, found)?;
        }
        Ok(())
    }

    fn batch_line(&mut self, found: &FoundBatch) -> Outcome {
        let (header, position) = (&found.header, found.position);
        let offsets = format!("{}–{}", header.base_offset, header.last_offset());
        let line = format!(
            "  {position:<9} {offsets:<15} {:>6} {:>7} {:<6} {:<24} {:>5}",
            header.record_count,
            header.size(),
            header.compression().name(),
            Rfc3339(header.max_timestamp),
            header.leader_epoch
        );
        let more = more_of(found);
        let is_narrow = self
            .output
            .width()
            .is_some_and(|width| width < COLUMNS_FOR_ONE_LINE);
        if more.is_empty() {
            self.output.line(line)
        } else if is_narrow {
            self.output.line(line)?;
            let more = self.output.palette.faint(more);
            self.output.line(format_args!("            {more}"))
        } else {
            self.output.line(format_args!("{line}  {more}"))
        }
    }

    /// The records of a batch. One whose checksum is wrong is tried too: some of it may be readable.
    fn records(&mut self, path: &Path, found: &FoundBatch) -> Outcome {
        let mut scratch = Vec::new();
        let batch = match Batch::parse(&found.bytes) {
            Ok(batch) => batch,
            Err(error) => return self.damaged(path, Some(found.position), &error),
        };
        let records = match batch.records(&mut scratch, DECOMPRESSED_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => return self.damaged(path, Some(found.position), &error),
        };
        let is_metadata = path
            .parent()
            .and_then(|directory| directory.file_name())
            .is_some_and(|name| *name == *metadata_log::partition().to_string());
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.damaged(path, Some(found.position), &error),
            };
            let meaning = if found.header.attributes.is_control() {
                Some(control_meaning(&record))
            } else if is_metadata {
                record.value.map(metadata_meaning)
            } else {
                None
            };
            if self.output.is_json() {
                let document = record_fields(&record, meaning.as_deref());
                self.object(path, "record", fields(document))?;
            } else {
                self.record_line(&record, meaning.as_deref())?;
            }
        }
        Ok(())
    }

    fn record_line(&mut self, record: &Record<'_>, meaning: Option<&str>) -> Outcome {
        let most = if self.arguments.full {
            usize::MAX
        } else {
            SHOWN_MAX
        };
        let shown =
            |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".to_owned(), |bytes| text::quoted(bytes, most));
        let palette = self.output.palette;
        let mut line = format!(
            "    {:<8} {}  ",
            record.offset.get(),
            palette.faint(Rfc3339(record.timestamp))
        );
        if let Some(meaning) = meaning {
            line.push_str(meaning);
            return self.output.line(line);
        }
        if record.key.is_some() {
            line.push_str(&shown(record.key));
            line.push_str(": ");
        }
        line.push_str(&shown(record.value));
        for header in record.headers() {
            let key = header.key_text().escape_debug().to_string();
            line.push_str(&palette.faint(format_args!("  {key}={}", shown(header.value))));
        }
        self.output.line(line)
    }
}

/// What is out of the ordinary in a header.
fn more_of(found: &FoundBatch) -> String {
    let header = &found.header;
    let mut more = Vec::new();
    if header.has_producer_id() {
        more.push(format!(
            "producer {}/{}, sequences {}–{}",
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        ));
    }
    let attributes = header.attributes;
    if attributes.is_transactional() {
        more.push("transactional".to_owned());
    }
    if attributes.is_control() {
        more.push(
            EndTransactionMarker::in_batch(&found.bytes).map_or("control".to_owned(), |marker| {
                format!("{} marker", outcome_name(marker.outcome))
            }),
        );
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        more.push("log append time".to_owned());
    }
    if let Some(horizon) = header.delete_horizon() {
        more.push(format!("tombstones go at {}", Rfc3339(horizon)));
    }
    more.join("; ")
}

fn batch_fields(header: &BatchHeader, position: FilePosition, is_valid: bool) -> Value {
    let attributes = header.attributes;
    json!({
        "position": position.get(),
        "base_offset": header.base_offset.get(),
        "last_offset": header.last_offset().get(),
        "records": header.record_count,
        "bytes": header.size(),
        "compression": header.compression().name(),
        "leader_epoch": header.leader_epoch.get(),
        "base_timestamp": header.base_timestamp.get(),
        "max_timestamp": header.max_timestamp.get(),
        "timestamp_type": match attributes.timestamp_type() {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        },
        "producer_id": header.producer_id.get(),
        "producer_epoch": header.producer_epoch.get(),
        "base_sequence": header.base_sequence.get(),
        "last_sequence": header.last_sequence().get(),
        "transactional": attributes.is_transactional(),
        "control": attributes.is_control(),
        "delete_horizon": header.delete_horizon().map(log_core::model::TimestampMs::get),
        "crc": header.crc,
        "valid": is_valid,
    })
}

fn record_fields(record: &Record<'_>, meaning: Option<&str>) -> Value {
    let headers: Vec<Value> = record
        .headers()
        .map(|header| {
            let mut object = serde_json::Map::new();
            text::insert(&mut object, "key", Some(header.key));
            text::insert(&mut object, "value", header.value);
            Value::Object(object)
        })
        .collect();
    let mut object = fields(json!({
        "offset": record.offset.get(),
        "timestamp": record.timestamp.get(),
        "headers": headers,
    }));
    text::insert(&mut object, "key", record.key);
    text::insert(&mut object, "value", record.value);
    if let Some(meaning) = meaning {
        object.insert("meaning".to_owned(), meaning.into());
    }
    Value::Object(object)
}

fn outcome_name(outcome: TransactionOutcome) -> &'static str {
    match outcome {
        TransactionOutcome::Commit => "commit",
        TransactionOutcome::Abort => "abort",
    }
}

fn control_meaning(record: &Record<'_>) -> String {
    match ControlRecord::parse(record) {
        Ok(ControlRecord::EndTransaction(marker)) => {
            let outcome = outcome_name(marker.outcome);
            format!(
                "{outcome} of the producer's transaction (coordinator epoch {})",
                marker.coordinator_epoch
            )
        }
        Ok(ControlRecord::Other { kind }) => format!("control record of type {kind}"),
        Err(error) => error.to_string(),
    }
}

fn metadata_meaning(value: &[u8]) -> String {
    match MetadataRecord::decode(value) {
        Ok(record) => describe_metadata(&record),
        Err(error) => error.to_string(),
    }
}

/// A metadata record in words.
pub(super) fn describe_metadata(record: &MetadataRecord) -> String {
    let subject = record
        .topic_id()
        .map_or_else(String::new, |id| format!(" (topic id {id})"));
    let configs = |configs: &crate::config::effective::Overrides| {
        let rows: Vec<String> = configs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if rows.is_empty() {
            "nothing".to_owned()
        } else {
            rows.join(", ")
        }
    };
    let what = match record {
        MetadataRecord::ClusterCreated { cluster_id } => format!("cluster {cluster_id}"),
        MetadataRecord::TopicCreated {
            name,
            partition_count,
            configs: own,
            ..
        } => format!(
            "topic {name} with {partition_count} partitions, sets {}",
            configs(own)
        ),
        MetadataRecord::TopicDeleted { .. } => "topic deleted".to_owned(),
        MetadataRecord::PartitionsAdded { partition_count, .. } => {
            format!("topic grown to {partition_count} partitions")
        }
        MetadataRecord::PartitionsWithdrawn { partition_count, .. } => {
            format!("topic back to {partition_count} partitions")
        }
        MetadataRecord::TopicConfigSet { configs: own, .. } => format!("topic sets {}", configs(own)),
        MetadataRecord::BrokerConfigSet {
            node_id,
            configs: own,
        } => match node_id {
            Some(node) => format!("node {node} sets {}", configs(own)),
            None => format!("all nodes set {}", configs(own)),
        },
        MetadataRecord::ProducerIdBlock { next_producer_id } => {
            format!("producer ids below {next_producer_id} are taken")
        }
        MetadataRecord::GroupConfigSet { group, configs: own } => {
            format!("group {group} sets {}", configs(own))
        }
        MetadataRecord::SubscriptionConfigSet {
            subscription,
            configs: own,
        } => format!(
            "subscription {subscription} to client metrics sets {}",
            configs(own)
        ),
    };
    format!("{what}{subject}")
}

/// An offset as a number.
pub(super) fn number(offset: Offset) -> Value {
    offset.get().into()
}
