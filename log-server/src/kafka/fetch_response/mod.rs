//! The Fetch response, written by hand so that the records are handed to the socket where they lie.
//!
//! Every other message goes through the codec, which copies. Here the fields go into one small buffer and the records are
//! inserted between them as slices. A test holds it to the codec byte for byte, in every version.
//!
//! | field | type | versions |
//! |---|---|---|
//! | throttle time | i32 | all |
//! | error, session id | i16, i32 | 7 and later |
//! | topics: name | string, compact from 12 | to 12 |
//! | topics: id | 16 bytes | 13 and later |
//! | partition, error, high watermark, last stable offset | i32, i16, i64, i64 | all |
//! | log start offset | i64 | 5 and later |
//! | aborted transactions: producer id, first offset | array of i64, i64; may be null | all |
//! | preferred read replica | i32 | 11 and later |
//! | records | bytes | all |
//! | tags 0 diverging epoch, 1 current leader | i32 and i64, i32 and i32 | 12 and later |
//! | tag 0 node endpoints | array of node id, host, port, rack | 16 and later |

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use log_core::model::TopicId;
use log_core::protocol::RequestPrefix;

use crate::kafka::response::{self, Response, ResponseError};

/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// The first version that names topics by id.
const BY_ID: i16 = 13;

/// The topic of a row. By id from version 13 on; then the name is known only if the topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    /// Zero before version 13.
    pub id: TopicId,
    /// `None` for an id that is not known.
    pub name: Option<Arc<str>>,
}

/// Where the client's log and ours part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The largest epoch the log has that is not above the client's.
    pub epoch: i32,
    /// Where that epoch ends.
    pub end_offset: i64,
}

/// What the response says about one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionRow {
    /// Of which topic.
    pub topic: FetchTopic,
    /// Which partition.
    pub partition: i32,
    /// An error code, or 0.
    pub error_code: i16,
    /// -1 beside an error.
    pub high_watermark: i64,
    /// -1 beside an error.
    pub last_stable_offset: i64,
    /// -1 beside an error.
    pub log_start_offset: i64,
    /// Producer id and first offset of each; null unless the client reads committed records.
    pub aborted_transactions: Option<Vec<(i64, i64)>>,
    /// Where the client's log and ours part.
    pub diverging_epoch: Option<DivergingEpoch>,
    /// Node and epoch, beside an error that says the client has the wrong ones.
    pub current_leader: Option<(i32, i32)>,
    /// Slices of the log, whole batches except perhaps the last.
    pub records: Bytes,
}

/// Node id, host, port of a broker that `current_leader` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    /// The node.
    pub node_id: i32,
    /// Where it is.
    pub host: &'a str,
    /// Where it is.
    pub port: i32,
}

/// Everything in front of the topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchHead {
    /// Of the whole request.
    pub error_code: i16,
    /// 0 without a session.
    pub session_id: i32,
}

/// Encodes the response. Neighbouring rows of one topic share its entry. The records are taken out of the rows.
///
/// # Errors
/// More than a frame can hold.
pub fn encode(
    prefix: RequestPrefix,
    head: FetchHead,
    rows: &mut [PartitionRow],
    endpoints: &[NodeEndpoint<'_>],
) -> Result<Response, ResponseError> {
    let version = prefix.api_version;
    let mut writer = Writer {
        buffer: response::begin(prefix, version, 64 + 128 * rows.len())?,
        inserts: Vec::with_capacity(rows.len()),
        version,
    };
    writer.buffer.put_i32(0);
    if 7 <= version {
        writer.buffer.put_i16(head.error_code);
        writer.buffer.put_i32(head.session_id);
    }
    let is_same = |a: &PartitionRow, b: &PartitionRow| a.topic == b.topic;
    writer.array_length(Some(rows.chunk_by(is_same).count()));
    for topic in rows.chunk_by_mut(is_same) {
        writer.topic(topic);
    }
    writer.end(endpoints);
    Response::finish(writer.buffer, writer.inserts)
}

struct Writer {
    buffer: BytesMut,
    inserts: Vec<(usize, Bytes)>,
    version: i16,
}

impl Writer {
    fn is_flexible(&self) -> bool {
        FLEXIBLE <= self.version
    }

    fn topic(&mut self, rows: &mut [PartitionRow]) {
        let Some(PartitionRow { topic, .. }) = rows.first() else {
            return;
        };
        if BY_ID <= self.version {
            self.buffer.put_slice(&topic.id.to_bytes());
        } else {
            self.string(topic.name.as_deref().unwrap_or(""));
        }
        self.array_length(Some(rows.len()));
        for row in rows {
            self.partition(row);
        }
        self.no_tags();
    }

    fn partition(&mut self, row: &mut PartitionRow) {
        self.buffer.put_i32(row.partition);
        self.buffer.put_i16(row.error_code);
        self.buffer.put_i64(row.high_watermark);
        self.buffer.put_i64(row.last_stable_offset);
        if 5 <= self.version {
            self.buffer.put_i64(row.log_start_offset);
        }
        self.array_length(row.aborted_transactions.as_ref().map(Vec::len));
        for (producer_id, first_offset) in row.aborted_transactions.iter().flatten() {
            self.buffer.put_i64(*producer_id);
            self.buffer.put_i64(*first_offset);
            self.no_tags();
        }
        if 11 <= self.version {
            // No preferred replica: there is only this one.
            self.buffer.put_i32(-1);
        }
        self.records(std::mem::take(&mut row.records));
        self.partition_tags(row);
    }

    fn records(&mut self, records: Bytes) {
        if self.is_flexible() {
            self.unsigned_varint(wire_length(records.len()) + 1);
        } else {
            self.buffer.put_u32(wire_length(records.len()));
        }
        if !records.is_empty() {
            self.inserts.push((self.buffer.len(), records));
        }
    }

    fn partition_tags(&mut self, row: &PartitionRow) {
        if !self.is_flexible() {
            return;
        }
        let count = u32::from(row.diverging_epoch.is_some()) + u32::from(row.current_leader.is_some());
        self.unsigned_varint(count);
        if let Some(diverging) = row.diverging_epoch {
            self.tag(0, 4 + 8 + 1);
            self.buffer.put_i32(diverging.epoch);
            self.buffer.put_i64(diverging.end_offset);
            self.no_tags();
        }
        if let Some((node, epoch)) = row.current_leader {
            self.tag(1, 4 + 4 + 1);
            self.buffer.put_i32(node);
            self.buffer.put_i32(epoch);
            self.no_tags();
        }
    }

    fn end(&mut self, endpoints: &[NodeEndpoint<'_>]) {
        if !self.is_flexible() {
            return;
        }
        if self.version < 16 || endpoints.is_empty() {
            return self.no_tags();
        }
        let tags = std::mem::take(&mut self.buffer);
        self.array_length(Some(endpoints.len()));
        for endpoint in endpoints {
            self.buffer.put_i32(endpoint.node_id);
            self.string(endpoint.host);
            self.buffer.put_i32(endpoint.port);
            // No rack.
            self.unsigned_varint(0);
            self.no_tags();
        }
        let value = std::mem::replace(&mut self.buffer, tags);
        self.unsigned_varint(1);
        self.tag(0, wire_length(value.len()));
        self.buffer.put_slice(&value);
    }

    fn tag(&mut self, tag: u32, size: u32) {
        self.unsigned_varint(tag);
        self.unsigned_varint(size);
    }

    fn no_tags(&mut self) {
        if self.is_flexible() {
            self.unsigned_varint(0);
        }
    }

    fn string(&mut self, text: &str) {
        if self.is_flexible() {
            self.unsigned_varint(wire_length(text.len()) + 1);
        } else {
            let length = u16::try_from(text.len())
                .expect("the name came in a request of this version, or is a topic's");
            self.buffer.put_u16(length);
        }
        self.buffer.put_slice(text.as_bytes());
    }

    /// `None` is null.
    fn array_length(&mut self, length: Option<usize>) {
        match (length, self.is_flexible()) {
            (Some(length), true) => self.unsigned_varint(wire_length(length) + 1),
            (Some(length), false) => self.buffer.put_u32(wire_length(length)),
            (None, true) => self.unsigned_varint(0),
            (None, false) => self.buffer.put_i32(-1),
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while 0x80 <= value {
            let low = u8::try_from(value & 0x7f).expect("seven bits");
            self.buffer.put_u8(low | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(u8::try_from(value).expect("seven bits"));
    }
}

/// Lengths of things in memory; what does not fit a frame is refused when the frame is finished.
fn wire_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;
