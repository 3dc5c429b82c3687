//! Runs: one execution of a workflow, from the accepted call to its end.
//!
//! Every change of state goes through [`RunState::after`], which knows the legal transitions. The methods of
//! [`Run`] that return the next version of a record are pure; stores apply them and persist the result.

mod excerpt;
mod facts;
mod life;
mod parameters;
mod state;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::milliseconds;
use crate::id::{RunId, WebhookId, WorkflowKey};

pub use excerpt::{EXCERPT_BYTES, excerpt_text, excerpt_value};
pub(crate) use facts::shortened;
pub use facts::{Artifact, Caller, ErrorKind, Progress, RunError};
pub use life::{CancelReason, Ending};
pub use parameters::{ParameterValue, RunParameter, RunParameters, SealError};
pub use state::{IllegalTransition, RunState, Transition};

/// A run, as stores keep it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
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
    /// Facts about the call that started it.
    #[serde(with = "shared")]
    pub caller: Arc<Caller>,
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

impl Run {
    /// Creates a run that is queued now and due at once.
    #[must_use]
    pub fn new(
        id: RunId,
        workflow: WorkflowKey,
        webhook_id: WebhookId,
        parameters: RunParameters,
        max_attempts: u32,
        caller: Caller,
        now: SystemTime,
    ) -> Self {
        Self {
            id,
            workflow,
            webhook_id,
            state: RunState::Queued,
            attempt: 0,
            max_attempts,
            interruptions: 0,
            fence: 0,
            cancel_requested: None,
            retried_from: None,
            queued_at: now,
            started_at: None,
            finished_at: None,
            due_at: now,
            parameters,
            progress: None,
            summary: None,
            artifacts: Vec::new(),
            error: None,
            caller: Arc::new(caller),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn records_survive_the_round_trip() {
        let run = Run::new(
            RunId::generate(NOW),
            "report/a".parse().unwrap(),
            WebhookId::generate(NOW),
            RunParameters::default(),
            3,
            Caller::default(),
            NOW,
        )
        .claimed(7, 5, NOW + Duration::from_millis(5))
        .unwrap();
        let stored = serde_json::to_vec(&run).unwrap();
        assert_eq!(serde_json::from_slice::<Run>(&stored).unwrap(), run);
    }
}
