//! The records of `__transaction_state`: a transactional id, and all there is to know of it. Their bytes are Kafka's.
//!
//! | key | type | |
//! |---|---|---|
//! | kind, 0 | 16 bits | |
//! | transactional id | string | |
//!
//! | value | type | versions |
//! |---|---|---|
//! | version | 16 bits | 0 plain, 1 flexible (`transaction.version` 1 and higher) |
//! | producer id | 64 bits | 0– |
//! | producer epoch | 16 bits | 0– |
//! | transaction timeout ms | 32 bits | 0– |
//! | state | 8 bits | 0– |
//! | partitions: list of (topic: string, partitions: list of 32 bits); null when empty of state | list | 0– |
//! | last update, start | 64 bits each; no start is −1 | 0– |
//! | tag 0: previous producer id, tag 1: next producer id | 64 bits; −1 is left out | 1– |
//! | tag 2: the transaction version of the client | 16 bits; 0 is left out | 1– |
//! | tag 3: next producer epoch (two-phase commit) | 16 bits; read over, never written | 1– |
//!
//! Version 1 is written. A value of `None` is a tombstone: nobody knows the transactional id any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::{ProducerEpoch, ProducerId, TimestampMs, TopicPartition};

use crate::coordinator::record::bytes::{Form, Reader, Writer};
use crate::coordinator::record::{FormatProblem, LogRecord, RecordFormatError, RecordPart};
use crate::coordinator::transaction::context::ProducerIdentity;
use crate::coordinator::transaction::state::TransactionState;

const KIND: i16 = 0;
const VERSION: i16 = 1;
const FLEXIBLE_SINCE: i16 = 1;
const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;
/// A topic takes at least so many bytes: two lengths, and its tags.
const TOPIC_BYTES_MIN: usize = 3;
/// A partition's number.
const PARTITION_BYTES: usize = 4;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Whose.
    pub transactional_id: Arc<str>,
    /// What is known of it now.
    pub value: Option<Transaction>,
}

/// A transactional id with its producer and its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The producer.
    pub producer: ProducerIdentity,
    /// The producer id before the last change of this record; differs after the epochs of an id were used up.
    pub previous_producer_id: ProducerId,
    /// The producer id from the end of this transaction on, if the epochs of this one are used up.
    pub next_producer_id: ProducerId,
    /// The epoch before this one, for a producer that repeats its question. Not written: a restart forgets it, as in Kafka.
    pub last_epoch: ProducerEpoch,
    /// How long its transactions may take.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: TransactionState,
    /// What the transaction has written to, or is about to.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the transaction began; −1 if there was none.
    pub started: TimestampMs,
    /// When this was written.
    pub updated: TimestampMs,
    /// The transaction version of the client that changed it last: with 2, each end has an epoch of its own.
    pub client_version: i16,
}

impl LogRecord for TransactionRecord {
    fn encode_key(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        Writer::key(output, KIND).string(&self.transactional_id)
    }

    fn encode_value(&self, output: &mut Vec<u8>) -> Result<bool, RecordFormatError> {
        let Some(value) = &self.value else {
            return Ok(false);
        };
        value.encode(output)?;
        Ok(true)
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, RecordFormatError> {
        let mut key = Reader::new(key, RecordPart::Key);
        if key.i16()? != KIND {
            return Ok(None);
        }
        let transactional_id = key.string()?;
        key.end()?;
        let value = value.map(|bytes| Transaction::decode(Reader::new(bytes, RecordPart::Value)));
        Ok(Some(Self {
            transactional_id,
            value: value.transpose()?,
        }))
    }
}

impl Transaction {
    fn encode(&self, output: &mut Vec<u8>) -> Result<(), RecordFormatError> {
        let mut value = Writer::value(output, VERSION, Form::Flexible);
        value.i64(self.producer.id.get());
        value.i16(self.producer.epoch.get());
        value.i32(self.timeout_ms);
        value.i8(self.state.id());
        if self.state == TransactionState::Empty {
            value.null_list();
        } else {
            value.list(&self.topics(), |row, (topic, partitions)| {
                row.string(topic)?;
                row.numbers(partitions)?;
                row.no_tagged();
                Ok(())
            })?;
        }
        value.i64(self.updated.get());
        value.i64(self.started.get());
        let mut tags = Vec::with_capacity(3);
        for (tag, id) in [
            (PREVIOUS_PRODUCER_ID, self.previous_producer_id),
            (NEXT_PRODUCER_ID, self.next_producer_id),
        ] {
            if id != ProducerId::NONE {
                tags.push((tag, id.get().to_be_bytes().to_vec()));
            }
        }
        if self.client_version != 0 {
            tags.push((CLIENT_VERSION, self.client_version.to_be_bytes().to_vec()));
        }
        value.tags(&tags)
    }

    /// The partitions by topic.
    #[must_use]
    pub fn topics(&self) -> Vec<(Arc<str>, Vec<i32>)> {
        let mut topics: Vec<(Arc<str>, Vec<i32>)> = Vec::new();
        for place in &self.partitions {
            match topics.last_mut() {
                Some((topic, partitions)) if *topic == place.topic => partitions.push(place.partition),
                _ => topics.push((Arc::clone(&place.topic), vec![place.partition])),
            }
        }
        topics
    }

    fn decode(value: Reader<'_>) -> Result<Self, RecordFormatError> {
        let (version, mut value) = value.version(FLEXIBLE_SINCE)?;
        if !(0..=VERSION).contains(&version) {
            return Err(value.refuse(FormatProblem::UnknownVersion(version)));
        }
        let id = ProducerId::new(value.i64()?);
        let epoch = ProducerEpoch::new(value.i16()?);
        let timeout_ms = value.i32()?;
        let state = value.i8()?;
        let Some(state) = TransactionState::from_id(state) else {
            return Err(value.refuse(FormatProblem::UnknownState(state)));
        };
        let topics = value.nullable_list(TOPIC_BYTES_MIN, |row| {
            let topic = row.string()?;
            let partitions = row.list(PARTITION_BYTES, Reader::i32)?;
            row.no_tagged()?;
            Ok((topic, partitions))
        })?;
        let mut transaction = Self {
            producer: ProducerIdentity { id, epoch },
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms,
            state,
            partitions: BTreeSet::new(),
            updated: TimestampMs::new(value.i64()?),
            started: TimestampMs::new(value.i64()?),
            client_version: 0,
        };
        for (topic, partitions) in topics.into_iter().flatten() {
            let places = partitions.into_iter();
            let places = places.map(|partition| TopicPartition::new(Arc::clone(&topic), partition));
            transaction.partitions.extend(places);
        }
        value.tagged(|tag, field| {
            match tag {
                PREVIOUS_PRODUCER_ID => transaction.previous_producer_id = ProducerId::new(field.i64()?),
                NEXT_PRODUCER_ID => transaction.next_producer_id = ProducerId::new(field.i64()?),
                CLIENT_VERSION => transaction.client_version = field.i16()?,
                _ => {}
            }
            Ok(())
        })?;
        value.end()?;
        Ok(transaction)
    }
}
