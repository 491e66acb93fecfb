//! A connection that sends requests as they are: no client library stands between, so that a thousand members fit into one process and
//! its own work stays small beside the broker's.

use anyhow::ensure;
use bytes::{Bytes, BytesMut};
use log_core::protocol::{KafkaString, Request, read_body, read_response_header, write_request_header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ANSWER_BYTES_MAX: usize = 64 << 20;
const LENGTH_BYTES: usize = 4;
const READ_BYTES: usize = 8 << 10;

/// A request as it goes over the wire, its length in front.
///
/// # Errors
/// A field cannot be expressed in that version.
pub fn encode<R: Request>(request: &R, version: i16) -> anyhow::Result<Bytes> {
    let mut frame = BytesMut::from(&[0; LENGTH_BYTES][..]);
    let client = KafkaString::from("groups".to_owned());
    write_request_header(&mut frame, R::API_KEY, version, 1, &client)?;
    request.write_to(&mut frame, version)?;
    let length = u32::try_from(frame.len().saturating_sub(LENGTH_BYTES))?;
    let (head, _) = frame.split_at_mut(LENGTH_BYTES);
    head.copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

/// The response that a frame holds.
///
/// # Errors
/// It is none.
pub fn decode<R: Request>(mut answer: Bytes, version: i16) -> anyhow::Result<R::Response> {
    read_response_header(&mut answer, R::API_KEY, version)?;
    Ok(read_body(answer, version)?)
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(frame).await?)
    }

    /// The next answer, without its length.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn receive(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some((head, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() {
                let length = usize::try_from(u32::from_be_bytes(*head))?;
                ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
                if length <= rest.len() {
                    let mut frame = self.buffer.split_to(LENGTH_BYTES + length).freeze();
                    return Ok(frame.split_off(LENGTH_BYTES));
                }
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(0 < read, "the broker closed the connection");
        }
    }

    /// Sends a frame and waits for its answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn exchange(&mut self, frame: &[u8]) -> anyhow::Result<Bytes> {
        self.send(frame).await?;
        self.receive().await
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// The connection broke, or the answer is none.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> anyhow::Result<R::Response> {
        let frame = encode(request, version)?;
        decode::<R>(self.exchange(&frame).await?, version)
    }
}
