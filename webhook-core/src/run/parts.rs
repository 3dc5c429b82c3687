//! The fields of a run, for stores, and what holds between them.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ending::CancelReason;
use super::facts::{Artifact, Caller, Progress, RunError};
use super::parameters::RunParameters;
use super::state::RunState;
use crate::clock::milliseconds;
use crate::id::{RunId, WebhookId, WorkflowKey};

/// The fields of a [`Run`](super::Run), for stores that keep them in columns or in a format of their own.
///
/// ```
/// use webhook_core::run::{Caller, Run, RunParts, RunState};
/// # use std::time::SystemTime;
/// # use webhook_core::id::{RunId, WebhookId};
/// # fn read() -> Result<Run, Box<dyn std::error::Error>> {
/// # let now = SystemTime::UNIX_EPOCH;
/// let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
/// let mut parts = RunParts::new(id, "report/sales".parse()?, webhook, Caller::default(), now);
/// parts.state = RunState::Cancelled;
/// assert!(Run::from_parts(parts.clone()).is_err(), "an ended run has the time of its end");
/// parts.finished_at = Some(now);
/// Ok(Run::from_parts(parts)?)
/// # }
/// # read().unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunParts {
    /// Id of the run, the same over all attempts.
    pub id: RunId,
    /// Workflow that it executes.
    pub workflow: WorkflowKey,
    /// Webhook through which it was started.
    pub webhook_id: WebhookId,
    /// State after the last recorded change.
    pub state: RunState,
    /// Number of claims that began an execution; 0 before the first. A hand-back at shutdown undoes its
    /// attempt.
    pub attempt: u32,
    /// Number of attempts that the retry policy allowed when the run was queued.
    pub max_attempts: u32,
    /// Number of times its worker vanished mid-run. They do not use up `max_attempts`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// Fence of the newest claim; it grows with every claim. Only the holder of the newest fence may renew or
    /// settle.
    #[serde(default)]
    pub fence: u64,
    /// Reason of a cancellation that was requested while it was running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<CancelReason>,
    /// Earlier run that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_from: Option<RunId>,
    /// Time at which it was accepted.
    #[serde(with = "milliseconds")]
    pub queued_at: SystemTime,
    /// Start of its first attempt.
    #[serde(default, with = "milliseconds::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<SystemTime>,
    /// Time at which it ended.
    #[serde(default, with = "milliseconds::option", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<SystemTime>,
    /// Time before which it is not claimed.
    #[serde(with = "milliseconds")]
    pub due_at: SystemTime,
    /// Parameters of every attempt. They never change.
    #[serde(default, skip_serializing_if = "RunParameters::is_empty")]
    pub parameters: RunParameters,
    /// Progress as its executor last reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Summary of the result by its executor, in a line or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Artifacts that it left; the executor keeps the content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Error of the last failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// Name of the process that executes it, or executed it last. Stores that one process opens leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Facts about the call that started it.
    #[serde(with = "shared")]
    pub caller: Arc<Caller>,
}

impl RunParts {
    /// Returns the fields of a run that was queued at this time, due at once, without parameters. It allows one attempt.
    #[must_use]
    pub fn new(
        id: RunId,
        workflow: WorkflowKey,
        webhook_id: WebhookId,
        caller: impl Into<Arc<Caller>>,
        queued_at: SystemTime,
    ) -> Self {
        Self {
            id,
            workflow,
            webhook_id,
            state: RunState::Queued,
            attempt: 0,
            max_attempts: 1,
            interruptions: 0,
            fence: 0,
            cancel_requested: None,
            retried_from: None,
            queued_at,
            started_at: None,
            finished_at: None,
            due_at: queued_at,
            parameters: RunParameters::default(),
            progress: None,
            summary: None,
            artifacts: Vec::new(),
            error: None,
            worker: None,
            caller: caller.into(),
        }
    }

    /// Returns these fields, unless no transitions lead to them.
    pub(super) fn checked(self) -> Result<Self, InconsistentRun> {
        if self.state.is_ended() != self.finished_at.is_some() {
            return Err(InconsistentRun::End);
        }
        // Each attempt and each interruption takes a claim of its own, and the fence grows with every claim.
        let claims = self.attempt.max(self.interruptions).max(u32::from(self.state == RunState::Running));
        if self.fence < u64::from(claims) {
            return Err(InconsistentRun::Claims);
        }
        Ok(self)
    }
}

/// Error for fields that no run can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InconsistentRun {
    /// It has ended and has no time of its end, or the reverse.
    #[error("a run has ended without a time of its end, or has one before its end")]
    End,
    /// It is running, or has attempts or interruptions, and its fence is too small for so many claims.
    #[error("a run has more attempts or interruptions than its fence allows")]
    Claims,
}

/// Serializes facts that all versions of a record share in memory, and that each holds in a store.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        T::serialize(shared, to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Arc<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        T::deserialize(from).map(Arc::new)
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
