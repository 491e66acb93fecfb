//! A broker in the test's own process, on a loopback socket, that does what a closure says.
//!
//! It frames and answers like a real one; what to answer is the test's script. `fake_broker` builds a small
//! working broker on it, `fake_group` a group that it keeps, and `fake_transactions` the transactions of one producer.

pub(crate) mod fake_broker;
pub(crate) mod fake_group;
pub(crate) mod fake_transactions;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log_core::protocol::messages::api_versions_response::ApiVersion;
use log_core::protocol::messages::find_coordinator_response::Coordinator as FoundCoordinator;
use log_core::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use log_core::protocol::messages::{
    ApiVersionsResponseData, FindCoordinatorRequestData, FindCoordinatorResponseData, MetadataRequestData,
    MetadataResponseData,
};
use log_core::protocol::{
    ApiKey, KafkaString, Message, Request, RequestPrefix, codec_versions, read_body, read_request_header,
    write_response_header,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// Counts the connections, from 0.
    pub connection: usize,
    /// Where the broker listens.
    pub port: u16,
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub body: Bytes,
}

impl Incoming {
    pub(crate) fn read<R: Request>(&self) -> R {
        assert_eq!(self.api, R::API_KEY);
        read_body(self.body.clone(), self.version).unwrap()
    }

    /// The answer in the version of the question.
    pub(crate) fn answer<M: Message>(&self, message: &M) -> Reply {
        self.answer_in(message, self.version)
    }

    pub(crate) fn answer_in<M: Message>(&self, message: &M, version: i16) -> Reply {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        write_response_header(&mut frame, self.api as i16, self.version, self.correlation_id).unwrap();
        message.write_to(&mut frame, version).unwrap();
        let length = i32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Reply::Bytes(frame.freeze())
    }
}

/// What the broker does about a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Sends these bytes, which a well-behaved script makes a frame.
    Bytes(Bytes),
    /// Sends these bytes after a while.
    Later(std::time::Duration, Bytes),
    /// Sends nothing and reads on.
    Nothing,
    /// Closes the connection.
    Close,
}

/// The table of a broker that serves all that the codec knows.
pub(crate) fn all_versions() -> ApiVersionsResponseData {
    let api_keys = (0..100)
        .filter_map(ApiKey::from_i16)
        .map(|api| {
            let (min_version, max_version) = codec_versions(api);
            ApiVersion {
                api_key: api as i16,
                min_version,
                max_version,
                ..ApiVersion::default()
            }
        })
        .collect();
    ApiVersionsResponseData {
        api_keys,
        ..ApiVersionsResponseData::default()
    }
}

/// Where everything is: at broker 1, which leads the one partition of each topic that is asked about, and coordinates whatever is looked for.
pub(crate) fn directions(request: &Incoming) -> Reply {
    const BROKER: i32 = 1;
    let host = KafkaString::from_static("127.0.0.1");
    let port = i32::from(request.port);
    if request.api == ApiKey::Metadata {
        let asked: MetadataRequestData = request.read();
        let broker = MetadataResponseBroker {
            node_id: BROKER,
            host,
            port,
            ..MetadataResponseBroker::default()
        };
        let topics = asked.topics.unwrap_or_default().into_iter();
        let topics = topics.map(|topic| MetadataResponseTopic {
            name: topic.name,
            partitions: vec![MetadataResponsePartition {
                leader_id: BROKER,
                ..MetadataResponsePartition::default()
            }],
            ..MetadataResponseTopic::default()
        });
        return request.answer(&MetadataResponseData {
            brokers: vec![broker],
            controller_id: BROKER,
            topics: topics.collect(),
            ..MetadataResponseData::default()
        });
    }
    let asked: FindCoordinatorRequestData = request.read();
    let coordinators = asked.coordinator_keys.into_iter().map(|key| FoundCoordinator {
        key,
        node_id: BROKER,
        host: host.clone(),
        port,
        ..FoundCoordinator::default()
    });
    request.answer(&FindCoordinatorResponseData {
        coordinators: coordinators.collect(),
        ..FindCoordinatorResponseData::default()
    })
}

/// A listening broker; dropping it closes the listener and all connections.
#[derive(Debug)]
pub(crate) struct ScriptedBroker {
    pub address: String,
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedBroker {
    /// Answers every request as `script` says; requests of one connection in their order.
    pub(crate) async fn start(script: impl FnMut(Incoming) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self {
            address: format!("127.0.0.1:{port}"),
            port,
            task: tokio::spawn(accept(listener, Arc::new(Mutex::new(script)))),
        }
    }

    /// As `start`, with the exchange of versions taken care of.
    pub(crate) async fn serving(mut script: impl FnMut(Incoming) -> Reply + Send + 'static) -> Self {
        Self::start(move |request| match request.api {
            ApiKey::ApiVersions => request.answer(&all_versions()),
            _ => script(request),
        })
        .await
    }
}

async fn accept<S: FnMut(Incoming) -> Reply + Send + 'static>(listener: TcpListener, script: Arc<Mutex<S>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let number = connections.len();
        connections.spawn(serve(stream, number, Arc::clone(&script)));
    }
}

async fn serve<S: FnMut(Incoming) -> Reply>(mut stream: TcpStream, connection: usize, script: Arc<Mutex<S>>) {
    let port = stream.local_addr().unwrap().port();
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let mut body = Bytes::from(frame);
        let prefix = RequestPrefix::peek(&body).unwrap();
        let api = ApiKey::from_i16(prefix.api_key).unwrap();
        if (codec_versions(api).0..=codec_versions(api).1).contains(&prefix.api_version) {
            read_request_header(&mut body, prefix).unwrap();
        } else {
            body.advance(8);
        }
        let incoming = Incoming {
            connection,
            port,
            api,
            version: prefix.api_version,
            correlation_id: prefix.correlation_id,
            body,
        };
        let reply = (script.lock())(incoming);
        match reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Later(after, bytes) => {
                tokio::time::sleep(after).await;
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Nothing => {}
            Reply::Close => return,
        }
    }
}
