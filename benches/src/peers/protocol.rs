//! What the load needs of a protocol: connecting, streams, records as they are sent, acknowledgements, reading.
//! Each peer with a protocol of its own has one; the load knows none of them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const BUFFER_BYTES: usize = 256 << 10;

/// A connection that is read from.
#[derive(Debug)]
pub struct Input {
    reader: BufReader<TcpStream>,
}

impl Input {
    /// Reads from this connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, stream),
        }
    }

    /// The connection.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// What was received and not read yet.
    pub fn buffered(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.reader
    }

    /// Whether there is something to read, or comes within this time.
    ///
    /// # Errors
    /// The system's.
    pub fn is_ready(&self, patience: Duration) -> anyhow::Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let mut watched = [PollFd::new(self.stream(), PollFlags::IN)];
        match poll(&mut watched, Some(&Timespec::try_from(patience)?)) {
            Ok(ready) => Ok(0 < ready),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A line without its end.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(0 < self.reader.read_line(&mut line)?, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

/// What was received when a peer sent this and closed the connection.
#[cfg(test)]
pub(crate) fn received(bytes: &[u8]) -> Input {
    use std::io::Write as _;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    // Few enough bytes for a socket that nobody reads yet.
    peer.write_all(bytes).unwrap();
    Input::new(stream)
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// At the first record.
    FromStart,
    /// At the next one to come.
    New,
}

/// A reader of one stream.
pub trait Follow: Send {
    /// Reads some records, and shows the values of that size; returns before long if there are none.
    ///
    /// # Errors
    /// Those of the connection, and the broker's own.
    fn next(&mut self, value_bytes: usize, found: &mut dyn FnMut(&[u8])) -> anyhow::Result<()>;

    /// Its connection, by which somebody else ends it.
    fn stream(&self) -> &TcpStream;
}

/// What the load needs of a protocol.
pub trait Protocol: Sync {
    /// Whose it is.
    fn product(&self) -> &'static str;

    /// A connection that is ready to publish.
    ///
    /// # Errors
    /// When the broker is not there, or does not like it.
    fn connect(&self, address: &str) -> anyhow::Result<TcpStream>;

    /// Makes streams 0 to `partitions`; returns the broker's version.
    ///
    /// # Errors
    /// The broker's.
    fn make_streams(&self, address: &str, partitions: usize) -> anyhow::Result<String>;

    /// Removes them again.
    ///
    /// # Errors
    /// The broker's.
    fn remove_streams(&self, address: &str, partitions: usize) -> anyhow::Result<()>;

    /// A record as it is sent, and where its value begins.
    fn record(&self, partition: usize, value: &[u8]) -> (Vec<u8>, usize);

    /// Makes encoded records those of one connection; nothing to do for most.
    ///
    /// # Errors
    /// The system's.
    fn address_to(&self, _stream: &TcpStream, _bytes: &mut Vec<u8>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Waits for the acknowledgement of the oldest record that has none.
    ///
    /// # Errors
    /// Those of the connection, and the broker's own.
    fn read_acknowledgement(&self, input: &mut Input) -> anyhow::Result<()>;

    /// A reader of one stream.
    ///
    /// # Errors
    /// Those of the connection, and the broker's own.
    fn read(&self, address: &str, partition: usize, reading: Reading) -> anyhow::Result<Box<dyn Follow>>;
}
