//! Requests with records for one partition, as most have, that wait for nobody's word: those that came together are appended by one
//! call.
//!
//! Their answers leave the sync to the end of the connection's turn ([`Dispatched::Unsynced`]).

use std::sync::Arc;
use std::time::Duration;

use log_core::protocol::RequestPrefix;
use log_core::protocol::messages::ProduceRequestData;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::record::validator::ValidatedBatch;

use super::{Append, Refusal, Verification, Waiting, accepted, handle_rows, may_wait, refuse_all, wait};
use crate::kafka::connection::turn::{SyncTarget, Unsynced};
use crate::kafka::connection::{Dispatched, TOGETHER_BYTES_MAX};
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::Services;
use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks, Appended, Partition};

impl SyncTarget for Partition {
    fn sync_here(&self) {
        Self::sync_here(self);
    }

    fn hand_over(&self) {
        self.mark_dirty();
    }
}

/// Requests that came together, in their order. Only the last one may have to wait ([`may_wait`]). Nothing is carried out behind one
/// that ends the connection, except what stands in the same call (`acks=0`, for only such requests end it).
pub(crate) fn handle_several(
    services: &Arc<Services>,
    requests: Vec<(RequestContext, ProduceRequestData)>,
) -> Vec<Dispatched> {
    let mut dispatched = Vec::with_capacity(requests.len());
    let mut group: Option<Group<'_>> = None;
    for (context, request) in requests {
        if dispatched.iter().any(Dispatched::is_end) {
            break;
        }
        let single = match Single::of(services, &context, request) {
            Ok(single) => single,
            Err(request) => {
                append_group(group.take(), &mut dispatched);
                dispatched.push(handle_rows(services, &context, request));
                continue;
            }
        };
        match single.check() {
            Ok((partition, batch, acks)) => {
                if let Some(other) = group.take_if(|group| !group.takes(&partition, acks)) {
                    append_group(Some(other), &mut dispatched);
                }
                let group = group.get_or_insert_with(|| Group {
                    partition,
                    acks,
                    bytes: 0,
                    batches: Vec::new(),
                    requests: Vec::new(),
                });
                group.bytes = group.bytes.saturating_add(batch.size());
                group.batches.push(batch);
                group.requests.push(single);
            }
            Err(refusal) => {
                append_group(group.take(), &mut dispatched);
                dispatched.push(single.finish(Err(refusal)));
            }
        }
    }
    append_group(group, &mut dispatched);
    dispatched
}

/// Checked batches for one partition, with the requests that they came in.
struct Group<'a> {
    partition: Arc<Partition>,
    acks: Acks,
    /// What the batches take: more than they came with, where they were written anew.
    bytes: usize,
    batches: Vec<ValidatedBatch>,
    requests: Vec<Single<'a>>,
}

impl Group<'_> {
    fn takes(&self, partition: &Arc<Partition>, acks: Acks) -> bool {
        Arc::ptr_eq(&self.partition, partition) && self.acks == acks && self.bytes < TOGETHER_BYTES_MAX
    }
}

fn append_group(group: Option<Group<'_>>, dispatched: &mut Vec<Dispatched>) {
    let Some(group) = group else {
        return;
    };
    let results = group.partition.append_unsynced(&group.batches, group.acks);
    let answered = group.requests.into_iter().zip(results);
    dispatched.extend(answered.map(|(request, result)| request.appended(&group.partition, result)));
}

/// Such a request.
pub(super) struct Single<'a> {
    append: Append<'a>,
    prefix: RequestPrefix,
    wait: Duration,
    topic: TopicProduceData,
    row: PartitionProduceData,
}

impl<'a> Single<'a> {
    /// Gives the request back if it is no such one.
    pub(super) fn of(
        services: &'a Services,
        context: &RequestContext,
        mut request: ProduceRequestData,
    ) -> Result<Self, ProduceRequestData> {
        let is_single = matches!(request.topic_data.as_slice(), [topic] if topic.partition_data.len() == 1);
        if !is_single || refuse_all(&request).is_some() {
            return Err(request);
        }
        // Within a transaction that the partition knows, a batch is like any other.
        if may_wait(&request) {
            let verified = Verification::begin(services, context.version(), &request);
            if !verified.is_ok_and(|verification| verification.finds_nothing()) {
                return Err(request);
            }
        }
        let append = Append::of(services, context.version(), &request);
        let wait = wait(&request);
        let mut topic = request.topic_data.pop().expect("there is one");
        let row = topic.partition_data.pop().expect("there is one");
        Ok(Self {
            append,
            prefix: context.prefix,
            wait,
            topic,
            row,
        })
    }

    /// When it came alone.
    pub(super) fn carry_out(self) -> Dispatched {
        match self.check() {
            Ok((partition, batch, acks)) => {
                let mut results = partition.append_unsynced(std::slice::from_ref(&batch), acks);
                let result = results.pop().expect("a result for the batch");
                self.appended(&partition, result)
            }
            Err(refusal) => self.finish(Err(refusal)),
        }
    }

    fn check(&self) -> Result<(Arc<Partition>, ValidatedBatch, Acks), Refusal> {
        let (partition, records, acks) = self.append.admit(&self.topic, &self.row)?;
        match partition.validated(records) {
            Ok(batch) => Ok((partition, batch, acks)),
            Err(error) => Err(Refusal::by(error, &partition)),
        }
    }

    fn appended(self, partition: &Arc<Partition>, result: Result<Appended, PartitionError>) -> Dispatched {
        let result = result
            .map(|appended| (Arc::clone(partition), appended))
            .map_err(|error| Refusal::by(error, partition));
        self.finish(result)
    }

    fn finish(mut self, result: Result<(Arc<Partition>, Appended), Refusal>) -> Dispatched {
        let index = self.row.index;
        let mut unsynced = None;
        let row = match result {
            Ok((partition, appended)) => {
                let row = accepted(index, &appended);
                if let Ack::WhenDurable(durable) = appended.ack {
                    unsynced = Some(Unsynced::new(partition));
                    self.append.waiting.push(Waiting {
                        topic: 0,
                        row: 0,
                        durable,
                    });
                }
                row
            }
            Err(refusal) => self.append.refused(self.topic.name.as_str(), index, refusal),
        };
        let topic = self.append.answered(&self.topic, vec![row]);
        match (self.append.answer(self.prefix, self.wait, vec![topic]), unsynced) {
            (Dispatched::Later(answer), Some(unsynced)) => Dispatched::Unsynced(answer, unsynced),
            (dispatched, _) => dispatched,
        }
    }
}
