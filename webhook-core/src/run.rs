//! A run: one execution of a workflow, from the call that asked for it to its end.
//!
//! Every change of state goes through [`RunState::after`], which knows the legal transitions. The methods of
//! [`Run`] that make the next version of a record are pure; stores apply them and persist the result.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::milliseconds;
use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::parameters::{EffectiveParameter, EffectiveParameters, Source};
use crate::token::{OpenError, Sealed, TokenKeys};
use crate::webhook::EventKind;

/// The longest error message or summary that is kept, in bytes.
const MESSAGE_BYTES: usize = 4_096;

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

/// One run as stores keep it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// Its id, the same over all attempts.
    pub id: RunId,
    /// What it executes.
    pub workflow: WorkflowKey,
    /// The webhook it came through.
    pub webhook_id: WebhookId,
    /// Where it is in its life.
    pub state: RunState,
    /// How often it was claimed for execution; 0 before the first time. Hand-backs at shutdown do not count.
    pub attempt: u32,
    /// How many attempts the retry policy allowed when it was queued.
    pub max_attempts: u32,
    /// How often its worker vanished mid-run. These do not use up `max_attempts`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// Grows with every claim; only the holder of the newest fence may renew or settle.
    #[serde(default)]
    pub fence: u64,
    /// Whether its cancellation was asked for while it was running, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<CancelReason>,
    /// The run that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_from: Option<RunId>,
    /// When it was accepted.
    #[serde(with = "milliseconds")]
    pub queued_at: SystemTime,
    /// When its first attempt started.
    #[serde(default, with = "milliseconds::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<SystemTime>,
    /// When it ended.
    #[serde(default, with = "milliseconds::option", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<SystemTime>,
    /// Before this time it is not claimed.
    #[serde(with = "milliseconds")]
    pub due_at: SystemTime,
    /// With what it is executed. Never changes.
    #[serde(default, skip_serializing_if = "RunParameters::is_empty")]
    pub parameters: RunParameters,
    /// How far it is, as its executor said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What its executor said of the result, in a line or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What it left behind; the executor keeps the content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// Who asked for it.
    #[serde(with = "shared")]
    pub caller: Arc<Caller>,
}

/// Facts that all versions of a record share in memory, and that each holds in a store.
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
    /// A run that is queued now and due at once.
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

    /// This run as claimed under `fence`. A run whose interruptions reached their bound, or whose cancellation
    /// was asked for, is claimed only to be settled: that is no further attempt.
    ///
    /// # Errors
    /// [`IllegalTransition`] when it is not queued.
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

    /// Whether it was interrupted so often that it is not tried again.
    #[must_use]
    pub fn is_exhausted(&self, interruption_bound: u32) -> bool {
        self.interruptions >= interruption_bound.max(1)
    }

    /// Whether the retry policy leaves another attempt after the present one; interruptions do not use any up.
    #[must_use]
    pub fn has_attempts_left(&self) -> bool {
        self.attempt.saturating_sub(self.interruptions) < self.max_attempts
    }

    /// This run after its worker vanished: queued again at once, with one interruption more.
    ///
    /// # Errors
    /// [`IllegalTransition`] when it is not running.
    pub fn interrupted(&self, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::Interrupt)?;
        Ok(Self { state, interruptions: self.interruptions + 1, due_at: now, progress: None, ..self.clone() })
    }

    /// This run given back unfinished at shutdown: the attempt does not count.
    ///
    /// # Errors
    /// [`IllegalTransition`] when it is not running.
    pub fn handed_back(&self, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::HandBack)?;
        let attempt = self.attempt.saturating_sub(1);
        let started_at = if attempt == 0 { None } else { self.started_at };
        Ok(Self { state, attempt, started_at, due_at: now, progress: None, ..self.clone() })
    }

    /// This run after a failed attempt, queued again for `due_at`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when it is not running.
    pub fn retrying(&self, error: RunError, due_at: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(Transition::Retry)?;
        Ok(Self { state, error: Some(error), due_at, progress: None, ..self.clone() })
    }

    /// This run at its end.
    ///
    /// # Errors
    /// [`IllegalTransition`] when it cannot end so from its state.
    pub fn ended(&self, ending: Ending, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.state.after(ending.transition())?;
        let mut run = Self { state, finished_at: Some(now), error: None, ..self.clone() };
        match ending {
            Ending::Succeeded { summary, artifacts } => {
                run.summary = summary.map(|text| shortened(text, MESSAGE_BYTES));
                run.artifacts = artifacts;
            }
            Ending::Failed(error) | Ending::TimedOut(error) => run.error = Some(error),
            Ending::Cancelled(reason) => run.error = reason.error(),
            Ending::Skipped => {}
        }
        Ok(run)
    }
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// Well.
    Succeeded {
        /// What the executor said of the result.
        summary: Option<String>,
        /// What it left behind.
        artifacts: Vec<Artifact>,
    },
    /// With this error.
    Failed(RunError),
    /// Out of time; the error says after how long.
    TimedOut(RunError),
    /// Cancelled for this reason.
    Cancelled(CancelReason),
    /// Never executed.
    Skipped,
}

impl Ending {
    fn transition(&self) -> Transition {
        match self {
            Self::Succeeded { .. } => Transition::Succeed,
            Self::Failed(_) => Transition::Fail,
            Self::TimedOut(_) => Transition::TimeOut,
            Self::Cancelled(_) => Transition::Cancel,
            Self::Skipped => Transition::Skip,
        }
    }
}

/// Why a run is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody asked for it.
    Requested,
    /// A newer run of the same webhook took its place.
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

/// Why an attempt or a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunError {
    /// What sort of failure it was.
    pub kind: ErrorKind,
    /// What the executor said, at most 4 KiB.
    pub message: String,
}

impl RunError {
    /// An error with this message, cut to 4 KiB.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: shortened(message.into(), MESSAGE_BYTES) }
    }
}

/// What sort of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The executor said that another attempt may help.
    Retryable,
    /// The executor said that another attempt will not help.
    Fatal,
    /// The executor panicked.
    Panicked,
    /// The attempt took longer than its time-out.
    TimedOut,
    /// Its worker vanished too often.
    Interrupted,
    /// A newer run took its place.
    Superseded,
}

impl ErrorKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::Fatal => "fatal",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Superseded => "superseded",
        }
    }
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is doing.
    pub message: Option<String>,
}

impl Progress {
    /// Progress with its fraction brought into 0 to 1.
    #[must_use]
    pub fn new(fraction: f64, message: Option<String>) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self { fraction, message: message.map(|text| shortened(text, MESSAGE_BYTES)) }
    }
}

/// Something a run left behind. The executor keeps the content; this is the reference to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// Its name within the run, such as `report.html`.
    pub name: String,
    /// Its media type (RFC 6838).
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Artifact {
    /// A reference to an artifact.
    #[must_use]
    pub fn new(name: impl Into<String>, content_type: impl Into<String>, size: u64) -> Self {
        Self { name: name.into(), content_type: content_type.into(), size }
    }
}

/// Who asked for a run: facts of the call, for people who look into it later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Caller {
    /// The request method.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The address the call came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What the caller's program calls itself, at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The id of the request, given or made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The last four characters of the token that was used; `None` for a run started by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_hint: Option<String>,
    /// The media type of the call's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The caller's trace context (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// The parameters of a run as stores keep them: a secret value is sealed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunParameters(#[serde(with = "shared")] Arc<BTreeMap<String, RunParameter>>);

/// One parameter of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunParameter {
    /// The value or its sealed form.
    #[serde(flatten)]
    pub value: ParameterValue,
    /// Where the value came from.
    pub source: Source,
}

/// A parameter's value at rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParameterValue {
    /// An ordinary value.
    #[serde(rename = "value")]
    Plain(Value),
    /// A secret value, sealed with the host's key.
    Sealed(Sealed),
}

/// What stands for a secret value wherever parameters are shown.
pub const MASK: &str = "***";

impl RunParameters {
    /// Seals the secret values for the run `id` and keeps the others as they are.
    ///
    /// # Errors
    /// The name of the first secret parameter when there are no `keys`.
    pub fn seal(
        parameters: EffectiveParameters,
        keys: Option<&TokenKeys>,
        id: RunId,
    ) -> Result<Self, String> {
        let mut sealed = BTreeMap::new();
        for (name, parameter) in parameters {
            let EffectiveParameter { value, source, secret, .. } = parameter;
            let value = match (secret, keys) {
                (false, _) => ParameterValue::Plain(value),
                (true, None) => return Err(name),
                (true, Some(keys)) => {
                    let plaintext = zeroize::Zeroizing::new(value.to_string());
                    ParameterValue::Sealed(keys.seal(plaintext.as_bytes(), &place(id, &name)))
                }
            };
            sealed.insert(name, RunParameter { value, source });
        }
        Ok(Self(Arc::new(sealed)))
    }

    /// Opens the secret values for the run `id`.
    ///
    /// # Errors
    /// [`OpenError`] when the keys at hand did not seal them.
    pub fn open(&self, keys: Option<&TokenKeys>, id: RunId) -> Result<EffectiveParameters, OpenError> {
        let open = |(name, parameter): (&String, &RunParameter)| {
            let (value, secret) = match &parameter.value {
                ParameterValue::Plain(value) => (value.clone(), false),
                ParameterValue::Sealed(sealed) => {
                    let unknown =
                        || OpenError::UnknownKey { key_id: "that is no longer configured".to_owned() };
                    let plaintext = keys.ok_or_else(unknown)?.open(sealed, &place(id, name))?;
                    (serde_json::from_slice(&plaintext).map_err(|_| OpenError::Damaged)?, true)
                }
            };
            let parameter = EffectiveParameter::new(value, parameter.source);
            Ok((name.clone(), if secret { parameter.secret() } else { parameter }))
        };
        self.0.iter().map(open).collect()
    }

    /// The parameters by name, secret values still sealed.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RunParameter)> {
        self.0.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl RunParameter {
    /// The value for people to see: `***` in place of a secret.
    #[must_use]
    pub fn shown(&self) -> Value {
        match &self.value {
            ParameterValue::Plain(value) => value.clone(),
            ParameterValue::Sealed(_) => Value::from(MASK),
        }
    }
}

/// A sealed value opens only for its own run and name.
fn place(id: RunId, name: &str) -> Vec<u8> {
    [id.as_bytes().as_slice(), name.as_bytes()].concat()
}

/// Cuts a text to at most `bytes` at a character boundary and marks the cut.
pub(crate) fn shortened(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let mark = '…';
        text.truncate(text.floor_char_boundary(bytes - mark.len_utf8()));
        text.push(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::token::TokenKey;

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
        assert_eq!(RunParameters::seal(effective.clone(), None, id).unwrap_err(), "password");
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
