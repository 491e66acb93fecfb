//! What the load needs of a protocol: connecting, streams, records as they are sent, acknowledgements, reading.
//! Each peer with a protocol of its own has one; the load knows none of them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;

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
    /// Reads some records, and shows the values of that size.
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
