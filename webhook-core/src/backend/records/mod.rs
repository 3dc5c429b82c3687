//! A store around records of a host's own: the host reads and writes, [`RecordStore`] decides.

mod contract;
mod core;
mod store;

pub use contract::{KeyRecord, LiveRecords, RecordChange, Records};
pub use store::RecordStore;
