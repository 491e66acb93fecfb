//! Entries of the three indexes.
//! A damaged index is named as a whole: without its order no entry of it means anything.

use std::path::Path;

use log_core::index::offset_index::OffsetIndexView;
use log_core::index::time_index::TimeIndexView;
use log_core::index::transaction_index::TransactionIndex;
use serde_json::json;

use super::segment::number;
use super::{Dump, fields};
use crate::cli::failure::Outcome;
use crate::time::Rfc3339;

impl Dump<'_> {
    pub(super) fn offset_index(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "offset index")?;
        let view = match OffsetIndexView::parse(bytes.into(), Self::base_of(path)) {
            Ok(view) => view,
            Err(error) => return self.damaged(path, None, &error),
        };
        self.columns(view.entry_count(), &format!("{:<12} POSITION", "LAST OFFSET"))?;
        for (offset, position) in view.iter() {
            if self.output.is_json() {
                let entry = json!({ "last_offset": number(offset), "position": position.get() });
                self.object(path, "offset_index_entry", fields(entry))?;
            } else {
                self.output.line(format_args!("  {offset:<12} {position}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn time_index(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "time index")?;
        let view = match TimeIndexView::parse(bytes.into(), Self::base_of(path)) {
            Ok(view) => view,
            Err(error) => return self.damaged(path, None, &error),
        };
        self.columns(
            view.entry_count(),
            &format!("{:<12} LARGEST TIMESTAMP", "LAST OFFSET"),
        )?;
        for (timestamp, offset) in view.iter() {
            if self.output.is_json() {
                let entry = json!({ "timestamp": timestamp.get(), "last_offset": number(offset) });
                self.object(path, "time_index_entry", fields(entry))?;
            } else {
                let line = format!("  {offset:<12} {} ({timestamp})", Rfc3339(timestamp));
                self.output.line(line)?;
            }
        }
        Ok(())
    }

    pub(super) fn transaction_index(&mut self, path: &Path) -> Outcome {
        let bytes = self.read(path)?;
        self.heading(path, length(&bytes), "aborted transactions")?;
        let index = match TransactionIndex::parse(&bytes, Self::base_of(path)) {
            Ok(index) => index,
            Err(error) => return self.damaged(path, None, &error),
        };
        let columns = format!(
            "{:<12} {:<12} {:<12} LAST STABLE OFFSET",
            "PRODUCER", "FIRST OFFSET", "MARKER"
        );
        self.columns(index.transactions().len(), &columns)?;
        for transaction in index.transactions() {
            if self.output.is_json() {
                let entry = json!({
                    "producer_id": transaction.producer_id.get(),
                    "first_offset": number(transaction.first_offset),
                    "last_offset": number(transaction.last_offset),
                    "last_stable_offset": number(transaction.last_stable_offset),
                });
                self.object(path, "aborted_transaction", fields(entry))?;
            } else {
                let line = format!(
                    "  {:<12} {:<12} {:<12} {}",
                    transaction.producer_id,
                    transaction.first_offset,
                    transaction.last_offset,
                    transaction.last_stable_offset
                );
                self.output.line(line)?;
            }
        }
        Ok(())
    }

    /// The names of columns, if there is anything below them.
    pub(super) fn columns(&mut self, entries: usize, names: &str) -> Outcome {
        if self.output.is_json() {
            return Ok(());
        }
        let names = if entries == 0 { "empty" } else { names };
        let names = self.output.palette.faint(names);
        self.output.line(format_args!("  {names}"))
    }
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
