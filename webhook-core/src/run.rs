//! Runs: one execution of a workflow, from the accepted call to its end.
//!
//! Every change of state goes through [`RunState::after`], which knows the legal transitions. The methods of
//! [`Run`] that return the next version of a record are pure; stores apply them and persist the result.

mod excerpt;
mod facts;
mod parameters;
mod state;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::milliseconds;
use crate::id::{RunId, WebhookId, WorkflowKey};

pub use excerpt::{EXCERPT_BYTES, excerpt_text, excerpt_value};
use facts::MESSAGE_BYTES;
pub(crate) use facts::shortened;
pub use facts::{Artifact, Caller, ErrorKind, Progress, RunError};
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

    /// Returns this run as claimed under `fence`.
    ///
    /// A run whose interruptions reached their bound, or whose cancellation was requested, is claimed only to
    /// be settled. That claim is no further attempt.
    ///
    /// Fails with [`IllegalTransition`] when it is not queued.
    pub fn claimed(
        &self,
        fence: u64,
        interruption_bound: u32,
        now: SystemTime,
    ) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::Claim)?;
        let executes = !self.is_exhausted(interruption_bound) && self.cancel_requested.is_none();
        Ok(Self {
            state,
            fence,
            attempt: self.attempt + u32::from(executes),
            started_at: if executes { self.started_at.or(Some(now)) } else { self.started_at },
            progress: None,
            ..self.clone()
        })
    }

    /// Returns whether it was interrupted so often that it is not tried again.
    #[must_use]
    pub fn is_exhausted(&self, interruption_bound: u32) -> bool {
        self.interruptions >= interruption_bound.max(1)
    }

    /// Returns whether the retry policy allows another attempt after the current one. Interruptions use up
    /// none.
    #[must_use]
    pub fn has_attempts_left(&self) -> bool {
        self.attempt.saturating_sub(self.interruptions) < self.max_attempts
    }

    /// Returns this run after its worker vanished: queued again at once, with one more interruption.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn interrupted(&self, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::Interrupt)?;
        Ok(Self { state, interruptions: self.interruptions + 1, due_at: now, progress: None, ..self.clone() })
    }

    /// Returns this run handed back unfinished at shutdown. The attempt does not count.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn handed_back(&self, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::HandBack)?;
        let attempt = self.attempt.saturating_sub(1);
        let started_at = if attempt == 0 { None } else { self.started_at };
        Ok(Self { state, attempt, started_at, due_at: now, progress: None, ..self.clone() })
    }

    /// Returns this run after a failed attempt, queued again for `due_at`.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn retrying(&self, error: RunError, due_at: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::Retry)?;
        Ok(Self { state, error: Some(error), due_at, progress: None, ..self.clone() })
    }

    /// Returns this run at its end.
    ///
    /// Fails with [`IllegalTransition`] when its state does not allow this ending.
    pub fn ended(&self, ending: Ending, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(ending.transition())?;
        let mut run = Self { state, finished_at: Some(now), error: None, ..self.clone() };
        match ending {
            Ending::Succeeded { summary, artifacts } => {
                run.summary = summary.map(|text| shortened(text, MESSAGE_BYTES));
                run.artifacts = artifacts;
            }
            Ending::Failed { error, artifacts } => {
                run.error = Some(error);
                run.artifacts = artifacts;
            }
            Ending::TimedOut(error) => run.error = Some(error),
            Ending::Cancelled(reason) => run.error = reason.error(),
            Ending::Skipped => {}
        }
        Ok(run)
    }
}

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

    fn transition(&self) -> Transition {
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
    fn error(self) -> Option<RunError> {
        let message = "a newer run of the same webhook took its place";
        matches!(self, Self::Superseded).then(|| RunError::new(ErrorKind::Superseded, message))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use crate::token::{TokenKey, TokenKeys};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn run(max_attempts: u32) -> Run {
        let workflow = "report/a".parse().unwrap();
        let parameters = RunParameters::default();
        let webhook = WebhookId::generate(NOW);
        Run::new(RunId::generate(NOW), workflow, webhook, parameters, max_attempts, Caller::default(), NOW)
    }

    #[test]
    fn only_the_documented_transitions_are_legal() {
        use RunState::*;
        use Transition::*;
        let legal = [
            (Queued, Claim, Running),
            (Queued, Cancel, Cancelled),
            (Queued, Skip, Skipped),
            (Running, Succeed, Succeeded),
            (Running, Fail, Failed),
            (Running, TimeOut, TimedOut),
            (Running, Cancel, Cancelled),
            (Running, Retry, Queued),
            (Running, HandBack, Queued),
            (Running, Interrupt, Queued),
        ];
        let transitions = [Claim, Succeed, Fail, TimeOut, Cancel, Skip, Retry, HandBack, Interrupt];
        for from in RunState::ALL {
            for transition in transitions {
                let expected = legal.iter().find(|row| (row.0, row.1) == (from, transition)).map(|row| row.2);
                assert_eq!(from.after(transition).ok(), expected, "{from:?} {transition:?}");
            }
        }
    }

    #[test]
    fn a_run_that_has_ended_changes_no_more() {
        let ended = run(1).ended(Ending::Cancelled(CancelReason::Requested), NOW).unwrap();
        assert!(ended.claimed(1, 5, NOW).is_err());
        assert!(ended.interrupted(NOW).is_err());
        assert!(ended.ended(Ending::Skipped, NOW).is_err());
        assert_eq!(ended.error, None);
    }

    #[test]
    fn interruptions_use_up_no_attempt_and_hand_backs_count_as_nothing() {
        let first = run(2).claimed(1, 5, NOW).unwrap();
        assert_eq!((first.attempt, first.has_attempts_left()), (1, true));
        let second = first.interrupted(NOW).unwrap().claimed(2, 5, NOW).unwrap();
        assert_eq!((second.attempt, second.interruptions, second.has_attempts_left()), (2, 1, true));
        let handed_back = second.handed_back(NOW).unwrap();
        assert_eq!((handed_back.attempt, handed_back.interruptions), (1, 1));
        let third = handed_back.claimed(3, 5, NOW).unwrap();
        let retrying = third.retrying(RunError::new(ErrorKind::Retryable, "x"), NOW).unwrap();
        let last = retrying.claimed(4, 5, NOW).unwrap();
        assert_eq!((last.attempt, last.has_attempts_left()), (3, false));
    }

    #[test]
    fn the_fifth_interruption_is_the_last_and_no_further_attempt_begins() {
        let mut run = run(1);
        for fence in 1..=5 {
            run = run.claimed(fence, 5, NOW).unwrap().interrupted(NOW).unwrap();
        }
        assert_eq!((run.attempt, run.interruptions), (5, 5));
        assert!(run.is_exhausted(5));
        assert_eq!(run.claimed(6, 5, NOW).unwrap().attempt, 5);
    }

    #[test]
    fn a_superseded_run_says_so() {
        let ended = run(1).ended(Ending::Cancelled(CancelReason::Superseded), NOW).unwrap();
        assert_eq!(ended.error.unwrap().kind, ErrorKind::Superseded);
    }

    #[test]
    fn secret_parameters_are_sealed_at_rest_and_open_for_their_run_only() {
        let keys = TokenKeys::new(TokenKey::generate());
        let effective: EffectiveParameters = [
            ("region".to_owned(), EffectiveParameter::new(json!("EMEA"), Source::Query)),
            ("password".to_owned(), EffectiveParameter::new(json!("canary"), Source::Body).secret()),
        ]
        .into_iter()
        .collect();
        let id = RunId::generate(NOW);
        let refused = RunParameters::seal(effective.clone(), None, id).unwrap_err();
        assert_eq!(refused, SealError::NoKey { name: "password".to_owned() });
        let parameters = RunParameters::seal(effective.clone(), Some(&keys), id).unwrap();
        let stored = serde_json::to_string(&parameters).unwrap();
        assert!(!stored.contains("canary") && !format!("{parameters:?}").contains("canary"));
        let read: RunParameters = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, parameters);
        let shown: Vec<Value> = read.iter().map(|(_, parameter)| parameter.shown()).collect();
        assert_eq!(shown, [json!("***"), json!("EMEA")]);
        let opened = read.open(Some(&keys), id).unwrap();
        assert_eq!(opened.get("password").unwrap().value, json!("canary"));
        assert!(read.open(Some(&keys), RunId::generate(NOW)).is_err());
        assert!(read.open(None, id).is_err());
    }

    #[test]
    fn records_survive_the_round_trip() {
        let run = run(3).claimed(7, 5, NOW + Duration::from_millis(5)).unwrap();
        let stored = serde_json::to_vec(&run).unwrap();
        assert_eq!(serde_json::from_slice::<Run>(&stored).unwrap(), run);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let error = RunError::new(ErrorKind::Fatal, "é".repeat(5_000));
        assert!(error.message.len() <= MESSAGE_BYTES && error.message.ends_with('…'));
    }
}
