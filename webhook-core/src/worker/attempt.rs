//! One attempt: executing a claimed run and judging how it went.
//!
//! An attempt that is over at once is executed, judged and settled on one thread, and nobody else hears of it. One
//! that takes its time is watched: by a task that passes on what it reports, tells it to stop when its time is over
//! or its run was cancelled, and gives it up when it does not stop. Whichever comes to the end first settles it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::Shared;
use super::claims::stop_reason;
use super::threads::Job;
use crate::error::chain;
use crate::executor::{CancellationSource, ExecuteError, Reports, RunContext, RunOutput, StopReason};
use crate::id::DeliveryId;
use crate::masking::Masker;
use crate::notifier::Delivery;
use crate::retry::RetryPolicy;
use crate::run::{Ending, ErrorKind, Run, RunError, RunState};
use crate::service::lock;
use crate::store::{Claim, Outcome, Renewal};
use crate::webhook::Webhook;

/// How often progress and log lines are passed on at most.
const REPORT_PAUSE: Duration = Duration::from_millis(200);

/// How an execution came to its end: what the executor said unless it was given up, or the payload of its panic.
type Executed = Result<Option<Result<RunOutput, ExecuteError>>, Box<dyn Any + Send>>;

/// A claimed run on its way through the executor.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    claim: Claim,
    stop: CancellationSource,
    reports: Arc<Reports>,
    deadline: Option<Instant>,
    /// What is logged on behalf of this attempt falls under it.
    span: Span,
    stage: Mutex<Stage>,
}

struct Stage {
    /// What the executor is given, until it is.
    context: Option<RunContext>,
    watch: Watch,
}

/// Who waits for the end of an attempt.
enum Watch {
    Nobody,
    Somebody(oneshot::Sender<Executed>),
    /// It has ended, or was given up.
    Over,
}

impl Attempt {
    /// Prepares the execution of a claimed run, or says what to record if it is not to be executed at all.
    pub(super) fn new(shared: &Arc<Shared>, claim: Claim, stop: CancellationSource) -> Result<Self, Outcome> {
        let inner = &shared.webhooks.inner;
        let run = &claim.run;
        if let Some(reason) = run.cancel_requested {
            return Err(Outcome::Ended { ending: Ending::Cancelled(reason), deliveries: Vec::new() });
        }
        let failed = |kind, message| {
            let judge = Judge { claim: &claim, masker: &Masker::default(), now: inner.now() };
            Err(judge.ended(Ending::failed(RunError::new(kind, message))))
        };
        if run.is_exhausted(shared.options.interruption_bound) {
            let message = format!("its worker vanished mid-run {} times", run.interruptions);
            return failed(ErrorKind::Interrupted, message);
        }
        let parameters = match run.parameters.open(inner.keys.as_ref(), run.id) {
            Ok(parameters) => parameters,
            Err(error) => {
                let message = format!("a secret parameter cannot be opened: {error}");
                return failed(ErrorKind::Fatal, message);
            }
        };
        let context = RunContext::new(run.id, run.workflow.clone(), run.attempt, parameters)
            .with_caller(run.caller.clone())
            .with_cancellation(stop.cancellation())
            .with_timeout(timeout(&claim));
        let (context, reports) = context.reporting();
        let deadline = context.deadline;
        let stage = Mutex::new(Stage { context: Some(context), watch: Watch::Nobody });
        let span = tracing::info_span!(
            "attempt",
            run = %run.id,
            workflow = %run.workflow,
            webhook = %run.webhook_id,
            attempt = run.attempt
        );
        Ok(Self { shared: shared.clone(), claim, stop, reports, deadline, span, stage })
    }

    /// Executes it as tasks of the present runtime and says what to record.
    pub(super) async fn execute_as_task(self: Arc<Self>) -> Option<Outcome> {
        let executed = self.begin_watch()?;
        let attempt = self.clone();
        tokio::spawn(async move {
            let executed =
                AssertUnwindSafe(attempt.execute()).catch_unwind().instrument(attempt.span.clone()).await;
            attempt.ended(executed);
        });
        Some(self.supervise(executed).instrument(self.span.clone()).await)
    }

    /// Records how it went, and makes room for another.
    pub(super) fn settle(&self, outcome: Outcome) {
        self.shared.free_slot();
        self.shared.settle(self.claim.run.id, self.claim.run.fence, outcome);
    }

    async fn execute(&self) -> Option<Result<RunOutput, ExecuteError>> {
        let context = lock(&self.stage).context.take().filter(|_| !self.stop.is_abandoned())?;
        let executor = &self.shared.webhooks.inner.executor;
        tokio::select! {
            biased;
            outcome = executor.execute(context) => Some(outcome),
            () = self.stop.abandoned() => None,
        }
    }

    /// Takes note of how the execution ended: hands it to whoever watches, or settles it.
    fn ended(self: &Arc<Self>, executed: Executed) {
        self.reports.finish();
        let watch = std::mem::replace(&mut lock(&self.stage).watch, Watch::Over);
        match watch {
            // Who gave the attempt up does not want to know how it ended.
            Watch::Over => {}
            Watch::Somebody(watching) => drop(watching.send(executed)),
            Watch::Nobody if self.reports.are_taken() => self.settle(self.outcome(executed)),
            Watch::Nobody => {
                let attempt = self.clone();
                self.shared.runtime.spawn(async move {
                    attempt.pass_on_once().await;
                    attempt.settle(attempt.outcome(executed));
                });
            }
        }
    }

    /// What tells how the execution ended, unless that is watched for already, or is over.
    fn begin_watch(&self) -> Option<oneshot::Receiver<Executed>> {
        let mut stage = lock(&self.stage);
        if !matches!(stage.watch, Watch::Nobody) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        stage.watch = Watch::Somebody(sender);
        Some(receiver)
    }

    /// Passes on what is reported until the execution has ended or is given up, and says what to record.
    async fn supervise(&self, executed: oneshot::Receiver<Executed>) -> Outcome {
        let _abandoned = AbandonOnDrop(&self.stop);
        let executed = tokio::select! {
            executed = self.wait_for_end(executed) => executed,
            never = self.pass_on() => match never {},
        };
        {
            let mut stage = lock(&self.stage);
            stage.watch = Watch::Over;
            stage.context = None;
        }
        self.reports.finish();
        self.pass_on_once().await;
        self.outcome(executed)
    }

    /// Waits for the end; tells the executor to stop when its time is over; gives it up when it does not in time.
    async fn wait_for_end(&self, executed: oneshot::Receiver<Executed>) -> Executed {
        // An execution that vanishes was given up together with its runtime.
        let executed = executed.map(|executed| executed.unwrap_or(Ok(None)));
        tokio::pin!(executed);
        let stop = self.stop.cancellation();
        let timed_out = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            executed = &mut executed => return executed,
            _ = stop.cancelled() => {}
            () = timed_out => self.stop.cancel(StopReason::TimedOut),
        }
        tokio::select! {
            executed = &mut executed => executed,
            () = tokio::time::sleep(self.shared.options.cancel_grace) => Ok(None),
            () = self.stop.abandoned() => Ok(None),
        }
    }

    /// Passes reports on as they come, for as long as it is polled.
    async fn pass_on(&self) -> std::convert::Infallible {
        loop {
            self.reports.arrived().await;
            self.pass_on_once().await;
            tokio::time::sleep(REPORT_PAUSE).await;
        }
    }

    async fn pass_on_once(&self) {
        let store = &self.shared.webhooks.inner.store;
        let (run, fence) = (self.claim.run.id, self.claim.run.fence);
        let pending = self.reports.take();
        if !pending.lines.is_empty()
            && let Err(error) = store.append_log(run, fence, pending.lines).await
        {
            tracing::warn!(%run, %error, "log lines were lost");
        }
        if let Some(progress) = pending.progress {
            let renewal = Renewal::new(run, fence, Some(progress));
            match store.renew(vec![renewal], self.shared.options.lease).await {
                Ok(renewed) => {
                    renewed.into_iter().filter_map(stop_reason).for_each(|reason| self.stop.cancel(reason))
                }
                Err(error) => tracing::warn!(%run, %error, "progress was not recorded"),
            }
        }
    }

    fn outcome(&self, executed: Executed) -> Outcome {
        let now = self.shared.webhooks.inner.now();
        let judge = Judge { claim: &self.claim, masker: self.reports.masker(), now };
        let mut outcome = judge.outcome(executed, self.stop.cancellation().reason());
        if let Outcome::Ended { ending, .. } = &mut outcome
            && let Ending::Succeeded { artifacts, .. } | Ending::Failed { artifacts, .. } = ending
        {
            *artifacts = self.reports.artifacts(std::mem::take(artifacts));
        }
        outcome
    }
}

impl Job for Attempt {
    fn run(self: Arc<Self>) {
        let executed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            self.shared.runtime.block_on(self.execute().instrument(self.span.clone()))
        }));
        self.ended(executed);
    }

    async fn watch(self: Arc<Self>) {
        if let Some(executed) = self.begin_watch() {
            let outcome = self.supervise(executed).instrument(self.span.clone()).await;
            self.settle(outcome);
        }
    }
}

/// An attempt that is no longer watched is not executed either.
struct AbandonOnDrop<'a>(&'a CancellationSource);

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn timeout(claim: &Claim) -> Option<Duration> {
    claim.webhook.as_ref().and_then(|webhook| webhook.settings.timeout)
}

/// Judges how an attempt went.
struct Judge<'a> {
    claim: &'a Claim,
    masker: &'a Masker,
    now: std::time::SystemTime,
}

impl Judge<'_> {
    fn run(&self) -> &Run {
        &self.claim.run
    }

    fn webhook(&self) -> Option<&Webhook> {
        self.claim.webhook.as_deref()
    }

    /// What the executor said of its failure, masked before it is cut.
    fn error(&self, kind: ErrorKind, message: String) -> RunError {
        RunError::new(kind, self.masker.mask(message))
    }

    fn outcome(&self, executed: Executed, stopped: Option<StopReason>) -> Outcome {
        match (stopped, executed) {
            (Some(StopReason::Cancelled(reason)), _) => self.ended(Ending::Cancelled(reason)),
            (Some(StopReason::TimedOut), _) => {
                let timeout = timeout(self.claim).unwrap_or_default();
                let message = format!("the attempt took longer than its time-out of {timeout:?}");
                self.failed(RunError::new(ErrorKind::TimedOut, message))
            }
            (_, Ok(Some(Ok(RunOutput { summary, artifacts })))) => {
                let summary = summary.map(|summary| self.masker.mask(summary));
                self.ended(Ending::Succeeded { summary, artifacts })
            }
            // What failed because it was told to stop is executed again elsewhere.
            (Some(StopReason::ShuttingDown | StopReason::LeaseLost), _) | (None, Ok(None)) => {
                Outcome::HandBack
            }
            (None, Ok(Some(Err(ExecuteError::Retryable(error))))) => {
                self.failed(self.error(ErrorKind::Retryable, chain(&*error)))
            }
            (None, Ok(Some(Err(ExecuteError::Fatal(error))))) => {
                self.ended(Ending::failed(self.error(ErrorKind::Fatal, chain(&*error))))
            }
            (None, Err(panic)) => {
                let message = format!("the executor panicked: {}", panic_message(&*panic));
                self.failed(self.error(ErrorKind::Panicked, message))
            }
        }
    }

    /// Another attempt if the retry policy has one left, else the end.
    fn failed(&self, error: RunError) -> Outcome {
        let policy = self.webhook().map_or_else(RetryPolicy::default, |webhook| webhook.settings.retries);
        if self.run().has_attempts_left() {
            let attempts = self.run().attempt.saturating_sub(self.run().interruptions);
            return Outcome::Retry { error, delay: policy.delay(attempts, rand::random()) };
        }
        let timed_out = error.kind == ErrorKind::TimedOut;
        self.ended(if timed_out { Ending::TimedOut(error) } else { Ending::failed(error) })
    }

    fn ended(&self, ending: Ending) -> Outcome {
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
                Delivery::new(id, self.run().id, channel, recipient, event, self.now)
            })
            .collect();
        Outcome::Ended { ending, deliveries }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}
