//! The states of a run, and which may follow which.

use serde::{Deserialize, Serialize};

use crate::webhook::EventKind;

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// It waits for a worker, or for its due time.
    Queued,
    /// A worker has claimed it.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// Its last attempt took longer than its time-out.
    TimedOut,
    /// It was cancelled, by people or by a newer run.
    Cancelled,
    /// It was never executed, because it would have overlapped with another.
    Skipped,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// A worker takes it.
    Claim,
    /// It ends well.
    Succeed,
    /// It ends with an error.
    Fail,
    /// It ends because its time is over.
    TimeOut,
    /// It is cancelled.
    Cancel,
    /// It is not executed at all.
    Skip,
    /// An attempt failed and another is to come.
    Retry,
    /// Its worker gives it back unfinished, at shutdown.
    HandBack,
    /// Its worker vanished.
    Interrupt,
}

/// A transition that a run in this state cannot make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from:?} cannot {transition:?}")]
#[non_exhaustive]
pub struct IllegalTransition {
    /// The state the run is in.
    pub from: RunState,
    /// What was asked of it.
    pub transition: Transition,
}

impl RunState {
    /// Every state, in the order of a run's life.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The state that follows: the one place that knows which transitions are legal.
    ///
    /// # Errors
    /// [`IllegalTransition`] for every other pair. A run that has ended changes no more.
    pub fn after(self, transition: Transition) -> Result<Self, IllegalTransition> {
        match (self, transition) {
            (Self::Queued, Transition::Claim) => Ok(Self::Running),
            (Self::Queued | Self::Running, Transition::Cancel) => Ok(Self::Cancelled),
            (Self::Queued, Transition::Skip) => Ok(Self::Skipped),
            (Self::Running, Transition::Succeed) => Ok(Self::Succeeded),
            (Self::Running, Transition::Fail) => Ok(Self::Failed),
            (Self::Running, Transition::TimeOut) => Ok(Self::TimedOut),
            (Self::Running, Transition::Retry | Transition::HandBack | Transition::Interrupt) => {
                Ok(Self::Queued)
            }
            (from, transition) => Err(IllegalTransition { from, transition }),
        }
    }

    /// Whether the run has come to its end.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// What people are told of when a run ends so: nothing when it was cancelled or skipped.
    #[must_use]
    pub fn event(self) -> Option<EventKind> {
        match self {
            Self::Succeeded => Some(EventKind::Success),
            Self::Failed | Self::TimedOut => Some(EventKind::Failure),
            _ => None,
        }
    }
}

impl std::str::FromStr for RunState {
    type Err = crate::error::InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(crate::error::InvalidName::new(
            "run state",
            "queued, running, succeeded, failed, timed_out, cancelled or skipped",
        ))
    }
}
