//! Errors of a store.

use crate::error::{BoxError, Resource};

/// Error of a store operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record does not exist.
    #[error("the {0} does not exist")]
    NotFound(Resource),
    /// The record already exists, or was changed since the caller read it.
    #[error("the {0} already exists or was changed in between")]
    Conflict(Resource),
    /// The store cannot be used now. A later attempt may succeed.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// Reason, in words for an operator.
        reason: String,
        /// Underlying error, if there is one.
        source: Option<BoxError>,
    },
    /// A stored record cannot be decoded.
    #[error("the store holds a damaged record: {reason}")]
    Corrupt {
        /// The damaged record, in words for an operator.
        reason: String,
        /// Underlying error, if there is one.
        source: Option<BoxError>,
    },
    /// The store was written by a newer version of its crate.
    #[error("the store was written by a newer version: found format {found}, newest known format {known}")]
    NewerFormat {
        /// Format number found in the store.
        found: u32,
        /// Newest format number that this version reads.
        known: u32,
    },
}

impl StoreError {
    /// Returns an [`Unavailable`](Self::Unavailable) error without a source.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    /// Returns an [`Unavailable`](Self::Unavailable) error with its source.
    pub fn unavailable_because(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { reason: reason.into(), source: Some(source.into()) }
    }

    /// Returns a [`Corrupt`](Self::Corrupt) error with its source.
    pub fn corrupt(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Corrupt { reason: reason.into(), source: Some(source.into()) }
    }
}
