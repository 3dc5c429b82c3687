//! The state of an attempt: one execution of a claimed run.
//!
//! An attempt waits for a slot, executes, and ends. Three events end it: the executor returns; the
//! [watch](super::watch) gives up an executor that does not stop; the workers stop.
//!
//! The caller that moves it to [`Stage::Over`] settles it, so each attempt is settled once.
//! [`execution`](super::execution) acts on these transitions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Span;

use super::outcome::{Executed, Judge};
use crate::executor::{CancellationSource, Reports, RunContext, StopReason};
use crate::masking::Masker;
use crate::run::{Ending, ErrorKind, RunError};
use crate::service::parts::Parts;
use crate::store::{Begun, Claim, Outcome, Renewed, Settlement};

/// Upper bound on the time for which a run claimed ahead waits for a slot. Then it is handed back, for
/// another worker.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(in crate::service::work) struct Attempt {
    pub(super) claim: Claim,
    pub(super) reports: Arc<Reports>,
    /// Parent of all log events of this attempt.
    pub(super) span: Span,
    stop: CancellationSource,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// End of the lease, by the clock of this process. It never moves back, except to the present when the
    /// store reports the lease lost.
    lease_end: Instant,
    /// Time at which the watch saw that it was told to stop. The grace period starts here.
    stopping: Option<Instant>,
    /// True while a thread is inside the executor's `poll`.
    is_polled: bool,
    /// True if the executor was given up while a thread was inside it. That thread counts as blocked until it
    /// returns.
    ///
    /// Implies `is_polled` and [`Stage::Over`].
    is_blocked: bool,
}

enum Stage {
    /// It waits for a slot. `context` is the input of its executor, and `since` the time of its claim.
    Waiting {
        context: Box<RunContext>,
        since: Instant,
    },
    Executing {
        beginning: Beginning,
        deadline: Option<Instant>,
    },
    Over,
}

/// Start of an execution, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) since: Instant,
    pub(super) started_at: SystemTime,
}

/// Result of [`Attempt::begin`].
pub(super) enum Begin {
    /// It executes from now on, with this context.
    Execute(Box<RunContext>),
    /// It was told to stop before it began. It is not over yet.
    Stopped,
    Over,
}

/// Result of [`Attempt::end`]: how far the attempt had come.
pub(super) enum End {
    /// It was waiting for a slot.
    NotBegun,
    Begun(Beginning),
    /// It was over before, and another caller settles it.
    AlreadyOver,
}

/// Result of [`Attempt::give_up`].
pub(super) struct GivenUp {
    pub(super) beginning: Beginning,
    pub(super) is_blocked: bool,
    /// True if its slot is free.
    pub(super) leaves_slot: bool,
}

/// Result of [`Attempt::look`]: a due action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// It waits and was told to stop.
    Withdraw,
    /// It has waited for a slot for too long.
    HandBack,
    /// It was told to stop, and has not stopped within the grace period.
    GiveUp,
}

impl Attempt {
    /// Prepares the execution of a claimed run. Returns the outcome instead if the run is not to be executed.
    pub(super) fn new(
        parts: &Parts,
        claim: Claim,
        interruption_bound: u32,
        lease_end: Instant,
    ) -> Result<Self, Box<Settlement>> {
        let (run, now) = (&claim.run, parts.now());
        let judge = Judge { claim: &claim, masker: &Masker::default(), now };
        let ended = |ending| Box::new(Settlement::new(run.id(), run.fence(), judge.ended(ending), now));
        let failed = |kind, message| Err(ended(Ending::failed(RunError::new(kind, message))));
        if let Some(reason) = run.cancel_requested() {
            return Err(ended(Ending::Cancelled(reason)));
        }
        if run.is_exhausted(interruption_bound) {
            let message = format!("its worker vanished mid-run {} times", run.interruptions());
            return failed(ErrorKind::Interrupted, message);
        }
        let parameters = match run.parameters().open(parts.keys.as_ref(), run.id()) {
            Ok(parameters) => parameters,
            Err(error) => {
                return failed(ErrorKind::Fatal, format!("a secret parameter cannot be opened: {error}"));
            }
        };
        let stop = CancellationSource::new();
        let context = RunContext::new(run.id(), run.workflow().clone(), run.attempt(), parameters)
            .with_caller(run.caller().clone())
            .with_cancellation(stop.cancellation());
        let (context, reports) = context.reporting();
        let state = State {
            stage: Stage::Waiting { context: Box::new(context), since: Instant::now() },
            lease_end,
            stopping: None,
            is_polled: false,
            is_blocked: false,
        };
        let span = tracing::info_span!(
            "attempt",
            run = %run.id(),
            workflow = %run.workflow(),
            webhook = %run.webhook_id(),
            attempt = run.attempt()
        );
        Ok(Self { claim, reports, span, stop, state: Mutex::new(state) })
    }

    /// Moves from waiting to executing, unless it was told to stop or is already over.
    pub(super) fn begin(&self, beginning: Beginning) -> Begin {
        let mut state = self.state.lock();
        if self.stop.cancellation().is_cancelled() || self.stop.is_abandoned() {
            return Begin::Stopped;
        }
        let deadline = self.timeout().and_then(|timeout| beginning.since.checked_add(timeout));
        match std::mem::replace(&mut state.stage, Stage::Executing { beginning, deadline }) {
            Stage::Waiting { mut context, .. } => {
                context.deadline = deadline;
                Begin::Execute(context)
            }
            over => {
                debug_assert!(matches!(over, Stage::Over), "an attempt begins once");
                state.stage = over;
                Begin::Over
            }
        }
    }

    /// Returns the notice to the store for a run claimed ahead, or `None` if it no longer executes.
    pub(super) fn begun(&self) -> Option<Begun> {
        match self.state.lock().stage {
            Stage::Executing { beginning: Beginning { started_at, .. }, .. } => {
                Some(Begun::new(self.claim.run.id(), self.claim.run.fence(), started_at))
            }
            _ => None,
        }
    }

    /// Moves to [`Stage::Over`].
    pub(super) fn end(&self) -> End {
        match std::mem::replace(&mut self.state.lock().stage, Stage::Over) {
            Stage::Waiting { .. } => End::NotBegun,
            Stage::Executing { beginning, .. } => End::Begun(beginning),
            Stage::Over => End::AlreadyOver,
        }
    }

    /// Moves from waiting to [`Stage::Over`]. Returns whether it was waiting.
    pub(super) fn withdraw(&self) -> bool {
        let mut state = self.state.lock();
        let waits = matches!(state.stage, Stage::Waiting { .. });
        if waits {
            state.stage = Stage::Over;
        }
        waits
    }

    /// Moves from executing to [`Stage::Over`], and releases its executor. Returns `None` if it does not
    /// execute.
    ///
    /// `block` is called if a thread is inside the executor. It counts that thread as blocked, and returns
    /// whether the slot is free.
    pub(super) fn give_up(&self, block: impl FnOnce() -> bool) -> Option<GivenUp> {
        let mut state = self.state.lock();
        let Stage::Executing { beginning, .. } = state.stage else { return None };
        state.stage = Stage::Over;
        let is_blocked = state.is_polled;
        state.is_blocked = is_blocked;
        // The lock is kept: the thread may return at any moment, and must be counted as blocked before that.
        let leaves_slot = !is_blocked || block();
        drop(state);
        self.stop.abandon();
        Some(GivenUp { beginning, is_blocked, leaves_slot })
    }

    /// Builds the settlement of an ended attempt.
    pub(super) fn settlement(
        &self,
        executed: Executed,
        beginning: Option<Beginning>,
        now: SystemTime,
    ) -> Settlement {
        let judge = Judge { claim: &self.claim, masker: self.reports.masker(), now };
        let mut outcome = judge.outcome(executed, self.stop.cancellation().reason());
        if let Outcome::Ended { ending, .. } = &mut outcome
            && let Ending::Succeeded { artifacts, .. } | Ending::Failed { artifacts, .. } = ending
        {
            *artifacts = self.reports.artifacts(std::mem::take(artifacts));
        }
        let run = &self.claim.run;
        let started_at = beginning.map(|beginning| beginning.started_at);
        Settlement::new(run.id(), run.fence(), outcome, now).with_started_at(started_at)
    }

    fn timeout(&self) -> Option<Duration> {
        self.claim.webhook.as_ref().and_then(|webhook| webhook.settings.timeout)
    }

    /// Tells the executor to stop. The first reason is kept.
    pub(in crate::service::work) fn stop(&self, reason: StopReason) {
        self.stop.cancel(reason);
    }

    /// Gives the executor up when the workers are dropped. Nothing is recorded: the lease ends by itself.
    pub(in crate::service::work) fn abandon(&self) {
        self.stop.abandon();
    }

    /// Waits until the executor is given up. Cancel safe.
    pub(super) async fn abandoned(&self) {
        self.stop.abandoned().await;
    }

    /// Applies the store's reply to a renewal. `lease_end` is the end of the lease if it is held.
    pub(super) fn renewed(&self, renewed: Renewed, lease_end: Instant) {
        let reason = {
            let mut state = self.state.lock();
            match renewed {
                Renewed::Held { cancel } => {
                    // An older reply may arrive after a newer one, and must not shorten the lease.
                    state.lease_end = state.lease_end.max(lease_end);
                    cancel.map(StopReason::Cancelled)
                }
                Renewed::Lost => {
                    state.lease_end = Instant::now();
                    Some(StopReason::LeaseLost)
                }
            }
        };
        if let Some(reason) = reason {
            self.stop(reason);
        }
    }

    /// Returns whether its lease has ended, so another worker may have the run.
    pub(super) fn has_lapsed(&self, now: Instant) -> bool {
        self.state.lock().lease_end <= now
    }

    /// Tells it to stop when its lease or its time-out has ended. Returns the due action, and the end of its
    /// time-out.
    pub(super) fn look(&self, now: Instant, grace: Duration) -> (Due, Option<Instant>) {
        let mut state = self.state.lock();
        let (deadline, waits_since) = match &state.stage {
            Stage::Over => return (Due::Nothing, None),
            Stage::Executing { deadline, .. } => (*deadline, None),
            Stage::Waiting { since, .. } => (None, Some(*since)),
        };
        if state.lease_end <= now {
            self.stop.cancel(StopReason::LeaseLost);
        } else if deadline.is_some_and(|deadline| deadline <= now) {
            self.stop.cancel(StopReason::TimedOut);
        }
        if self.stop.cancellation().is_cancelled() && state.stopping.is_none() {
            state.stopping = Some(now);
        }
        let is_told = state.stopping.is_some();
        let has_had_time = state.stopping.is_some_and(|since| now.saturating_duration_since(since) >= grace);
        drop(state);
        let due = match waits_since {
            Some(_) if is_told => Due::Withdraw,
            Some(since) if now.saturating_duration_since(since) >= LONGEST_WAIT => Due::HandBack,
            None if has_had_time || self.stop.is_abandoned() => Due::GiveUp,
            _ => Due::Nothing,
        };
        (due, deadline.filter(|_| !is_told))
    }

    /// Records that a thread enters the executor.
    pub(super) fn enter(&self) {
        let mut state = self.state.lock();
        debug_assert!(!state.is_polled, "one thread at a time");
        state.is_polled = true;
    }

    /// Records that the thread has left the executor. Returns whether it counted as blocked.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state.lock();
        debug_assert!(state.is_polled, "a thread leaves where it entered");
        state.is_polled = false;
        std::mem::take(&mut state.is_blocked)
    }

    #[cfg(test)]
    pub(super) fn is_polled(&self) -> bool {
        self.state.lock().is_polled
    }
}
