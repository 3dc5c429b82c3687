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
//! # Promises
//!
//! It keeps the promises of [`Store`](webhook_core::store::Store). With [`Durability::Power`], acknowledged changes
//! survive the loss of power; with [`Durability::Process`], they survive the death of the process.
//!
//! - **One process** opens a folder at a time; another gets [`OpenError::InUse`].
//! - **A damaged folder** is an error that names the file, when it is opened or read, and never an empty
//!   store. One fault cannot be detected: damage to the last record of the journal after a loss of power
//!   looks like a torn write.
//! - **A failing disk** fails every later write until the folder is opened again. From a full disk the store
//!   recovers by itself once there is space, and running runs continue.
//! - **A moved folder:** while the folder of an open store is moved, removed or replaced, its health is an
//!   error and new runs are refused. Accepted runs continue in the open files, so a folder that is put back
//!   has all of them.
//! - **A refused change** ([`StoreError::Unavailable`](webhook_core::store::StoreError::Unavailable)) of a
//!   failing disk may have reached the journal, and then takes effect when the store is opened again. A
//!   caller that repeats it with its idempotency key gets the same run.
//!
//! Pruning is not erasing: removed data stays in free parts of the files until other data takes their place.
//!
//! # How it works
//!
//! Webhooks and the runs that have not ended are in memory as well as on disk, so looking up a token and claiming
//! a run read nothing. One thread decides every change, in the order of arrival, and appends it to a journal. It syncs the
//! journal, and then tells the callers. Changes that arrive meanwhile share the next sync.
//! A second thread takes the journal's content to sled, many changes at once. A run that ends before that reaches sled
//! only in its last form. An opening takes to sled what only the journal has.
//!
//! For sled a large value costs hardly more than a small one, so runs made within the same 16 ms share values of about
//! 2 KB. No value exceeds 6,000 bytes; larger records are split. So a page of sled, which has up to 16 values, stays
//! below 128 KiB: sled writes larger pages to files that it never syncs.
//!
//! On Linux, sled 0.34 does not sync its log, and reuses parts of it without knowing what the disk has confirmed. So the
//! store syncs that log itself, after at most 96 KiB of changes.

mod check;
mod engine;
mod error;
mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod options;
mod panics;
mod reader;
mod store;
#[doc(hidden)]
pub mod testing;
mod tree;
mod writer;

pub use check::verify::VerifyReport;
pub use error::OpenError;
pub use options::{Durability, SledOptions};
pub use panics::quiet_caught_panics;
pub use store::SledStore;
pub use tree::damage::{DamagedRecord, RecordKind};
