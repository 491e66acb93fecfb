//! A proxy between clients and a broker that changes answers on their way: what a broker would do wrong, or not do yet, can be
//! planted, to see that the harness finds it or bears it.
//!
//! Owns a listener and two threads for each connection. The broker's own port, which clients learn from Metadata, is replaced by the
//! proxy's, so that they stay with it; what they learn from `FindCoordinator` is not, so members of groups ask the broker itself.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use log_core::protocol::messages::MetadataRequestData;
use log_core::protocol::{ApiKey, Message as _, Request, RequestPrefix, read_body, read_response_header};
use parking_lot::Mutex;

const LENGTH_BYTES: usize = 4;

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub api: ApiKey,
    version: i16,
    /// The whole frame behind its length.
    frame: Bytes,
}

impl Answer {
    /// Changes it, if it answers such a request.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn change<R: Request>(&mut self, change: impl FnOnce(&mut R::Response)) -> anyhow::Result<()> {
        if self.api != R::API_KEY {
            return Ok(());
        }
        let mut body = self.frame.clone();
        read_response_header(&mut body, self.api, self.version)?;
        let header = self.frame.len() - body.len();
        let mut response: R::Response = read_body(body, self.version)?;
        change(&mut response);
        let mut frame = BytesMut::from(self.frame.get(..header).unwrap_or_default());
        response.write_to(&mut frame, self.version)?;
        self.frame = frame.freeze();
        Ok(())
    }
}

type Meddling = Arc<Mutex<dyn FnMut(&mut Answer) -> anyhow::Result<()> + Send>>;

/// A proxy at work; dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Stands in front of a broker of this machine, and lets `meddle` see every answer. What it fails with ends the connection.
    ///
    /// # Errors
    /// The system gives no port.
    pub fn start(
        broker: &str,
        meddle: impl FnMut(&mut Answer) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let broker: SocketAddr = broker.parse().with_context(|| format!("the address {broker}"))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let meddling: Meddling = Arc::new(Mutex::new(meddle));
        let over = Arc::clone(&is_over);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                // Whoever is not served sees a closed connection.
                if let Ok(client) = client {
                    stand_between(client, broker, address, &meddling).ok();
                }
            }
        });
        Ok(Self {
            address,
            is_over,
            accepting: Some(accepting),
        })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the one who accepts.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.accepting.take() {
            thread.join().ok();
        }
    }
}

/// What was asked and not answered yet, by correlation id.
type Asked = Arc<Mutex<HashMap<[u8; 4], (ApiKey, i16)>>>;

/// Carries the requests of a client in one thread, and the answers in another, until one side ends it.
fn stand_between(
    client: TcpStream,
    broker: SocketAddr,
    own: SocketAddr,
    meddling: &Meddling,
) -> io::Result<()> {
    let server = TcpStream::connect(broker)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let asked = Asked::default();
    let (requests, noted) = ((client.try_clone()?, server.try_clone()?), Arc::clone(&asked));
    std::thread::spawn(move || {
        let (client, server) = requests;
        carry_requests(&client, &server, &noted).ok();
        hang_up(&client, &server);
    });
    let meddling = Arc::clone(meddling);
    std::thread::spawn(move || {
        carry_answers(&server, &client, &asked, own, &meddling).ok();
        hang_up(&client, &server);
    });
    Ok(())
}

fn hang_up(client: &TcpStream, server: &TcpStream) {
    for stream in [client, server] {
        stream.shutdown(Shutdown::Both).ok();
    }
}

fn carry_requests(client: &TcpStream, server: &TcpStream, asked: &Asked) -> anyhow::Result<()> {
    loop {
        let frame = read_frame(client)?;
        let prefix = RequestPrefix::peek(&frame).context("a request's beginning")?;
        let api = ApiKey::from_i16(prefix.api_key).context("a request that is known")?;
        let id = prefix.correlation_id.to_be_bytes();
        asked.lock().insert(id, (api, prefix.api_version));
        write_frame(server, &frame)?;
    }
}

fn carry_answers(
    server: &TcpStream,
    client: &TcpStream,
    asked: &Asked,
    own: SocketAddr,
    meddling: &Meddling,
) -> anyhow::Result<()> {
    loop {
        let frame = read_frame(server)?;
        let id = frame.first_chunk().context("an answer's beginning")?;
        let (api, version) = asked.lock().remove(id).context("an answer that was asked for")?;
        let mut answer = Answer { api, version, frame };
        answer.change::<MetadataRequestData>(|metadata| {
            for broker in &mut metadata.brokers {
                broker.port = i32::from(own.port());
            }
        })?;
        (meddling.lock())(&mut answer)?;
        write_frame(client, &answer.frame)?;
    }
}

fn read_frame(mut stream: &TcpStream) -> anyhow::Result<Bytes> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length))?];
    stream.read_exact(&mut frame)?;
    Ok(Bytes::from(frame))
}

fn write_frame(mut stream: &TcpStream, frame: &[u8]) -> anyhow::Result<()> {
    let length = u32::try_from(frame.len())?;
    stream.write_all(&[&length.to_be_bytes(), frame].concat())?;
    Ok(())
}
