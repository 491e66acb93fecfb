//! `Idempotency-Key`: a body that may come twice and is written once.
//!
//! The key names an idempotent producer of Kafka's kind, one that writes a single body: its id is made from key and topic, its sequences in
//! each partition begin with 0. So the key stands in the batches themselves, and all that recognizes a batch that comes again (producer
//! state, its snapshots, its recovery from the log) recognizes the body, across restarts, for as long as producers are remembered. There is no
//! second log in which a key could be noted and its records not, or the other way round.
//!
//! Ids that the broker gives to Kafka's producers count from 0; those made here have the bit above all of them set.
//!
//! A batch of another content under the same sequences looks like a duplicate. So what is in the log is compared, as long as it is there.

use axum::http::HeaderMap;
use log_core::model::{Offset, ProducerId, TimestampMs, TopicId};
use log_core::producer_state::entry::BATCHES_RETAINED;
use log_core::record::batch::{Batch, batches};
use log_core::record::compression::DECOMPRESSED_BYTES_MAX;
use log_core::record::record::Record;
use sha2::{Digest, Sha256};

use crate::http::problem::{Code, Problem};
use crate::http::produce::batches::{Batches, Sealed};
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Isolation, PartitionRead};

const HEADER: &str = "idempotency-key";
const BYTES_MAX: usize = 255;
/// Above all ids that are counted.
const MARK: i64 = 1 << 62;

/// A key, as a hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdempotencyKey {
    hash: [u8; 32],
}

impl IdempotencyKey {
    /// The key of a request, if it has one.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() || value.is_empty() || BYTES_MAX < value.len() {
            let text = format!("an Idempotency-Key has 1 to {BYTES_MAX} bytes, and a request has one");
            return Err(Problem::invalid(text));
        }
        let hash = Sha256::digest(value.as_bytes()).into();
        Ok(Some(Self { hash }))
    }

    /// The producer that stands for the key in a topic.
    pub(super) fn producer(&self, topic: TopicId) -> ProducerId {
        let mut digest = Sha256::new();
        digest.update(topic.to_bytes());
        digest.update(self.hash);
        ProducerId::new(MARK | (number(&digest.finalize().into()) & (MARK - 1)))
    }

    /// Where records without key and partition go: the same place each time.
    pub(super) fn sticky(&self, partition_count: i32) -> i32 {
        let place = (number(&self.hash) & i64::MAX) % i64::from(partition_count.max(1));
        i32::try_from(place).unwrap_or(0)
    }

    /// Only so many batches of a producer are remembered.
    pub(super) fn check(batches: &Batches) -> Result<(), Problem> {
        if batches.batches_of_a_partition() <= BATCHES_RETAINED {
            return Ok(());
        }
        let text = format!(
            "with an Idempotency-Key a body makes at most {BATCHES_RETAINED} batches of max.message.bytes in one partition"
        );
        Err(Problem::new(Code::TooLarge, text))
    }

    /// Compares a batch that came again with the one in the log, and tells the times of the latter. `None` when the log has it no longer.
    pub(super) async fn compare(
        again: &Sealed,
        base_offset: Offset,
    ) -> Result<Option<Vec<TimestampMs>>, Problem> {
        let read = PartitionRead {
            offset: base_offset,
            bytes_max: 1,
            at_least_one_batch: true,
            isolation: Isolation::Uncommitted,
        };
        let partition = std::sync::Arc::clone(&again.partition);
        let Ok(slice) = partition.read_patiently(read).await else {
            return Ok(None);
        };
        let again = again.records.clone();
        let compared = blocking(move || same_records(&slice.records, &again, base_offset)).await?;
        match compared {
            Comparison::Same(times) => Ok(Some(times)),
            Comparison::Gone => Ok(None),
            Comparison::Different => {
                let text = "the records that were written with it are others";
                Err(Problem::new(Code::IdempotencyKeyReused, text))
            }
        }
    }
}

fn number(hash: &[u8; 32]) -> i64 {
    let first = hash.first_chunk::<8>().expect("the hash is longer");
    i64::from_be_bytes(*first)
}

#[derive(Debug, PartialEq, Eq)]
enum Comparison {
    Same(Vec<TimestampMs>),
    Different,
    Gone,
}

fn same_records(stored: &[u8], again: &[u8], base_offset: Offset) -> Comparison {
    let Some(Ok(stored)) = batches(stored).next() else {
        return Comparison::Gone;
    };
    let Ok(again) = Batch::parse(again) else {
        return Comparison::Gone;
    };
    // Retention or compaction may have left less of it, or nothing.
    let (header, count) = (stored.header(), again.header().record_count);
    if header.base_offset != base_offset || header.record_count != count {
        return Comparison::Gone;
    }
    let (mut unpacked, mut unused) = (Vec::new(), Vec::new());
    let (Ok(before), Ok(now)) = (
        stored.records(&mut unpacked, DECOMPRESSED_BYTES_MAX),
        again.records(&mut unused, DECOMPRESSED_BYTES_MAX),
    ) else {
        return Comparison::Gone;
    };
    let mut times = Vec::new();
    for pair in before.zip(now) {
        match pair {
            (Ok(before), Ok(now)) if is_same(&before, &now) => times.push(before.timestamp),
            (Ok(_), Ok(_)) => return Comparison::Different,
            _ => return Comparison::Gone,
        }
    }
    Comparison::Same(times)
}

/// Times are left out: those that the broker gave differ from attempt to attempt.
fn is_same(before: &Record<'_>, now: &Record<'_>) -> bool {
    before.key == now.key && before.value == now.value && before.headers().eq(now.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Option<IdempotencyKey>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, text.parse().unwrap());
        IdempotencyKey::from_headers(&headers)
    }

    /// These numbers are in logs: they must never change.
    #[test]
    fn a_key_is_always_the_same_producer() {
        let topic = TopicId::from_bytes([7; 16]);
        let one = key("order-4711").unwrap().unwrap();
        assert_eq!(one.producer(topic), ProducerId::new(6_849_968_428_217_778_849));
        assert_ne!(one.producer(topic), one.producer(TopicId::ZERO));
        assert_ne!(
            one.producer(topic),
            key("order-4712").unwrap().unwrap().producer(topic)
        );
        assert!(MARK <= one.producer(topic).get());
        assert!((0..6).contains(&one.sticky(6)));
    }

    #[test]
    fn keys_have_a_length() {
        assert!(key("").is_err());
        assert!(key(&"x".repeat(256)).is_err());
        assert!(key(&"x".repeat(255)).is_ok());
        assert!(IdempotencyKey::from_headers(&HeaderMap::new()).unwrap().is_none());
    }
}
