//! Topics, settings and producer ids: state that is only what replaying the metadata log gives.
//!
//! | module | owns |
//! |---|---|
//! | [`topic_name`] | which names a topic may have |
//! | [`records`] | the records of the metadata log |
//! | [`image`] | the state they give, immutable once published |
//! | [`plan`] | requests checked against the state, and the records that answer them |
//! | [`error`] | why a request was refused |

pub mod error;
pub mod image;
pub mod plan;
pub mod records;
pub mod topic_name;
