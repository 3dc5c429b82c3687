//! Why a store did not do what was asked.

use crate::error::{BoxError, Resource};

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such record.
    #[error("the {0} does not exist")]
    NotFound(Resource),
    /// The record exists already or was changed in between.
    #[error("the {0} exists already or was changed in between")]
    Conflict(Resource),
    /// The store cannot be used now; it may be later.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// Why, for people.
        reason: String,
        /// What caused it.
        source: Option<BoxError>,
    },
    /// What is stored cannot be understood.
    #[error("the store holds a damaged record: {reason}")]
    Corrupt {
        /// What is damaged.
        reason: String,
        /// What caused it.
        source: Option<BoxError>,
    },
    /// What is stored was written by a newer version.
    #[error("the store was written by a newer version: format {found}, at most {known} is understood")]
    NewerFormat {
        /// The format that was found.
        found: u32,
        /// The newest format that is understood.
        known: u32,
    },
}

impl StoreError {
    /// The store cannot be used now, for this reason.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    /// The store cannot be used now because of this error.
    pub fn unavailable_because(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { reason: reason.into(), source: Some(source.into()) }
    }

    /// A record cannot be understood because of this error.
    pub fn corrupt(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Corrupt { reason: reason.into(), source: Some(source.into()) }
    }
}
