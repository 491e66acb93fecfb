//! Tests of the built `stratalog` as a process: what `kill -9` and a full disk do to it, seen through Kafka's protocol.
//!
//! | module | proves |
//! |---|---|
//! | [`bench`] | loads end, add up, and leave nothing behind |
//! | [`command_line`] | topics, produce, consume, dump and verify end and print as they should |
//! | [`command_line_groups`] | groups are shown, set back and deleted, and members of `consume --group` share a topic |
//! | [`command_line_txn`] | open transactions are shown, found where they hang, and aborted, and readers of committed records go on |
//! | [`command_line_produce`] | what `produce` refuses, tells and does when it is interrupted |
//! | [`crash_loop`] | nothing acknowledged is lost, doubled or put out of order by crashes under load, no committed offset goes back |
//! | [`exactly_once`] | records are transformed once and in order, whoever is killed: instances, the broker, both |
//! | [`full_disk`] | a full disk refuses writes with an error, reads go on, and writing resumes by itself |
//! | [`leases`] | workers over HTTP do each record of a group, in order, while the broker is killed |
//! | [`log_dirs`] | of two data directories, one that is gone costs its partitions alone, and comes back with all records |
//! | [`server`] | starts and stops the process |

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod bench;
mod command_line;
mod command_line_groups;
mod command_line_produce;
mod command_line_txn;
mod crash_loop;
mod exactly_once;
mod full_disk;
mod leases;
mod log_dirs;
mod server;
mod wire;

/// A variable of the environment as a number.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}
