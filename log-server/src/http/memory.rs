//! What bodies take of the memory: those of requests, and those of large answers, all connections together.
//!
//! Who cannot pay is told to come again instead of waiting: half-read bodies that wait for each other would wait for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::http::problem::{Code, Problem};

/// Answers up to this size pay nothing: the buffers of their connection take as much.
const FREE_BYTES: usize = 64 << 10;

/// What bodies may take together.
#[derive(Debug, Clone)]
pub(crate) struct BodyMemory {
    /// In bytes. A number and no semaphore: nobody waits for it.
    free: Arc<AtomicUsize>,
}

/// What one request has paid; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Whom it was paid to, if anything was.
    memory: Option<BodyMemory>,
    bytes: usize,
}

impl BodyMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            free: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    /// Raises what a request holds to `bytes`, if there is so much.
    pub(crate) fn grow(&self, held: &mut Held, bytes: usize) -> Result<(), Problem> {
        let Some(more) = bytes.checked_sub(held.bytes).filter(|more| *more != 0) else {
            return Ok(());
        };
        // Nothing else is published by it.
        let take = |free: usize| free.checked_sub(more);
        if self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_err()
        {
            let text = "other requests fill the memory for bodies and answers; try again, or ask for less";
            return Err(Problem::new(Code::Overloaded, text));
        }
        held.memory.get_or_insert_with(|| self.clone());
        held.bytes = bytes;
        Ok(())
    }

    /// The body of an answer, which pays for its memory until the last of it was sent.
    pub(crate) fn pay_for(&self, body: Vec<u8>) -> Result<Bytes, Problem> {
        Ok(self.pay_ahead(body.capacity())?.with(body))
    }

    /// The same for a body that is yet to be finished.
    pub(crate) fn pay_ahead(&self, bytes: usize) -> Result<Held, Problem> {
        let mut held = Held::default();
        if FREE_BYTES < bytes {
            self.grow(&mut held, bytes)?;
        }
        Ok(held)
    }

    /// How much is free now.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }
}

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A body that keeps what was paid for it until the last of it was sent.
    pub(crate) fn with(self, body: Vec<u8>) -> Bytes {
        if self.bytes == 0 {
            return Bytes::from(body);
        }
        Bytes::from_owner(PaidBody { body, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.free.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}

/// The owner of bytes that were paid for.
struct PaidBody {
    body: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for PaidBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_paid_for_and_given_back() {
        let memory = BodyMemory::new(100);
        let (mut first, mut second) = (Held::default(), Held::default());
        memory.grow(&mut first, 60).unwrap();
        memory.grow(&mut first, 50).unwrap();
        assert_eq!(memory.free_bytes(), 40);
        assert_eq!(memory.grow(&mut second, 41).unwrap_err().code(), Code::Overloaded);
        memory.grow(&mut first, 100).unwrap();
        drop(first);
        memory.grow(&mut second, 41).unwrap();
        assert_eq!(memory.free_bytes(), 59);
    }

    #[test]
    fn an_answer_pays_until_its_last_piece_is_gone() {
        let memory = BodyMemory::new(200 << 10);
        let mut body = memory.pay_for(vec![7; 150 << 10]).unwrap();
        let refused = memory.pay_for(vec![7; 100 << 10]);
        assert_eq!(refused.unwrap_err().code(), Code::Overloaded);
        assert_eq!(memory.pay_for(vec![7; 64 << 10]).unwrap().len(), 64 << 10);
        let piece = body.split_to(1000);
        drop(body);
        assert_eq!(memory.free_bytes(), 50 << 10);
        assert_eq!(piece, vec![7; 1000]);
        drop(piece);
        assert_eq!(memory.free_bytes(), 200 << 10);
    }
}
