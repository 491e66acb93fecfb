//! Finding records that can be leased, and waiting for them.
//!
//! A round asks the coordinator where the group stands and what is leased, reads of one free partition after the other, and leases what it read. The partition that
//! the group has left alone for longest comes first: then none is starved, whatever the others have. Two who ask at once may read the same; one of them gets
//! it, and the other looks again.
//!
//! Who waits is woken by records in partitions that are free, by leases that end before their time ([`super::bells`]), and when the first of the others ends.

use std::sync::Arc;
use std::time::Duration;

use log_core::log::LogOffsets;
use log_core::model::{Offset, TopicId};
use tokio::time::{Instant, sleep_until};

use crate::coordinator::group::offsets::lease::Lease;
use crate::coordinator::group::offsets::leasing::{LeasePlace, LeaseRequest, LeaseState};
use crate::http::cursor::end_for;
use crate::http::fetch::format::Format;
use crate::http::fetch::page::{Limits, Page, PageBody, Reading};
use crate::http::memory::Held;
use crate::http::problem::{Code, Problem};
use crate::http::record_output::Encodings;
use crate::http::services::Services;
use crate::partition::fetch_waiter::{FetchWaiter, WatchGuard};
use crate::partition::partition::{Isolation, Partition};

/// Partitions that one request looks at: each costs a look under the lock of the group's shard.
const PARTITIONS_MAX: usize = 1_000;
/// Nobody says when a transaction has decided on a group's offset, so it is looked for.
const UNDECIDED: Duration = Duration::from_secs(1);
/// What stands behind the records takes less.
const TAIL_BYTES: usize = 1_024;

/// What somebody wants to lease.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) services: &'a Services,
    pub(super) group: Arc<str>,
    /// Names.
    pub(super) topics: Vec<&'a str>,
    pub(super) limits: Limits,
    pub(super) encodings: Encodings,
    pub(super) lease_ms: i64,
}

/// Records that are leased.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) partition: Arc<Partition>,
    pub(super) lease: Lease,
    /// The records as JSON, which lacks its end.
    pub(super) body: Vec<u8>,
    /// Pays for the body, end and all.
    pub(super) held: Held,
}

/// What a round came to.
enum Round {
    Leased(Leased),
    /// Somebody was quicker: everything may be different by now.
    Overtaken,
    /// There is nothing. Free partitions are watched; something else may be there at that moment.
    Nothing(Vec<WatchGuard>, Option<Instant>),
}

/// Records that were read and are not leased yet.
struct Batch {
    page: Page,
    from: Offset,
    held: Held,
}

impl Search<'_> {
    /// Leases records; with `until` set, waits for some as long. `None` if there are none.
    pub(super) async fn run(&self, until: Option<Instant>) -> Result<Option<Leased>, Problem> {
        let waiter = FetchWaiter::new();
        let _bell = self.services.lease_bells.watch(&self.group, &waiter);
        let mut shutdown = self.services.shutdown.clone();
        loop {
            let (watches, next) = match self.round(&waiter).await? {
                Round::Leased(leased) => return Ok(Some(leased)),
                Round::Overtaken => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Round::Nothing(watches, next) => (watches, next),
            };
            let Some(until) = until else {
                return Ok(None);
            };
            let _counted = self.services.partitions.metrics().waiting_fetches.hold();
            tokio::select! {
                biased;
                _ = shutdown.requested() => return Ok(None),
                () = sleep_until(until) => return Ok(None),
                () = waiter.notified() => {}
                () = sleep_until(next.unwrap_or(until)) => {}
            }
            drop(watches);
        }
    }

    async fn round(&self, waiter: &Arc<FetchWaiter>) -> Result<Round, Problem> {
        let mut places = self.survey().await?;
        places.sort_by_key(|place| place.committed_at_ms);
        let (mut watches, mut next, mut failed) = (Vec::new(), None, None);
        for place in places {
            if let Some(moment) = self.end_of(&place.state) {
                next = next.into_iter().chain([moment]).min();
                continue;
            }
            let index = place.partition;
            let Some(partition) = self.services.partitions.get_by_id(place.topic.id, index) else {
                continue;
            };
            // First watch, then look: what comes between the two is seen by the look.
            watches.push(partition.watch(waiter));
            let batch = match self.read(&partition, &place).await {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                // What it began with was deleted meanwhile.
                Err(problem) if problem.code() == Code::OffsetOutOfRange => return Ok(Round::Overtaken),
                // A partition that cannot be read does not keep the others from being read.
                Err(problem) => {
                    failed = Some(problem);
                    continue;
                }
            };
            return Ok(match self.lease(&place, &batch).await? {
                None => Round::Overtaken,
                Some(lease) => Round::Leased(self.leased(partition, lease, batch)),
            });
        }
        match failed {
            Some(problem) => Err(problem),
            None => Ok(Round::Nothing(watches, next)),
        }
    }

    /// Where the group stands now.
    async fn survey(&self) -> Result<Vec<LeasePlace>, Problem> {
        let (mut topics, mut partitions) = (Vec::<TopicId>::with_capacity(self.topics.len()), 0);
        for name in &self.topics {
            let topic = self.services.topic(name)?;
            partitions += usize::try_from(topic.partition_count).unwrap_or_default();
            topics.push(topic.id);
        }
        if PARTITIONS_MAX < partitions {
            return Err(Problem::invalid(format!(
                "the topics have {partitions} partitions together; one lease chooses among {PARTITIONS_MAX} at most"
            )));
        }
        let group = Arc::clone(&self.group);
        let survey = self
            .services
            .groups
            .run(&self.group, move |shard, context| {
                shard.survey_leases(context, &group, &topics)
            })
            .await?;
        Ok(survey?)
    }

    /// When a partition that is not free is worth another look.
    fn end_of(&self, state: &LeaseState) -> Option<Instant> {
        let left = match state {
            LeaseState::Free => return None,
            LeaseState::Undecided => UNDECIDED,
            LeaseState::Leased(lease) => {
                let left_ms = lease.expires_ms.saturating_sub(self.services.clock.now().get());
                Duration::from_millis(u64::try_from(left_ms).unwrap_or_default())
            }
        };
        Some(Instant::now() + left)
    }

    /// Reads on where the group stands.
    async fn read(&self, partition: &Arc<Partition>, place: &LeasePlace) -> Result<Option<Batch>, Problem> {
        let offsets = partition.condition().reader()?.offsets();
        let from = begin(place.committed, &offsets);
        if end_for(Isolation::Committed, &offsets) <= from {
            return Ok(None);
        }
        let reading = self.reading(partition);
        let page = reading.look(from).await?;
        if page.first.is_none() {
            return Ok(None);
        }
        // Before anything is leased that could not be sent.
        let held = self
            .services
            .memory
            .pay_ahead(page.body.capacity() + TAIL_BYTES)?;
        Ok(Some(Batch { page, from, held }))
    }

    fn reading<'a>(&'a self, partition: &'a Arc<Partition>) -> Reading<'a> {
        Reading {
            services: self.services,
            partition,
            isolation: Isolation::Committed,
            format: Format::Json,
            limits: self.limits,
            encodings: self.encodings,
        }
    }

    /// Leases what was read, unless somebody was quicker.
    async fn lease(&self, place: &LeasePlace, batch: &Batch) -> Result<Option<Lease>, Problem> {
        let request = LeaseRequest {
            group: Arc::clone(&self.group),
            topic: place.topic.id,
            partition: place.partition,
            committed: place.committed,
            from: batch.from.get(),
            to: batch.page.next_offset.get(),
            lease_ms: self.lease_ms,
        };
        let leased = self
            .services
            .groups
            .run(&self.group, move |shard, context| shard.lease(context, &request))
            .await?;
        Ok(leased?)
    }

    fn leased(&self, partition: Arc<Partition>, lease: Lease, batch: Batch) -> Leased {
        self.reading(&partition).count(&batch.page);
        let body = match batch.page.body {
            PageBody::Made(body) => body,
            PageBody::Stored(bytes) => bytes.into(),
        };
        Leased {
            partition,
            lease,
            body,
            held: batch.held,
        }
    }
}

/// Where reading begins: at the group's offset if the log has it, else at the first record. Kafka calls that `earliest`.
fn begin(committed: Option<i64>, offsets: &LogOffsets) -> Offset {
    let committed = committed.map(Offset::new);
    let is_there = |offset: &Offset| offsets.log_start <= *offset && *offset <= offsets.high_watermark;
    committed.filter(is_there).unwrap_or(offsets.log_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_where_the_group_stands_or_with_the_first_record() {
        let offsets = LogOffsets {
            log_start: Offset::new(5),
            ..LogOffsets::at(Offset::new(9))
        };
        for (committed, expected) in [
            (None, 5),
            (Some(-1), 5),
            (Some(4), 5),
            (Some(5), 5),
            (Some(8), 8),
            (Some(9), 9),
            (Some(10), 5),
        ] {
            assert_eq!(begin(committed, &offsets).get(), expected, "{committed:?}");
        }
    }
}
