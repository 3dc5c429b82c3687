//! The life of a run: each method returns the record after one transition. All are pure.

use std::time::SystemTime;

use super::Run;
use super::ending::{CancelReason, Ending};
use super::facts::{MESSAGE_BYTES, Progress, RunError, shortened};
use super::parts::RunParts;
use super::state::{IllegalTransition, Transition};

impl Run {
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
        let state = self.0.state.after(Transition::Claim)?;
        let executes = !self.is_exhausted(interruption_bound) && self.0.cancel_requested.is_none();
        Ok(Self(RunParts {
            state,
            fence,
            attempt: self.0.attempt + u32::from(executes),
            started_at: if executes { self.0.started_at.or(Some(now)) } else { self.0.started_at },
            progress: None,
            ..self.0.clone()
        }))
    }

    /// Returns this run as its attempt begins. The first attempt began at `started_at`: a run may be claimed before a
    /// worker is free for it.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn begun(&self, started_at: Option<SystemTime>) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(Transition::Begin)?;
        Ok(Self(RunParts { state, started_at, ..self.0.clone() }))
    }

    /// Returns this run with the progress that its executor reports.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn progressed(&self, progress: Progress) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(Transition::Progress)?;
        Ok(Self(RunParts { state, progress: Some(progress), ..self.0.clone() }))
    }

    /// Returns this run with the request that it stop. It ends when its worker, or the next one, follows. An earlier
    /// request stands.
    ///
    /// Fails with [`IllegalTransition`] when it has ended.
    pub fn asked_to_stop(&self, reason: CancelReason) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(Transition::RequestCancel)?;
        let cancel_requested = self.0.cancel_requested.or(Some(reason));
        Ok(Self(RunParts { state, cancel_requested, ..self.0.clone() }))
    }

    /// Returns whether it was interrupted so often that it is not tried again.
    #[must_use]
    pub fn is_exhausted(&self, interruption_bound: u32) -> bool {
        self.0.interruptions >= interruption_bound.max(1)
    }

    /// Returns whether the retry policy allows another attempt after the current one. Interruptions use up
    /// none.
    #[must_use]
    pub fn has_attempts_left(&self) -> bool {
        self.0.attempt.saturating_sub(self.0.interruptions) < self.0.max_attempts
    }

    /// Returns this run after its worker vanished: queued again at once, with one more interruption.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn interrupted(&self, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(Transition::Interrupt)?;
        Ok(Self(RunParts {
            state,
            interruptions: self.0.interruptions + 1,
            due_at: now,
            progress: None,
            ..self.0.clone()
        }))
    }

    /// Returns this run handed back unfinished at shutdown. The attempt does not count.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn handed_back(&self, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(Transition::HandBack)?;
        let attempt = self.0.attempt.saturating_sub(1);
        let started_at = if attempt == 0 { None } else { self.0.started_at };
        Ok(Self(RunParts { state, attempt, started_at, due_at: now, progress: None, ..self.0.clone() }))
    }

    /// Returns this run after a failed attempt, queued again for `due_at`.
    ///
    /// Fails with [`IllegalTransition`] when it is not running.
    pub fn retrying(&self, error: RunError, due_at: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(Transition::Retry)?;
        Ok(Self(RunParts { state, error: Some(error), due_at, progress: None, ..self.0.clone() }))
    }

    /// Returns this run at its end.
    ///
    /// Fails with [`IllegalTransition`] when its state does not allow this ending.
    pub fn ended(&self, ending: Ending, now: SystemTime) -> Result<Self, IllegalTransition> {
        let state = self.0.state.after(ending.transition())?;
        let mut run = RunParts { state, finished_at: Some(now), error: None, ..self.0.clone() };
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
        Ok(Self(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RunId, WebhookId};
    use crate::run::{Caller, ErrorKind, RunParameters};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn run(max_attempts: u32) -> Run {
        let workflow = "report/a".parse().unwrap();
        let parameters = RunParameters::default();
        let webhook = WebhookId::generate(NOW);
        Run::new(RunId::generate(NOW), workflow, webhook, parameters, max_attempts, Caller::default(), NOW)
    }

    #[test]
    fn a_run_that_has_ended_changes_no_more() {
        let ended = run(1).ended(Ending::Cancelled(CancelReason::Requested), NOW).unwrap();
        assert!(ended.claimed(1, 5, NOW).is_err());
        assert!(ended.interrupted(NOW).is_err());
        assert!(ended.ended(Ending::Skipped, NOW).is_err());
        assert_eq!(ended.error(), None);
    }

    #[test]
    fn interruptions_use_up_no_attempt_and_hand_backs_count_as_nothing() {
        let first = run(2).claimed(1, 5, NOW).unwrap();
        assert_eq!((first.attempt(), first.has_attempts_left()), (1, true));
        let second = first.interrupted(NOW).unwrap().claimed(2, 5, NOW).unwrap();
        assert_eq!((second.attempt(), second.interruptions(), second.has_attempts_left()), (2, 1, true));
        let handed_back = second.handed_back(NOW).unwrap();
        assert_eq!((handed_back.attempt(), handed_back.interruptions()), (1, 1));
        let third = handed_back.claimed(3, 5, NOW).unwrap();
        let retrying = third.retrying(RunError::new(ErrorKind::Retryable, "x"), NOW).unwrap();
        let last = retrying.claimed(4, 5, NOW).unwrap();
        assert_eq!((last.attempt(), last.has_attempts_left()), (3, false));
    }

    #[test]
    fn the_fifth_interruption_is_the_last_and_no_further_attempt_begins() {
        let mut run = run(1);
        for fence in 1..=5 {
            run = run.claimed(fence, 5, NOW).unwrap().interrupted(NOW).unwrap();
        }
        assert_eq!((run.attempt(), run.interruptions()), (5, 5));
        assert!(run.is_exhausted(5));
        assert_eq!(run.claimed(6, 5, NOW).unwrap().attempt(), 5);
    }

    #[test]
    fn a_superseded_run_says_so() {
        let ended = run(1).ended(Ending::Cancelled(CancelReason::Superseded), NOW).unwrap();
        assert_eq!(ended.error().unwrap().kind, ErrorKind::Superseded);
    }
}
