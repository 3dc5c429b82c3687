//! Workers claim queued runs, execute them and record their outcomes. They also send the notifications of the outbox.
//!
//! ```text
//!   store ──claim──▶ slots ──begin──▶ executor ──return──▶ settlements ──settle──▶ store
//!     ▲                                  │ reports             (batches)
//!     └────── progress, log lines ◀──────┘
//! ```
//!
//! - `runs` claims and executes runs, and records their outcomes.
//! - `deliveries` sends due notifications.
//! - `cancellations` stops runs that another process cancels.
//! - `housekeeping` records when webhooks were last used, and removes old runs.
//! - Each task is supervised: a panic is logged and counted, and the task starts again.

mod cancellations;
mod deliveries;
mod housekeeping;
mod idle;
mod options;
mod runs;
mod supervised;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::parts::Parts;
use crate::executor::StopReason;

use cancellations::pass_on_cancellations;
use deliveries::{DeliverySender, OutboxBound, send_deliveries};
pub(super) use housekeeping::record_last;
pub(super) use idle::run_until_idle;
pub use options::WorkerOptions;
use runs::{Attempt, RunPool, claims, execution, leases, settling, watch};
use supervised::supervised;

/// Time that the last writes get: at a shutdown at least, however short its patience, and before the store is closed.
pub(super) const LAST_WRITES: Duration = Duration::from_secs(1);

/// Workers of a service, which run until this is dropped.
///
/// Dropping this stops them at once; their runs are executed again when their leases expire.
/// [`shutdown`](Self::shutdown) hands the runs back instead.
#[derive(Debug)]
pub struct Workers {
    pool: Arc<RunPool>,
    /// Tasks that end when they are dropped.
    tasks: JoinSet<()>,
    /// The task that claims runs, which ends by itself at shutdown.
    claiming: JoinSet<()>,
    /// The task that sends notifications, which also ends by itself at shutdown.
    delivering: JoinSet<()>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        // First the slots: a claim under way has registered its attempts before it asks for slots. So it either gets none, or
        // all that begins is abandoned here.
        self.pool.slots.close();
        for attempt in self.pool.claimed.take_all() {
            attempt.abandon();
        }
        if let Some(threads) = &self.pool.threads {
            threads.close();
        }
    }
}

impl Workers {
    pub(super) fn start(parts: Arc<Parts>, options: WorkerOptions) -> Self {
        let outbox = Arc::new(OutboxBound::new(options.outbox_limit));
        let sender = DeliverySender::new(parts.clone(), &options, outbox.clone());
        let pool = RunPool::new(parts, options, outbox);
        let mut workers = Self {
            pool: pool.clone(),
            tasks: JoinSet::new(),
            claiming: JoinSet::new(),
            delivering: JoinSet::new(),
        };
        let claiming = on(&pool, claims::claim_and_execute);
        workers.claiming.spawn(supervised(pool.parts.clone(), "claims", claiming));
        workers.spawn("beginnings", on(&pool, claims::note_begun));
        workers.spawn("leases", on(&pool, leases::renew));
        workers.spawn("watch", on(&pool, watch::watch));
        workers.spawn("settling", on(&pool, settling::settle));
        let parts = pool.parts.clone();
        workers.spawn("cancellations", move || pass_on_cancellations(parts.clone()));
        let (parts, prune_every) = (pool.parts.clone(), pool.options.prune_every);
        workers.spawn("housekeeping", move || housekeeping::keep_house(parts.clone(), prune_every));
        workers.delivering.spawn(send_deliveries(sender, pool.draining.cancellation()));
        workers
    }

    fn spawn<F>(&mut self, name: &'static str, task: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(supervised(self.pool.parts.clone(), name, task));
    }

    /// Refuses new calls, and lets running runs and deliveries in progress finish.
    ///
    /// Shortly before `patience` ends, it tells the remaining executors to stop, and hands their runs back,
    /// to be executed after the next start.
    /// Returns within `patience`, plus or minus a durable write.
    ///
    /// # Cancel safety
    /// When dropped, the workers stop at once.
    pub async fn shutdown(mut self, patience: Duration) {
        let began = Instant::now();
        self.pool.parts.accepting.stop();
        self.pool.draining.cancel(StopReason::ShuttingDown);
        for attempt in self.attempts() {
            execution::withdraw(&self.pool, &attempt);
        }
        let stopping = self.pool.options.cancel_grace.min(patience / 4);
        if tokio::time::timeout(patience - stopping, self.drained()).await.is_err() {
            self.stop_executors(stopping).await;
        }
        let left = patience.saturating_sub(began.elapsed());
        if tokio::time::timeout(left, self.delivering.join_next()).await.is_err() {
            tracing::warn!("some deliveries were cut off; they are tried again when their lease expires");
        }
        let left = patience.saturating_sub(began.elapsed()).max(LAST_WRITES);
        record_last(&self.pool.parts, left).await;
        self.tasks.shutdown().await;
    }

    /// Tells executors to stop, gives up those that have not stopped within three quarters of `stopping`, and
    /// waits until their runs are handed back.
    async fn stop_executors(&mut self, stopping: Duration) {
        for attempt in self.attempts() {
            execution::withdraw(&self.pool, &attempt);
            attempt.stop(StopReason::ShuttingDown);
        }
        let margin = stopping / 4;
        if tokio::time::timeout(stopping - margin, self.drained()).await.is_ok() {
            return;
        }
        for attempt in self.attempts() {
            execution::give_up(&self.pool, &attempt);
        }
        if tokio::time::timeout(margin.max(LAST_WRITES), self.drained()).await.is_err() {
            tracing::warn!("some runs could not be handed back; they are due again when their lease expires");
        }
    }

    /// Waits until nothing more can be claimed and no claim is held. Cancel safe.
    async fn drained(&mut self) {
        while self.claiming.join_next().await.is_some() {}
        self.pool.claimed.until_empty().await;
    }

    /// Returns the number of held claims: of running runs, of runs about to start, and of runs whose outcome
    /// is being recorded.
    #[must_use]
    pub fn executing(&self) -> usize {
        self.pool.claimed.len()
    }

    fn attempts(&self) -> impl Iterator<Item = Arc<Attempt>> {
        self.pool.claimed.snapshot().into_iter().filter_map(|(_, attempt)| attempt)
    }
}

/// Binds a task to its pool, so it can be started again.
fn on<F, T>(pool: &Arc<RunPool>, task: T) -> impl Fn() -> F + Send + Sync + use<F, T>
where
    T: Fn(Arc<RunPool>) -> F + Send + Sync,
{
    let pool = pool.clone();
    move || task(pool.clone())
}
