//! Appends whose sync the caller asks for: several batches at once, and then one sync for all of them, when it is time.
//! Whoever appends in this way must ask: an acknowledgement waits for it, and nobody else knows.

use log_core::log::AppendOutcome;
use log_core::record::validator::ValidatedBatch;

use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks, AnswerTerms, Appended, Partition, answer_of, will_roll};
use crate::partition::upkeep::FollowUp;
use crate::partition::writer::Writer;

impl Partition {
    /// Appends what producers sent, in its order, as few writes as it takes. Where [`Ack::WhenDurable`] comes back, the caller
    /// has to see to the sync: by [`Self::mark_dirty`], or by [`Self::sync_here`]. A result for each batch.
    pub fn append_unsynced(
        &self,
        batches: &[ValidatedBatch],
        acks: Acks,
    ) -> Vec<Result<Appended, PartitionError>> {
        let (results, follow_up) = self.writer.with_runtime(
            |writer| will_roll(writer, batches),
            |writer| {
                let results = self.append_all_locked(writer, batches, acks);
                let follow_up = self.after_appends(writer, &results);
                (results, follow_up)
            },
        );
        self.follow_up(follow_up);
        results
    }

    /// Puts the partition in line for a flush.
    pub fn mark_dirty(&self) {
        self.context.flush_queue.mark_dirty(&self.shared());
    }

    /// Syncs it on this thread, if nobody else is at it; else puts it in line. For a request that has nothing to do meanwhile.
    pub fn sync_here(&self) {
        self.context.flush_queue.sync_here(&self.shared());
    }

    /// What is to be done without the lock after several appends, of which some may have failed.
    fn after_appends(&self, writer: &mut Writer, results: &[Result<Appended, PartitionError>]) -> FollowUp {
        let mut follow_up = FollowUp::default();
        if results.iter().any(Result::is_ok) {
            let leaves_sync = |appended: &Appended| matches!(appended.ack, Ack::WhenDurable(_));
            follow_up = self.after_append(writer);
            follow_up.is_dirty &= !results.iter().flatten().any(leaves_sync);
        }
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            self.count_refused_append(error);
            follow_up = follow_up.and(self.after_refusal(writer, error));
        }
        follow_up
    }

    /// Appends under the lock, and queues the answers in the same breath.
    fn append_all_locked(
        &self,
        writer: &mut Writer,
        batches: &[ValidatedBatch],
        acks: Acks,
    ) -> Vec<Result<Appended, PartitionError>> {
        let log = match writer.log() {
            Ok(log) => log,
            Err(absence) => return batches.iter().map(|_| Err(absence.clone())).collect(),
        };
        let outcomes = log.append(batches);
        let terms = AnswerTerms::of(log, acks);
        let mut answers = Vec::with_capacity(outcomes.len());
        for (outcome, batch) in outcomes.into_iter().zip(batches) {
            if matches!(outcome, Ok(AppendOutcome::Appended { .. })) {
                self.count_received(batch);
            }
            let answer = outcome.map(|outcome| answer_of(outcome, &terms, writer));
            answers.push(answer.map_err(PartitionError::from_append));
        }
        answers
    }
}
