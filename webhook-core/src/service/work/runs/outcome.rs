//! Decides the outcome of an attempt: the end of its run with its notifications, another attempt, or a
//! hand-back.

use std::any::Any;
use std::time::{Duration, SystemTime};

use crate::error::chain;
use crate::executor::{ExecuteError, RunOutput, StopReason};
use crate::id::DeliveryId;
use crate::masking::Masker;
use crate::notifier::Delivery;
use crate::retry::RetryPolicy;
use crate::run::{Ending, ErrorKind, Run, RunError, RunState};
use crate::store::{Claim, Outcome};
use crate::webhook::Webhook;

/// Result of an execution; `None` if the executor was given up or never called.
pub(super) type Executed = Option<Result<RunOutput, Failure>>;

/// Failure of an executor, neither masked nor cut yet.
pub(super) struct Failure {
    kind: ErrorKind,
    message: String,
}

impl From<ExecuteError> for Failure {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Retryable(error) => Self { kind: ErrorKind::Retryable, message: chain(&*error) },
            ExecuteError::Fatal(error) => Self { kind: ErrorKind::Fatal, message: chain(&*error) },
        }
    }
}

impl Failure {
    /// The executor panicked with this payload.
    pub(super) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("the executor panicked: {}", text.unwrap_or("without a message"));
        Self { kind: ErrorKind::Panicked, message }
    }
}

/// Decides the outcome of an attempt.
pub(super) struct Judge<'a> {
    pub(super) claim: &'a Claim,
    pub(super) masker: &'a Masker,
    pub(super) now: SystemTime,
}

impl Judge<'_> {
    fn run(&self) -> &Run {
        &self.claim.run
    }

    fn webhook(&self) -> Option<&Webhook> {
        self.claim.webhook.as_deref()
    }

    /// Returns the upper bound on the duration of the attempt.
    fn timeout(&self) -> Option<Duration> {
        self.webhook().and_then(|webhook| webhook.settings.timeout)
    }

    pub(super) fn outcome(&self, executed: Executed, stopped: Option<StopReason>) -> Outcome {
        match (stopped, executed) {
            (Some(StopReason::Cancelled(reason)), _) => self.ended(Ending::Cancelled(reason)),
            (Some(StopReason::TimedOut), _) => {
                let timeout = self.timeout().unwrap_or_default();
                let message = format!("the attempt took longer than its time-out of {timeout:?}");
                self.failed(RunError::new(ErrorKind::TimedOut, message))
            }
            (_, Some(Ok(RunOutput { summary, artifacts }))) => {
                let summary = summary.map(|summary| self.masker.mask(summary));
                self.ended(Ending::Succeeded { summary, artifacts })
            }
            // A run that failed because its worker stops is executed again.
            (Some(StopReason::ShuttingDown | StopReason::LeaseLost), _) | (None, None) => Outcome::HandBack,
            // It is masked before it is cut.
            (None, Some(Err(Failure { kind, message }))) => {
                self.failed(RunError::new(kind, self.masker.mask(message)))
            }
        }
    }

    /// Returns a retry if the failure allows one and the policy has one left, otherwise the end of the run.
    fn failed(&self, error: RunError) -> Outcome {
        let policy = self.webhook().map_or_else(RetryPolicy::default, |webhook| webhook.settings.retries);
        if error.kind != ErrorKind::Fatal && self.run().has_attempts_left() {
            let attempts = self.run().attempt().saturating_sub(self.run().interruptions());
            return Outcome::Retry { error, delay: policy.delay(attempts, rand::random()) };
        }
        let timed_out = error.kind == ErrorKind::TimedOut;
        self.ended(if timed_out { Ending::TimedOut(error) } else { Ending::failed(error) })
    }

    pub(super) fn ended(&self, ending: Ending) -> Outcome {
        let event = match &ending {
            Ending::Succeeded { .. } => RunState::Succeeded.event(),
            Ending::Failed { .. } | Ending::TimedOut(_) => RunState::Failed.event(),
            _ => None,
        };
        let told = event.into_iter().flat_map(|event| {
            let recipients = self.webhook().map(|webhook| webhook.settings.notifications.recipients(event));
            recipients.into_iter().flatten().map(move |(channel, recipient)| (event, channel, recipient))
        });
        let deliveries = told
            .map(|(event, channel, recipient)| {
                let id = DeliveryId::generate(self.now);
                Delivery::new(id, self.run().id(), channel, recipient, event, self.now)
            })
            .collect();
        Outcome::Ended { ending, deliveries }
    }
}
