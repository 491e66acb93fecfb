//! Kafka requests as spans: those that came together, those that failed, those that nobody looks at.

use std::collections::VecDeque;

use log_core::protocol::ApiKey;
use tokio::sync::mpsc;

use super::*;
use crate::kafka::connection::{Dispatch as _, Dispatched};
use crate::kafka::traced::Traced;
use crate::spans::span::{Span, Value};
use crate::spans::tracer::Tracer;

fn traced(broker: &Broker, sample_ratio: f64) -> (Traced<Dispatcher>, mpsc::Receiver<Span>) {
    let (queue, spans) = mpsc::channel(10);
    let tracer = Tracer::new(sample_ratio, queue, Arc::default());
    let dispatcher = Dispatcher::new(Arc::clone(&broker.services));
    (Traced::new(dispatcher, Arc::new(tracer)), spans)
}

/// Requests that produce a record to each of these topics.
fn produces(topics: &[&str], memory: &RequestMemory) -> VecDeque<Frame> {
    let produce = |topic: &&str| {
        let bytes = frame(ApiKey::Produce, 9, 1, |buffer| {
            produce_request(topic, 0, Some(batch(&["v"])))
                .write_to(buffer, 9)
                .unwrap();
        });
        frame_of(&bytes, memory)
    };
    topics.iter().map(produce).collect()
}

async fn finish(broker: &Broker, dispatched: Vec<Dispatched>) {
    for dispatched in dispatched {
        let future = match dispatched {
            Dispatched::Now(_) => continue,
            Dispatched::Unsynced(future, unsynced) => {
                drop(unsynced);
                future
            }
            Dispatched::Later(future) | Dispatched::Barrier(future) => future,
            Dispatched::Begun(_) => unreachable!("no transaction begins"),
        };
        broker.sync();
        timeout(HANG, future).await.unwrap();
    }
}

#[tokio::test]
async fn produces_that_came_together_are_told_each_with_its_end() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let memory = RequestMemory::new(1 << 20);
    let (traced, mut spans) = traced(&broker, 1.0);
    let mut frames = produces(&["a", "nobody"], &memory);
    let dispatched = traced.dispatch_produces(&info(), &mut frames);
    assert_eq!((dispatched.len(), frames.len()), (2, 0));
    finish(&broker, dispatched).await;
    let told = [spans.try_recv().unwrap(), spans.try_recv().unwrap()];
    let mut errors: Vec<_> = told.iter().map(|span| span.error.as_deref()).collect();
    errors.sort_unstable();
    assert_eq!(errors, [None, Some("UnknownTopicOrPartition")]);
    for span in &told {
        assert_eq!(span.name, "Produce");
        for (name, value) in [
            ("messaging.client.id", Value::from("test")),
            ("kafka.topics", Value::from(1_usize)),
            ("kafka.api_version", Value::from(9_i64)),
        ] {
            assert!(span.attributes.contains(&(name, value)), "{name}: {span:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_ends_its_connection_says_why_and_others_may_be_passed_over() {
    let broker = Broker::start();
    let memory = RequestMemory::new(1 << 20);
    let cut = frame_of(&frame(ApiKey::Metadata, 12, 1, |_| {}), &memory);
    let (all, mut spans) = traced(&broker, 1.0);
    assert!(all.dispatch(&info(), cut).is_end());
    let span = spans.try_recv().unwrap();
    assert!(span.error.unwrap().contains("malformed"));
    let (none, mut spans) = traced(&broker, 0.0);
    let dispatched = none.dispatch_produces(&info(), &mut produces(&["nobody"], &memory));
    finish(&broker, dispatched).await;
    assert!(spans.try_recv().is_err());
}
