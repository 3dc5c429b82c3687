//! Room for another run: quota, free space, and the folder in its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use webhook_core::store::StoreError;

use crate::engine::disk::Disk;
use crate::engine::open_files::OpenFiles;

/// Time for which the last look at the free space holds.
const FREE_FOR: Duration = Duration::from_millis(50);

/// The bounds on what the store may hold.
pub(crate) struct Capacity {
    pub(crate) open_files: OpenFiles,
    pub(crate) disk: Arc<dyn Disk>,
    /// A folder on the disk.
    pub(crate) folder: PathBuf,
    /// Free bytes that a new run needs.
    pub(crate) reserve_bytes: u64,
    /// Stored bytes up to which runs are accepted.
    pub(crate) quota_bytes: u64,
    /// Free bytes at the last look, and its time.
    pub(crate) last_look: Mutex<Option<(Instant, u64)>>,
}

impl Capacity {
    /// Checks that another run may come to a store with so many bytes.
    ///
    /// Fails with [`StoreError::Unavailable`] with the reason.
    pub(crate) fn check(&self, stored: u64) -> Result<(), StoreError> {
        let quota = self.quota_bytes;
        if stored > quota {
            let (stored, quota) = (stored >> 20, quota >> 20);
            return Err(StoreError::unavailable(format!(
                "the store holds {stored} MiB, more than its quota of {quota} MiB; older runs must be pruned first"
            )));
        }
        self.check_space()
    }

    /// Checks that the folder is in its place, and the disk has room.
    ///
    /// Fails with [`StoreError::Unavailable`] with the reason.
    pub(crate) fn check_space(&self) -> Result<(), StoreError> {
        self.open_files.check()?;
        let reserve = self.reserve_bytes;
        match self.free_bytes() {
            Ok(free) if free >= reserve => Ok(()),
            Ok(free) => {
                let (free, reserve) = (free >> 20, reserve >> 20);
                Err(StoreError::unavailable(format!(
                    "the disk is nearly full: {free} MiB are free, {reserve} MiB are kept in reserve"
                )))
            }
            Err(error) => Err(StoreError::unavailable_because("the free space is not known", error)),
        }
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        // Held during the look, so many callers cause one look.
        let mut last = self.last_look.lock();
        match *last {
            Some((looked, free)) if looked.elapsed() < FREE_FOR => Ok(free),
            _ => {
                let free = self.disk.free_bytes(&self.folder)?;
                *last = Some((Instant::now(), free));
                Ok(free)
            }
        }
    }
}
