//! Syncs and free space, which tests make fail.

use std::fs::File;
use std::io;
use std::path::Path;

/// Operations of the disk besides reading and writing.
pub trait Disk: Send + Sync {
    /// Waits until the content of this file survives the loss of power.
    ///
    /// # Errors
    /// What the operating system says; nothing is known to be durable then.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;

    /// Waits until the names in this folder survive the loss of power.
    ///
    /// # Errors
    /// What the operating system says; nothing is known to be durable then.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Returns the free bytes on the disk of this folder.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;

    /// Called before anything is appended to the journal.
    ///
    /// # Errors
    /// What writing it is to fail with.
    fn before_write(&self) -> io::Result<()>;

    /// Called before a batch is given to sled.
    ///
    /// # Errors
    /// What writing it is to fail with.
    fn before_apply(&self) -> io::Result<()>;
}

/// The real disk.
pub(crate) struct FileDisk;

impl Disk for FileDisk {
    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn before_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn before_apply(&self) -> io::Result<()> {
        Ok(())
    }
}
