//! Transactions on one partition: their first batch, their markers, and who has one open.
//!
//! What a transactional batch goes through, so that none begins a transaction that nobody ends (KIP-890):
//!
//! 1. [`Partition::start_verification`]: where its producer has a transaction open here, the batch can be appended;
//! 2. otherwise the transaction coordinator is asked, and adds the partition to the transaction or says that it is part of it;
//! 3. [`Partition::append_in_transaction`] with what step 1 gave. A marker in between takes the proof back.

use bytes::Bytes;
use log_core::log::AppendOrigin;
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::record::control::TransactionEnd;
use log_core::record::validator::ValidatedBatch;
use tokio::time::Instant;

use crate::partition::error::PartitionError;
use crate::partition::partition::{Acks, Appended, Partition};

/// What a partition knows of a producer (`DescribeProducers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub producer_id: ProducerId,
    /// In which life.
    pub producer_epoch: ProducerEpoch,
    /// Of the last record; [`Sequence::NONE`] when no batch of this epoch is known.
    pub last_sequence: Sequence,
    /// Of the last batch or marker.
    pub last_timestamp: TimestampMs,
    /// Of the coordinator that ended the last transaction; -1 before that.
    pub coordinator_epoch: i32,
    /// Where the open transaction began.
    pub transaction_first_offset: Option<Offset>,
}

impl Partition {
    /// Says what a batch needs that wants to be part of a transaction: with [`TransactionProof::Ongoing`] it can be appended,
    /// with [`TransactionProof::Verified`] after the coordinator was asked.
    ///
    /// # Errors
    /// An older epoch, or there is no log.
    pub fn start_verification(&self, batch: &TransactionalBatch) -> Result<TransactionProof, PartitionError> {
        self.writer.with_runtime(
            |_| false,
            |writer| {
                let proof = writer.log()?.start_verification(batch);
                proof.map_err(PartitionError::Producer)
            },
        )
    }

    /// As [`Self::append_produced`], for a batch that may begin a transaction. A turn at writing it anew is waited for until then.
    ///
    /// # Errors
    /// As [`Self::append_produced`]; the proof counts no more, because the transaction has ended meanwhile.
    pub async fn append_in_transaction(
        &self,
        records: &Bytes,
        acks: Acks,
        proof: &TransactionProof,
        until: Instant,
    ) -> Result<Appended, PartitionError> {
        let mut turn = None;
        let batch = self.validated(records, &mut turn, until).await?;
        self.append_with(&batch, acks, None, |log| {
            log.append_proved(&batch, AppendOrigin::Client, proof)
        })
    }

    /// Appends a batch that a coordinator of ours writes in a producer's name, if the log ends at `end`: as
    /// [`Self::append_own_at`].
    ///
    /// # Errors
    /// As [`Self::append_own_at`] and [`Self::append_in_transaction`].
    pub fn append_own_in_transaction_at(
        &self,
        batch: &ValidatedBatch,
        proof: &TransactionProof,
        end: Offset,
    ) -> Result<Appended, PartitionError> {
        self.append_with(batch, Acks::OnDisk, Some(end), |log| {
            log.append_proved(batch, AppendOrigin::Coordinator, proof)
        })
    }

    /// Writes the marker that ends a transaction here. The answer says when it is on the disk, also where the topic relaxes
    /// flushing; only then is the transaction over for good, and may its coordinator forget it. Where the producer has none open it is written all the same, so that it may be written again.
    ///
    /// # Errors
    /// The producer or the coordinator has a newer epoch, or the log refuses.
    pub fn append_marker(&self, end: TransactionEnd) -> Result<Appended, PartitionError> {
        self.marker(end, None)
    }

    /// The same, but only if the log ends at `log_end`: as [`Self::append_own_at`].
    ///
    /// # Errors
    /// As [`Self::append_marker`] and [`Self::append_own_at`].
    pub fn append_marker_at(&self, end: TransactionEnd, log_end: Offset) -> Result<Appended, PartitionError> {
        self.marker(end, Some(log_end))
    }

    fn marker(&self, end: TransactionEnd, log_end: Option<Offset>) -> Result<Appended, PartitionError> {
        let marker = end.to_batch(self.context.clock.now(), self.config.load().timestamp_type);
        self.append_with(marker.batch(), Acks::OnDisk, log_end, |log| {
            log.append_marker(&marker)
        })
    }

    /// All producers that wrote here and are not forgotten, by their ids.
    ///
    /// # Errors
    /// There is no log.
    pub fn active_producers(&self) -> Result<Vec<ActiveProducer>, PartitionError> {
        let mut writer = self.writer.lock_slow();
        let mut producers: Vec<_> = writer
            .log()?
            .producers()
            .producers()
            .map(|(producer_id, entry)| ActiveProducer {
                producer_id,
                producer_epoch: entry.producer_epoch,
                last_sequence: entry.last_sequence(),
                last_timestamp: entry.last_timestamp,
                coordinator_epoch: entry.coordinator_epoch,
                transaction_first_offset: entry.transaction_first_offset,
            })
            .collect();
        drop(writer);
        producers.sort_unstable_by_key(|one| one.producer_id);
        Ok(producers)
    }
}
