//! Whole runs against the null broker, with a proxy between that does what brokers do at times: a topic was just made and its leaders do
//! not know of it, or a request is refused.

use std::sync::Arc;
use std::time::Duration;

use log_core::protocol::messages::{ListOffsetsRequestData, ProduceRequestData};
use log_core::protocol::{ApiKey, ErrorCode};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::plan::{Plan, Workload};
use super::result::{RunResult, Verification};
use super::run;
use super::stage::{Live, Watcher};
use crate::null_broker::{Send as SendBy, Settings, Space, Store, Sync as SyncBy, serve};
use crate::proxy::{Answer, Proxy};

struct Nobody;

impl Watcher for Nobody {
    fn phase(&self, _: &str) {}

    fn look(&self, _: &Live) {}

    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Old records are produced and read once, while the proxy meddles.
async fn fetch_run(
    meddle: impl FnMut(&mut Answer) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<RunResult> {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        directory: directory.path().to_path_buf(),
        store: Store::Pwrite,
        sync: SyncBy::None,
        space: Space::Allocated,
        segment_bytes: 1 << 20,
        send: SendBy::Sendfile,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string(), meddle).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let broker = tokio::spawn(serve(listener, settings, async move {
        stopped.await.ok();
    }));
    let plan = Plan {
        partitions: 3,
        batch_bytes: 4 << 10,
        prefill_bytes: u64::from(RECORDS) << 10,
        records: Some(1),
        warm_up: Duration::ZERO,
        ..Plan::new(Workload::Fetch, &proxy.address())
    };
    let result = run::run(&plan, &Nobody).await;
    stop.send(()).unwrap();
    broker.await.unwrap().unwrap();
    result
}

const RECORDS: u32 = 64;

fn verified(result: anyhow::Result<RunResult>) -> Verification {
    let verification = result.unwrap().verification.unwrap();
    assert!(verification.passed, "{verification:?}");
    assert_eq!(verification.acknowledged, u64::from(RECORDS));
    verification
}

#[tokio::test]
async fn records_wait_until_the_leaders_of_a_topic_that_was_just_made_know_of_it() {
    let mut codes = vec![
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::LeaderNotAvailable,
    ];
    let refused = codes.len();
    let seen: Arc<Mutex<Vec<ApiKey>>> = Arc::default();
    let order = Arc::clone(&seen);
    let result = fetch_run(move |answer| {
        if matches!(answer.api, ApiKey::ListOffsets | ApiKey::Produce) {
            order.lock().push(answer.api);
        }
        answer.change::<ListOffsetsRequestData>(|offsets| {
            let mut rows = offsets.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            if let (Some(row), Some(code)) = (rows.next(), codes.pop()) {
                (row.error_code, row.offset) = (code.code(), -1);
            }
        })
    })
    .await;
    assert_eq!(verified(result).unacknowledged, 0);
    let seen = seen.lock();
    let asked_before = seen.iter().take_while(|api| **api == ApiKey::ListOffsets);
    assert!(refused < asked_before.count(), "{seen:?}");
}

#[tokio::test]
async fn old_records_are_produced_through_refusals_that_pass() {
    let refused = Arc::new(Mutex::new(0));
    let count = Arc::clone(&refused);
    let result = fetch_run(move |answer| {
        answer.change::<ProduceRequestData>(|produced| {
            let mut count = count.lock();
            if *count < 3 {
                *count += 1;
                let rows = produced
                    .responses
                    .iter_mut()
                    .flat_map(|topic| &mut topic.partition_responses);
                rows.for_each(|row| row.error_code = ErrorCode::NotLeaderOrFollower.code());
            }
        })
    })
    .await;
    // The null broker has what the proxy says it refused: it may be there, and others were sent in its place.
    assert_eq!(*refused.lock(), 3);
    assert!(3 <= verified(result).unacknowledged);
}

#[tokio::test]
async fn a_refusal_that_stays_ends_the_run_with_its_reason() {
    let result = fetch_run(|answer| {
        answer.change::<ProduceRequestData>(|produced| {
            let rows = produced
                .responses
                .iter_mut()
                .flat_map(|topic| &mut topic.partition_responses);
            rows.for_each(|row| row.error_code = ErrorCode::TopicAuthorizationFailed.code());
        })
    })
    .await;
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("TopicAuthorizationFailed"), "{error}");
}
