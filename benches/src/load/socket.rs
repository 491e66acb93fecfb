//! One connection of the raw load: it never waits, and copies no more than it must.
//!
//! Small requests are gathered and leave in one write; large batches leave from where they lie. Answers are cut from a buffer that
//! is read into in large pieces. Who waits for the socket is the worker.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, ensure};

use super::wire::LENGTH_BYTES;

/// Requests up to this size are copied together; larger ones are not copied.
const COPY_BYTES_MAX: usize = 16 << 10;
/// What is gathered leaves at this size at the latest.
const GATHER_BYTES: usize = 64 << 10;
/// A piece that is read at once; it stays in the processor's cache.
const READ_BYTES: usize = 256 << 10;

/// A connection that never waits.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    begin: usize,
    end: usize,
    is_blocked: bool,
}

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            output: Vec::new(),
            written: 0,
            input: Vec::new(),
            begin: 0,
            end: 0,
            is_blocked: false,
        })
    }

    /// The socket itself, to wait for it.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the socket takes nothing more for now.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Room for what is sent next; all of it leaves with [`Socket::flush`].
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Gives the socket what was gathered, as much as it takes.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.is_blocked = false;
        while self.written < self.output.len() {
            let rest = self.output.get(self.written..).unwrap_or_default();
            match self.stream.write(rest) {
                Ok(0) => anyhow::bail!("the connection takes nothing more"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write to the broker"),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Sends `batch` and `after` behind what was gathered. A small batch is only gathered.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn send(&mut self, batch: &[u8], after: &[u8]) -> anyhow::Result<()> {
        if batch.len() <= COPY_BYTES_MAX {
            self.output.extend_from_slice(batch);
            self.output.extend_from_slice(after);
            if GATHER_BYTES <= self.output.len() {
                self.flush()?;
            }
            return Ok(());
        }
        let mut done = 0;
        let waiting = self.output.get(self.written..).unwrap_or_default();
        let whole = waiting.len() + batch.len() + after.len();
        while done < whole {
            let mut slices = [IoSlice::new(waiting), IoSlice::new(batch), IoSlice::new(after)];
            let mut left = slices.as_mut_slice();
            IoSlice::advance_slices(&mut left, done);
            match self.stream.write_vectored(left) {
                Ok(0) => anyhow::bail!("the connection takes nothing more"),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write to the broker"),
            }
        }
        let waiting = waiting.len();
        if whole == done {
            self.output.clear();
            self.written = 0;
            return Ok(());
        }
        // Only what the socket did not take is copied.
        if done < waiting {
            self.written += done;
            self.output.extend_from_slice(batch);
        } else {
            self.output.clear();
            self.written = 0;
            let rest = batch.get(done - waiting..).unwrap_or_default();
            self.output.extend_from_slice(rest);
        }
        let after_done = done.saturating_sub(waiting + batch.len());
        self.output
            .extend_from_slice(after.get(after_done..).unwrap_or_default());
        Ok(())
    }

    /// Reads what has arrived, up to one piece. Returns whether more may be there.
    ///
    /// # Errors
    /// When the connection broke or was closed.
    pub fn receive(&mut self) -> anyhow::Result<bool> {
        self.make_room(READ_BYTES);
        loop {
            let room = self.input.get_mut(self.end..).unwrap_or_default();
            let length = room.len();
            match self.stream.read(room) {
                Ok(0) => anyhow::bail!("the broker closed the connection"),
                Ok(count) => {
                    self.end += count;
                    return Ok(count == length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from the broker"),
            }
        }
    }

    /// Moves what is there to the front when too little room is left behind it.
    fn make_room(&mut self, bytes: usize) {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        let wanted = self.announced().map_or(0, |length| LENGTH_BYTES + length);
        let needed = bytes
            .min(READ_BYTES)
            .max(wanted.saturating_sub(self.end - self.begin));
        if self.input.len() - self.end < needed.min(READ_BYTES / 4) || self.input.len() < self.begin + wanted
        {
            self.input.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            let size = (self.end + needed).max(READ_BYTES).max(wanted);
            if self.input.len() < size {
                self.input.resize(size, 0);
            }
        }
    }

    fn announced(&self) -> Option<usize> {
        let bytes = self
            .input
            .get(self.begin..self.end)?
            .first_chunk::<LENGTH_BYTES>()?;
        usize::try_from(u32::from_be_bytes(*bytes)).ok()
    }

    /// Where the next whole answer stands in the input, its length cut off; it counts as taken.
    ///
    /// # Errors
    /// When what arrives cannot be an answer.
    pub fn next_answer(&mut self) -> anyhow::Result<Option<std::ops::Range<usize>>> {
        let Some(length) = self.announced() else {
            return Ok(None);
        };
        ensure!(
            length <= 1 << 30,
            "the broker announced an answer of {length} bytes; does it speak another protocol?"
        );
        let from = self.begin + LENGTH_BYTES;
        if self.end < from + length {
            return Ok(None);
        }
        self.begin = from + length;
        Ok(Some(from..from + length))
    }

    /// The bytes of such an answer, until the next [`Socket::receive`].
    #[must_use]
    pub fn answer(&self, place: std::ops::Range<usize>) -> &[u8] {
        self.input.get(place).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Batches of all sizes arrive whole and in order, however slowly the other side reads.
    #[test]
    fn nothing_is_lost_when_the_other_side_is_slow() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(&listener.local_addr().unwrap().to_string()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut expected = Vec::new();
        let mut received = vec![0; 50_000];
        let mut at = 0;
        for (number, size) in (0_u8..).zip([10, 300_000, 5, 20_000, 4_000_000, 16_384, 1, 900_000]) {
            let batch = vec![number; size];
            socket.output().extend_from_slice(b"before");
            socket.send(&batch, b"after").unwrap();
            expected.extend_from_slice(b"before");
            expected.extend_from_slice(&batch);
            expected.extend_from_slice(b"after");
            for _ in 0..3 {
                socket.flush().unwrap();
            }
            while socket.is_blocked() {
                let count = other.read(&mut received).unwrap();
                assert_eq!(received[..count], expected[at..at + count]);
                at += count;
                socket.flush().unwrap();
            }
        }
        drop(socket);
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, expected[at..]);
    }

    #[test]
    fn answers_are_cut_however_they_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(&listener.local_addr().unwrap().to_string()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let sizes = [0_usize, 1, 300_000, 17, 1_000_000, 3, 262_144];
        let writer = std::thread::spawn(move || {
            for (number, size) in (0_u8..).zip(sizes) {
                other
                    .write_all(&u32::try_from(size).unwrap().to_be_bytes())
                    .unwrap();
                other.write_all(&vec![number; size]).unwrap();
            }
            other
        });
        for (number, size) in (0_u8..).zip(sizes) {
            let place = loop {
                if let Some(place) = socket.next_answer().unwrap() {
                    break place;
                }
                socket.receive().unwrap();
            };
            assert_eq!(socket.answer(place), vec![number; size]);
        }
        drop(writer.join().unwrap());
        while socket.receive().is_ok() {}
    }
}
