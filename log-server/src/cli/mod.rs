//! The command line: one file or directory per subcommand.
//! A subcommand reads its arguments, uses the broker or the client, and turns the outcome into lines and an
//! exit code.
//!
//! | module | owns |
//! |---|---|
//! | `command` | the tree of commands, and how a command ends |
//! | [`serve`] | the broker |
//! | `topic` | topics: create, list, describe, alter, compact, delete |
//! | `group` | groups: list, describe, reset their offsets, delete |
//! | `txn` | transactions: list, describe, find those that hang, abort |
//! | `produce` | lines become records |
//! | `consume` | records become text or JSON, alone or as a member of a group |
//! | `bench` | load on a broker, and what it gave |
//! | `log` | files without a broker: dump and verify |
//! | `connection` | which broker is talked to |
//! | `http_client` | requests to a broker's HTTP port |
//! | `output` | all that is written to the terminal |
//! | `question` | yes or no, before something is lost |
//! | `signals` | being told to stop |
//! | `failure` | exit codes, messages and advice |
//! | `text` | keys and values, which may be any bytes |
//! | `partitions` | partitions of several topics in one line |
//! | `scope` | partitions as people name them |
//! | `units` | numbers as people read and write them |
//! | `age` | how long ago |
//! | `escapes` | odd bytes, as people write them |
//! | `progress` | how far long work is, for who watches |

mod age;
mod bench;
mod command;
mod connection;
mod consume;
mod escapes;
mod failure;
mod group;
mod http_client;
mod log;
mod output;
mod partitions;
mod produce;
mod progress;
mod question;
#[cfg(test)]
mod reference;
mod scope;
pub mod serve;
mod signals;
mod text;
mod topic;
mod txn;
mod units;

pub use command::main;
