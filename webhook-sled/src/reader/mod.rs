//! Reading: single records, lists, what is past its retention, and everything that is in memory when a store is opened.

pub(crate) mod delivery_claims;
pub(crate) mod prune;
pub(crate) mod read;
pub(crate) mod restore;
