//! Outcomes of attempts and cancellations, as they are recorded.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::id::RunId;
use crate::notifier::Delivery;
use crate::run::{CancelReason, Ending, Run, RunError};

/// Outcome of an attempt, to be recorded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settlement {
    /// Id of the run.
    pub run: RunId,
    /// Fence of the claim.
    pub fence: u64,
    /// Outcome to record.
    pub outcome: Outcome,
    /// Start of the execution, for a run that was claimed ahead and began.
    pub started_at: Option<SystemTime>,
    /// Time of day of the outcome.
    pub now: SystemTime,
}

impl Settlement {
    /// Reports the outcome of the attempt under `fence`.
    #[must_use]
    pub fn new(run: RunId, fence: u64, outcome: Outcome, now: SystemTime) -> Self {
        Self { run, fence, outcome, started_at: None, now }
    }

    /// Sets the start of the execution.
    #[must_use]
    pub fn with_started_at(mut self, started_at: Option<SystemTime>) -> Self {
        self.started_at = started_at;
        self
    }

    /// Returns the deliveries to record with the outcome.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        match &self.outcome {
            Outcome::Ended { deliveries, .. } => deliveries,
            Outcome::Retry { .. } | Outcome::HandBack => &[],
        }
    }
}

/// Outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The run has ended.
    Ended {
        /// Final state, with its summary or error.
        ending: Ending,
        /// Notifications to record with it.
        deliveries: Vec<Delivery>,
    },
    /// The attempt failed; another follows after a pause.
    Retry {
        /// Error of the attempt.
        error: RunError,
        /// Pause before the next attempt.
        delay: Duration,
    },
    /// The worker is stopping; another worker is to execute the run.
    HandBack,
}

/// Result of a settlement.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Settled {
    /// The outcome is recorded. Holds the run as it is now.
    Applied(Arc<Run>),
    /// The claim was lost. Nothing is changed.
    Stale,
}

/// Result of a cancellation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Cancelled {
    /// The run was queued and has ended.
    Ended(Arc<Run>),
    /// The run is running and will be told to stop.
    Requested(Arc<Run>),
    /// The run had already ended.
    TooLate(Arc<Run>),
}

/// Notice that a running run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CancelNotice {
    /// Id of the run.
    pub run: RunId,
    /// Reason of its cancellation.
    pub reason: CancelReason,
}

impl CancelNotice {
    /// Reports that this run is to stop.
    #[must_use]
    pub fn new(run: RunId, reason: CancelReason) -> Self {
        Self { run, reason }
    }
}
