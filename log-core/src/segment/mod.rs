//! Segments: a partition's log is a row of them, each a stretch of records in a file of its own with two
//! indexes beside it. Only the last one is appended to.

pub mod aborted;
pub mod file_name;
pub mod indexes;
mod lookup;
pub mod scan;
#[expect(clippy::module_inception, reason = "one noun per file: the segment itself")]
pub mod segment;
pub mod segments;
pub mod space;
pub mod swap;
pub mod view;

#[cfg(test)]
mod tests;
