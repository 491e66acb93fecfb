//! The `stratalog` command.

fn main() {}
