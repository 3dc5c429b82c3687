//! Reads single records, lists, expired runs, and at an opening everything that is kept in memory.

pub(crate) mod delivery_claims;
pub(crate) mod prune;
pub(crate) mod read;
pub(crate) mod restore;
