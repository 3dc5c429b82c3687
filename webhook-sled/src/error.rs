//! Errors of opening a store, and the conversion of sled's errors.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use webhook_core::error::BoxError;
use webhook_core::store::StoreError;

const SLED_DAMAGED: &str = "its database, in the folder sled, cannot be read";

/// Error of opening a store. No content of the folder is changed, so a missing part can be put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder is open already: in another process, or as another store of this process.
    #[error("{} is open already, in this process or another", path.display())]
    InUse {
        /// Folder of the store.
        path: PathBuf,
    },
    /// The folder was written by a newer version of this crate.
    #[error(
        "{} was written by a newer version: format {found}, at most {known} is understood",
        path.display()
    )]
    NewerFormat {
        /// Folder of the store.
        path: PathBuf,
        /// Format number found in the folder.
        found: u32,
        /// Newest format number that this version reads.
        known: u32,
    },
    /// The folder's content is damaged, or acknowledged records are missing from it.
    #[error(
        "{} is damaged: {reason}; put back the file as it was, or restore the whole folder from a backup",
        path.display()
    )]
    Damaged {
        /// Folder of the store.
        path: PathBuf,
        /// The damage, with the name of the file.
        reason: String,
        /// Error of a lower layer, if there was one.
        source: Option<BoxError>,
    },
    /// The folder cannot be read or written.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// Folder of the store.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// The file that is a folder, a pipe, a socket or a device, by its name in the store's folder.
#[derive(Debug, thiserror::Error)]
#[error("its file {0} is no regular file")]
pub(crate) struct NotRegular(pub(crate) String);

impl OpenError {
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into(), source: None }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| match source.get_ref().and_then(|error| error.downcast_ref::<NotRegular>()) {
            Some(found) => Self::damaged(path, found.to_string()),
            None => Self::Io { path: path.to_owned(), source },
        }
    }

    /// Converts an error of sled while a folder is opened.
    pub(crate) fn from_sled(path: &Path, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) if source.to_string().contains("could not acquire lock") => {
                Self::InUse { path: path.to_owned() }
            }
            sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Io { path: path.to_owned(), source }
            }
            error => Self::of_sled(path, &error),
        }
    }

    /// Converts a panic of sled while a folder is opened.
    pub(crate) fn of_panic(path: &Path, panic: &str) -> Self {
        Self::of_sled(path, &panic)
    }

    /// Only sled's authors can use its message, so it is in the log only.
    fn of_sled(path: &Path, said: &dyn fmt::Display) -> Self {
        tracing::debug!(path = %path.display(), %said, "sled cannot open its database");
        Self::damaged(path, SLED_DAMAGED)
    }

    /// Converts the error of a record that is read while the folder is opened.
    pub(crate) fn from_store(path: &Path, error: StoreError) -> Self {
        match error {
            StoreError::NewerFormat { found, known } => {
                Self::NewerFormat { path: path.to_owned(), found, known }
            }
            StoreError::Corrupt { reason, source } => Self::Damaged { path: path.to_owned(), reason, source },
            error => Self::Io { path: path.to_owned(), source: io::Error::other(error) },
        }
    }
}

/// Fault of a record on a page that sled cannot read.
pub(crate) const DAMAGED_PAGE: &str = "the database has a damaged page";

/// Converts an error of sled while the store is open.
pub(crate) fn store_error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::corrupt(DAMAGED_PAGE, error),
        error => StoreError::unavailable_because("the database cannot be read or written", error),
    }
}

/// Returns true if the error, or one of its sources, is that of a disk without room, which may change.
pub(crate) fn comes_of_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        if let Some(sled::Error::Io(error)) = error.downcast_ref()
            && is_full(error)
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if is_full(error) {
                return true;
            }
            if let Some(wrapped) = error.get_ref() {
                // `source` skips the error that an I/O error wraps.
                next = Some(wrapped);
            }
        }
    }
    false
}

/// Returns true if the disk had no room, which may change.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
