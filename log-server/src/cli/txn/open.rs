//! Open transactions of partitions, in a table and as JSON.
//! Which of them is meant, the commands say.

use std::time::Duration;

use comfy_table::Table;
use log_client::admin::OpenTransaction;
use serde_json::{Map, Value, json};

use crate::cli::age::age;
use crate::cli::output::Palette;
use crate::cli::units::Took;
use crate::time::Rfc3339;

/// One row each.
pub(super) fn table(open: &[OpenTransaction], now: Duration, palette: Palette) -> Table {
    let mut table = palette.table(&[
        "partition",
        "#start offset",
        "#producer id",
        "#epoch",
        "last written",
        "silent for",
    ]);
    for one in open {
        let silent = age(one.producer.last_timestamp, now);
        table.add_row([
            one.partition.to_string(),
            one.start.to_string(),
            one.producer.producer_id.to_string(),
            one.producer.producer_epoch.to_string(),
            Rfc3339(one.producer.last_timestamp).to_string(),
            silent.map_or_else(|| "-".to_owned(), |silent| Took(silent).to_string()),
        ]);
    }
    table
}

/// What there is to know of one.
pub(super) fn document(one: &OpenTransaction) -> Map<String, Value> {
    let producer = &one.producer;
    let fields = [
        ("topic", json!(&*one.partition.topic)),
        ("partition", json!(one.partition.partition)),
        ("start_offset", json!(one.start.get())),
        ("producer_id", json!(producer.producer_id.get())),
        ("producer_epoch", json!(producer.producer_epoch.get())),
        ("coordinator_epoch", json!(producer.coordinator_epoch)),
        ("last_timestamp_ms", json!(producer.last_timestamp.get())),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
