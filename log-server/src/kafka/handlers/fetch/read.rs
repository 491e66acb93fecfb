//! One pass over the partitions of a fetch: what each has to say now, within the byte limits.
//!
//! | a partition | its row | the wait |
//! |---|---|---|
//! | whose topic or index is unknown | the error, −1 for all offsets | goes on |
//! | that cannot be read as asked (epoch, offset, disk, another topic's id) | the error, −1 for all offsets | ends |
//! | whose log parted from the client's | where, and no records | ends |
//! | with records | the records | ends when they are enough with those of the others |
//! | without | its offsets | goes on |
//!
//! The first batch of the response is given even if it is larger than all limits, so that a client makes progress;
//! after it the limits hold. A limit cuts records off in the middle of a batch and never goes on behind it.

use std::sync::Arc;

use bytes::Bytes;
use log_core::model::{LeaderEpoch, Offset, TopicId};
use log_core::protocol::ErrorCode;
use log_core::segment::segment::Patience;

use crate::kafka::error_map::partition_error;
use crate::kafka::fetch_response::{DivergingEpoch, PartitionRow};
use crate::kafka::fetch_session::{FetchTarget, PartitionFetch};
use crate::kafka::services::{Services, check_leader_epoch};
use crate::partition::error::PartitionError;
use crate::partition::fetch_waiter::{FetchWaiter, WatchGuard};
use crate::partition::partition::{Isolation, Partition, PartitionRead};

/// What holds for all partitions of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Bytes of records in the response.
    pub(super) bytes_max: usize,
    /// Fewer are worth waiting for more.
    pub(super) bytes_min: usize,
    /// Which records the client may see.
    pub(super) isolation: Isolation,
    /// Whether the request claims to come from another broker.
    pub(super) is_follower: bool,
    /// Whether the client's version has the code for a failed disk.
    pub(super) knows_storage_error: bool,
    /// This node.
    pub(super) node_id: i32,
}

/// The partitions of a request, found.
#[derive(Debug)]
pub(super) struct Reader {
    terms: Terms,
    targets: Vec<FetchTarget>,
    found: Vec<Found>,
}

#[derive(Debug)]
enum Found {
    Here(Arc<Partition>),
    /// The error is told and nothing more; others may wait.
    Unknown(ErrorCode),
    /// The name is here, with another id.
    Inconsistent,
}

/// What one pass over the partitions gave: a row for each target.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) rows: Vec<PartitionRow>,
    record_bytes: usize,
    /// An error or a divergence is told at once.
    must_tell: bool,
}

/// The offsets in a row.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
}

impl Reader {
    /// Finds the partitions.
    pub(super) fn new(services: &Services, targets: Vec<FetchTarget>, terms: Terms) -> Self {
        let found = targets.iter().map(|target| find(services, target)).collect();
        Self {
            terms,
            targets,
            found,
        }
    }

    /// What is read, in the order of the rows.
    pub(super) fn targets(&self) -> &[FetchTarget] {
        &self.targets
    }

    /// Whether the answer need not wait.
    pub(super) fn is_enough(&self, pass: &Pass) -> bool {
        let nothing_to_wait_for = !self.found.iter().any(|found| matches!(found, Found::Here(_)));
        nothing_to_wait_for || pass.must_tell || self.terms.bytes_min <= pass.record_bytes
    }

    /// Wakes the waiter when one of the partitions moves, until the guards are dropped.
    pub(super) fn watch(&self, waiter: &Arc<FetchWaiter>) -> Vec<WatchGuard> {
        self.partitions()
            .map(|(_, partition)| partition.watch(waiter))
            .collect()
    }

    /// Whether another pass would tell something else than this one.
    pub(super) fn has_moved(&self, pass: &Pass) -> bool {
        self.differs(pass, |told, now| told != now)
    }

    /// Whether another pass may find what is worth an answer. A reader of committed records need not look again for each record
    /// that is appended behind an open transaction.
    pub(super) fn may_have_more(&self, pass: &Pass) -> bool {
        match self.terms.isolation {
            Isolation::Uncommitted => self.has_moved(pass),
            Isolation::Committed => self.differs(pass, |told, now| {
                (told.last_stable, told.log_start) != (now.last_stable, now.log_start)
            }),
        }
    }

    fn differs(&self, pass: &Pass, is_news: impl Fn(&Told, &Told) -> bool) -> bool {
        self.partitions().any(|(place, partition)| {
            let row = pass.rows.get(place);
            row.is_none_or(|row| {
                let offsets = partition.offsets();
                let told = Told {
                    high_watermark: row.high_watermark,
                    last_stable: row.last_stable_offset,
                    log_start: row.log_start_offset,
                };
                let now = Told {
                    high_watermark: offsets.high_watermark.get(),
                    last_stable: offsets.last_stable.get(),
                    log_start: offsets.log_start.get(),
                };
                is_news(&told, &now) || partition.condition().reader().is_err()
            })
        })
    }

    /// Counts what leaves for the client.
    pub(super) fn count_sent(&self, rows: &[PartitionRow]) {
        for (place, partition) in self.partitions() {
            if let Some(row) = rows.get(place) {
                partition.count_sent(&row.records);
            }
        }
    }

    fn partitions(&self) -> impl Iterator<Item = (usize, &Arc<Partition>)> {
        self.found
            .iter()
            .enumerate()
            .filter_map(|(place, found)| match found {
                Found::Here(partition) => Some((place, partition)),
                Found::Unknown(_) | Found::Inconsistent => None,
            })
    }

    /// Reads; `None` when that would block and must not.
    pub(super) fn pass(&self, patience: Patience) -> Option<Pass> {
        let mut pass = Pass {
            rows: Vec::with_capacity(self.targets.len()),
            ..Pass::default()
        };
        for (target, found) in self.targets.iter().zip(&self.found) {
            let row = match found {
                Found::Unknown(error) => unknown_row(target, *error),
                Found::Inconsistent => pass.refused(target, ErrorCode::InconsistentTopicId),
                Found::Here(partition) => match self.read(&mut pass, target, partition, patience) {
                    Ok(row) => row,
                    Err(Refusal::WouldBlock) => return None,
                    Err(Refusal::Code(error)) => self.refused(&mut pass, target, partition, error),
                },
            };
            pass.rows.push(row);
        }
        Some(pass)
    }

    fn read(
        &self,
        pass: &mut Pass,
        target: &FetchTarget,
        partition: &Partition,
        patience: Patience,
    ) -> Result<PartitionRow, Refusal> {
        let PartitionFetch {
            offset,
            bytes_max,
            current_leader_epoch,
            last_fetched_epoch,
        } = target.fetch;
        if self.terms.is_follower {
            return Err(Refusal::Code(match current_leader_epoch {
                -1 => ErrorCode::NotLeaderOrFollower,
                _ => ErrorCode::UnknownLeaderEpoch,
            }));
        }
        partition.check_readable()?;
        // Here, as in Kafka, any negative epoch means that none is known.
        check_leader_epoch(partition, current_leader_epoch.max(-1))?;
        let diverging_epoch = divergence(partition, offset, last_fetched_epoch)?;
        let left = self.terms.bytes_max.saturating_sub(pass.record_bytes);
        let wants_records = diverging_epoch.is_none();
        let slice = if wants_records {
            let read = PartitionRead {
                offset: Offset::new(offset),
                bytes_max: usize::try_from(bytes_max).unwrap_or(0).min(left),
                at_least_one_batch: pass.record_bytes == 0,
                isolation: self.terms.isolation,
            };
            Some(partition.read(&read, patience)?)
        } else {
            None
        };
        let offsets = slice
            .as_ref()
            .map_or_else(|| partition.offsets(), |slice| slice.offsets);
        let (records, aborted) = slice
            .map(|slice| (slice.records, slice.aborted))
            .unwrap_or_default();
        pass.record_bytes += records.len();
        pass.must_tell |= !wants_records;
        let aborted = aborted
            .iter()
            .map(|one| (one.producer_id.get(), one.first_offset.get()));
        Ok(PartitionRow {
            topic: target.topic.clone(),
            partition: target.partition,
            error_code: ErrorCode::None.code(),
            high_watermark: offsets.high_watermark.get(),
            last_stable_offset: offsets.last_stable.get(),
            log_start_offset: offsets.log_start.get(),
            aborted_transactions: (self.terms.isolation == Isolation::Committed).then(|| aborted.collect()),
            diverging_epoch,
            current_leader: None,
            records,
        })
    }

    fn refused(
        &self,
        pass: &mut Pass,
        target: &FetchTarget,
        partition: &Partition,
        error: ErrorCode,
    ) -> PartitionRow {
        let told = match error {
            ErrorCode::KafkaStorageError if !self.terms.knows_storage_error => ErrorCode::NotLeaderOrFollower,
            other => other,
        };
        let names_leader = matches!(
            told,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        );
        let leader = (self.terms.node_id, partition.leader_epoch().get());
        PartitionRow {
            current_leader: names_leader.then_some(leader),
            ..pass.refused(target, told)
        }
    }
}

impl Pass {
    fn refused(&mut self, target: &FetchTarget, error: ErrorCode) -> PartitionRow {
        self.must_tell = true;
        PartitionRow {
            aborted_transactions: None,
            ..unknown_row(target, error)
        }
    }
}

enum Refusal {
    WouldBlock,
    Code(ErrorCode),
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self::Code(error)
    }
}

impl From<PartitionError> for Refusal {
    fn from(error: PartitionError) -> Self {
        match error {
            PartitionError::WouldBlock => Self::WouldBlock,
            other => Self::Code(partition_error(&other)),
        }
    }
}

fn find(services: &Services, target: &FetchTarget) -> Found {
    let Some(name) = &target.topic.name else {
        return Found::Unknown(ErrorCode::UnknownTopicId);
    };
    let by_name = services.partition(name, target.partition);
    match by_name {
        None => Found::Unknown(ErrorCode::UnknownTopicOrPartition),
        Some(partition) if target.topic.id == TopicId::ZERO || target.topic.id == partition.topic_id() => {
            Found::Here(partition)
        }
        Some(_) => Found::Inconsistent,
    }
}

/// Where the client's log and ours part, judged by the epoch of the client's last record (KIP-595).
fn divergence(
    partition: &Partition,
    offset: i64,
    last_fetched_epoch: i32,
) -> Result<Option<DivergingEpoch>, ErrorCode> {
    if last_fetched_epoch < 0 {
        return Ok(None);
    }
    let (epoch, end) = partition.end_offset_for_epoch(LeaderEpoch::new(last_fetched_epoch));
    let (epoch, end_offset) = (epoch.get(), end.get());
    if epoch < 0 || end_offset < 0 || offset < partition.offsets().log_start.get() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let has_parted = epoch < last_fetched_epoch || end_offset < offset;
    Ok(has_parted.then_some(DivergingEpoch { epoch, end_offset }))
}

/// A row for a partition that is not here. Its list of aborted transactions is empty where that of one that cannot be read is null:
/// so Kafka writes them.
fn unknown_row(target: &FetchTarget, error: ErrorCode) -> PartitionRow {
    PartitionRow {
        topic: target.topic.clone(),
        partition: target.partition,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted_transactions: Some(Vec::new()),
        diverging_epoch: None,
        current_leader: None,
        records: Bytes::new(),
    }
}
