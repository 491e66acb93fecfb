//! The hand-written encoder against the codec: the same bytes in every version, whatever the rows.
//! The rows are random; a run that fails prints its seed.

use log_core::protocol::messages::FetchResponseData;
use log_core::protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint as CodecEndpoint, PartitionData,
};
use log_core::protocol::{KafkaString, KafkaUuid};

use super::*;
use crate::kafka::apis;
use crate::kafka::test_support::fuzz;

const NAMES: [&str; 4] = ["", "a", "orders", "a-topic.with_a-longer-name"];

fn random_row(topic: &FetchTopic, rng: &mut fastrand::Rng) -> PartitionRow {
    let record_bytes = [0, 0, 1, 126, 127, 128, 5_000, 70_000][rng.usize(..8)];
    PartitionRow {
        topic: topic.clone(),
        partition: rng.i32(0..20_000),
        error_code: rng.i16(-1..120),
        high_watermark: rng.i64(..),
        last_stable_offset: rng.i64(..),
        log_start_offset: rng.i64(..),
        aborted_transactions: rng
            .bool()
            .then(|| (0..rng.usize(..3)).map(|_| (rng.i64(..), rng.i64(..))).collect()),
        diverging_epoch: (rng.u8(..4) == 0).then(|| DivergingEpoch {
            epoch: rng.i32(..),
            end_offset: rng.i64(..),
        }),
        current_leader: (rng.u8(..4) == 0).then(|| (rng.i32(..), rng.i32(..))),
        records: std::iter::repeat_with(|| rng.u8(..)).take(record_bytes).collect(),
    }
}

/// Rows grouped by topic, as the handler has them; at times more than the 127 that one length byte can say.
fn random_rows(rng: &mut fastrand::Rng) -> Vec<PartitionRow> {
    let mut rows = Vec::new();
    for (number, name) in (0_u8..).zip(NAMES).take(rng.usize(..=NAMES.len())) {
        let topic = FetchTopic {
            name: Some(name.into()),
            id: TopicId::from_bytes([number; 16]),
        };
        let count = if rng.u8(..20) == 0 {
            rng.usize(120..140)
        } else {
            rng.usize(1..4)
        };
        rows.extend((0..count).map(|_| random_row(&topic, rng)));
    }
    rows
}

fn by_the_codec(
    head: FetchHead,
    version: i16,
    rows: &[PartitionRow],
    endpoints: &[NodeEndpoint<'_>],
) -> FetchResponseData {
    let string = |text: &str| KafkaString::from(text.to_owned());
    let partition = |row: &PartitionRow| PartitionData {
        partition_index: row.partition,
        error_code: row.error_code,
        high_watermark: row.high_watermark,
        last_stable_offset: row.last_stable_offset,
        log_start_offset: row.log_start_offset,
        aborted_transactions: row.aborted_transactions.as_ref().map(|all| {
            let codec = |&(producer_id, first_offset): &(i64, i64)| AbortedTransaction {
                producer_id,
                first_offset,
                ..AbortedTransaction::default()
            };
            all.iter().map(codec).collect()
        }),
        diverging_epoch: row
            .diverging_epoch
            .map_or_else(EpochEndOffset::default, |diverging| EpochEndOffset {
                epoch: diverging.epoch,
                end_offset: diverging.end_offset,
                ..EpochEndOffset::default()
            }),
        current_leader: row
            .current_leader
            .map_or_else(LeaderIdAndEpoch::default, |leader| LeaderIdAndEpoch {
                leader_id: leader.0,
                leader_epoch: leader.1,
                ..LeaderIdAndEpoch::default()
            }),
        records: Some(row.records.clone()),
        ..PartitionData::default()
    };
    let responses = rows
        .chunk_by(|a, b| a.topic == b.topic)
        .map(|topic| FetchableTopicResponse {
            topic: string(topic[0].topic.name.as_deref().unwrap()),
            topic_id: KafkaUuid::from(topic[0].topic.id),
            partitions: topic.iter().map(partition).collect(),
            ..FetchableTopicResponse::default()
        });
    let endpoints = endpoints.iter().map(|endpoint| CodecEndpoint {
        node_id: endpoint.node_id,
        host: string(endpoint.host),
        port: endpoint.port,
        ..CodecEndpoint::default()
    });
    FetchResponseData {
        error_code: head.error_code,
        session_id: if 7 <= version { head.session_id } else { 0 },
        responses: responses.collect(),
        node_endpoints: if 16 <= version {
            endpoints.collect()
        } else {
            Vec::new()
        },
        ..FetchResponseData::default()
    }
}

#[test]
fn the_same_bytes_as_the_codec_in_every_version() {
    let api = apis::find(1).unwrap();
    assert_eq!(
        (api.served_min, api.served_max),
        (4, 18),
        "a new version may have new fields"
    );
    fuzz(60, |rng| {
        let rows = random_rows(rng);
        let head = FetchHead {
            error_code: rng.i16(0..100),
            session_id: rng.i32(..),
        };
        let endpoints = [NodeEndpoint {
            node_id: 1,
            host: "127.0.0.1",
            port: 9092,
        }];
        let endpoints = &endpoints[..rng.usize(..2)];
        for api_version in api.served_min..=api.served_max {
            let prefix = RequestPrefix {
                api_key: 1,
                api_version,
                correlation_id: rng.i32(..),
            };
            let expected = by_the_codec(head, api_version, &rows, endpoints);
            let expected = Response::encode(prefix, &expected).unwrap();
            let mut sent = rows.clone();
            let response = encode(prefix, head, &mut sent, endpoints).unwrap();
            assert!(
                response.to_vec() == expected.to_vec(),
                "version {api_version} of {rows:?}"
            );
        }
    });
}

#[test]
fn records_are_handed_on_where_they_lie() {
    let records = Bytes::from(vec![7; 100_000]);
    let topic = FetchTopic {
        name: Some("a".into()),
        id: TopicId::ZERO,
    };
    let mut rows = vec![PartitionRow {
        records: records.clone(),
        ..random_row(&topic, &mut fastrand::Rng::with_seed(1))
    }];
    let prefix = RequestPrefix {
        api_key: 1,
        api_version: 12,
        correlation_id: 1,
    };
    let response = encode(prefix, FetchHead::default(), &mut rows, &[]).unwrap();
    assert!(response.slices().any(|slice| slice.as_ptr() == records.as_ptr()));
}
