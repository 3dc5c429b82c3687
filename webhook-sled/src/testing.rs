//! For this crate's own tests: disks that fail. Not part of the public interface.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::OpenError;
use crate::options::SledOptions;
use crate::store::SledStore;

/// What the store asks of the disk besides what sled does.
pub trait Disk: Send + Sync {
    /// Waits until what sled wrote survives the loss of power.
    ///
    /// # Errors
    /// What the operating system says; nothing is known to be durable then.
    fn sync(&self) -> io::Result<()>;

    /// Waits until what was written to this file of the journal survives the loss of power.
    ///
    /// # Errors
    /// What the operating system says; nothing is known to be durable then.
    fn sync_journal(&self, file: &File) -> io::Result<()>;

    /// How many bytes may still be written.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Called before anything is written to the journal.
    ///
    /// # Errors
    /// What writing it is to fail with.
    fn before_write(&self) -> io::Result<()>;
}

/// Puts something between the store and the real disk.
pub type WrapDisk = Box<dyn FnOnce(Box<dyn Disk>) -> Box<dyn Disk>>;

/// Opens a store on a disk of one's own.
///
/// # Errors
/// As [`SledOptions::open`].
pub fn open_with_disk(path: &Path, options: SledOptions, wrap: WrapDisk) -> Result<SledStore, OpenError> {
    SledStore::open_with(path, options, Some(wrap))
}

/// The real disk below a folder of sled's.
pub(crate) struct FileDisk {
    folder: PathBuf,
    log: File,
    /// When the folder of blobs last changed, as far as it was synced.
    blobs_synced: Mutex<Option<SystemTime>>,
}

impl FileDisk {
    /// Opens a descriptor of its own for the log file that sled has open.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let log = File::open(folder.join("db"))?;
        Ok(Self { folder: folder.to_owned(), log, blobs_synced: Mutex::new(None) })
    }

    /// Syncs the files that sled writes pages of more than 128 KiB to. Small values keep pages well below that,
    /// so there are hardly ever any.
    fn sync_blobs(&self) -> io::Result<()> {
        let folder = self.folder.join("blobs");
        let changed = fs::metadata(&folder)?.modified()?;
        let mut synced = self.blobs_synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced == Some(changed) {
            return Ok(());
        }
        let mut any = false;
        for blob in fs::read_dir(&folder)? {
            match File::open(blob?.path()) {
                Ok(blob) => blob.sync_data()?,
                // sled removes a blob when nothing needs it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            any = true;
        }
        if any {
            File::open(&folder)?.sync_all()?;
        }
        *synced = Some(changed);
        Ok(())
    }
}

impl Disk for FileDisk {
    fn sync(&self) -> io::Result<()> {
        self.sync_blobs()?;
        self.log.sync_data()
    }

    fn sync_journal(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn before_write(&self) -> io::Result<()> {
        Ok(())
    }
}
