//! One attempt: executing a claimed run and judging how it went.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::claims::stop_reason;
use super::masking::Mask;
use super::threads::Joined;
use super::{Held, Shared};
use crate::error::chain;
use crate::executor::{
    Cancellation, CancellationSource, ExecuteError, Reports, RunContext, RunOutput, StopReason,
};
use crate::id::DeliveryId;
use crate::notifier::Delivery;
use crate::retry::RetryPolicy;
use crate::run::{Ending, ErrorKind, Run, RunError, RunState};
use crate::store::{Claim, Outcome, Renewal};
use crate::webhook::Webhook;

/// How often progress and log lines are passed on at most.
const REPORT_PAUSE: Duration = Duration::from_millis(200);

/// How an execution came to its end: what the executor said, unless it was given up.
type Executed = Joined<Option<Result<RunOutput, ExecuteError>>>;

/// Executes one attempt of a claimed run, if it is still to be executed, and says what to record.
pub(super) async fn execute(shared: &Arc<Shared>, claim: &Claim) -> Outcome {
    let inner = &shared.webhooks.inner;
    let run = &claim.run;
    let Some(held) = &shared.held(run.id, run.fence) else { return Outcome::HandBack };
    let webhook = claim.webhook.as_deref();
    if let Some(reason) = run.cancel_requested {
        return Outcome::Ended { ending: Ending::Cancelled(reason), deliveries: Vec::new() };
    }
    let judge = Judge { run, webhook, now: inner.now() };
    if run.is_exhausted(shared.options.interruption_bound) {
        let message = format!("its worker vanished mid-run {} times", run.interruptions);
        return judge.ended(Ending::Failed(RunError::new(ErrorKind::Interrupted, message)));
    }
    let parameters = match run.parameters.open(inner.keys.as_ref(), run.id) {
        Ok(parameters) => parameters,
        Err(error) => {
            let message = format!("a secret parameter cannot be opened: {error}");
            return judge.ended(Ending::Failed(RunError::new(ErrorKind::Fatal, message)));
        }
    };
    let mask = Mask::new(&parameters);
    let timeout = webhook.and_then(|webhook| webhook.settings.timeout);
    let reports = Arc::new(Reports::default());
    let context = RunContext::new(run.id, run.workflow.clone(), run.attempt, parameters)
        .with_caller((*run.caller).clone())
        .with_cancellation(held.stop.cancellation())
        .with_timeout(timeout)
        .with_reports(reports.clone());
    let _abandoned = AbandonOnDrop(held.abandon.clone());
    let execution = start(shared, context, held.abandon.cancellation());
    let executed = {
        let reporting = pass_on(shared, run, held, &reports, &mask);
        tokio::select! {
            executed = supervise(execution, held, timeout, shared.options.cancel_grace) => executed,
            never = reporting => match never {},
        }
    };
    pass_on_once(shared, run, held, &reports, &mask).await;
    let judge = Judge { now: inner.now(), ..judge };
    mask.outcome(judge.outcome(executed, held.stop.cancellation().reason()))
}

/// Starts the executor, on a thread of its own or as a task, so that a panic stays there.
fn start(shared: &Shared, context: RunContext, abandoned: Cancellation) -> oneshot::Receiver<Executed> {
    let executor = shared.webhooks.inner.executor.clone();
    let execution = async move {
        tokio::select! {
            outcome = executor.execute(context) => Some(outcome),
            _ = abandoned.cancelled() => None,
        }
    };
    if let Some(threads) = &shared.threads {
        return threads.run(execution);
    }
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        // Who gave the attempt up does not want to know how it ended.
        let _ = sender.send(AssertUnwindSafe(execution).catch_unwind().await);
    });
    receiver
}

/// Waits for an execution; tells it to stop when its time is over; gives it up when it does not stop in time.
async fn supervise(
    execution: oneshot::Receiver<Executed>,
    held: &Held,
    timeout: Option<Duration>,
    grace: Duration,
) -> Executed {
    // An execution that vanishes was given up together with its runtime.
    let execution = execution.map(|executed| executed.unwrap_or(Ok(None)));
    tokio::pin!(execution);
    let stop = held.stop.cancellation();
    let timed_out = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        executed = &mut execution => return executed,
        _ = stop.cancelled() => {}
        () = timed_out => held.stop.cancel(StopReason::TimedOut),
    }
    let given_up = held.abandon.cancellation();
    tokio::select! {
        executed = &mut execution => executed,
        () = tokio::time::sleep(grace) => {
            held.abandon.cancel(StopReason::TimedOut);
            Ok(None)
        }
        _ = given_up.cancelled() => Ok(None),
    }
}

/// An attempt that is dropped takes its execution along.
struct AbandonOnDrop(CancellationSource);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.cancel(StopReason::ShuttingDown);
    }
}

/// Passes reports on as they come, for as long as it is polled.
async fn pass_on(
    shared: &Shared,
    run: &Run,
    held: &Held,
    reports: &Reports,
    mask: &Mask,
) -> std::convert::Infallible {
    loop {
        reports.arrived().await;
        pass_on_once(shared, run, held, reports, mask).await;
        tokio::time::sleep(REPORT_PAUSE).await;
    }
}

async fn pass_on_once(shared: &Shared, run: &Run, held: &Held, reports: &Reports, mask: &Mask) {
    let store = &shared.webhooks.inner.store;
    let pending = reports.take();
    if !pending.lines.is_empty()
        && let Err(error) = store.append_log(run.id, run.fence, mask.text(pending.lines)).await
    {
        tracing::warn!(run = %run.id, %error, "log lines were lost");
    }
    if let Some(progress) = pending.progress {
        let renewal = Renewal::new(run.id, run.fence, Some(mask.progress(progress)));
        match store.renew(vec![renewal], shared.options.lease).await {
            Ok(renewed) => {
                renewed.into_iter().filter_map(stop_reason).for_each(|reason| held.stop.cancel(reason))
            }
            Err(error) => tracing::warn!(run = %run.id, %error, "progress was not recorded"),
        }
    }
}

/// Judges how an attempt went.
struct Judge<'a> {
    run: &'a Run,
    webhook: Option<&'a Webhook>,
    now: std::time::SystemTime,
}

impl Judge<'_> {
    fn outcome(&self, executed: Executed, stopped: Option<StopReason>) -> Outcome {
        match (stopped, executed) {
            (Some(StopReason::Cancelled(reason)), _) => self.ended(Ending::Cancelled(reason)),
            (Some(StopReason::TimedOut), _) => {
                let timeout = self.webhook.and_then(|webhook| webhook.settings.timeout).unwrap_or_default();
                let message = format!("the attempt took longer than its time-out of {timeout:?}");
                self.failed(RunError::new(ErrorKind::TimedOut, message))
            }
            (_, Ok(Some(Ok(RunOutput { summary, artifacts })))) => {
                self.ended(Ending::Succeeded { summary, artifacts })
            }
            // What failed because it was told to stop is executed again elsewhere.
            (Some(StopReason::ShuttingDown | StopReason::LeaseLost), _) | (None, Ok(None)) => {
                Outcome::HandBack
            }
            (None, Ok(Some(Err(ExecuteError::Retryable(error))))) => {
                self.failed(RunError::new(ErrorKind::Retryable, chain(&*error)))
            }
            (None, Ok(Some(Err(ExecuteError::Fatal(error))))) => {
                self.ended(Ending::Failed(RunError::new(ErrorKind::Fatal, chain(&*error))))
            }
            (None, Err(panic)) => {
                let message = format!("the executor panicked: {}", panic_message(&*panic));
                self.failed(RunError::new(ErrorKind::Panicked, message))
            }
        }
    }

    /// Another attempt if the retry policy has one left, else the end.
    fn failed(&self, error: RunError) -> Outcome {
        let policy = self.webhook.map_or_else(RetryPolicy::default, |webhook| webhook.settings.retries);
        if self.run.has_attempts_left() {
            let attempts = self.run.attempt.saturating_sub(self.run.interruptions);
            return Outcome::Retry { error, delay: policy.delay(attempts, rand::random()) };
        }
        let timed_out = error.kind == ErrorKind::TimedOut;
        self.ended(if timed_out { Ending::TimedOut(error) } else { Ending::Failed(error) })
    }

    fn ended(&self, ending: Ending) -> Outcome {
        let event = match &ending {
            Ending::Succeeded { .. } => RunState::Succeeded.event(),
            Ending::Failed(_) | Ending::TimedOut(_) => RunState::Failed.event(),
            _ => None,
        };
        let told = event.into_iter().flat_map(|event| {
            let recipients = self.webhook.map(|webhook| webhook.settings.notifications.recipients(event));
            recipients.into_iter().flatten().map(move |(channel, recipient)| (event, channel, recipient))
        });
        let deliveries = told
            .map(|(event, channel, recipient)| {
                let id = DeliveryId::generate(self.now);
                Delivery::new(id, self.run.id, channel, recipient, event, self.now)
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
