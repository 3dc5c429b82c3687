//! The on-disk format: keys, and records as bytes. The golden folders of the tests hold it.

pub(crate) mod block;
pub(crate) mod codec;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod run;
pub(crate) mod value;
