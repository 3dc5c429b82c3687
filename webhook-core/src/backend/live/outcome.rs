//! Results of the decisions of [`LiveRuns`](crate::backend::LiveRuns).

use std::sync::Arc;

use crate::id::RunId;
use crate::run::Run;

/// Changes of the live runs when one was admitted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Admission {
    /// The new run: queued, or skipped and thereby ended.
    pub run: Arc<Run>,
    /// Queued runs that it superseded; they have ended.
    pub superseded: Vec<Arc<Run>>,
    /// Running runs whose cancellation is now asked for.
    pub asked_to_stop: Vec<Arc<Run>>,
}

/// Reason why a run was not admitted. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// The queue has no room for another run, or for its parameters.
    #[error("the queue is full")]
    QueueFull,
    /// It supersedes these runs, whose records must be [provided](crate::backend::LiveRuns::provide) first.
    #[error("records of queued runs are missing")]
    Missing(Vec<RunId>),
}

/// Changes of the live runs by a claim.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClaimedRuns {
    /// Runs whose lease had ended: queued again, and maybe claimed again below.
    pub interrupted: Vec<Arc<Run>>,
    /// Runs whose lease had ended and whose webhook is gone: cancelled.
    pub ended: Vec<Arc<Run>>,
    /// Runs that were claimed and execute from now on.
    pub claimed: Vec<Arc<Run>>,
    /// Runs that were claimed ahead, as they will be once they [begin](crate::backend::LiveRuns::begin).
    pub ahead: Vec<Arc<Run>>,
    /// Runs whose records must be [provided](crate::backend::LiveRuns::provide) before the rest can be claimed: the next
    /// run, and some behind it. Empty if nothing more can be claimed.
    pub missing: Vec<RunId>,
}

/// Result of a cancellation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveCancel {
    /// The run was queued and has ended.
    Ended(Arc<Run>),
    /// The run is claimed and its cancellation is requested.
    Requested(Arc<Run>),
    /// The run is queued, and its record must be [provided](crate::backend::LiveRuns::provide) first. Nothing has changed.
    Missing,
}
