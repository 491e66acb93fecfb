//! The time from a process's start to its first acknowledged record.
//!
//! A client library would add its own pauses between attempts. This asks as often as it can: connect, ask for a
//! topic that the broker makes on demand, produce one record with `acks=all`, and begin again after any failure.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::{MetadataRequestData, ProduceRequestData};
use log_core::protocol::{KafkaString, Request, read_body, read_response_header, write_request_header};
use log_core::record::compression::Compression;

use crate::brokers::Broker;
use crate::source;

/// Both are served by every Kafka since 2.4 and name topics by name.
const METADATA_VERSION: i16 = 9;
const PRODUCE_VERSION: i16 = 8;
const RECORD_BYTES: usize = 1 << 10;
const PAUSE: Duration = Duration::from_micros(200);
const GIVE_UP: Duration = Duration::from_mins(1);
const ANSWER_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long after `begun` the broker has acknowledged a record.
///
/// # Errors
/// When it has ended, or takes longer than a minute.
pub fn first_acknowledgement(broker: &mut Broker, begun: Instant, topic: &str) -> anyhow::Result<Duration> {
    loop {
        match attempt(&broker.address, topic) {
            Ok(()) => return Ok(begun.elapsed()),
            Err(error) if GIVE_UP < begun.elapsed() => return Err(error),
            Err(_) => broker.check_alive()?,
        }
        std::thread::sleep(PAUSE);
    }
}

fn attempt(address: &str, topic: &str) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_MAX))?;
    let topic = KafkaString::from(topic.to_owned());
    let metadata = MetadataRequestData {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.clone()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequestData::default()
    };
    let until = Instant::now() + ANSWER_MAX;
    loop {
        let answer = ask(&mut connection, METADATA_VERSION, &metadata)?;
        let row = answer.topics.first().context("a row for the topic")?;
        if row.error_code == 0
            && row
                .partitions
                .first()
                .is_some_and(|partition| 0 <= partition.leader_id)
        {
            break;
        }
        ensure!(Instant::now() < until, "the topic is not made");
        std::thread::sleep(PAUSE);
    }
    let produce = ProduceRequestData {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic,
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(source::batch(RECORD_BYTES, RECORD_BYTES, Compression::None)),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    };
    let answer = ask(&mut connection, PRODUCE_VERSION, &produce)?;
    let rows = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    for row in rows {
        if row.error_code != 0 {
            bail!("error {}", row.error_code);
        }
    }
    Ok(())
}

fn ask<R: Request>(connection: &mut TcpStream, version: i16, request: &R) -> anyhow::Result<R::Response> {
    let mut frame = BytesMut::new();
    write_request_header(
        &mut frame,
        R::API_KEY,
        version,
        1,
        &KafkaString::from("probe".to_owned()),
    )?;
    request.write_to(&mut frame, version)?;
    let length = u32::try_from(frame.len())?;
    connection.write_all(&length.to_be_bytes())?;
    connection.write_all(&frame)?;
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer)?;
    let mut answer = Bytes::from(answer);
    read_response_header(&mut answer, R::API_KEY, version)?;
    Ok(read_body(answer, version)?)
}
