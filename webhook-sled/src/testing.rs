//! Test support for this crate: disks that fail, and damaged records. Not part of the public interface.

use std::path::Path;

use crate::engine::disk::FileDisk;
use crate::engine::sled_folder;
use crate::error::OpenError;
use crate::options::SledOptions;
use crate::store::SledStore;

pub use crate::engine::disk::Disk;

/// Wraps the real disk.
pub type WrapDisk = Box<dyn FnOnce(Box<dyn Disk>) -> Box<dyn Disk>>;

/// Opens a store on a custom disk.
///
/// Fails like [`SledOptions::open`].
pub fn open_with_disk(path: &Path, options: SledOptions, wrap: WrapDisk) -> Result<SledStore, OpenError> {
    SledStore::open_with(path, options, wrap(Box::new(FileDisk)).into())
}

/// Opens the database of a closed store without the store, to read its records or to damage them.
///
/// `sled::open` would fail now and then: sled's threads keep the lock of a database a moment longer than its
/// last handle.
///
/// Fails like [`SledOptions::open`].
pub fn open_database(store: &Path) -> Result<sled::Db, OpenError> {
    const CACHE: u64 = 16 << 20;
    sled_folder::start(store, &store.join(sled_folder::SLED), CACHE)
}
