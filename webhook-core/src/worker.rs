//! Workers: they claim queued runs, execute them, and record how they went; and they send notifications.
//!
//! A worker claims as many runs as it has free slots, holds on to them by renewing their leases while they
//! execute, and settles finished attempts in batches. It is woken by work and does not poll. Each attempt that takes
//! its time has a thread of its own, so that an executor that blocks holds up nobody else.

mod attempt;
mod claims;
mod deliveries;
mod housekeeping;
mod idle;
mod settling;
mod threads;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::executor::{CancellationSource, StopReason};
use crate::id::RunId;
use crate::retry::RetryPolicy;
use crate::service::{Webhooks, lock};
use crate::store::{Claim, Outcome, Settlement};

use attempt::Attempt;
use deliveries::{Deliveries, OutboxBound};
pub(crate) use idle::run_until_idle;
use settling::Settlements;
use threads::Threads;

/// The shortest lease: it is renewed three times as often, which must not become a busy loop.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// How workers work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// How many runs execute at once. 16 by default, at least 1, at most 400 with threads of their own.
    pub slots: usize,
    /// For how long a claim holds without being renewed; it is renewed three times as often. 30 s by default.
    pub lease: Duration,
    /// How long an executor may take to stop after it was told to. 10 s by default.
    pub cancel_grace: Duration,
    /// After how many interruptions a run fails. 5 by default.
    pub interruption_bound: u32,
    /// Whether each attempt has a thread of its own, so that an executor may block. On by default; off, attempts
    /// are tasks, which suits executors that never block, and tests with paused time.
    pub threads: bool,
    /// When a failed delivery is tried again. By default with pauses from 10 s to 1 h for about two days. While nobody
    /// can be reached through its channel, a delivery waits without using up tries.
    pub delivery_retries: RetryPolicy,
    /// After how long an outage of its channel a delivery is given up that has waited for as long. 3 days by default.
    /// The outage is measured from when these workers met it first.
    pub delivery_expiry: Duration,
    /// How many deliveries are under way at once, less those whose other side answers slowly. 16 by default.
    pub delivery_slots: usize,
    /// How many deliveries may be pending, about: one more is recorded as given up when its run ends, and can be
    /// sent again. 100,000 by default; a pending delivery takes 1 to 2 KiB of the sled store, and up to 8 KiB with the
    /// longest address and the longest error that is kept.
    pub outbox_limit: u64,
    /// How often ended runs past their retention are removed. Every minute by default.
    pub prune_every: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            slots: 16,
            lease: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(10),
            interruption_bound: 5,
            threads: true,
            delivery_retries: RetryPolicy::new(55)
                .with_base(Duration::from_secs(10))
                .with_cap(Duration::from_secs(3_600)),
            delivery_expiry: Duration::from_secs(3 * 86_400),
            delivery_slots: 16,
            outbox_limit: 100_000,
            prune_every: Duration::from_secs(60),
        }
    }
}

impl WorkerOptions {
    /// Sets how many runs execute at once.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Sets for how long a claim holds without being renewed. A second at least.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long an executor may take to stop.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Sets after how many interruptions a run fails.
    #[must_use]
    pub fn with_interruption_bound(mut self, bound: u32) -> Self {
        self.interruption_bound = bound;
        self
    }

    /// Sets whether each attempt has a thread of its own.
    #[must_use]
    pub fn with_threads(mut self, threads: bool) -> Self {
        self.threads = threads;
        self
    }

    /// Sets when a failed delivery is tried again.
    #[must_use]
    pub fn with_delivery_retries(mut self, policy: RetryPolicy) -> Self {
        self.delivery_retries = policy;
        self
    }

    /// Sets after how long an outage deliveries that have waited for as long are given up.
    #[must_use]
    pub fn with_delivery_expiry(mut self, expiry: Duration) -> Self {
        self.delivery_expiry = expiry;
        self
    }

    /// Sets how many deliveries are under way at once.
    #[must_use]
    pub fn with_delivery_slots(mut self, slots: usize) -> Self {
        self.delivery_slots = slots;
        self
    }

    /// Sets how many deliveries may be pending.
    #[must_use]
    pub fn with_outbox_limit(mut self, limit: u64) -> Self {
        self.outbox_limit = limit;
        self
    }

    /// Sets how often ended runs past their retention are removed.
    #[must_use]
    pub fn with_prune_every(mut self, every: Duration) -> Self {
        self.prune_every = every;
        self
    }
}

/// Workers at work. Dropping this stops them at once: what they execute comes back when its lease is over, so
/// [`shutdown`](Self::shutdown) is the better end.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<()>,
    /// The task that sends notifications, which ends by itself at shutdown.
    delivering: JoinSet<()>,
}

/// What workers do at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// They claim and execute.
    Working,
    /// They finish what they execute and claim nothing.
    Draining,
}

/// What the tasks of one [`Workers`] share.
struct Shared {
    webhooks: Webhooks,
    options: WorkerOptions,
    runtime: Handle,
    slots: Semaphore,
    threads: Option<Arc<Threads<Attempt>>>,
    /// The claims that are held, with what tells their executors to stop: until they are settled, their leases are
    /// renewed.
    held: Mutex<HashMap<(RunId, u64), CancellationSource>>,
    settlements: mpsc::UnboundedSender<Settlement>,
    outbox: Arc<OutboxBound>,
    /// Whether a claim is being made, of which it is not known yet what it gives.
    claiming: AtomicBool,
    /// Signalled whenever claims are no longer held.
    released: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(webhooks: Webhooks, mut options: WorkerOptions) -> (Arc<Self>, Settlements) {
        options.lease = options.lease.max(SHORTEST_LEASE);
        let most = if options.threads { 400 } else { Semaphore::MAX_PERMITS };
        let slots = Semaphore::new(options.slots.clamp(1, most));
        let threads = options.threads.then(Threads::new);
        let (settlements, received) = mpsc::unbounded_channel();
        let shared = Self {
            webhooks,
            outbox: Arc::new(OutboxBound::new(options.outbox_limit)),
            options,
            runtime: Handle::current(),
            slots,
            threads,
            held: Mutex::default(),
            settlements,
            claiming: AtomicBool::new(false),
            released: Notify::new(),
        };
        (Arc::new(shared), received)
    }

    /// Holds on to claims until they are [released](Self::release).
    fn hold(&self, claims: Vec<Claim>) -> Vec<(Claim, CancellationSource)> {
        let held: Vec<_> = claims.into_iter().map(|claim| (claim, CancellationSource::new())).collect();
        let begun = held.iter().map(|(claim, stop)| (claim.run.id, claim.run.fence, stop.clone()));
        self.webhooks.inner.begin_executing(begun.clone());
        lock(&self.held).extend(begun.map(|(run, fence, stop)| ((run, fence), stop)));
        held
    }

    /// Lets go of claims that were settled.
    fn release(&self, settled: &[Settlement]) {
        let mut held = lock(&self.held);
        settled.iter().for_each(|settlement| {
            held.remove(&(settlement.run, settlement.fence));
        });
        drop(held);
        let ended = settled.iter().map(|settlement| (settlement.run, settlement.fence));
        self.webhooks.inner.end_executing(ended);
        self.released.notify_waiters();
    }

    /// Hands in how an attempt went; it is held until that is recorded.
    fn settle(&self, run: RunId, fence: u64, outcome: Outcome) {
        self.webhooks.inner.meters.attempt(&outcome);
        // Nobody receives it once the workers were dropped; the run comes back when its lease is over.
        let _ = self.settlements.send(Settlement::new(run, fence, outcome, self.webhooks.inner.now()));
    }

    /// Waits until there are free slots and says how many. Cancel safe. Only one task takes slots, so none that were
    /// free are gone when it comes to take them.
    async fn free_slots(&self) -> usize {
        // The semaphore is never closed.
        drop(self.slots.acquire().await);
        self.slots.available_permits()
    }

    fn take_slots(&self, count: usize) {
        self.slots.forget_permits(count);
    }

    fn free_slot(&self) {
        self.slots.add_permits(1);
    }

    fn set_claiming(&self, claiming: bool) {
        self.claiming.store(claiming, Ordering::SeqCst);
        self.released.notify_waiters();
    }

    /// Waits until no claim is held or being made. Cancel safe.
    async fn all_released(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if !self.claiming.load(Ordering::SeqCst) && lock(&self.held).is_empty() {
                return;
            }
            released.await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.for_each_held(CancellationSource::abandon);
        if let Some(threads) = &self.shared.threads {
            threads.close();
        }
    }
}

impl Workers {
    pub(crate) fn start(webhooks: Webhooks, options: WorkerOptions) -> Self {
        let (phase, working) = watch::channel(Phase::Working);
        let (shared, settlements) = Shared::new(webhooks, options);
        let mut tasks = JoinSet::new();
        tasks.spawn(claims::claim_and_execute(shared.clone(), working.clone()));
        tasks.spawn(claims::renew(shared.clone()));
        tasks.spawn(claims::keep_threads_moving(shared.clone()));
        tasks.spawn(settling::settle(shared.clone(), settlements));
        tasks.spawn(housekeeping::keep_house(shared.clone()));
        let deliveries = Deliveries::new(shared.webhooks.clone(), &shared.options, shared.outbox.clone());
        let (mut delivering, mut stopped) = (JoinSet::new(), working);
        delivering.spawn(deliveries.run(async move {
            // It ends as well when the workers are dropped.
            let _ = stopped.wait_for(|phase| *phase == Phase::Draining).await;
        }));
        Self { shared, phase, tasks, delivering }
    }

    /// Refuses new calls, lets executing runs and deliveries under way finish, tells those that are left shortly before `patience` is over
    /// to stop, and hands back what has not ended, to be executed again after the next start. Returns within
    /// `patience`, give or take a durable write.
    ///
    /// # Cancel safety
    /// When dropped, the workers stop at once.
    pub async fn shutdown(mut self, patience: Duration) {
        self.shared.webhooks.stop_accepting();
        self.phase.send_replace(Phase::Draining);
        let began = Instant::now();
        let stopping = self.shared.options.cancel_grace.min(patience / 4);
        let drained = tokio::time::timeout(patience - stopping, self.shared.all_released()).await;
        if drained.is_err() {
            self.for_each_held(|stop| stop.cancel(StopReason::ShuttingDown));
            let margin = stopping / 4;
            if tokio::time::timeout(stopping - margin, self.shared.all_released()).await.is_err() {
                self.for_each_held(CancellationSource::abandon);
                let settled =
                    tokio::time::timeout(margin.max(Duration::from_secs(1)), self.shared.all_released());
                if settled.await.is_err() {
                    tracing::warn!(
                        "some runs could not be handed back; they come back when their lease is over"
                    );
                }
            }
        }
        let left = patience.saturating_sub(began.elapsed());
        if tokio::time::timeout(left, self.delivering.join_next()).await.is_err() {
            tracing::warn!("some deliveries were cut off; they are tried again when their lease is over");
        }
        if let Err(error) = self.shared.webhooks.inner.write_uses().await {
            tracing::warn!(%error, "the last uses of webhooks were not recorded");
        }
        self.tasks.shutdown().await;
    }

    /// How many runs execute at this moment.
    #[must_use]
    pub fn executing(&self) -> usize {
        lock(&self.shared.held).len()
    }

    fn for_each_held(&self, act: impl Fn(&CancellationSource)) {
        lock(&self.shared.held).values().for_each(act);
    }
}
