//! What a crash leaves of the file system in memory.
//! Computes the image; opening it, and judging what is in it, is the test's business.

use std::collections::BTreeMap;

use super::fault::Faults;
use super::random::Random;
use super::state::{SWEEP_FILES_MIN, State};

/// How the machine went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// A power cut: what was synced, and nothing else.
    SyncedOnly,
    /// The process was killed, the system goes on: everything that was written is there. What was not synced
    /// still is not, so that a power cut may follow.
    All,
    /// A power cut while the system was writing on its own: what was synced, and any part of the rest.
    /// Pages survive singly, also torn between sectors of 512 bytes; a file's length survives or not
    /// whatever its pages do; names survive in an order that a file system may choose, a rename wholly or
    /// not at all.
    Random {
        /// The same seed on the same state gives the same image.
        seed: u64,
    },
}

impl State {
    /// The state after the crash: no handles, no locks, no faults, counters at zero.
    pub(super) fn image(&self, mode: CrashMode) -> Self {
        let mut random = match mode {
            CrashMode::Random { seed } => Random::new(seed),
            CrashMode::SyncedOnly | CrashMode::All => Random::new(0),
        };
        let mut names = match mode {
            CrashMode::SyncedOnly => self.names.durable(),
            CrashMode::All => self.names.clone(),
            CrashMode::Random { .. } => self.names.surviving(&mut random),
        };
        let reachable = names.reachable();
        names.sweep(&reachable);
        let mut files = BTreeMap::new();
        for (id, file) in self.files.iter().filter(|(id, _)| reachable.contains(id)) {
            let contents = match mode {
                CrashMode::SyncedOnly => file.contents.durable(),
                CrashMode::All => file.contents.clone(),
                CrashMode::Random { .. } => file.contents.surviving(&mut random),
            };
            let mut node = file.with_contents(contents);
            node.is_cold = mode != CrashMode::All;
            files.insert(*id, node);
        }
        let used = files.values().map(|file| file.taken.count()).sum();
        let mut image = Self {
            names,
            files,
            locks: BTreeMap::new(),
            faults: Faults::default(),
            space: self.space.with_used(used),
            sweep_at: SWEEP_FILES_MIN,
        };
        image.sweep();
        image
    }
}
