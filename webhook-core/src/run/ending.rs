//! Final outcomes of runs, and reasons for cancelling them.

use serde::{Deserialize, Serialize};

use super::facts::{Artifact, ErrorKind, RunError};
use super::state::Transition;

/// Final outcome of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// The run succeeded.
    Succeeded {
        /// Summary of the result by the executor.
        summary: Option<String>,
        /// Artifacts that the run left.
        artifacts: Vec<Artifact>,
    },
    /// The run failed.
    Failed {
        /// Error of the last attempt.
        error: RunError,
        /// Artifacts that the last attempt left despite its failure.
        artifacts: Vec<Artifact>,
    },
    /// The attempt exceeded its time-out, which the error states.
    TimedOut(RunError),
    /// The run was cancelled for this reason.
    Cancelled(CancelReason),
    /// The run was never executed.
    Skipped,
}

impl Ending {
    /// Fails with this error and without artifacts.
    #[must_use]
    pub fn failed(error: RunError) -> Self {
        Self::Failed { error, artifacts: Vec::new() }
    }

    pub(super) fn transition(&self) -> Transition {
        match self {
            Self::Succeeded { .. } => Transition::Succeed,
            Self::Failed { .. } => Transition::Fail,
            Self::TimedOut(_) => Transition::TimeOut,
            Self::Cancelled(_) => Transition::Cancel,
            Self::Skipped => Transition::Skip,
        }
    }
}

/// Reason for cancelling a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelReason {
    /// A person or program requested it.
    Requested,
    /// A newer run of the same webhook replaces it.
    Superseded,
    /// Its webhook was deleted.
    WebhookDeleted,
}

impl CancelReason {
    pub(super) fn error(self) -> Option<RunError> {
        let message = "a newer run of the same webhook took its place";
        matches!(self, Self::Superseded).then(|| RunError::new(ErrorKind::Superseded, message))
    }
}
