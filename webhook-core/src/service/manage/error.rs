//! Errors of management operations.

use crate::error::{Resource, listed};
use crate::executor::ExecutorError;
use crate::service::intake::TriggerError;
use crate::store::StoreError;
use crate::token::UnsealError;
use crate::webhook::{InvalidSettings, SettingProblem};

/// Error of a management operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagementError {
    /// The record does not exist.
    #[error("there is no such {0}")]
    NotFound(Resource),
    /// The webhook has another revision than expected.
    #[error("the webhook was changed in between; read it again")]
    Conflict,
    /// Settings have these problems; the list is complete.
    #[error("these settings cannot be used: {}", listed(.0.iter().map(SettingProblem::to_string)))]
    Settings(Vec<SettingProblem>),
    /// The URL cannot be shown again.
    #[error(
        "the URL was shown when it was made and cannot be shown again; refresh the token to get a new one"
    )]
    UrlNotRecoverable(#[source] Option<UnsealError>),
    /// The call cannot be run again.
    #[error(transparent)]
    NotReplayable(#[from] NotReplayable),
    /// The run has not ended.
    #[error("the run has not ended yet")]
    StillLive,
    /// The run has ended.
    #[error("the run has already ended")]
    AlreadyEnded,
    /// A run could not be started.
    #[error(transparent)]
    Trigger(TriggerError),
    /// A secret value cannot be opened with the given keys.
    #[error("a secret value of the run cannot be opened")]
    Secret(#[from] UnsealError),
    /// The executor cannot answer now.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The store has failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<InvalidSettings> for ManagementError {
    fn from(invalid: InvalidSettings) -> Self {
        Self::Settings(invalid.problems)
    }
}

impl From<TriggerError> for ManagementError {
    fn from(error: TriggerError) -> Self {
        match error {
            TriggerError::Store(error) => error.into(),
            TriggerError::Executor(error) => error.into(),
            error => Self::Trigger(error),
        }
    }
}

impl From<StoreError> for ManagementError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::NotFound(what),
            error => Self::Store(error),
        }
    }
}

/// Reason why a call cannot be run again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReplayable {
    /// The call started no run.
    #[error("the call started no run; only a call that did can be run again")]
    NotAccepted,
    /// The webhook did not keep the content of its calls then.
    #[error(
        "the content of the call was not kept; with the setting keep_bodies_s, that of later calls is kept"
    )]
    NotKept,
    /// The content has expired, or made room for newer ones.
    #[error(
        "the content of the call is no longer kept: it has expired, or has made room for that of newer calls"
    )]
    Expired,
    /// This server has no token key.
    #[error("this server has no token key to open the content of the call with")]
    NoTokenKey,
    /// None of the token keys opens the content.
    #[error("the content of the call cannot be opened with the token keys of this server")]
    Sealed(#[source] UnsealError),
}
