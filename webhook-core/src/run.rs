//! Runs: one execution of a workflow, from the accepted call to its end.
//!
//! A [`Run`] changes by the transitions of its life only, and each goes through [`RunState::after`], which knows the legal
//! ones. The methods that return the next version of a record are pure; stores apply them and persist the result.
//! A store that keeps the fields in a form of its own reads and makes them as [`RunParts`].

mod ending;
mod excerpt;
mod facts;
mod life;
mod parameters;
mod parts;
mod state;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::id::{RunId, WebhookId, WorkflowKey};

pub use ending::{CancelReason, Ending};
pub use excerpt::{EXCERPT_BYTES, excerpt_text, excerpt_value};
pub(crate) use facts::shortened;
pub use facts::{Artifact, Caller, ErrorKind, Progress, RunError};
pub use parameters::{ParameterValue, RunParameter, RunParameters, SealError};
pub use parts::{InconsistentRun, RunParts};
pub use state::{IllegalTransition, RunState, Transition};

/// A run, as stores keep it.
///
/// Getters read it. The methods for the transitions of its life return its next version, or
/// [`IllegalTransition`]: [`claimed`](Self::claimed), [`begun`](Self::begun), [`progressed`](Self::progressed),
/// [`asked_to_stop`](Self::asked_to_stop), [`retrying`](Self::retrying), [`handed_back`](Self::handed_back),
/// [`interrupted`](Self::interrupted) and [`ended`](Self::ended).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RunParts")]
pub struct Run(RunParts);

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
        Self(RunParts { parameters, max_attempts, ..RunParts::new(id, workflow, webhook_id, caller, now) })
    }

    /// Returns this run as one that repeats an earlier run.
    #[must_use]
    pub fn with_retried_from(mut self, earlier: RunId) -> Self {
        self.0.retried_from = Some(earlier);
        self
    }

    /// Returns this run with other parameters: those that a store keeps apart, or none where they are not shown.
    #[must_use]
    pub fn with_parameters(mut self, parameters: RunParameters) -> Self {
        self.0.parameters = parameters;
        self
    }

    /// Makes a run of its fields, as a store has kept them.
    ///
    /// Fails with [`InconsistentRun`] when no transitions lead to these fields.
    pub fn from_parts(parts: RunParts) -> Result<Self, InconsistentRun> {
        parts.checked().map(Self)
    }

    /// Returns the fields, to be kept.
    #[must_use]
    pub fn parts(&self) -> &RunParts {
        &self.0
    }

    /// Returns the fields without a copy.
    #[must_use]
    pub fn into_parts(self) -> RunParts {
        self.0
    }

    /// Returns the id of the run, the same over all attempts.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.0.id
    }

    /// Returns the workflow that it executes.
    #[must_use]
    pub fn workflow(&self) -> &WorkflowKey {
        &self.0.workflow
    }

    /// Returns the id of the webhook through which it was started.
    #[must_use]
    pub fn webhook_id(&self) -> WebhookId {
        self.0.webhook_id
    }

    /// Returns the state after the last recorded change.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.0.state
    }

    /// Returns the number of claims that began an execution; 0 before the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Returns the number of attempts that the retry policy allowed when the run was queued.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// Returns the number of times its worker vanished mid-run. They use up no attempt.
    #[must_use]
    pub fn interruptions(&self) -> u32 {
        self.0.interruptions
    }

    /// Returns the fence of the newest claim, which grows with every claim; 0 before the first.
    ///
    /// Only the holder of the newest fence may renew or settle.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.0.fence
    }

    /// Returns the name of the process that executes it, or executed it last, in a store that several processes share.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }

    /// Returns the reason of a cancellation that was requested while it was running.
    #[must_use]
    pub fn cancel_requested(&self) -> Option<CancelReason> {
        self.0.cancel_requested
    }

    /// Returns the id of the earlier run that this one repeats.
    #[must_use]
    pub fn retried_from(&self) -> Option<RunId> {
        self.0.retried_from
    }

    /// Returns the time at which it was accepted.
    #[must_use]
    pub fn queued_at(&self) -> SystemTime {
        self.0.queued_at
    }

    /// Returns the start of its first attempt.
    #[must_use]
    pub fn started_at(&self) -> Option<SystemTime> {
        self.0.started_at
    }

    /// Returns the time at which it ended.
    #[must_use]
    pub fn finished_at(&self) -> Option<SystemTime> {
        self.0.finished_at
    }

    /// Returns the time before which it is not claimed.
    #[must_use]
    pub fn due_at(&self) -> SystemTime {
        self.0.due_at
    }

    /// Returns the parameters of every attempt. They never change.
    #[must_use]
    pub fn parameters(&self) -> &RunParameters {
        &self.0.parameters
    }

    /// Returns the progress as its executor last reported it.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.0.progress.as_ref()
    }

    /// Returns the summary of the result by its executor, in a line or two.
    #[must_use]
    pub fn summary(&self) -> Option<&str> {
        self.0.summary.as_deref()
    }

    /// Returns the artifacts that it left; the executor keeps the content.
    #[must_use]
    pub fn artifacts(&self) -> &[Artifact] {
        &self.0.artifacts
    }

    /// Returns the error of the last failed attempt.
    #[must_use]
    pub fn error(&self) -> Option<&RunError> {
        self.0.error.as_ref()
    }

    /// Returns the facts about the call that started it.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.0.caller
    }
}

impl TryFrom<RunParts> for Run {
    type Error = InconsistentRun;

    fn try_from(parts: RunParts) -> Result<Self, InconsistentRun> {
        Self::from_parts(parts)
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

    #[test]
    fn fields_that_no_transitions_lead_to_make_no_run() {
        let now = SystemTime::UNIX_EPOCH;
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        let queued = RunParts::new(id, "report/a".parse().unwrap(), webhook, Caller::default(), now);
        let with = |change: fn(&mut RunParts)| {
            let mut parts = queued.clone();
            change(&mut parts);
            // Stores that keep JSON are told the same.
            let json = serde_json::to_string(&parts).unwrap();
            assert_eq!(serde_json::from_str::<Run>(&json).is_ok(), Run::from_parts(parts.clone()).is_ok());
            Run::from_parts(parts).map(Run::into_parts)
        };
        assert_eq!(with(|_| {}), Ok(queued.clone()));
        assert_eq!(with(|parts| parts.state = RunState::Skipped), Err(InconsistentRun::End));
        assert_eq!(with(|parts| parts.finished_at = Some(parts.queued_at)), Err(InconsistentRun::End));
        assert_eq!(with(|parts| parts.state = RunState::Running), Err(InconsistentRun::Claims));
        assert_eq!(with(|parts| parts.interruptions = 1), Err(InconsistentRun::Claims));
        assert_eq!(with(|parts| (parts.attempt, parts.fence) = (3, 2)), Err(InconsistentRun::Claims));
        assert!(with(|parts| (parts.attempt, parts.fence) = (3, 3)).is_ok());
    }
}
