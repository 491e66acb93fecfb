//! A connection against a broker that answers, lies, stalls and hangs up.
//! The broker is a script on a loopback socket (`testing`).

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BufMut as _;
use log_core::protocol::codec_versions;
use log_core::protocol::messages::api_versions_response::ApiVersion;
use log_core::protocol::messages::{
    DescribeClusterRequestData, DescribeClusterResponseData, ProduceRequestData,
};

use super::*;
use crate::testing::{Incoming, Reply, ScriptedBroker, all_versions};

fn config() -> ClientConfig {
    ClientConfig::new("127.0.0.1:1")
}

/// Answers with the number of the request, so that a mix-up shows.
fn numbered(request: &Incoming, number: i32) -> Reply {
    request.answer(&DescribeClusterResponseData {
        controller_id: number,
        ..DescribeClusterResponseData::default()
    })
}

async fn ask(connection: &Connection) -> Result<i32> {
    let response = connection.call(&DescribeClusterRequestData::default()).await?;
    Ok(response.controller_id)
}

#[tokio::test]
async fn requests_in_flight_get_their_own_answers() {
    let mut count = 0;
    let broker = ScriptedBroker::serving(move |request| {
        count += 1;
        numbered(&request, count)
    })
    .await;
    let connection = Connection::open(&broker.address, &config()).await.unwrap();
    let version = connection.version(ApiKey::DescribeCluster).unwrap();
    let mut pending = Vec::new();
    for _ in 0..50 {
        let request = DescribeClusterRequestData::default();
        pending.push(connection.start(&request, version).await.unwrap());
    }
    for (expected, pending) in (1..).zip(pending) {
        let response: DescribeClusterResponseData =
            connection.within(Duration::from_secs(10), pending).await.unwrap();
        assert_eq!(response.controller_id, expected);
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_for_their_turn() {
    let unanswered = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&unanswered);
    // Answers nothing until three have come, then all three at once.
    let broker = ScriptedBroker::serving(move |request| {
        let mut held = held.lock();
        held.push(request);
        if held.len() < 3 {
            return Reply::Nothing;
        }
        let mut all = BytesMut::new();
        for request in held.drain(..) {
            if let Reply::Bytes(bytes) = numbered(&request, 0) {
                all.extend_from_slice(&bytes);
            }
        }
        Reply::Bytes(all.freeze())
    })
    .await;
    let config = ClientConfig {
        in_flight_max: 3,
        ..config()
    };
    let connection = Connection::open(&broker.address, &config).await.unwrap();
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { ask(&connection).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(unanswered.lock().is_empty());
}

#[tokio::test]
async fn a_request_too_large_for_the_socket_arrives_whole() {
    let size = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&size);
    let broker = ScriptedBroker::serving(move |request| {
        seen.store(request.body.len(), Ordering::SeqCst);
        match request.api {
            ApiKey::Produce => Reply::Nothing,
            _ => numbered(&request, 1),
        }
    })
    .await;
    let connection = Connection::open(&broker.address, &config()).await.unwrap();
    let name = "x".repeat(20 << 20);
    let request = ProduceRequestData::default().with_transactional_id(Some(KafkaString::from(name)));
    connection.send_unanswered(&request, 12).await.unwrap();
    ask(&connection).await.unwrap();
    connection.send_unanswered(&request, 12).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), 1);
    assert!(connection.is_open());
}

#[tokio::test]
async fn a_broker_that_is_too_old_names_its_versions_in_the_oldest_layout() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let versions = Arc::clone(&asked);
    let broker = ScriptedBroker::start(move |request| {
        versions.lock().push(request.version);
        match (request.api, request.version) {
            (ApiKey::ApiVersions, 3..) => {
                let refusal = ApiVersionsResponseData {
                    error_code: ErrorCode::UnsupportedVersion.code(),
                    api_keys: vec![ApiVersion {
                        api_key: ApiKey::ApiVersions as i16,
                        min_version: 0,
                        max_version: 2,
                        ..ApiVersion::default()
                    }],
                    ..ApiVersionsResponseData::default()
                };
                request.answer_in(&refusal, 0)
            }
            (ApiKey::ApiVersions, _) => request.answer(&all_versions()),
            _ => numbered(&request, 7),
        }
    })
    .await;
    let connection = Connection::open(&broker.address, &config()).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), 7);
    assert_eq!(asked.lock()[..2], [4, 2]);
}

#[tokio::test]
async fn a_refusal_without_a_table_falls_back_to_version_0() {
    let broker = ScriptedBroker::start(|request| match (request.api, request.version) {
        (ApiKey::ApiVersions, 0) => request.answer(&all_versions()),
        (ApiKey::ApiVersions, _) => {
            let refusal = ApiVersionsResponseData {
                error_code: ErrorCode::UnsupportedVersion.code(),
                ..ApiVersionsResponseData::default()
            };
            request.answer_in(&refusal, 0)
        }
        _ => numbered(&request, 7),
    })
    .await;
    let connection = Connection::open(&broker.address, &config()).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), 7);
}

#[tokio::test]
async fn an_api_without_a_common_version_is_not_sent() {
    let broker = ScriptedBroker::start(|request| {
        assert_eq!(request.api, ApiKey::ApiVersions);
        let mut table = all_versions();
        table
            .api_keys
            .retain(|row| row.api_key != ApiKey::DescribeCluster as i16);
        request.answer(&table)
    })
    .await;
    let connection = Connection::open(&broker.address, &config()).await.unwrap();
    let error = ask(&connection).await.unwrap_err();
    assert!(matches!(
        &error,
        Error::UnsupportedApi { api: ApiKey::DescribeCluster, broker: None, client, .. }
            if *client == codec_versions(ApiKey::DescribeCluster)
    ));
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_the_connection_for_all() {
    let broker = ScriptedBroker::serving(|_| Reply::Nothing).await;
    let config = ClientConfig {
        request_timeout: Duration::from_millis(40),
        ..config()
    };
    let connection = Connection::open(&broker.address, &config).await.unwrap();
    let version = connection.version(ApiKey::DescribeCluster).unwrap();
    let other = connection
        .start(&DescribeClusterRequestData::default(), version)
        .await
        .unwrap();
    let error = ask(&connection).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::RequestTimedOut {
                api: ApiKey::DescribeCluster,
                ..
            }
        ),
        "{error}"
    );
    assert!(!connection.is_open());
    let error = connection
        .within(Duration::from_secs(10), other)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RequestTimedOut { .. }), "{error}");
    assert!(ask(&connection).await.is_err());
}

/// The error of a request to a broker that gives `reply`, and whether the connection survived it.
async fn after(reply: impl Fn(&Incoming) -> Reply + Send + 'static) -> (Error, bool) {
    let broker = ScriptedBroker::serving(move |request| reply(&request)).await;
    let connection = Connection::open(&broker.address, &config()).await.unwrap();
    let error = ask(&connection).await.unwrap_err();
    (error, connection.is_open())
}

#[tokio::test]
async fn hang_ups_and_lies_are_told_apart() {
    let (error, open) = after(|_| Reply::Close).await;
    assert!(
        matches!(error, Error::Disconnected { .. }) && error.is_retriable() && !open,
        "{error}"
    );

    let (error, open) = after(|request| {
        let mut request = request.clone();
        request.correlation_id += 1;
        numbered(&request, 0)
    })
    .await;
    assert!(error.to_string().contains("was next") && !open, "{error}");

    let (error, open) = after(|_| Reply::Bytes(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n"))).await;
    assert!(error.to_string().contains("another protocol") && !open, "{error}");

    let (error, open) = after(|_| Reply::Bytes(Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3]))).await;
    assert!(matches!(error, Error::Disconnected { .. }) && !open, "{error}");

    // The frame is sound, its content is not: only this request is lost.
    let (error, open) = after(|request| {
        let mut frame = BytesMut::new();
        frame.put_i32(9);
        frame.put_i32(request.correlation_id);
        frame.put_slice(&[0, 0xff, 0xff, 0xff, 0xff]);
        Reply::Bytes(frame.freeze())
    })
    .await;
    assert!(matches!(error, Error::Malformed { .. }) && open, "{error}");
}

#[tokio::test]
async fn nothing_that_listens_is_an_error_of_connecting() {
    let broker = ScriptedBroker::serving(|_| Reply::Close).await;
    let address = broker.address.clone();
    drop(broker);
    // The listener goes when its task has ended.
    let error = loop {
        tokio::task::yield_now().await;
        if let Err(error @ Error::Connect { .. }) = Connection::open(&address, &config()).await {
            break error;
        }
    };
    assert!(error.is_unreachable() && error.is_retriable());
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn frames_are_cut_wherever_the_bytes_break() {
    let mut stream = Vec::new();
    for size in [4_usize, 5, 100] {
        stream.extend(i32::try_from(size).unwrap().to_be_bytes());
        stream.extend(vec![u8::try_from(size).unwrap(); size]);
    }
    for step in 1..=stream.len() {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Ok(NextFrame::Whole(frame)) = next_frame(&mut buffer, 100) {
                frames.push(frame.len());
            }
        }
        assert_eq!(frames, [4, 5, 100], "in steps of {step}");
    }
    for (announced, expected) in [(101, 101), (3, 3), (-1, -1)] {
        let mut buffer = BytesMut::from(&i32::to_be_bytes(announced)[..]);
        assert_eq!(next_frame(&mut buffer, 100).err(), Some(expected));
    }
}
