//! Requests with records for one partition, as most have, that wait for nobody's word: those that came together are appended by one
//! call.
//!
//! Their answers leave the sync to the end of the connection's turn ([`Dispatched::Unsynced`]).

use std::ops::ControlFlow;
use std::sync::Arc;

use log_core::protocol::RequestPrefix;
use log_core::protocol::messages::ProduceRequestData;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::record::validator::ValidatedBatch;
use tokio::time::Instant;

use super::{Append, Refusal, Verification, Waiting, accepted, handle_rows, may_wait, refuse_all, wait};
use crate::kafka::connection::turn::{SyncTarget, Unsynced};
use crate::kafka::connection::{Dispatched, TOGETHER_BYTES_MAX};
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::Services;
use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks, Appended, Partition};
use crate::partition::recompression::RecompressionTurn;

impl SyncTarget for Partition {
    fn sync_here(&self) {
        Self::sync_here(self);
    }

    fn hand_over(&self) {
        self.mark_dirty();
    }
}

/// Produce requests that came together. They are carried out in their order, those for the same partition by one call.
pub(crate) struct Together<'a> {
    services: &'a Arc<Services>,
    dispatched: Vec<Dispatched>,
    group: Option<Group<'a>>,
    /// What the batches of all groups take: more than they came with, where they were written anew.
    bytes: usize,
    /// What those share that were.
    turn: Option<RecompressionTurn>,
}

/// Checked batches for one partition, with the requests that they came in.
struct Group<'a> {
    partition: Arc<Partition>,
    acks: Acks,
    batches: Vec<ValidatedBatch>,
    requests: Vec<Single<'a>>,
}

impl<'a> Together<'a> {
    /// None yet, and about so many to come.
    pub(crate) fn new(services: &'a Arc<Services>, count: usize) -> Self {
        Self {
            services,
            dispatched: Vec::with_capacity(count),
            group: None,
            bytes: 0,
            turn: None,
        }
    }

    /// One more. Breaks where the next one must not come with it: behind one that may have to wait ([`may_wait`], or for a turn), behind one that
    /// ends the connection, except where that is not known yet (`acks=0`, for only such requests end it), and behind so much that
    /// the answers should leave first.
    pub(crate) fn take(&mut self, context: &RequestContext, request: ProduceRequestData) -> ControlFlow<()> {
        let may_wait = may_wait(&request);
        let single = Single::of(self.services, context, request);
        if let Err(request) = single.and_then(|single| self.take_single(single)) {
            self.append_group();
            self.turn = None;
            self.dispatched
                .push(handle_rows(self.services, context.prefix, request));
        }
        let is_last = |one: &Dispatched| one.is_end() || matches!(one, Dispatched::Begun(_));
        if may_wait || TOGETHER_BYTES_MAX <= self.bytes || self.dispatched.iter().any(is_last) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Gives the request back if it has to wait for a turn.
    fn take_single(&mut self, single: Single<'a>) -> Result<(), ProduceRequestData> {
        match single.check(&mut self.turn) {
            Ok((partition, batch, acks)) => {
                if let Some(group) = &self.group
                    && !group.takes(&partition, acks)
                {
                    self.append_group();
                }
                let group = self.group.get_or_insert_with(|| Group {
                    partition,
                    acks,
                    batches: Vec::new(),
                    requests: Vec::new(),
                });
                self.bytes = self.bytes.saturating_add(batch.size());
                group.batches.push(batch);
                group.requests.push(single);
            }
            Err(Unappended::Refused(refusal)) => {
                self.append_group();
                self.dispatched.push(single.finish(Err(refusal)));
            }
            Err(Unappended::AwaitsTurn) => return Err(single.into_request()),
        }
        Ok(())
    }

    fn append_group(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        let results = group.partition.append_unsynced(&group.batches, group.acks);
        let answered = group.requests.into_iter().zip(results);
        let answered = answered.map(|(request, result)| request.appended(&group.partition, result));
        self.dispatched.extend(answered);
    }

    /// How far each of them is. Only the last one may still have to wait.
    pub(crate) fn finish(mut self) -> Vec<Dispatched> {
        self.append_group();
        self.dispatched
    }
}

impl Group<'_> {
    fn takes(&self, partition: &Arc<Partition>, acks: Acks) -> bool {
        Arc::ptr_eq(&self.partition, partition) && self.acks == acks
    }
}

/// Why a batch is not appended.
enum Unappended {
    Refused(Refusal),
    /// It is to be written anew, and others are at that.
    AwaitsTurn,
}

impl From<Refusal> for Unappended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Such a request.
pub(super) struct Single<'a> {
    append: Append<'a>,
    prefix: RequestPrefix,
    /// Without what stands below.
    request: ProduceRequestData,
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
        let mut topic = request.topic_data.pop().expect("there is one");
        let row = topic.partition_data.pop().expect("there is one");
        Ok(Self {
            append,
            prefix: context.prefix,
            request,
            topic,
            row,
        })
    }

    /// When it came alone. Gives the request back if it has to wait for a turn.
    pub(super) fn carry_out(self) -> Result<Dispatched, ProduceRequestData> {
        let mut turn = None;
        match self.check(&mut turn) {
            Ok((partition, batch, acks)) => {
                let mut results = partition.append_unsynced(std::slice::from_ref(&batch), acks);
                let result = results.pop().expect("a result for the batch");
                Ok(self.appended(&partition, result))
            }
            Err(Unappended::Refused(refusal)) => Ok(self.finish(Err(refusal))),
            Err(Unappended::AwaitsTurn) => Err(self.into_request()),
        }
    }

    fn check(
        &self,
        turn: &mut Option<RecompressionTurn>,
    ) -> Result<(Arc<Partition>, ValidatedBatch, Acks), Unappended> {
        let (partition, records, acks) = self.append.admit(&self.topic, &self.row)?;
        match partition.try_validated(records, turn) {
            Some(Ok(batch)) => Ok((partition, batch, acks)),
            Some(Err(error)) => Err(Refusal::by(error, &partition).into()),
            None => Err(Unappended::AwaitsTurn),
        }
    }

    fn into_request(mut self) -> ProduceRequestData {
        self.topic.partition_data.push(self.row);
        self.request.topic_data.push(self.topic);
        self.request
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
        let until = Instant::now() + wait(&self.request);
        match (self.append.answer(self.prefix, until, vec![topic]), unsynced) {
            (Dispatched::Later(answer), Some(unsynced)) => Dispatched::Unsynced(answer, unsynced),
            (dispatched, _) => dispatched,
        }
    }
}
