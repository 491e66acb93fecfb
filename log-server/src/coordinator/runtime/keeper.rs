//! The task of one host: it loads the shard, lets late answers go, runs the timers, and drops the shard when its log fails.
//!
//! It sleeps until the shard's next deadline, and is woken by the partition (a sync, a failure, a mended log) and by commands that
//! set an earlier deadline.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinError, JoinHandle};

use crate::coordinator::runtime::error::HostError;
use crate::coordinator::runtime::host::{ShardHost, Turn};
use crate::coordinator::runtime::load::{self, LoadError, Loaded};
use crate::coordinator::runtime::shard::Shard;
use crate::coordinator::runtime::tidy::{Tidied, TidyError, tidy};
use crate::partition::partition::Partition;

/// A log that could not be read is tried again after so long,
const RETRY: Duration = Duration::from_secs(1);
/// and later and later, up to this.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// So many shards of a coordinator are tidied up at once. After a start it is time for all of them that are not small, and each is read
/// from its front, with all keys in memory. Not one alone: a round may wait a minute for an open transaction.
const TIDYING_MAX: usize = 2;
/// So many timers run before other tasks have their turn.
const TURNS: u32 = 32;

/// How many of a coordinator's shards do at once what takes its time.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// Reading their logs.
    pub(super) loading: Arc<Semaphore>,
    /// Tidying them up.
    pub(super) tidying: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            loading: Arc::new(Semaphore::new(threads)),
            tidying: Arc::new(Semaphore::new(TIDYING_MAX)),
        }
    }
}

/// Keeps a host until it is stopped. `looked` hears of the end of the first attempt to load.
pub(super) async fn keep<S: Shard>(
    host: Arc<ShardHost<S>>,
    shared: Turns,
    looked: Option<oneshot::Sender<()>>,
) {
    let _watch = host.partition().watch(host.bell());
    let mut looked = looked;
    let mut retry = RETRY;
    let mut turns = 0;
    let mut tidying: Option<JoinHandle<()>> = None;
    loop {
        if tidying.as_ref().is_none_or(JoinHandle::is_finished) && host.is_tidying_due() {
            let round = tidy_in_turn(Arc::clone(&host), Arc::clone(&shared.tidying));
            tidying = Some(tokio::spawn(round));
        }
        match host.turn() {
            Turn::End => break,
            Turn::Again => {
                turns += 1;
                if turns % TURNS == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Turn::Wait(None) => {
                // It may be off-line from the beginning.
                looked.take();
                host.bell().notified().await;
            }
            Turn::Wait(Some(deadline)) => {
                let left = deadline.saturating_since(host.steady()).max(0);
                let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
                // Whichever comes first: both mean "look again".
                drop(tokio::time::timeout(left, host.bell().notified()).await);
            }
            Turn::Load => match try_to_load(&host, &shared.loading).await {
                Ok(is_current) => {
                    retry = RETRY;
                    if is_current {
                        looked.take();
                    }
                }
                Err(error) => {
                    looked.take();
                    let delay = report(&host, &error, retry);
                    retry = retry.saturating_mul(2).min(RETRY_MAX);
                    wait_for_retry(&host, delay).await;
                }
            },
        }
    }
    if let Some(task) = tidying {
        report_panic(&host, task.await);
    }
}

/// One round, when it is this shard's turn.
async fn tidy_in_turn<S: Shard>(host: Arc<ShardHost<S>>, turns: Arc<Semaphore>) {
    let _turn = turns.acquire().await.expect("the semaphore is never closed");
    // The shard may be gone by now, and with the broker's end all that wait come here.
    if host.is_tidying_due() {
        let tidied = Arc::clone(&host);
        let round = tokio::task::spawn_blocking(move || tidy_up(&tidied));
        report_panic(&host, round.await);
    }
}

fn report_panic<S: Shard>(host: &ShardHost<S>, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(partition = %host.partition().name(), %error, "tidying up panicked");
    }
}

/// One round of tidying up, and when to think of the next. Blocks.
fn tidy_up<S: Shard>(host: &Arc<ShardHost<S>>) {
    let name = host.partition().name();
    let before = host.partition().size_in_bytes();
    let done = tidy(host, host.tidying());
    host.end_tidying();
    let bytes = host.partition().size_in_bytes();
    match done {
        Ok(Tidied {
            live_bytes,
            log_start,
        }) => {
            // Segments may go a little later than the log start, and must not count again until then.
            let settled = live_bytes.saturating_mul(2).max(bytes);
            host.set_tidy_at(settled.saturating_add(host.tidying().bytes_min));
            if let Some(log_start) = log_start {
                tracing::info!(partition = %name, holds = S::NOUN, %log_start, before, bytes, live_bytes, "log tidied up");
            }
        }
        Err(error) => {
            // Not at once: what made it fail will probably stand for a while.
            host.set_tidy_at(bytes.saturating_add(host.tidying().bytes_min));
            if !matches!(error, TidyError::Interrupted) {
                tracing::warn!(partition = %name, operation = "tidy up", %error, "put off; nothing is lost");
            }
        }
    }
}

/// False when the log moved on meanwhile.
async fn try_to_load<S: Shard>(host: &Arc<ShardHost<S>>, loading: &Semaphore) -> Result<bool, LoadError> {
    host.set_absent(HostError::LoadInProgress);
    let _permit = loading.acquire().await.expect("the semaphore is never closed");
    let partition = Arc::clone(host.partition());
    let began = std::time::Instant::now();
    let loaded = crate::partition::offset_query::blocking(move || load::load(&partition)).await??;
    report_loaded(host, &loaded, began.elapsed());
    Ok(host.serve(loaded))
}

fn report_loaded<S: Shard>(host: &ShardHost<S>, loaded: &Loaded<S>, took: Duration) {
    let partition = host.partition().name();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (records, unknown) = (loaded.records, loaded.unknown);
    if 0 < unknown {
        tracing::warn!(
            %partition, records, unknown, took_ms,
            "{} loaded; records of kinds that this version does not know were passed over", S::NOUN
        );
    } else if 0 < records {
        tracing::info!(%partition, records, took_ms, "{} loaded", S::NOUN);
    }
}

/// Logs a failure and says what clients are told. `None`: there is no use in trying again.
fn report<S: Shard>(host: &ShardHost<S>, error: &LoadError, retry: Duration) -> Option<Duration> {
    let partition = host.partition().name();
    host.set_absent(HostError::Unreadable(error.to_string()));
    if error.can_mend() {
        tracing::error!(%partition, operation = "load", %error, retry = ?retry, "its {} are not served yet", S::NOUN);
        return Some(retry);
    }
    let file = damaged_file(host.partition(), error).unwrap_or_default();
    tracing::error!(
        %partition, operation = "load", %error, file = %file.display(),
        "its {} are not served, all others are; look at the file with `stratalog log dump`, stop the broker, bring the \
         partition's directory back from a copy, and start it again", S::NOUN
    );
    None
}

/// The file that somebody has to look at.
pub(super) fn damaged_file(partition: &Partition, error: &LoadError) -> Option<PathBuf> {
    let condition = partition.condition();
    condition.reader().ok()?.file_of(error.offset()?)
}

async fn wait_for_retry<S: Shard>(host: &ShardHost<S>, delay: Option<Duration>) {
    match delay {
        Some(delay) => drop(tokio::time::timeout(delay, host.bell().notified()).await),
        None => host.bell().notified().await,
    }
}
