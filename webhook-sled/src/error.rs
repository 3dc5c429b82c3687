//! Why a store cannot be opened, and how sled's errors become the store's.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use webhook_core::error::BoxError;
use webhook_core::store::StoreError;

use crate::engine::regular::NotRegular;

const SLED_DAMAGED: &str = "its database, in the folder sled, cannot be read";

/// Why a store cannot be opened. No content of the folder is changed, so that what is missing can be put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store in this one, has the folder open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was written by a newer version of this crate.
    #[error(
        "{} was written by a newer version: format {found}, at most {known} is understood",
        path.display()
    )]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// The format that was found.
        found: u32,
        /// The newest format that is understood.
        known: u32,
    },
    /// What is in the folder cannot be understood, or acknowledged records are missing from it.
    #[error(
        "{} is damaged: {reason}; put back the file as it was, or restore the whole folder from a backup",
        path.display()
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is damaged.
        reason: String,
        /// What caused it.
        source: Option<BoxError>,
    },
    /// The folder cannot be read or written.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What caused it.
        source: io::Error,
    },
}

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

    /// The error of sled while a folder is opened.
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

    /// The error for a panic of sled while the folder is opened.
    pub(crate) fn of_panic(path: &Path, panic: &str) -> Self {
        Self::of_sled(path, &panic)
    }

    /// sled's own words tell only its authors more, so they are in the log alone.
    fn of_sled(path: &Path, said: &dyn fmt::Display) -> Self {
        tracing::debug!(path = %path.display(), %said, "sled cannot open its database");
        Self::damaged(path, SLED_DAMAGED)
    }

    /// The error of reading the records while the folder is opened.
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

/// The fault of a record on a page that sled cannot read.
pub(crate) const DAMAGED_PAGE: &str = "the database has a damaged page";

/// The error of sled while the store is open.
pub(crate) fn store_error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::corrupt(DAMAGED_PAGE, error),
        error => StoreError::unavailable_because("the database cannot be read or written", error),
    }
}

/// Whether an error means that there was no room, which may come back.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
