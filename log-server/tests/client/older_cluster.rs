//! A cluster that has not agreed on KIP-890, as those before Kafka 4.0: the feature `transaction.version` is taken out of what a broker says
//! of itself, and the client then speaks the first protocol of transactions. All else goes to and fro as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use log_core::protocol::messages::ApiVersionsResponseData;
use log_core::protocol::{
    ApiKey, Message as _, RequestPrefix, read_body, read_response_header, write_response_header,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What clients have asked.
#[derive(Debug, Default)]
struct Asked {
    /// The highest version of each API.
    versions: BTreeMap<i16, i16>,
}

impl Asked {
    fn note(&mut self, request: RequestPrefix) {
        let highest = self.versions.entry(request.api_key).or_default();
        *highest = request.api_version.max(*highest);
    }
}

/// Stands before a broker, which has to tell its clients this address for its own.
#[derive(Debug)]
pub(crate) struct OlderCluster {
    listener: std::net::TcpListener,
    asked: Arc<Mutex<Asked>>,
}

/// Tells what was asked.
#[derive(Debug, Clone)]
pub(crate) struct Witness(Arc<Mutex<Asked>>);

impl Witness {
    /// The highest version of an API that a client has asked for.
    pub(crate) fn version(&self, api: ApiKey) -> Option<i16> {
        self.0.lock().versions.get(&(api as i16)).copied()
    }
}

impl OlderCluster {
    /// At a port that the system chooses.
    pub(crate) fn bind() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener,
            asked: Arc::default(),
        }
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness(Arc::clone(&self.asked))
    }

    /// Stands before `broker` for as long as the runtime lives.
    pub(crate) fn serve(self, broker: String) {
        let listener = TcpListener::from_std(self.listener).unwrap();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(stand_between(client, broker.clone(), Arc::clone(&self.asked)));
            }
        });
    }
}

/// Versions of the `ApiVersions` requests that are not answered yet, by correlation id.
type Awaited = Mutex<HashMap<i32, i16>>;

async fn stand_between(client: TcpStream, broker: String, asked: Arc<Mutex<Asked>>) {
    let Ok(broker) = TcpStream::connect(broker).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let awaited = Awaited::default();
    let there = async {
        while let Some(frame) = frame(&mut from_client).await {
            let prefix = RequestPrefix::peek(&frame).unwrap();
            asked.lock().note(prefix);
            if prefix.api_key == ApiKey::ApiVersions as i16 {
                awaited.lock().insert(prefix.correlation_id, prefix.api_version);
            }
            if !pass_on(&mut to_broker, &frame).await {
                return;
            }
        }
    };
    let back = async {
        while let Some(frame) = frame(&mut from_broker).await {
            let correlation_id = i32::from_be_bytes(*frame.first_chunk().unwrap());
            let version = awaited.lock().remove(&correlation_id);
            let frame = match version {
                Some(version) => without_feature(frame, version),
                None => frame,
            };
            if !pass_on(&mut to_client, &frame).await {
                return;
            }
        }
    };
    // Where one side has gone, the other has nobody to talk to.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

fn without_feature(mut frame: Bytes, version: i16) -> Bytes {
    let api = ApiKey::ApiVersions;
    let correlation_id = read_response_header(&mut frame, api, version).unwrap();
    let mut response: ApiVersionsResponseData = read_body(frame, version).unwrap();
    let features = &mut response.finalized_features;
    features.retain(|feature| feature.name.as_str() != "transaction.version");
    let mut bytes = BytesMut::new();
    write_response_header(&mut bytes, api as i16, version, correlation_id).unwrap();
    response.write_to(&mut bytes, version).unwrap();
    bytes.freeze()
}

/// The next request or response without its length; none at the end.
async fn frame(source: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let length = source.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    source.read_exact(&mut frame).await.ok()?;
    Some(frame.into())
}

/// Whether somebody takes it.
async fn pass_on(target: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> bool {
    let length = i32::try_from(frame.len()).unwrap();
    let bytes = [&length.to_be_bytes(), frame].concat();
    target.write_all(&bytes).await.is_ok()
}
