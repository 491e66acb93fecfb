//! The command line: one file per subcommand.
//! A subcommand reads its arguments, uses the broker or the client, and turns the outcome into lines and an
//! exit code.

pub mod serve;
