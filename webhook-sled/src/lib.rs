//! The default durable store for webhook triggers: embedded, in one folder, on [sled](https://docs.rs/sled/0.34).
//!
//! ```
//! use webhook_core::store::{RunQuery, Store};
//! use webhook_sled::SledStore;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let store = SledStore::open(folder.path().join("data"))?;
//! assert!(store.list_runs(RunQuery::default()).await?.items.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! It keeps the promises of [`Store`](webhook_core::store::Store). With [`Durability::Power`], what it
//! acknowledged survives the loss of power, with [`Durability::Process`] the death of the process. One process
//! opens a folder at a time; another one gets [`OpenError::InUse`]. A damaged folder is an error that names the file when it is
//! opened or read, and never an empty store. The only damage that cannot be told is that of the last record of the
//! journal after a loss of power: it looks like a write that was torn. When the disk fails, every later write fails too,
//! until the folder is opened anew; when the disk is merely full, the store recovers by itself once there is room, and
//! what runs meanwhile goes on.
//!
//! While the folder of an open store is moved, removed or replaced, its health is an error and new runs are refused. What it
//! has accepted goes on in the files that are open, so a folder that is put back has all of it.
//!
//! A change that a failing disk refuses ([`StoreError::Unavailable`](webhook_core::store::StoreError::Unavailable)) may have
//! reached the journal all the same, and is made then when the store is opened again. A caller that repeats it with
//! its idempotency key gets the same run.
//!
//! Pruning is not erasing: what was removed stays in free parts of the files until something else takes their place.
//!
//! # How it works
//!
//! Webhooks and the runs that have not ended are in memory as well as on disk, so looking up a token and claiming
//! a run read nothing. One thread decides every change, in the order of arrival, appends what it decided to a journal,
//! syncs it, and only then answers all who wait; while it does so, the next group gathers, so many callers share one
//! sync. A second one takes the journal's content to sled, many changes at once, and what was queued and has ended
//! meanwhile only in its last form. When the store is opened, sled gets what only the journal has.
//!
//! For sled a large value costs hardly more than a small one, so runs made within the same 16 ms share values of some
//! 2 KB. No value is larger than some 6 KB, because sled writes a page of more than 128 KiB (of up to 16 values) to a
//! file of its own that it never syncs; larger records are split. sled is synced through a descriptor of its own (sled 0.34 does
//! not do that by itself on Linux), before more than some 100 KB were written to it, because it reuses parts of its log
//! without knowing what the disk has confirmed.

mod check;
mod due_index;
mod engine;
mod error;
mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod options;
mod panics;
mod reader;
mod store;
#[doc(hidden)]
pub mod testing;
mod tree;
mod webhook_index;
mod writer;

pub use check::verify::VerifyReport;
pub use error::OpenError;
pub use options::{Durability, SledOptions};
pub use panics::quiet_caught_panics;
pub use store::SledStore;
pub use tree::damage::{DamagedRecord, Kind as RecordKind};
