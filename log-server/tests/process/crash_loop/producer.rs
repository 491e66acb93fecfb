//! An idempotent producer whose every batch is known, so that a retry after a crash is the very same batch.
//!
//! Invariant: `unanswered` is in sequence order and holds every batch that was sent and not acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use log_client::connection::Connection;
use log_core::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::compression::Compression;

use super::ledger::{Acknowledged, Ledger, content};
use crate::wire;

/// What idempotent producers have on their way, and what a broker must recognise when it comes again.
const IN_FLIGHT: usize = 5;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// One producer's way into one partition.
pub(super) struct Lane {
    pub(super) producer: u32,
    id: i64,
    epoch: i16,
    /// Index into the ledger.
    log: usize,
    /// Number of the next record of this lane, which is also its sequence.
    next: u64,
    unanswered: VecDeque<Sent>,
    rng: Rng,
}

struct Sent {
    first: u64,
    count: u32,
    records: Bytes,
    /// Whether an earlier connection took it, so that it may already be in the log.
    again: bool,
}

impl Lane {
    pub(super) fn new(producer: u32, id: i64, epoch: i16, log: usize, rng: Rng) -> Self {
        Self {
            producer,
            id,
            epoch,
            log,
            next: 0,
            unanswered: VecDeque::new(),
            rng,
        }
    }

    /// Sends first what an earlier connection did not answer, then new batches until `stopping` or until the
    /// connection ends. An error code is a failed test: nothing here gives the broker a reason for one.
    pub(super) async fn send(&mut self, connection: &Connection, ledger: &Ledger, stopping: &AtomicBool) {
        let log = &ledger.logs[self.log];
        let mut answers = VecDeque::new();
        loop {
            while answers.len() < IN_FLIGHT
                && (answers.len() < self.unanswered.len() || !stopping.load(Ordering::Relaxed))
            {
                if answers.len() == self.unanswered.len() {
                    let batch = self.next_batch();
                    self.unanswered.push_back(batch);
                }
                let sent = &self.unanswered[answers.len()];
                let request = wire::produce_request(log.topic, log.partition, sent.records.clone());
                match connection.start(&request, wire::PRODUCE_VERSION).await {
                    Ok(answer) => answers.push_back(answer),
                    Err(_) => return self.mark_as_sent(),
                }
            }
            let Some(answer) = answers.pop_front() else {
                return;
            };
            let Ok(response) = connection.within(wire::PATIENCE, answer).await else {
                return self.mark_as_sent();
            };
            let sent = self
                .unanswered
                .pop_front()
                .expect("each answer belongs to a batch");
            let base_offset = wire::produced(&response).unwrap_or_else(|code| {
                panic!(
                    "{}-{}: producer {} got {code:?} for records {} to {}, sent {}",
                    log.topic,
                    log.partition,
                    self.producer,
                    sent.first,
                    sent.first + u64::from(sent.count) - 1,
                    if sent.again { "again" } else { "once" }
                )
            });
            log.acknowledge(Acknowledged {
                base_offset,
                producer: self.producer,
                first: sent.first,
                count: sent.count,
                again: sent.again,
            });
        }
    }

    fn mark_as_sent(&mut self) {
        for sent in &mut self.unanswered {
            sent.again = true;
        }
    }

    fn next_batch(&mut self) -> Sent {
        let count = self.rng.u32(1..=20);
        let first = self.next;
        let options = BatchOptions {
            compression: CODECS[self.rng.usize(..CODECS.len())],
            producer: BatchProducer {
                id: ProducerId::new(self.id),
                epoch: ProducerEpoch::new(self.epoch),
                base_sequence: Sequence::new(i32::try_from(first).expect("no lane sends 2^31 records")),
            },
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        for number in first..first + u64::from(count) {
            let value = content(self.producer, number, self.rng.usize(0..800));
            builder
                .append(TimestampMs::new(now()), Some(b"key"), Some(&value), &[])
                .unwrap();
        }
        self.next += u64::from(count);
        Sent {
            first,
            count,
            records: builder.build(),
            again: false,
        }
    }
}

fn now() -> i64 {
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(elapsed.as_millis()).unwrap()
}
