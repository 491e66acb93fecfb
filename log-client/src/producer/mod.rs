//! The producer: records in, acknowledgements out.
//!
//! - `partitioner`: which partition a record goes to
//! - `accumulator`: records become batches, per partition
//! - `books`: memory, and what `flush` waits for
//! - `delivery`: what became of a record
//! - `in_order`: order, sequences and retries of one partition
//! - `exchange`: one request and its response
//! - `sender`: the task that sends
//! - `transactions`: records that count together or not at all
//!
//! A record that was acknowledged is in the log; one that failed with [`Error::DeliveryTimedOut`] or
//! [`Error::OutcomeUnknown`] may be or not, and so may one that was given up with [`Error::Closed`] because the
//! producer was dropped; every other failure means that it is not.

mod accumulator;
mod books;
mod delivery;
mod exchange;
mod in_order;
mod partitioner;
mod sender;
mod transactions;

#[cfg(test)]
mod tests;

pub use delivery::{Delivery, RecordMetadata};
pub use log_core::partitioner::{murmur2, partition_for_key};
pub use log_core::record::record::RecordHeader;
pub use transactions::TransactionalProducer;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log_core::model::TimestampMs;
use log_core::record::batch_builder::BatchOptions;
use log_core::record::batch_header::HEADER_LENGTH;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use accumulator::{Accumulator, Parts, TopicQueues};
use books::Books;
use in_order::Policy;
use sender::Sender;
use transactions::Transactional;

use crate::cluster::Cluster;
use crate::config::ProducerConfig;
use crate::error::{Error, Result};

/// A record to be sent; everything is borrowed, because `send` copies it into a batch.
#[derive(Debug, Clone, Copy)]
pub struct ProducerRecord<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The partition; without one the key decides, and without a key chance does.
    pub partition: Option<i32>,
    /// The record's time; now, if there is none.
    pub timestamp: Option<TimestampMs>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [RecordHeader<'a>],
}

impl<'a> ProducerRecord<'a> {
    /// A record without key, for whichever partition.
    #[must_use]
    pub fn new(topic: &'a str, value: &'a [u8]) -> Self {
        Self {
            topic,
            partition: None,
            timestamp: None,
            key: None,
            value: Some(value),
            headers: &[],
        }
    }

    /// The record with a key.
    #[must_use]
    pub fn with_key(mut self, key: &'a [u8]) -> Self {
        self.key = Some(key);
        self
    }

    /// The record for one partition.
    #[must_use]
    pub fn with_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The record with a time of its own.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: TimestampMs) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// The record with headers.
    #[must_use]
    pub fn with_headers(mut self, headers: &'a [RecordHeader<'a>]) -> Self {
        self.headers = headers;
        self
    }
}

/// Sends records. Clones share buffers, connections and the producer id.
///
/// Records to one partition are appended in the order of `send`. Dropping the last clone gives up what is
/// not acknowledged; [`Producer::close`] waits for it.
#[derive(Debug, Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProducerConfig,
    cluster: Cluster,
    accumulator: Arc<Accumulator>,
    task: Mutex<Option<JoinHandle<()>>>,
    abort: tokio::task::AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accumulator.close();
        self.abort.abort();
    }
}

impl Producer {
    /// A producer. Connects when the first record is sent, so it does not fail for want of a broker.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn new(config: ProducerConfig) -> Result<Self> {
        config.validate()?;
        let cluster = Cluster::new(config.client.clone())?;
        Ok(Self::start(config, cluster, None))
    }

    /// A producer of a valid configuration, with transactions or without.
    fn start(config: ProducerConfig, cluster: Cluster, transactional: Option<Transactional>) -> Self {
        let options = BatchOptions {
            compression: config.compression,
            compression_level: config.compression_level,
            transactional: transactional.is_some(),
            ..BatchOptions::default()
        };
        let transactions = transactional.as_ref().map(|own| Arc::clone(own.transactions()));
        let accumulator = Arc::new(Accumulator::new(
            config.batch_bytes,
            config.linger,
            options,
            Books::new(config.buffer_memory, transactions),
        ));
        let policy = Policy {
            is_transactional: transactional.is_some(),
            is_idempotent: config.idempotent,
            in_flight_max: config.in_flight_max,
            delivery_timeout: config.delivery_timeout,
            backoff: config.client.retry_backoff,
            options,
        };
        let accounts = Arc::clone(&accumulator);
        let sender = Sender::new(cluster.clone(), accounts, config.clone(), policy, transactional);
        let task = tokio::spawn(sender.run());
        Self {
            inner: Arc::new(Inner {
                config,
                cluster,
                accumulator,
                abort: task.abort_handle(),
                task: Mutex::new(Some(task)),
            }),
        }
    }

    /// The cluster it sends to.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// Takes a record over and returns its delivery, to be awaited or not. Waits while the producer's
    /// memory is full, and for the topic's metadata when it is the first record for it; if this is
    /// cancelled, the record was not taken.
    ///
    /// # Errors
    /// [`Error::BufferFull`] and [`Error::RecordTooLarge`], what is known about the topic, and
    /// [`Error::Closed`]. The record is not sent then.
    pub async fn send(&self, record: &ProducerRecord<'_>) -> Result<Delivery> {
        let inner = &*self.inner;
        let topic = match inner.accumulator.topic(record.topic) {
            Some(topic) => topic,
            None => inner.new_topic(record).await?,
        };
        let parts = Parts {
            timestamp: record.timestamp.unwrap_or_else(now),
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let size = parts.size_max();
        if inner.config.request_bytes_max < size + HEADER_LENGTH {
            return Err(Error::RecordTooLarge {
                size: size + HEADER_LENGTH,
                limit: inner.config.request_bytes_max,
            });
        }
        let books = &inner.accumulator.books;
        let memory = books.reserve(size, inner.config.max_block).await?;
        let append = |topic| {
            inner
                .accumulator
                .append(topic, record.partition, &parts, memory.bytes())
        };
        let mut appended = append(&topic);
        if let Err(Error::NoSuchPartition { .. }) = &appended
            && let Some(grown) = inner.grown(record.topic).await
        {
            appended = append(&grown);
        }
        if appended.is_ok() {
            memory.hand_over();
        }
        appended
    }

    /// Waits until every record that was sent before is acknowledged or has failed; each delivery says which.
    pub async fn flush(&self) {
        self.inner.accumulator.books.flush().await;
    }

    /// Takes no more records, waits for those it has, and ends. If this is cancelled, the producer still ends;
    /// closing it again waits for that.
    pub async fn close(&self) {
        self.inner.accumulator.close();
        let mut task = self.inner.task.lock().await;
        if let Some(running) = task.as_mut() {
            // It fails only when it is aborted, and then there is nothing to wait for.
            running.await.ok();
            *task = None;
        }
    }
}

impl Inner {
    /// The topic with what it has been since the last look, in case it has more partitions by now.
    async fn grown(&self, topic: &str) -> Option<Arc<TopicQueues>> {
        self.cluster.watch_topic(topic);
        self.cluster
            .refresh(self.cluster.metadata().generation)
            .await
            .ok()?;
        let metadata = self.cluster.metadata();
        Some(self.accumulator.update(metadata.topic(topic).ok()?))
    }

    /// Learns about a topic for its first record.
    async fn new_topic(&self, record: &ProducerRecord<'_>) -> Result<Arc<TopicQueues>> {
        if self.accumulator.is_closed() {
            return Err(Error::Closed("producer"));
        }
        let deadline = Instant::now() + self.config.max_block;
        let _sought = Sought {
            topic: record.topic,
            inner: self,
        };
        let metadata = self.cluster.topic(record.topic, deadline).await?;
        Ok(self.accumulator.update(&metadata))
    }
}

/// A topic that is looked for. If it was not found, or whoever wanted it stopped waiting, refreshes do not ask for it
/// for ever.
struct Sought<'a> {
    topic: &'a str,
    inner: &'a Inner,
}

impl Drop for Sought<'_> {
    fn drop(&mut self) {
        if self.inner.accumulator.topic(self.topic).is_none() {
            self.inner.cluster.forget_topic(self.topic);
        }
    }
}

fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
