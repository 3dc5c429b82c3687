//! States of a run, and the legal transitions between them.

use serde::{Deserialize, Serialize};

use crate::error::{InvalidName, NameKind};
use crate::webhook::EventKind;

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "State"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// It waits for a worker, or for its due time.
    Queued,
    /// A worker has claimed it.
    Running,
    /// It ended with success.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// Its last attempt exceeded its time-out.
    TimedOut,
    /// It was cancelled, on request or in favour of a newer run.
    Cancelled,
    /// It was never executed, because it would have overlapped with another run.
    Skipped,
}

/// Event that changes the state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// A worker claims it.
    Claim,
    /// Its worker begins the attempt.
    Begin,
    /// Its executor reports progress.
    Progress,
    /// It is asked to stop.
    RequestCancel,
    /// It ends with success.
    Succeed,
    /// It ends with an error.
    Fail,
    /// It exceeds its time-out.
    TimeOut,
    /// It is cancelled.
    Cancel,
    /// It is not executed at all.
    Skip,
    /// An attempt failed and another follows.
    Retry,
    /// Its worker hands it back unfinished, at shutdown.
    HandBack,
    /// Its worker vanished.
    Interrupt,
}

/// Error for a transition that the current state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from:?} cannot {transition:?}")]
#[non_exhaustive]
pub struct IllegalTransition {
    /// Current state of the run.
    pub from: RunState,
    /// Transition that was requested.
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

    /// Returns the state after a transition. No other code decides which transitions are legal.
    ///
    /// Fails with [`IllegalTransition`] for every other pair. The state of an ended run never changes.
    pub fn after(self, transition: Transition) -> Result<Self, IllegalTransition> {
        match (self, transition) {
            (Self::Queued, Transition::Claim) => Ok(Self::Running),
            (Self::Running, Transition::Begin | Transition::Progress) => Ok(Self::Running),
            (live @ (Self::Queued | Self::Running), Transition::RequestCancel) => Ok(live),
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

    /// Returns whether the run has ended.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Returns the name on the wire.
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

    /// Returns the event that this end is reported as. A cancelled or skipped run is not reported.
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
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let states = "queued, running, succeeded, failed, timed_out, cancelled or skipped";
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or(InvalidName::new(NameKind::RunState, states))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_transitions_are_legal() {
        use RunState::*;
        use Transition::*;
        let legal = [
            (Queued, Claim, Running),
            (Queued, RequestCancel, Queued),
            (Queued, Cancel, Cancelled),
            (Queued, Skip, Skipped),
            (Running, Begin, Running),
            (Running, Progress, Running),
            (Running, RequestCancel, Running),
            (Running, Succeed, Succeeded),
            (Running, Fail, Failed),
            (Running, TimeOut, TimedOut),
            (Running, Cancel, Cancelled),
            (Running, Retry, Queued),
            (Running, HandBack, Queued),
            (Running, Interrupt, Queued),
        ];
        let transitions = [
            Claim,
            Begin,
            Progress,
            RequestCancel,
            Succeed,
            Fail,
            TimeOut,
            Cancel,
            Skip,
            Retry,
            HandBack,
            Interrupt,
        ];
        for from in RunState::ALL {
            for transition in transitions {
                let expected = legal.iter().find(|row| (row.0, row.1) == (from, transition)).map(|row| row.2);
                assert_eq!(from.after(transition).ok(), expected, "{from:?} {transition:?}");
            }
        }
    }
}
