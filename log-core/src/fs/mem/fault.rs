//! What goes wrong on purpose in the file system in memory, and the count of what was asked of it.
//! A fault strikes by the number of its operation, so that a workload fails at the same place in each run.

use std::path::Path;

use rustix::io::Errno;

/// The operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultTarget {
    /// `write_at`, and the write inside `replace`.
    Write,
    /// `zero_fill`.
    ZeroFill,
    /// `allocate`.
    Allocate,
    /// `set_length`.
    SetLength,
    /// `sync_data`, and the one inside `replace`.
    Sync,
    /// `sync_directory`, and those inside `replace` and `create_directory`.
    SyncDirectory,
    /// `create`, and the new file inside `replace`.
    Create,
    /// `create_directory`, once for each directory that is made.
    CreateDirectory,
    /// `rename`, and the one inside `replace`.
    Rename,
    /// `remove_file`, and `remove_directory` once for each name in it.
    Remove,
    /// `open`, `open_read_only`, and the one inside `read`. Not counted as an operation.
    Open,
    /// `read`, `read_at` and `populate`. Not counted as an operation.
    Read,
}

/// The error that a fault gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The disk is broken (EIO).
    Io,
    /// The disk is full (ENOSPC).
    NoSpace,
    /// The process has too many files open (EMFILE).
    OutOfResources,
    /// A mistake of ours that shows itself there: it panics.
    Panic,
}

impl FaultKind {
    #[expect(clippy::panic, reason = "a test asked for it")]
    pub(super) fn errno(self) -> Errno {
        match self {
            Self::Panic => panic!("as planned"),
            Self::Io => Errno::IO,
            Self::NoSpace => Errno::NOSPC,
            Self::OutOfResources => Errno::MFILE,
        }
    }
}

/// The faults to come. Counting starts when the plan is set, at 1.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    faults: Vec<Fault>,
    stop_at: Option<u64>,
}

#[derive(Debug, Clone)]
struct Fault {
    target: FaultTarget,
    nth: u64,
    is_once: bool,
    kind: FaultKind,
    bytes_landing: usize,
    path_part: String,
    /// How many operations met the fault's target and path so far.
    met: u64,
}

/// A fault that struck.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike {
    pub(super) errno: Errno,
    /// So many bytes of a write land all the same.
    pub(super) bytes_landing: usize,
}

impl FaultPlan {
    /// No faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The `nth` operation of this sort fails, and only that one.
    #[must_use]
    pub fn fail_once(self, target: FaultTarget, nth: u64, kind: FaultKind) -> Self {
        self.with(target, nth, true, kind)
    }

    /// The `nth` operation of this sort fails, and every later one.
    #[must_use]
    pub fn fail_from(self, target: FaultTarget, nth: u64, kind: FaultKind) -> Self {
        self.with(target, nth, false, kind)
    }

    /// The fault added last lets so many bytes of the write land before it fails.
    #[must_use]
    pub fn after_bytes(mut self, bytes: usize) -> Self {
        if let Some(fault) = self.faults.last_mut() {
            fault.bytes_landing = bytes;
        }
        self
    }

    /// The fault added last counts and strikes only where the path contains this text.
    #[must_use]
    pub fn only_in(mut self, path_part: &str) -> Self {
        if let Some(fault) = self.faults.last_mut() {
            path_part.clone_into(&mut fault.path_part);
        }
        self
    }

    /// From the so many-th write, sync or change of names on, all of them fail and do nothing, as if the
    /// machine had stopped there. What is read is still answered, so that the workload comes to its end.
    #[must_use]
    pub fn stop_at(mut self, operation: u64) -> Self {
        self.stop_at = Some(operation);
        self
    }

    fn with(mut self, target: FaultTarget, nth: u64, is_once: bool, kind: FaultKind) -> Self {
        self.faults.push(Fault {
            target,
            nth,
            is_once,
            kind,
            bytes_landing: 0,
            path_part: String::new(),
            met: 0,
        });
        self
    }
}

/// How often each operation was asked for, failures included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes of bytes.
    pub writes: u64,
    /// Zero fills.
    pub zero_fills: u64,
    /// Reservations of space.
    pub allocations: u64,
    /// Cuts and extensions.
    pub length_changes: u64,
    /// Syncs of files.
    pub file_syncs: u64,
    /// Syncs of directories.
    pub directory_syncs: u64,
    /// New files and directories.
    pub creations: u64,
    /// Renames.
    pub renames: u64,
    /// Removals of files and directories.
    pub removals: u64,
}

impl Counters {
    /// All of them: the range of [`FaultPlan::stop_at`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.writes
            + self.zero_fills
            + self.allocations
            + self.length_changes
            + self.file_syncs
            + self.directory_syncs
            + self.creations
            + self.renames
            + self.removals
    }

    fn of(&mut self, target: FaultTarget) -> Option<&mut u64> {
        Some(match target {
            FaultTarget::Write => &mut self.writes,
            FaultTarget::ZeroFill => &mut self.zero_fills,
            FaultTarget::Allocate => &mut self.allocations,
            FaultTarget::SetLength => &mut self.length_changes,
            FaultTarget::Sync => &mut self.file_syncs,
            FaultTarget::SyncDirectory => &mut self.directory_syncs,
            FaultTarget::Create | FaultTarget::CreateDirectory => &mut self.creations,
            FaultTarget::Rename => &mut self.renames,
            FaultTarget::Remove => &mut self.removals,
            FaultTarget::Open | FaultTarget::Read => return None,
        })
    }
}

/// The counters, and the plan at work.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) counters: Counters,
    plan: FaultPlan,
    /// Operations since the plan was set.
    operations: u64,
}

impl Faults {
    pub(super) fn set(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.operations = 0;
    }

    /// Counts the operation, and says whether it must fail.
    pub(super) fn meet(&mut self, target: FaultTarget, path: &Path) -> Result<(), Strike> {
        if let Some(counter) = self.counters.of(target) {
            *counter += 1;
            self.operations += 1;
            if self
                .plan
                .stop_at
                .is_some_and(|stop_at| stop_at <= self.operations)
            {
                return Err(Strike {
                    errno: Errno::IO,
                    bytes_landing: 0,
                });
            }
        }
        let mut outcome = Ok(());
        for fault in &mut self.plan.faults {
            let is_met = fault.target == target && path.to_string_lossy().contains(&fault.path_part);
            if !is_met {
                continue;
            }
            fault.met += 1;
            let strikes = if fault.is_once {
                fault.met == fault.nth
            } else {
                fault.nth <= fault.met
            };
            if strikes && outcome.is_ok() {
                outcome = Err(Strike {
                    errno: fault.kind.errno(),
                    bytes_landing: fault.bytes_landing,
                });
            }
        }
        outcome
    }
}
