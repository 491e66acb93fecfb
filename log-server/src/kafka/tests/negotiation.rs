//! Versions and the end of connections: what a client that knows nothing meets first, and what a hostile one does not achieve.

use bytes::BufMut as _;
use log_core::protocol::ApiKey;
use log_core::protocol::messages::{ApiVersionsRequestData, MetadataRequestData};

use super::*;
use crate::kafka::apis::{self, APIS};
use crate::kafka::test_support::fuzz;

fn software(name: &str) -> ApiVersionsRequestData {
    ApiVersionsRequestData {
        client_software_name: string(name),
        client_software_version: string("1.0"),
        ..ApiVersionsRequestData::default()
    }
}

#[tokio::test]
async fn the_table_is_told_in_every_version() {
    let broker = Broker::start();
    for version in 0..=4 {
        let response = broker.connect().call(version, software("test")).await;
        assert_eq!(response.error_code, 0);
        let told: Vec<_> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let expected: Vec<_> = APIS
            .iter()
            .map(|api| (api.key as i16, api.advertised_min, api.served_max))
            .collect();
        assert_eq!(told, expected);
        let features: Vec<_> = response
            .finalized_features
            .iter()
            .map(|feature| feature.name.as_str())
            .collect();
        assert_eq!(
            features,
            if version < 3 {
                vec![]
            } else {
                vec!["metadata.version", "transaction.version"]
            }
        );
    }
}

/// The bytes that a real Kafka 4.3.0 broker sent: error 35 and its own row in the layout of version 0.
#[tokio::test]
async fn a_version_that_is_too_new_is_answered_in_the_oldest_layout() {
    let broker = Broker::start();
    for version in [5, 99, i16::MAX] {
        let mut client = broker.connect();
        let request = frame(ApiKey::ApiVersions, version, 7, |buffer| {
            buffer.put_slice(b"\x05abcd\x041.0\0");
        });
        client.send_bytes(&request).await;
        let golden = b"\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04";
        assert_eq!(client.frame().await.unwrap(), &golden[..]);
        // The connection is good for the version that was offered.
        assert_eq!(client.call(4, software("test")).await.error_code, 0);
    }
}

#[tokio::test]
async fn a_client_s_software_must_have_a_name() {
    let broker = Broker::start();
    let mut client = broker.connect();
    for (name, expected) in [
        ("librdkafka", ErrorCode::None),
        ("apache-kafka.java", ErrorCode::None),
        ("", ErrorCode::InvalidRequest),
        ("-x", ErrorCode::InvalidRequest),
        ("x y", ErrorCode::InvalidRequest),
    ] {
        let response = client.call(3, software(name)).await;
        assert_eq!(code(response.error_code), expected, "{name:?}");
    }
    let response = client.call(2, software("")).await;
    assert_eq!(response.error_code, 0, "older versions have no such field");
}

#[tokio::test]
async fn what_kafka_closes_without_a_byte_is_closed_without_a_byte() {
    let broker = Broker::start();
    let nothing = |_: &mut BytesMut| ();
    for (request, expected) in [
        (
            frame(ApiKey::Produce, 2, 1, nothing),
            "version 2 of API 0 is not served; 3 to 13 are",
        ),
        (
            frame(ApiKey::Metadata, 14, 1, nothing),
            "version 14 of API 3 is not served; 0 to 13 are",
        ),
        (
            frame(ApiKey::ElectLeaders, 2, 1, nothing),
            "API key 43 (version 2) is not served",
        ),
        (
            frame(ApiKey::Metadata, 1, 1, |buffer| buffer.put_slice(b"\0\0\0\x05")),
            "malformed request (API key 3, version 1)",
        ),
        (
            frame(ApiKey::Fetch, 12, 1, |buffer| buffer.put_slice(b"\xff")),
            "malformed request (API key 1, version 12)",
        ),
        // A client id that says it is longer than the frame.
        (
            b"\0\0\0\x0a\0\x03\0\x01\0\0\0\x01\x7f\xff".to_vec(),
            "malformed request (API key 3, version 1)",
        ),
    ] {
        let mut client = broker.connect();
        client.send_bytes(&request).await;
        let end = client.closed().await;
        assert!(end.starts_with(expected), "{end}");
    }
}

#[tokio::test]
async fn bytes_behind_a_request_are_ignored_as_kafka_ignores_them() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let request = frame(ApiKey::Metadata, 1, 7, |buffer| {
        buffer.put_slice(b"\0\0\0\0garbage");
    });
    client.send_bytes(&request).await;
    assert!(client.frame().await.is_some());
}

/// A minimal request of each API in each version is answered with something that the codec reads whole.
#[tokio::test]
async fn every_api_answers_in_every_version() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    macro_rules! every_version {
        ($($request:ident),*) => {$(
            let key = <log_core::protocol::messages::$request as Request>::API_KEY;
            let api = apis::find(key as i16).unwrap();
            for version in api.served_min..=api.served_max {
                client.call(version, log_core::protocol::messages::$request::default()).await;
            }
        )*};
    }
    let produce = apis::find(ApiKey::Produce as i16).unwrap();
    for version in produce.served_min..=produce.served_max {
        // Its default asks for no answer.
        client.call(version, produce_request("a", 0, None)).await;
    }
    every_version!(
        FetchRequestData,
        DescribeProducersRequestData,
        ListOffsetsRequestData,
        MetadataRequestData,
        FindCoordinatorRequestData,
        ApiVersionsRequestData,
        CreateTopicsRequestData,
        DeleteTopicsRequestData,
        DeleteRecordsRequestData,
        InitProducerIdRequestData,
        OffsetForLeaderEpochRequestData,
        DescribeConfigsRequestData,
        AlterConfigsRequestData,
        DescribeLogDirsRequestData,
        CreatePartitionsRequestData,
        IncrementalAlterConfigsRequestData,
        DescribeClusterRequestData,
        GetTelemetrySubscriptionsRequestData,
        PushTelemetryRequestData,
        DescribeTopicPartitionsRequestData
    );
}

/// Random bodies, and sound ones with a few bytes changed, for every API in every version: an answer or the end of the
/// connection, no panic, and the broker serves the next client.
#[test]
fn hostile_requests_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let broker = runtime.block_on(async { Broker::start() });
    runtime.block_on(broker.create_topic("a", 3, &[]));
    fuzz(400, |rng| {
        runtime.block_on(async {
            let mut client = broker.connect();
            for _ in 0..rng.usize(1..10) {
                let request = hostile_request(rng);
                if client.write.as_mut().unwrap().write_all(&request).await.is_err() {
                    break;
                }
            }
            client.write.take().unwrap().shutdown().await.unwrap();
            while client.frame().await.is_some() {}
            client.end.await.unwrap();
        });
    });
    let asked = async { broker.connect().call(12, MetadataRequestData::default()).await };
    assert_eq!(runtime.block_on(asked).brokers.len(), 1);
}

fn hostile_request(rng: &mut fastrand::Rng) -> Vec<u8> {
    let api = rng.choice(APIS).unwrap();
    let version = rng.i16(api.served_min..=api.served_max);
    if rng.bool() {
        let body: Vec<u8> = (0..rng.usize(0..100)).map(|_| odd_byte(rng)).collect();
        return frame(api.key, version, 1, |buffer| buffer.put_slice(&body));
    }
    let mut bytes = sound_request(api.key, version, rng);
    for _ in 0..rng.usize(0..4) {
        // Mostly behind the header.
        let place = rng.usize(bytes.len().min(18)..=bytes.len()).min(bytes.len() - 1);
        bytes[place] = odd_byte(rng);
    }
    bytes
}

/// The bytes that lengths and flags turn on.
fn odd_byte(rng: &mut fastrand::Rng) -> u8 {
    let any = rng.u8(..);
    *rng.choice(&[0, 1, 2, 0x7f, 0x80, 0xff, any]).unwrap()
}

fn sound_request(key: ApiKey, version: i16, rng: &mut fastrand::Rng) -> Vec<u8> {
    use log_core::protocol::messages as m;
    fn encoded<M: Request>(version: i16, request: &M) -> Vec<u8> {
        frame(M::API_KEY, version, 1, |buffer| {
            request.write_to(buffer, version).unwrap();
        })
    }
    match key {
        ApiKey::Produce => {
            let value = "v".repeat(rng.usize(0..50));
            encoded(version, &produce_request("a", 0, Some(batch(&[&value]))))
        }
        ApiKey::Fetch => encoded(version, &super::fetch::request(version, "a", &[(0, 0), (1, 0)])),
        ApiKey::Metadata => encoded(
            version,
            &m::MetadataRequestData {
                topics: Some(vec![m::metadata_request::MetadataRequestTopic {
                    name: Some(string("a")),
                    ..m::metadata_request::MetadataRequestTopic::default()
                }]),
                allow_auto_topic_creation: true,
                ..m::MetadataRequestData::default()
            },
        ),
        ApiKey::ListOffsets => encoded(version, &super::offsets::list_request("a", 0, -1)),
        ApiKey::CreateTopics => encoded(
            version,
            &CreateTopicsRequestData {
                topics: vec![CreatableTopic {
                    name: string(&format!("t{}", rng.u8(..))),
                    num_partitions: 1,
                    replication_factor: 1,
                    ..CreatableTopic::default()
                }],
                validate_only: rng.bool(),
                ..CreateTopicsRequestData::default()
            },
        ),
        _ => frame(key, version, 1, |buffer| {
            (0..rng.usize(0..30)).for_each(|_| buffer.put_u8(rng.u8(0..4)));
        }),
    }
}
