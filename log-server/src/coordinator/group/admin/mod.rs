//! What those ask and do who manage groups: list them, count them, look at one, delete one.
//! Members have no part in it.

pub mod census;
pub mod delete;
pub mod describe;
pub mod list;
pub mod view;

#[cfg(test)]
mod tests;
