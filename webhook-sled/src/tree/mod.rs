//! sled's tree as this store reads it: past damage, several runs in a value, and with the sums of each kind.

pub(crate) mod blocks;
pub(crate) mod damage;
pub(crate) mod scan;
pub(crate) mod sums;
pub(crate) mod tallies;
pub(crate) mod values;
