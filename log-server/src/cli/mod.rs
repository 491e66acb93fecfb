//! The command line: one file or directory per subcommand.
//! A subcommand reads its arguments, uses the broker or the client, and turns the outcome into lines and an
//! exit code.
//!
//! | module | owns |
//! |---|---|
//! | `command` | the tree of commands, and how a command ends |
//! | [`serve`] | the broker |
//! | `topic` | topics: create, list, describe, alter, delete |
//! | `connection` | which broker is talked to |
//! | `output` | all that is written to the terminal |
//! | `failure` | exit codes, messages and advice |
//! | `units` | numbers as people read and write them |

mod command;
mod connection;
mod failure;
#[expect(dead_code, reason = "the commands that use the rest follow")]
mod output;
pub mod serve;
mod topic;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the commands that use the rest follow")
)]
mod units;

pub use command::main;
