//! Notices that the files of an open store were moved, removed or replaced.
//!
//! An open file can still be written after it was moved or removed. A run accepted into such a file would be missing at
//! the next start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use webhook_core::store::StoreError;

/// Time for which the last look at the files holds.
const HOLDS_FOR: Duration = Duration::from_millis(50);

/// The open files of a store, by the paths that they were opened at.
pub(crate) struct OpenFiles {
    files: Vec<OpenFile>,
    last: Mutex<Look>,
}

struct OpenFile {
    path: PathBuf,
    /// Device and inode. They stay those of this file while it is open.
    id: (u64, u64),
}

struct Look {
    at: Instant,
    are_in_place: bool,
}

impl OpenFiles {
    /// Takes files with the paths at which they were just opened.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (&'a File, PathBuf)>) -> io::Result<Self> {
        let files = files.into_iter().map(|(file, path)| Ok(OpenFile { path, id: id(&file.metadata()?) }));
        let last = Mutex::new(Look { at: Instant::now(), are_in_place: true });
        Ok(Self { files: files.collect::<io::Result<_>>()?, last })
    }

    /// Looks whether each path still leads to the open file, and logs it when that has changed.
    ///
    /// Fails with [`StoreError::Unavailable`] while one does not. The error names no path, since callers may
    /// see it.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        self.look_unless(|_| false)
    }

    /// Like [`look`](Self::look), but relies on a recent look.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.look_unless(|last| last.at.elapsed() < HOLDS_FOR)
    }

    fn look_unless(&self, is_enough: impl FnOnce(&Look) -> bool) -> Result<(), StoreError> {
        let mut last = self.last.lock();
        if !is_enough(&last) {
            let gone = self.files.iter().find(|file| !file.is_in_place());
            match gone {
                Some(file) if last.are_in_place => tracing::error!(
                    file = %file.path.display(),
                    "the store's folder was moved, removed or replaced while it is open, and new runs are refused; \
                     put back the folder that was there: everything that was acknowledged is in it"
                ),
                None if !last.are_in_place => tracing::info!("the store's folder is in its place again"),
                _ => {}
            }
            *last = Look { at: Instant::now(), are_in_place: gone.is_none() };
        }
        if last.are_in_place {
            return Ok(());
        }
        Err(StoreError::unavailable("its folder was moved, removed or replaced while it is open"))
    }
}

impl OpenFile {
    fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| id(&found) == self.id)
    }
}

fn id(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
