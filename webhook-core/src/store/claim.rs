//! Claims of runs: requests, results, and renewals of leases.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::id::{RunId, WorkflowKey, WorkflowKind};
use crate::run::{CancelReason, Progress, Run};
use crate::webhook::Webhook;

/// Set of workflows whose runs a worker requests. Default: all workflows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Workflows {
    /// Every workflow, also those that are added later.
    #[default]
    All,
    /// All workflows of these kinds.
    OfKinds(Arc<BTreeSet<WorkflowKind>>),
    /// The workflows with these keys.
    Only(Arc<BTreeSet<WorkflowKey>>),
}

impl Workflows {
    /// Returns whether the set contains `workflow`.
    #[must_use]
    pub fn include(&self, workflow: &WorkflowKey) -> bool {
        match self {
            Self::All => true,
            Self::OfKinds(kinds) => kinds.contains(&workflow.kind),
            Self::Only(keys) => keys.contains(workflow),
        }
    }
}

/// Request of a worker for due runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// Upper bound on the runs to execute now.
    pub limit: usize,
    /// Upper bound on the runs claimed ahead, behind those. They stay queued until they
    /// [begin](super::Store::begin).
    pub ahead: usize,
    /// Time for which a claim holds unless it is renewed.
    pub lease: Duration,
    /// Number of interruptions after which a run is claimed only to be failed. Default: 5.
    pub interruption_bound: u32,
    /// Time of day of the request.
    pub now: SystemTime,
    /// Workflows whose runs are claimed.
    pub workflows: Workflows,
    /// Name of the process that claims, for stores that several processes share.
    pub claimer: Option<Arc<str>>,
}

impl ClaimRequest {
    /// Requests at most `limit` runs to execute now, and none ahead.
    #[must_use]
    pub fn new(limit: usize, lease: Duration, now: SystemTime) -> Self {
        Self { limit, ahead: 0, lease, interruption_bound: 5, now, workflows: Workflows::All, claimer: None }
    }

    /// Sets the upper bound on the runs claimed ahead.
    #[must_use]
    pub fn with_ahead(mut self, ahead: usize) -> Self {
        self.ahead = ahead;
        self
    }

    /// Sets the number of interruptions after which a run is claimed only to be failed.
    #[must_use]
    pub fn with_interruption_bound(mut self, bound: u32) -> Self {
        self.interruption_bound = bound;
        self
    }

    /// Sets the workflows whose runs are claimed.
    #[must_use]
    pub fn with_workflows(mut self, workflows: Workflows) -> Self {
        self.workflows = workflows;
        self
    }

    /// Sets the name of the process that claims.
    #[must_use]
    pub fn with_claimer(mut self, claimer: Option<Arc<str>>) -> Self {
        self.claimer = claimer;
        self
    }
}

/// A claimed run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Claim {
    /// The run as claimed, with its attempt and fence.
    pub run: Arc<Run>,
    /// Its webhook, or `None` if that was deleted.
    pub webhook: Option<Arc<Webhook>>,
    /// True if it is claimed ahead. In the store such a run is queued until it [begins](super::Store::begin).
    pub is_ahead: bool,
}

impl Claim {
    /// Combines a run claimed to execute now with its webhook.
    #[must_use]
    pub fn new(run: Arc<Run>, webhook: Option<Arc<Webhook>>) -> Self {
        Self { run, webhook, is_ahead: false }
    }

    /// Sets whether it is claimed ahead.
    #[must_use]
    pub fn with_ahead(mut self, is_ahead: bool) -> Self {
        self.is_ahead = is_ahead;
        self
    }
}

/// Notice that a run claimed ahead executes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Begun {
    /// Id of the run.
    pub run: RunId,
    /// Fence of the claim.
    pub fence: u64,
    /// Time of day at which the run began.
    pub now: SystemTime,
}

impl Begun {
    /// Reports that the run of this claim executes now.
    #[must_use]
    pub fn new(run: RunId, fence: u64, now: SystemTime) -> Self {
        Self { run, fence, now }
    }
}

/// Claim whose lease is to be extended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Renewal {
    /// Id of the run.
    pub run: RunId,
    /// Fence of the claim.
    pub fence: u64,
    /// Progress of the run, if it changed.
    pub progress: Option<Progress>,
}

impl Renewal {
    /// Requests more time for a claim.
    #[must_use]
    pub fn new(run: RunId, fence: u64, progress: Option<Progress>) -> Self {
        Self { run, fence, progress }
    }
}

/// Result of renewing one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewed {
    /// The claim holds.
    Held {
        /// Reason to stop the run, if its cancellation was requested.
        cancel: Option<CancelReason>,
    },
    /// The claim was lost to another worker, or the run has ended.
    Lost,
}
