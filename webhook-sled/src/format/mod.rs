//! What lies on the disk: keys, records and how they become values. Frozen by the golden folders of the tests.

pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod run;
pub(crate) mod value;
