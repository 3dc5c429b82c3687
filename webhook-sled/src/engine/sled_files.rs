//! The files that sled writes, and their syncs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::engine::disk::Disk;
use crate::engine::regular;

/// The folder within sled's own for pages that are too large for its log.
pub(crate) const BLOBS: &str = "blobs";

/// The files that sled writes, to sync them: sled 0.34 does not do that by itself on Linux.
pub(crate) struct SledFiles {
    pub(crate) folder: PathBuf,
    /// A descriptor of our own for the log file that sled has open.
    log: File,
    /// The folder of blobs, open so that it is found wherever it is moved.
    blobs: File,
    /// When the folder of blobs last changed, as far as it was synced.
    blobs_synced: Mutex<Option<SystemTime>>,
}

impl SledFiles {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let log = File::open(folder.join("db"))?;
        let blobs = File::open(folder.join(BLOBS))?;
        Ok(Self { folder: folder.to_owned(), log, blobs, blobs_synced: Mutex::new(None) })
    }

    /// sled's log and its path.
    pub(crate) fn log(&self) -> (&File, PathBuf) {
        (&self.log, self.folder.join("db"))
    }

    /// Waits until what sled wrote survives the loss of power.
    pub(crate) fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        self.sync_blobs(disk)?;
        disk.sync(&self.log, &self.folder.join("db"))
    }

    /// Syncs the files that sled writes pages of more than 128 KiB to. Small values keep pages well below that,
    /// so there are hardly ever any.
    fn sync_blobs(&self, disk: &dyn Disk) -> io::Result<()> {
        let changed = self.blobs.metadata()?.modified()?;
        let mut synced = self.blobs_synced.lock();
        if *synced == Some(changed) {
            return Ok(());
        }
        let folder = self.folder.join(BLOBS);
        let mut any = false;
        for blob in fs::read_dir(&folder)? {
            let name = blob?.file_name();
            match regular::open_to_read(&folder, &name.to_string_lossy()) {
                Ok(blob) => disk.sync(&blob, &folder.join(name))?,
                // sled removes a blob when nothing needs it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            any = true;
        }
        if any {
            disk.sync_folder(&folder)?;
        }
        *synced = Some(changed);
        Ok(())
    }
}
