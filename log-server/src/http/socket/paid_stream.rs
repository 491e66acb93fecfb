//! A stream that pays for what is read of it, so that messages which are still coming cost no more memory than bodies may.
//!
//! A message is gathered behind this stream, in a buffer that stays as large as its largest message made it. So what was paid is given back
//! with the connection, and not with the message.
//!
//! | what is read | is |
//! |---|---|
//! | more than there is memory for | an error of the kind `OutOfMemory` |
//! | so much without a whole message that none can be meant | `FileTooLarge` |

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::memory::{BodyMemory, Held};
use crate::http::slow_client::PatientStream;

/// A message may have so much before it pays, and pays in steps of this size: the buffers of a connection that speaks HTTP take as much.
const FREE_BYTES: usize = 64 << 10;
/// The head of a ping or a pong: two bytes, and the mask.
const CONTROL_HEAD_BYTES: usize = 6;

/// A stream whose reader gathers messages.
pub(super) struct PaidStream {
    stream: PatientStream,
    memory: BodyMemory,
    held: Held,
    /// What came since the last whole message.
    gathered: usize,
    gathered_max: usize,
}

impl PaidStream {
    /// A stream for messages of a size. Their frames may have heads as long as themselves; frames without end are no message.
    pub(super) fn new(stream: PatientStream, memory: BodyMemory, message_bytes_max: usize) -> Self {
        Self {
            stream,
            memory,
            held: Held::default(),
            gathered: 0,
            gathered_max: 2 * message_bytes_max + FREE_BYTES,
        }
    }

    pub(super) fn into_inner(self) -> PatientStream {
        self.stream
    }

    /// What was gathered became a message.
    pub(super) fn message_came(&mut self) {
        self.gathered = 0;
    }

    /// A ping or a pong came, which nobody keeps, perhaps between the frames of a message.
    pub(super) fn control_came(&mut self, payload_bytes: usize) {
        self.gathered = self.gathered.saturating_sub(CONTROL_HEAD_BYTES + payload_bytes);
    }

    fn gather(&mut self, bytes: usize) -> io::Result<()> {
        self.gathered += bytes;
        if self.gathered_max < self.gathered {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if self.gathered <= FREE_BYTES {
            return Ok(());
        }
        let cost = self.gathered.next_multiple_of(FREE_BYTES);
        let paid = self.memory.grow(&mut self.held, cost);
        paid.map_err(|_| ErrorKind::OutOfMemory.into())
    }
}

impl AsyncRead for PaidStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.gather(buffer.filled().len() - before))
    }
}

impl AsyncWrite for PaidStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A stream with so much memory, for messages of 1 MiB.
    async fn stream(memory: &BodyMemory) -> PaidStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let patient = PatientStream::new(stream, Duration::from_secs(1));
        PaidStream::new(patient, memory.clone(), 1 << 20)
    }

    #[tokio::test]
    async fn what_is_gathered_is_paid_for_until_the_connection_ends() {
        let memory = BodyMemory::new(512 << 10);
        let mut stream = stream(&memory).await;
        stream.gather(64 << 10).unwrap();
        assert_eq!(memory.free_bytes(), 512 << 10);
        stream.gather(1).unwrap();
        assert_eq!(memory.free_bytes(), 384 << 10);
        stream.message_came();
        stream.gather(128 << 10).unwrap();
        assert_eq!(memory.free_bytes(), 384 << 10);
        let error = stream.gather(512 << 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        drop(stream);
        assert_eq!(memory.free_bytes(), 512 << 10);
    }

    #[tokio::test]
    async fn pings_are_not_gathered_and_frames_without_end_are_refused() {
        let memory = BodyMemory::new(16 << 20);
        let mut stream = stream(&memory).await;
        for _ in 0..100_000 {
            stream.gather(6 + 125).unwrap();
            stream.control_came(125);
        }
        assert_eq!(memory.free_bytes(), 16 << 20);
        let error = (0..10_000).find_map(|_| stream.gather(1000).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    }
}
