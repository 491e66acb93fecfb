//! The wire codec on the hot path: a Produce request from its frame to its batches, and its answer; a Fetch and its answer.
//!
//! Record bytes are copied neither when they are decoded nor when they are answered, so the time must not grow with their number. The
//! Fetch response's encoder is the server's own.

use bytes::{Bytes, BytesMut};
use clap::Parser as _;
use log_bench::case::{Case, Options, Watch};
use log_bench::source;
use log_core::model::TopicId;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use log_core::protocol::messages::{
    FetchRequestData, MetadataRequestData, ProduceRequestData, ProduceResponseData,
};
use log_core::protocol::{
    ApiKey, KafkaString, Message, RequestPrefix, read_body, read_request_header, write_request_header,
};
use log_core::record::compression::Compression;
use log_server::kafka::fetch_response::{self, FetchHead, FetchTopic, PartitionRow};

/// What a current librdkafka sends.
const PRODUCE_VERSION: i16 = 10;
/// What a current Java client sends: topics by id.
const PRODUCE_VERSION_BY_ID: i16 = 13;
const FETCH_VERSION: i16 = 17;
const METADATA_VERSION: i16 = 12;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let times = options.times(500_000);
    let mut cases = Vec::new();
    for (batch_bytes, partitions) in [(1 << 10, 1), (64 << 10, 1), (1 << 20, 1), (16 << 10, 16)] {
        let request = produce(batch_bytes, partitions);
        for version in [PRODUCE_VERSION, PRODUCE_VERSION_BY_ID] {
            let frame = frame(ApiKey::Produce, version, &request)?;
            let name = format!("{partitions} × {} KiB, version {version}", batch_bytes >> 10);
            cases.push(Case::new("decode Produce", name, move || {
                Watch::repeat(times, 0, |_| decode::<ProduceRequestData>(&frame))
            }));
        }
    }
    let fetch = frame(ApiKey::Fetch, FETCH_VERSION, &FetchRequestData::default())?;
    cases.push(Case::new(
        "decode small requests",
        "Fetch in a session, nothing new",
        move || Watch::repeat(times, 0, |_| decode::<FetchRequestData>(&fetch)),
    ));
    let metadata = frame(
        ApiKey::Metadata,
        METADATA_VERSION,
        &MetadataRequestData::default(),
    )?;
    cases.push(Case::new(
        "decode small requests",
        "Metadata of everything",
        move || Watch::repeat(times, 0, |_| decode::<MetadataRequestData>(&metadata)),
    ));
    for partitions in [1, 16] {
        let response = answer(partitions);
        let name = format!("{partitions} partitions");
        cases.push(Case::new("encode the answer to Produce", name, move || {
            Watch::repeat(times, 0, |_| {
                let mut buffer = BytesMut::with_capacity(256);
                response.write_to(&mut buffer, PRODUCE_VERSION)?;
                Ok(buffer)
            })
        }));
    }
    for (batch_bytes, partitions) in [(64 << 10, 1), (1 << 20, 1), (16 << 10, 16), (1 << 10, 1000)] {
        let records = source::batch(batch_bytes, batch_bytes.min(1000), Compression::None);
        let mut rows = fetched(partitions);
        let name = format!("{partitions} × {} KiB", batch_bytes >> 10);
        cases.push(Case::new("encode the answer to Fetch", name, move || {
            Watch::repeat((times / u64::try_from(partitions)?).max(1), 0, |_| {
                for row in &mut rows {
                    row.records = records.clone();
                }
                let prefix = RequestPrefix {
                    api_key: ApiKey::Fetch as i16,
                    api_version: FETCH_VERSION,
                    correlation_id: 7,
                };
                Ok(fetch_response::encode(
                    prefix,
                    FetchHead::default(),
                    &mut rows,
                    &[],
                )?)
            })
        }));
    }
    options.run("The wire codec", cases)
}

/// As the server does: the first bytes, the header in the version they say, the body.
fn decode<M: Message>(frame: &Bytes) -> anyhow::Result<M> {
    let mut frame = frame.clone();
    let prefix = RequestPrefix::peek(&frame).ok_or_else(|| anyhow::anyhow!("a frame without a beginning"))?;
    read_request_header(&mut frame, prefix)?;
    Ok(read_body(frame, prefix.api_version)?)
}

fn frame<M: Message>(key: ApiKey, version: i16, body: &M) -> anyhow::Result<Bytes> {
    let mut buffer = BytesMut::new();
    write_request_header(
        &mut buffer,
        key,
        version,
        7,
        &KafkaString::from("bench".to_owned()),
    )?;
    body.write_to(&mut buffer, version)?;
    Ok(buffer.freeze())
}

fn produce(batch_bytes: usize, partitions: i32) -> ProduceRequestData {
    let records = source::batch(batch_bytes, batch_bytes.min(1000), Compression::None);
    let data = (0..partitions).map(|index| PartitionProduceData {
        index,
        records: Some(records.clone()),
        ..PartitionProduceData::default()
    });
    ProduceRequestData {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from("measured".to_owned()),
            partition_data: data.collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    }
}

fn answer(partitions: i32) -> ProduceResponseData {
    let rows = (0..partitions).map(|index| PartitionProduceResponse {
        index,
        base_offset: 123_456,
        ..PartitionProduceResponse::default()
    });
    ProduceResponseData {
        responses: vec![TopicProduceResponse {
            name: KafkaString::from("measured".to_owned()),
            partition_responses: rows.collect(),
            ..TopicProduceResponse::default()
        }],
        ..ProduceResponseData::default()
    }
}

fn fetched(partitions: i32) -> Vec<PartitionRow> {
    let topic = FetchTopic {
        id: TopicId::from_bytes(*b"measured, always"),
        name: Some("measured".into()),
    };
    let row = |partition| PartitionRow {
        topic: topic.clone(),
        partition,
        error_code: 0,
        high_watermark: 123_456,
        last_stable_offset: 123_456,
        log_start_offset: 0,
        aborted_transactions: None,
        diverging_epoch: None,
        current_leader: None,
        records: Bytes::new(),
    };
    (0..partitions).map(row).collect()
}
