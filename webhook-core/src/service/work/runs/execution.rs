//! Carries out an attempt: its slot, its executor, and its outcome.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use super::attempt::{Attempt, Begin, Beginning, Due, End, GivenUp, LONGEST_WAIT};
use super::outcome::{Executed, Failure};
use super::pool::RunPool;
use super::reporting;
use crate::executor::RunContext;

/// Upper bound on given-up executors that block their threads, per slot, before slots are withheld.
const BLOCKED_PER_SLOT: usize = 1;

/// Starts the execution of an attempt that has a slot.
pub(super) fn start(pool: &Arc<RunPool>, attempt: Arc<Attempt>) {
    let future = Box::pin(execute(pool.clone(), attempt.clone()));
    let execution = Execution { pool: pool.clone(), attempt, future };
    match &pool.threads {
        Some(threads) => threads.spawn(execution),
        None => {
            pool.runtime.spawn(execution);
        }
    }
}

async fn execute(pool: Arc<RunPool>, attempt: Arc<Attempt>) {
    let Some(context) = begin(&pool, &attempt) else { return };
    let executing = async {
        tokio::select! {
            biased;
            // The error is formatted in here, where a panic of its `Display` is caught.
            outcome = pool.parts.executor.execute(context) => Some(outcome.map_err(Failure::from)),
            () = attempt.abandoned() => None,
        }
    };
    let executed = AssertUnwindSafe(executing).catch_unwind().instrument(attempt.span.clone()).await;
    finish(&pool, &attempt, executed.unwrap_or_else(|payload| Some(Err(Failure::panicked(&*payload)))));
}

/// Moves from waiting to executing. Returns `None` if the attempt was told to stop or is already over.
fn begin(pool: &Arc<RunPool>, attempt: &Arc<Attempt>) -> Option<RunContext> {
    match attempt.begin(Beginning { since: Instant::now(), started_at: pool.parts.now() }) {
        Begin::Execute(context) => {
            let (weak_pool, weak_attempt) = (Arc::downgrade(pool), Arc::downgrade(attempt));
            attempt.reports.on_first(move || {
                if let (Some(pool), Some(attempt)) = (weak_pool.upgrade(), weak_attempt.upgrade()) {
                    let runtime = pool.runtime.clone();
                    runtime.spawn(reporting::pass_on(pool, attempt));
                }
            });
            if attempt.claim.is_ahead {
                pool.begun.push(Arc::downgrade(attempt));
            }
            Some(*context)
        }
        Begin::Stopped => {
            finish(pool, attempt, None);
            None
        }
        Begin::Over => {
            leave_slot(pool, None);
            None
        }
    }
}

/// Ends an attempt whose executor has returned or was not called. Does nothing if it is already over.
fn finish(pool: &Arc<RunPool>, attempt: &Arc<Attempt>, executed: Executed) {
    let beginning = match attempt.end() {
        End::NotBegun => None,
        End::Begun(beginning) => Some(beginning),
        End::AlreadyOver => return,
    };
    leave_slot(pool, beginning.map(|beginning| beginning.since.elapsed()));
    settle(pool, attempt, executed, beginning);
}

/// Releases a slot, and starts the next attempt for it. `occupied` is the duration of an execution.
fn leave_slot(pool: &Arc<RunPool>, occupied: Option<Duration>) {
    if let Some(next) = pool.slots.release(occupied) {
        start(pool, next);
    }
}

/// Submits the outcome, once all reports have been passed on.
fn settle(pool: &Arc<RunPool>, attempt: &Arc<Attempt>, executed: Executed, beginning: Option<Beginning>) {
    if attempt.reports.finish() {
        pool.settle(attempt.settlement(executed, beginning, pool.parts.now()));
        return;
    }
    let (pool, attempt) = (pool.clone(), attempt.clone());
    let runtime = pool.runtime.clone();
    runtime.spawn(async move {
        reporting::pass_on_rest(&pool, &attempt).await;
        pool.settle(attempt.settlement(executed, beginning, pool.parts.now()));
    });
}

/// Tells an attempt to stop when its lease or its time-out has ended, and gives it up when it has not stopped
/// within the grace period.
///
/// Returns the end of its time-out.
pub(super) fn attend(pool: &Arc<RunPool>, attempt: &Arc<Attempt>, now: Instant) -> Option<Instant> {
    let (due, deadline) = attempt.look(now, pool.options.cancel_grace);
    match due {
        Due::Nothing => {}
        Due::Withdraw => withdraw(pool, attempt),
        // An attempt that has a slot, but no thread yet, is left to the thread.
        Due::HandBack => {
            if pool.slots.take(attempt) {
                pool.slots.waited(LONGEST_WAIT);
                withdraw(pool, attempt);
            }
        }
        Due::GiveUp => give_up(pool, attempt),
    }
    deadline
}

/// Ends an attempt that has not begun: its run is handed back, or cancelled if that was requested.
///
/// An attempt that has a slot, but no thread yet, leaves the slot when a thread polls it.
pub(in crate::service::work) fn withdraw(pool: &Arc<RunPool>, attempt: &Arc<Attempt>) {
    pool.slots.take(attempt);
    if attempt.withdraw() {
        settle(pool, attempt, None, None);
    }
}

/// Gives an executor up. If it blocks its thread, another thread replaces that one. Its slot is withheld
/// while too many threads are blocked.
pub(in crate::service::work) fn give_up(pool: &Arc<RunPool>, attempt: &Arc<Attempt>) {
    let Some(GivenUp { beginning, is_blocked, leaves_slot }) = attempt.give_up(|| block(pool)) else {
        return;
    };
    if leaves_slot {
        leave_slot(pool, Some(beginning.since.elapsed()));
    }
    if is_blocked {
        let _entered = attempt.span.enter();
        tracing::warn!("an executor that was told to stop blocks its thread; another thread takes its place");
    }
    settle(pool, attempt, None, Some(beginning));
}

/// Counts a blocked thread, and allows another one in its place. Returns whether the slot is free; if not, it
/// is withheld.
fn block(pool: &RunPool) -> bool {
    if let Some(threads) = &pool.threads {
        threads.replace(true);
    }
    let blocked = pool.parts.trouble.blocked(1);
    let is_free = blocked <= pool.options.slots.saturating_mul(BLOCKED_PER_SLOT);
    if !is_free {
        pool.slots.withhold();
    }
    is_free
}

/// Uncounts a thread that has returned from a given-up executor, and releases a withheld slot.
fn unblock(pool: &Arc<RunPool>) {
    if let Some(threads) = &pool.threads {
        threads.replace(false);
    }
    pool.parts.trouble.blocked(-1);
    if let Some(next) = pool.slots.restore() {
        start(pool, next);
    }
}

/// Future of an attempt. Each poll enters the workers' runtime, so the executor can use timers and sockets.
struct Execution {
    pool: Arc<RunPool>,
    attempt: Arc<Attempt>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Execution {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { pool, attempt, future } = &mut *self;
        let _runtime = pool.runtime.enter();
        attempt.enter();
        let polled = future.as_mut().poll(context);
        if attempt.leave() {
            unblock(pool);
        }
        polled
    }
}

impl Drop for Execution {
    /// Ends an attempt whose future is dropped before it is ready, as when the threads are closed.
    fn drop(&mut self) {
        finish(&self.pool, &self.attempt, None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::Webhooks;
    use crate::executor::{FnExecutor, RunOutput, StopReason};
    use crate::id::{RunId, WebhookId};
    use crate::memory::MemoryStore;
    use crate::run::{Caller, Run, RunParameters};
    use crate::service::work::WorkerOptions;
    use crate::service::work::deliveries::OutboxBound;
    use crate::store::Claim;
    use crate::token::TokenKey;

    /// Creates a pool whose executors signal that they have begun, and return when they are told to stop.
    /// With `spins`, they block their threads until then.
    async fn pool(spins: bool, begun: std::sync::mpsc::Sender<()>) -> Arc<RunPool> {
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
        let (options, outbox) = (WorkerOptions::default().with_slots(1), Arc::new(OutboxBound::new(1)));
        RunPool::new(builder.build().await.unwrap().parts, options, outbox)
    }

    /// Creates an attempt that waits for a slot.
    fn attempt(pool: &RunPool) -> Arc<Attempt> {
        let (now, lease_end) = (SystemTime::now(), Instant::now() + Duration::from_secs(3_600));
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        let workflow = "report/sales".parse().unwrap();
        let run = Run::new(id, workflow, webhook, RunParameters::default(), 1, Caller::default(), now);
        let claim = Claim::new(Arc::new(run), None);
        Arc::new(Attempt::new(&pool.parts, claim, 5, lease_end).ok().unwrap())
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
        let pool = pool(true, begun).await;
        for _ in 0..5_000 {
            let attempt = attempt(&pool);
            for attempt in pool.slots.claimed(vec![attempt.clone()], Duration::ZERO) {
                start(&pool, attempt);
            }
            has_begun.recv().unwrap();
            attempt.stop(StopReason::ShuttingDown);
            give_up(&pool, &attempt);
            soon("the slot is free", || pool.slots.room().is_some());
        }
    }

    #[tokio::test]
    async fn an_attempt_that_no_thread_comes_to_can_be_cancelled() {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let pool = pool(true, begun).await;
        let (blocking, waiting) = (attempt(&pool), attempt(&pool));
        start(&pool, blocking.clone());
        has_begun.recv().unwrap();
        start(&pool, waiting.clone());
        waiting.stop(StopReason::Cancelled(crate::run::CancelReason::Requested));
        attend(&pool, &waiting, Instant::now());
        let settled = pool.settlements.receiver.lock().await.try_recv();
        assert_eq!(settled.map(|it| it.run), Ok(waiting.claim.run.id()));
        blocking.stop(StopReason::ShuttingDown);
    }

    #[tokio::test]
    async fn an_execution_that_is_dropped_with_its_threads_ends_its_attempt() {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let pool = pool(false, begun).await;
        let attempt = attempt(&pool);
        start(&pool, attempt.clone());
        has_begun.recv().unwrap();
        soon("it waits", || !attempt.is_polled());
        pool.threads.as_ref().unwrap().close();
        attempt.abandon();
        soon("nothing more is reported", || attempt.reports.is_finished());
    }
}
