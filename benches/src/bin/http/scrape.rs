//! `/metrics` with 10,000 partitions: in one topic that nobody used, and in 1,000 topics with the longest names there are, each partition
//! written and read, and 1,000 groups that lag. The second is the worst there is: every series that the page has room for is on it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use log_bench::report::{Spread, count};
use serde_json::{Value, json};

use crate::Session;
use crate::client::{Client, request};
use crate::figures::Goal;
use crate::servers::{Ours, Promise, milliseconds_since};

const PARTITIONS: usize = 10_000;
const TOPICS: usize = 1_000;
const GROUPS: usize = 1_000;
/// As long as Kafka lets a topic's name be.
const NAME_BYTES: usize = 249;
const SCRAPES: usize = 20;
const MILLISECONDS: f64 = 100.0;
const MEGABYTES: f64 = 1.0;
/// Until all groups were looked at, which the broker does every five seconds.
const LOOKED: Duration = Duration::from_secs(8);

pub(crate) async fn measure(session: &mut Session) -> anyhow::Result<()> {
    let ours = session.start(&[])?;
    ours.make_topic("one", PARTITIONS, Promise::Relaxed).await?;
    scrapes(session, &ours, "/metrics, 1 topic of 10,000 partitions").await?;
    drop(ours);
    let ours = session.start(&[])?;
    fill(&ours).await?;
    tokio::time::sleep(LOOKED).await;
    let load = "/metrics, 1,000 topics of 10 partitions, all with traffic, 1,000 groups";
    scrapes(session, &ours, load).await
}

async fn scrapes(session: &mut Session, ours: &Ours, load: &str) -> anyhow::Result<()> {
    let mut client = Client::connect(&ours.http).await?;
    let ask = request("GET", "/metrics", &ours.http, &[], b"");
    while session.rounds.begin(load)?.is_some() {
        let (mut times, mut bytes) = (Vec::new(), 0);
        let broker_cpu = ours.broker.cpu_seconds()?;
        for _ in 0..SCRAPES {
            let began = Instant::now();
            let (status, page) = client.ask(&ask).await?;
            ensure!(status == 200, "the page is refused with {status}");
            bytes = page.len();
            times.push(milliseconds_since(began));
        }
        let broker_cpu = ours.broker.cpu_seconds()? - broker_cpu;
        let Some(spread) = Spread::of(times) else {
            continue;
        };
        let scrapes = count(u64::try_from(SCRAPES)?);
        let megabytes = count(u64::try_from(bytes)?) / 1e6;
        session.add(load, "ms, half of 20", Goal::AtMost(MILLISECONDS), spread.median);
        session.add(
            load,
            "ms, the longest of 20",
            Goal::AtMost(MILLISECONDS),
            spread.max,
        );
        session.add(load, "MB", Goal::AtMost(MEGABYTES), megabytes);
        session.add(
            load,
            "ms of broker CPU each",
            Goal::Told,
            broker_cpu * 1e3 / scrapes,
        );
    }
    Ok(())
}

/// Topics, records in all their partitions that somebody read, and groups that did not.
async fn fill(ours: &Ours) -> anyhow::Result<()> {
    let each = PARTITIONS / TOPICS;
    let mut client = Client::connect(&ours.http).await?;
    for topic in 0..TOPICS {
        let name = name("topic", topic);
        ours.make_topic(&name, each, Promise::Relaxed).await?;
        let records = (0..each).map(|partition| json!({"partition": partition, "value": "x"}));
        let body = json!({"records": records.collect::<Vec<Value>>()});
        let path = format!("/v1/topics/{name}/records");
        client.call("POST", &path, &body).await?;
        for partition in 0..each {
            let path = format!("/v1/topics/{name}/partitions/{partition}/records");
            client.call("GET", &path, &Value::Null).await?;
        }
    }
    for group in 0..GROUPS {
        let path = format!("/v1/groups/{}/offsets", name("group", group));
        let topics = json!([{"topic": name("topic", group % TOPICS)}]);
        let body = json!({"to": "earliest", "topics": topics, "dry_run": false});
        client.call("POST", &path, &body).await?;
    }
    Ok(())
}

/// A name of the greatest length.
fn name(kind: &str, number: usize) -> String {
    let front = format!("{kind}-{number}-");
    format!("{front:x<NAME_BYTES$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_long_as_they_may_be() {
        assert_eq!(name("topic", 7).len(), NAME_BYTES);
        assert!(name("topic", 7).starts_with("topic-7-x"));
    }
}
