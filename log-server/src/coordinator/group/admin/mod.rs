//! What those ask and do who manage groups: list them, look at one, delete one.
//! Members have no part in it.

pub mod delete;
pub mod describe;
pub mod list;
pub mod view;

#[cfg(test)]
mod tests;
