//! The memory that requests in flight may take together, over all connections.
//!
//! A connection pays for a request before it reads it, and gets it back when the request's bytes are let go.
//! Who cannot pay waits, and a connection that waits is not read: the pressure reaches the client as TCP's.
//!
//! Records are handed on as they came and cost their size. Structures (names, numbers, settings) cost [`EXPANSION`] times their
//! size, because that is what they become when they are decoded: an array element of two bytes becomes a struct of about a hundred.
//! Opaque bytes are not decoded; what stands around them has an element for each 32 bytes at most (`request_guard`), so they
//! cost [`OPAQUE_EXPANSION`] times their size.
//!
//! A request larger than the whole budget costs the whole budget, so it is served alone rather than never. The queue is
//! fair, so nobody waits for ever.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::kafka::apis::FrameClass;

/// How many bytes of memory a byte of a structure may become.
const EXPANSION: usize = 64;
/// The same for a frame of opaque bytes: itself, and a struct of about a hundred bytes for each 32.
const OPAQUE_EXPANSION: usize = 4;

/// The budget. Cloned to every connection.
#[derive(Debug, Clone)]
pub(crate) struct RequestMemory {
    free: Arc<Semaphore>,
    total: u32,
}

/// What one request has paid; given back on drop.
#[derive(Debug)]
#[must_use = "dropping it gives the memory back"]
pub(crate) struct MemoryPermit {
    _permit: OwnedSemaphorePermit,
}

impl RequestMemory {
    /// A budget of `bytes`, at most 4 GiB.
    pub(crate) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(
                usize::try_from(total).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            total,
        }
    }

    /// Waits until a request of `length` bytes fits.
    pub(crate) async fn take(&self, length: usize, class: FrameClass) -> MemoryPermit {
        let permit = Arc::clone(&self.free)
            .acquire_many_owned(self.price(length, class))
            .await;
        MemoryPermit {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// Takes the memory if it is there at once.
    pub(crate) fn try_take(&self, length: usize, class: FrameClass) -> Option<MemoryPermit> {
        let permit = Arc::clone(&self.free)
            .try_acquire_many_owned(self.price(length, class))
            .ok()?;
        Some(MemoryPermit { _permit: permit })
    }

    fn price(&self, length: usize, class: FrameClass) -> u32 {
        let bytes = match class {
            FrameClass::Records => length,
            FrameClass::Opaque => length.saturating_mul(OPAQUE_EXPANSION),
            FrameClass::Structure => length.saturating_mul(EXPANSION),
        };
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total)
    }

    /// How much is free now.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_cost_what_they_become() {
        let memory = RequestMemory::new(1000);
        let records = memory.try_take(300, FrameClass::Records).unwrap();
        assert_eq!(memory.free_bytes(), 700);
        let structure = memory.try_take(10, FrameClass::Structure).unwrap();
        assert_eq!(memory.free_bytes(), 60);
        assert!(memory.try_take(61, FrameClass::Records).is_none());
        let opaque = memory.try_take(10, FrameClass::Opaque).unwrap();
        assert_eq!(memory.free_bytes(), 20);
        drop((records, structure, opaque));
        assert_eq!(memory.free_bytes(), 1000);
    }

    #[tokio::test]
    async fn a_request_larger_than_the_budget_is_served_alone() {
        let memory = RequestMemory::new(1000);
        let small = memory.take(1, FrameClass::Records).await;
        assert!(memory.try_take(5000, FrameClass::Records).is_none());
        drop(small);
        let large = memory.take(5000, FrameClass::Records).await;
        assert!(memory.try_take(1, FrameClass::Records).is_none());
        drop(large);
        assert_eq!(memory.free_bytes(), 1000);
    }
}
