//! An attempt: one execution of a claimed run.
//!
//! An attempt waits for a slot, executes, and is over. Three things end it. The executor returns. The
//! [watch](super::watch) tells it to stop, and gives it up if it does not. The workers stop. The caller that moves it to
//! [`Stage::Over`] settles it, so each attempt is settled once.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::outcome::{Executed, Failure, Judge};
use super::reporting;
use crate::executor::{CancellationSource, Reports, RunContext, StopReason};
use crate::masking::Masker;
use crate::run::{Ending, ErrorKind, RunError};
use crate::service::work::Shared;
use crate::store::{Begun, Claim, Outcome, Renewed, Settlement};

/// How long a run that was claimed ahead waits for a slot. Then it is handed back, for another worker to execute.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(in crate::service::work) struct Attempt {
    shared: Arc<Shared>,
    pub(in crate::service::work) claim: Claim,
    stop: CancellationSource,
    reports: Arc<Reports>,
    /// Parent of all log events of this attempt.
    span: Span,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// End of the lease, by the clock of this process.
    lease_end: Instant,
    /// When the watch saw that it was told to stop. The grace period counts from here.
    stopping: Option<Instant>,
    /// Whether a thread is inside the executor's `poll`.
    is_polled: bool,
    /// Whether the executor was given up while a thread was inside it. That thread is counted as blocked until it returns.
    is_blocked: bool,
}

enum Stage {
    /// It waits for a slot. `context` is what its executor will be given, and `since` is when it was claimed.
    Waiting {
        context: Box<RunContext>,
        since: Instant,
    },
    Executing {
        since: Instant,
        deadline: Option<Instant>,
        started_at: SystemTime,
    },
    Over,
}

impl Attempt {
    /// Prepares the execution of a claimed run, or returns what to record if the run is not to be executed.
    pub(in crate::service::work) fn new(
        shared: &Arc<Shared>,
        claim: Claim,
        stop: CancellationSource,
        lease_end: Instant,
    ) -> Result<Self, Box<Settlement>> {
        let inner = &shared.webhooks.inner;
        let (run, now) = (&claim.run, inner.now());
        let judge = Judge { claim: &claim, masker: &Masker::default(), now };
        let ended = |ending| Box::new(Settlement::new(run.id, run.fence, judge.ended(ending), now));
        let failed = |kind, message| Err(ended(Ending::failed(RunError::new(kind, message))));
        if let Some(reason) = run.cancel_requested {
            return Err(ended(Ending::Cancelled(reason)));
        }
        if run.is_exhausted(shared.options.interruption_bound) {
            let message = format!("its worker vanished mid-run {} times", run.interruptions);
            return failed(ErrorKind::Interrupted, message);
        }
        let parameters = match run.parameters.open(inner.keys.as_ref(), run.id) {
            Ok(parameters) => parameters,
            Err(error) => {
                return failed(ErrorKind::Fatal, format!("a secret parameter cannot be opened: {error}"));
            }
        };
        let context = RunContext::new(run.id, run.workflow.clone(), run.attempt, parameters)
            .with_caller(run.caller.clone())
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
            run = %run.id,
            workflow = %run.workflow,
            webhook = %run.webhook_id,
            attempt = run.attempt
        );
        Ok(Self { shared: shared.clone(), claim, stop, reports, span, state: Mutex::new(state) })
    }

    /// Starts the execution. The attempt has a slot.
    pub(in crate::service::work) fn start(self: Arc<Self>) {
        let shared = self.shared.clone();
        let executing = Executing { future: Box::pin(self.clone().execute()), attempt: self };
        match &shared.threads {
            Some(threads) => threads.spawn(executing),
            None => drop(shared.runtime.spawn(executing)),
        }
    }

    async fn execute(self: Arc<Self>) {
        let Some(context) = self.begin() else { return };
        let executor = &self.shared.webhooks.inner.executor;
        let executing = async {
            tokio::select! {
                biased;
                // The error is made a text in here, where a panic of its `Display` is caught.
                outcome = executor.execute(context) => Some(outcome.map_err(Failure::from)),
                () = self.stop.abandoned() => None,
            }
        };
        let executed = AssertUnwindSafe(executing).catch_unwind().instrument(self.span.clone()).await;
        self.finish(executed.unwrap_or_else(|payload| Some(Err(Failure::panicked(&*payload)))));
    }

    /// Goes from waiting to executing. Returns `None` if it was told to stop or is over already.
    fn begin(self: &Arc<Self>) -> Option<RunContext> {
        let (now, started_at) = (Instant::now(), self.shared.webhooks.inner.now());
        let mut state = self.state.lock();
        if self.stop.cancellation().is_cancelled() || self.stop.is_abandoned() {
            drop(state);
            self.finish(None);
            return None;
        }
        let timeout = self.judge().timeout();
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        match std::mem::replace(&mut state.stage, Stage::Executing { since: now, deadline, started_at }) {
            Stage::Waiting { mut context, .. } => {
                drop(state);
                context.deadline = deadline;
                let attempt = Arc::downgrade(self);
                self.reports.on_first(move || {
                    if let Some(attempt) = attempt.upgrade() {
                        attempt.shared.runtime.spawn(reporting::pass_on(attempt.clone()));
                    }
                });
                if self.claim.is_ahead {
                    self.shared.begun.push(Arc::downgrade(self));
                }
                Some(*context)
            }
            over => {
                state.stage = over;
                drop(state);
                self.leave_slot(None);
                None
            }
        }
    }

    /// Returns what the store is told of a run that was claimed ahead, or `None` if it no longer executes.
    pub(in crate::service::work) fn begun(&self) -> Option<Begun> {
        match self.state.lock().stage {
            Stage::Executing { started_at, .. } => {
                Some(Begun::new(self.claim.run.id, self.claim.run.fence, started_at))
            }
            _ => None,
        }
    }

    /// Ends an attempt whose executor has returned or was not asked. Does nothing if it is over already.
    fn finish(self: &Arc<Self>, executed: Executed) {
        if let Some(begun) = self.end() {
            self.leave_slot(begun.map(|(since, _)| since.elapsed()));
            self.settle(executed, begun.map(|(_, started_at)| started_at));
        }
    }

    /// Moves to [`Stage::Over`]. Returns when the execution had begun, if it had, or `None` if it was over already.
    fn end(&self) -> Option<Option<(Instant, SystemTime)>> {
        match std::mem::replace(&mut self.state.lock().stage, Stage::Over) {
            Stage::Waiting { .. } => Some(None),
            Stage::Executing { since, started_at, .. } => Some(Some((since, started_at))),
            Stage::Over => None,
        }
    }

    fn leave_slot(&self, occupied: Option<Duration>) {
        if let Some(next) = self.shared.slots.release(occupied) {
            next.start();
        }
    }

    /// Hands in what to record, once all reports have been passed on.
    fn settle(self: &Arc<Self>, executed: Executed, started_at: Option<SystemTime>) {
        if self.reports.finish() {
            self.shared.settle(self.settlement(executed, started_at));
        } else {
            let attempt = self.clone();
            self.shared.runtime.spawn(async move {
                reporting::pass_on_rest(&attempt).await;
                attempt.shared.settle(attempt.settlement(executed, started_at));
            });
        }
    }

    fn settlement(&self, executed: Executed, started_at: Option<SystemTime>) -> Settlement {
        let mut outcome = self.judge().outcome(executed, self.stop.cancellation().reason());
        if let Outcome::Ended { ending, .. } = &mut outcome
            && let Ending::Succeeded { artifacts, .. } | Ending::Failed { artifacts, .. } = ending
        {
            *artifacts = self.reports.artifacts(std::mem::take(artifacts));
        }
        let (run, now) = (&self.claim.run, self.shared.webhooks.inner.now());
        Settlement::new(run.id, run.fence, outcome, now).with_started_at(started_at)
    }

    fn judge(&self) -> Judge<'_> {
        let now = self.shared.webhooks.inner.now();
        Judge { claim: &self.claim, masker: self.reports.masker(), now }
    }

    /// Returns the reports of this attempt, and what its workers share.
    pub(in crate::service::work) fn reports(&self) -> (&Shared, &Reports) {
        (&self.shared, &self.reports)
    }

    /// Tells the executor to stop. The first reason stays.
    pub(in crate::service::work) fn stop(&self, reason: StopReason) {
        self.stop.cancel(reason);
    }

    /// Applies the store's answer to a renewal. `lease_end` is when the lease ends if it is held.
    pub(in crate::service::work) fn renewed(&self, renewed: Renewed, lease_end: Instant) {
        let reason = {
            let mut state = self.state.lock();
            match renewed {
                Renewed::Held { cancel } => {
                    // An older answer may come after a newer one, and must not shorten the lease.
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

    /// Returns whether its lease has ended, so that another worker may have the run.
    pub(in crate::service::work) fn has_lapsed(&self, now: Instant) -> bool {
        self.state.lock().lease_end <= now
    }

    /// Tells it to stop when its lease or its time-out has ended, and gives it up when it has not stopped within `grace`.
    /// Returns when its time-out will end.
    pub(in crate::service::work) fn attend(
        self: &Arc<Self>,
        now: Instant,
        grace: Duration,
    ) -> Option<Instant> {
        let mut state = self.state.lock();
        let (deadline, waits_since) = match &state.stage {
            Stage::Over => return None,
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
        match waits_since {
            Some(_) if is_told => self.withdraw(),
            Some(since)
                if now.saturating_duration_since(since) >= LONGEST_WAIT && self.shared.slots.take(self) =>
            {
                self.shared.slots.waited(LONGEST_WAIT);
                self.withdraw();
            }
            None if has_had_time || self.stop.is_abandoned() => self.give_up(),
            _ => {}
        }
        deadline.filter(|_| !is_told)
    }

    /// Ends an attempt that has not begun: its run is handed back, or cancelled if that was asked for. An attempt that has
    /// a slot already, but no thread yet, leaves the slot when a thread polls it.
    pub(in crate::service::work) fn withdraw(self: &Arc<Self>) {
        self.shared.slots.take(self);
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Waiting { .. }) {
            state.stage = Stage::Over;
            drop(state);
            self.settle(None, None);
        }
    }

    /// Gives the executor up. If it blocks its thread, another thread takes the place of that one. Its slot is withheld
    /// while too many threads are blocked.
    pub(in crate::service::work) fn give_up(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let Stage::Executing { since, started_at, .. } = state.stage else { return };
        state.stage = Stage::Over;
        let is_blocked = state.is_polled;
        state.is_blocked = is_blocked;
        // The lock is kept: the thread may return at any moment, and must be counted as blocked before it is uncounted.
        let leaves_slot = !is_blocked || self.shared.block();
        drop(state);
        self.stop.abandon();
        if leaves_slot {
            self.leave_slot(Some(since.elapsed()));
        }
        if is_blocked {
            let _entered = self.span.enter();
            tracing::warn!(
                "an executor that was told to stop blocks its thread; another thread takes its place"
            );
        }
        self.settle(None, Some(started_at));
    }

    /// Gives the executor up when the workers are dropped. Nothing is recorded: the lease ends by itself.
    pub(in crate::service::work) fn abandon(&self) {
        self.stop.abandon();
    }

    fn set_polled(&self, is_polled: bool) {
        let mut state = self.state.lock();
        state.is_polled = is_polled;
        if !is_polled && std::mem::take(&mut state.is_blocked) {
            drop(state);
            self.shared.unblock();
        }
    }
}

/// The future of an attempt. Each poll enters the workers' runtime, so the executor can use timers and sockets.
struct Executing {
    attempt: Arc<Attempt>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Executing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let attempt = self.attempt.clone();
        let _runtime = attempt.shared.runtime.enter();
        attempt.set_polled(true);
        let polled = self.future.as_mut().poll(context);
        attempt.set_polled(false);
        polled
    }
}

impl Drop for Executing {
    /// Ends an attempt whose future is dropped before it is ready, as happens when the threads are closed.
    fn drop(&mut self) {
        self.attempt.finish(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Webhooks;
    use crate::executor::{FnExecutor, RunOutput};
    use crate::id::{RunId, WebhookId};
    use crate::memory::MemoryStore;
    use crate::run::{Caller, Run, RunParameters};
    use crate::service::work::WorkerOptions;
    use crate::token::TokenKey;

    /// Executors say that they have begun, and return the moment they are told to stop: `spins` ones block their threads
    /// until then.
    async fn shared(spins: bool, begun: std::sync::mpsc::Sender<()>) -> Arc<Shared> {
        let executor = FnExecutor::new([], move |context: RunContext| {
            let begun = begun.clone();
            async move {
                context.log("begun");
                begun.send(()).unwrap();
                while spins && !context.cancellation.is_cancelled() {
                    std::hint::spin_loop();
                }
                context.cancellation.cancelled().await;
                Ok(RunOutput::new())
            }
        });
        let builder = Webhooks::builder().store(MemoryStore::new()).executor(executor);
        let builder = builder.token_key(TokenKey::generate()).base_url("http://localhost".parse().unwrap());
        Shared::new(builder.build().await.unwrap(), WorkerOptions::default().with_slots(1))
    }

    /// An attempt that waits.
    fn attempt(shared: &Arc<Shared>) -> Arc<Attempt> {
        let (now, lease_end) = (SystemTime::now(), Instant::now() + Duration::from_secs(3_600));
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        let workflow = "report/sales".parse().unwrap();
        let run = Run::new(id, workflow, webhook, RunParameters::default(), 1, Caller::default(), now);
        let claim = Claim::new(Arc::new(run), None);
        Arc::new(Attempt::new(shared, claim, CancellationSource::new(), lease_end).ok().unwrap())
    }

    fn soon(what: &str, is_so: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::yield_now();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slot_comes_back_when_an_executor_returns_in_the_moment_that_it_is_given_up() {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let shared = shared(true, begun).await;
        for _ in 0..5_000 {
            let attempt = attempt(&shared);
            shared.slots.claimed(vec![attempt.clone()], Duration::ZERO).into_iter().for_each(Attempt::start);
            has_begun.recv().unwrap();
            attempt.stop(StopReason::ShuttingDown);
            attempt.give_up();
            soon("the slot is free", || shared.slots.room().is_some());
        }
    }

    #[tokio::test]
    async fn an_attempt_that_no_thread_comes_to_can_be_cancelled() {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let shared = shared(true, begun).await;
        let (blocking, waiting) = (attempt(&shared), attempt(&shared));
        blocking.clone().start();
        has_begun.recv().unwrap();
        waiting.clone().start();
        waiting.stop(StopReason::Cancelled(crate::run::CancelReason::Requested));
        waiting.attend(Instant::now(), Duration::ZERO);
        let settled = shared.settlements.receiver.lock().await.try_recv();
        assert_eq!(settled.map(|it| it.run), Ok(waiting.claim.run.id));
        blocking.stop(StopReason::ShuttingDown);
    }

    #[tokio::test]
    async fn an_execution_that_is_dropped_with_its_threads_ends_its_attempt() {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let shared = shared(false, begun).await;
        let attempt = attempt(&shared);
        attempt.clone().start();
        has_begun.recv().unwrap();
        soon("it waits", || !attempt.state.lock().is_polled);
        shared.threads.as_ref().unwrap().close();
        attempt.abandon();
        soon("nothing more is reported", || attempt.reports.is_finished());
    }
}
