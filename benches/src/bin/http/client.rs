//! A client of HTTP/1.1 for loads: connections that stay open, requests that were made beforehand, one at a time on a connection.
//! It knows no more of HTTP than our answers have: a status, and a length or the end of a stream.

use std::ops::Range;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READ_BYTES: usize = 64 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";
/// What JSON is sent as.
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Of the body, unless that is a stream.
    pub(crate) length: Option<usize>,
    /// Of the head, the empty line included.
    pub(crate) bytes: usize,
}

impl Head {
    /// The head that stands at the beginning, if all of it is there.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn find(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let end = bytes.windows(HEAD_END.len()).position(|four| four == HEAD_END);
        let Some((end, head)) = end.and_then(|end| Some((end, bytes.get(..end)?))) else {
            return Ok(None);
        };
        let mut lines = std::str::from_utf8(head)?.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        Ok(Some(Self {
            status: status.context("a status line")?.parse()?,
            length: length.map(|(_, value)| value.trim().parse()).transpose()?,
            bytes: end + HEAD_END.len(),
        }))
    }
}

/// A request as it goes over the wire.
pub(crate) fn request(
    method: &str,
    path: &str,
    address: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut lines = vec![format!("{method} {path} HTTP/1.1"), format!("host: {address}")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if method != "GET" {
        lines.push(format!("content-length: {}", body.len()));
    }
    [lines.join("\r\n").as_bytes(), HEAD_END, body].concat()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: String,
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address: address.to_owned(),
            stream,
            input: Vec::with_capacity(READ_BYTES),
        })
    }

    /// Sends a request, and returns the status of its answer when all of that is here.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        Ok(self.ask(request).await?.0)
    }

    /// The same, with the answer's body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let length = match head.status {
            204 => 0,
            _ => head.length.context("an answer of known length")?,
        };
        let body = Range {
            start: head.bytes,
            end: head.bytes + length,
        };
        while self.input.len() < body.end {
            self.read().await?;
        }
        Ok((head.status, self.input.get(body).unwrap_or_default()))
    }

    /// Asks for JSON, with JSON unless that is null; anything but a success is an error.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request(method, path, &self.address, &[JSON], text.as_bytes());
        let (status, answer) = self.ask(&request).await?;
        let answer = String::from_utf8_lossy(answer);
        ensure!(status < 300, "{method} {path}: {status} {answer}");
        serde_json::from_str(&answer).with_context(|| format!("{method} {path}: {answer}"))
    }

    /// Sends a request whose answer is a stream, and returns when its head is here. What came behind the head stands in [`Self::received`].
    pub(crate) async fn open_stream(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        ensure!(head.status == 200, "a stream is refused with {}", head.status);
        self.input.drain(..head.bytes);
        Ok(())
    }

    /// What came and was not taken.
    pub(crate) fn received(&mut self) -> &mut Vec<u8> {
        &mut self.input
    }

    /// Waits until something comes.
    pub(crate) async fn read(&mut self) -> anyhow::Result<()> {
        self.input.reserve(READ_BYTES / 4);
        let count = self.stream.read_buf(&mut self.input).await?;
        ensure!(count != 0, "the connection was closed");
        Ok(())
    }

    /// The connection itself, with nothing received.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    async fn head(&mut self) -> anyhow::Result<Head> {
        self.input.clear();
        loop {
            self.read().await?;
            if let Some(head) = Head::find(&self.input)? {
                return Ok(head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_when_all_of_it_is_there() {
        let whole = b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 12\r\nx: y\r\n\r\nbody";
        let head = Head::find(whole).unwrap().unwrap();
        assert_eq!((head.status, head.length), (207, Some(12)));
        assert_eq!(&whole[head.bytes..], b"body");
        assert_eq!(Head::find(&whole[..head.bytes - 1]).unwrap(), None);
        let stream = Head::find(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!(stream.length, None);
        assert!(Head::find(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let text = request("POST", "/a", "h:1", &[JSON], b"{}");
        let expected =
            "POST /a HTTP/1.1\r\nhost: h:1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
