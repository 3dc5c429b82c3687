//! sled's tree as this store reads it: it skips damage, splits shared values, and keeps sums of each kind.

pub(crate) mod blocks;
pub(crate) mod damage;
pub(crate) mod scan;
pub(crate) mod sums;
pub(crate) mod tallies;
pub(crate) mod values;
