//! The three indexes beside a segment's `.log` file, as bytes: nothing here touches the disk.
//!
//! | file | entries | from → to |
//! |---|---|---|
//! | `.index` | 8 bytes, [`offset_index`] | record offset → position in the log |
//! | `.timeindex` | 12 bytes, [`time_index`] | record timestamp → record offset |
//! | `.txnindex` | 34 bytes, [`transaction_index`] | aborted transactions |
//!
//! What the first two share is [`sorted_index`]. The files are Kafka's, big-endian. An index is a hint: whoever gets an
//! [`error::IndexError`] builds it again from the log. Writing and reading the files, and deciding when to add an entry, is `segment`'s task.

mod entry;
pub mod error;
pub mod offset_index;
pub mod sorted_index;
pub mod time_index;
pub mod transaction_index;
