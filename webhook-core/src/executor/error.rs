//! Errors of an executor.

use crate::error::BoxError;
use crate::parameters::UnfitParameters;

/// Error of an attempt, which says whether another may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// Another attempt may help. It is made if the webhook's retry policy allows one.
    #[error("{0}")]
    Retryable(#[source] BoxError),
    /// Another attempt will not help.
    #[error("{0}")]
    Fatal(#[source] BoxError),
}

impl ExecuteError {
    /// Returns an error after which another attempt may help.
    pub fn retryable(error: impl Into<BoxError>) -> Self {
        Self::Retryable(error.into())
    }

    /// Returns an error after which another attempt will not help.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::Fatal(error.into())
    }
}

/// Another attempt gets the same parameters, so it will not help.
impl From<UnfitParameters> for ExecuteError {
    fn from(error: UnfitParameters) -> Self {
        Self::fatal(error)
    }
}

/// Error of an executor that cannot answer now.
#[derive(Debug, thiserror::Error)]
#[error("the executor cannot answer")]
pub struct ExecutorError(#[source] BoxError);

impl ExecutorError {
    /// Keeps the cause as source.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}
