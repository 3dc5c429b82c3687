//! The runs that have not ended.

pub(crate) mod index;
pub(crate) mod listing;
pub(crate) mod outcome;
pub(crate) mod queue;
pub(crate) mod records;
pub(crate) mod runs;
