//! Workers claim queued runs, execute them and record their outcomes. They also send the notifications of the outbox.
//!
//! ```text
//!   store ──claim──▶ slots ──begin──▶ executor ──return──▶ settlements ──settle──▶ store
//!     ▲                                  │ reports             (batches)
//!     └────── progress, log lines ◀──────┘
//! ```
//!
//! - `claims` claims a run for each free slot, and some more ahead of need, so no slot waits for the store.
//! - `slots` bounds how many attempts execute at once. A slot is free again when its executor returns or is given up.
//! - `attempt` is one execution of a claimed run. `threads` polls its executor, which may block. `outcome` decides what
//!   is recorded of it.
//! - `watch` stops attempts that exceed their time. `leases` renews claims, and stops attempts whose lease has ended.
//!   `reporting` stores progress and log lines, and `settling` records outcomes.
//! - No timer lies between a free slot and an execution. Each task is supervised: a panic is logged and counted, and the
//!   task starts again.

mod deliveries;
mod housekeeping;
mod idle;
mod runs;
mod supervised;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::executor::{CancellationSource, StopReason};
use crate::id::RunId;
use crate::retry::RetryPolicy;
use crate::service::Webhooks;
use crate::store::Settlement;

use deliveries::{Deliveries, OutboxBound};
pub(crate) use idle::run_until_idle;
use runs::attempt::Attempt;
use runs::inbox::Inbox;
use runs::slots::{Room, Slots};
use runs::threads::Threads;
use runs::{claims, leases, settling, watch};
use supervised::{caught, supervised};

/// Upper bound on slots whose executors may block: each has a thread while it does.
const MOST_THREADS: usize = 400;
/// How many claims may be held besides those that execute: runs claimed ahead, and outcomes that are not recorded yet.
const MOST_BESIDES: usize = 1_024;
/// How many given-up executors, for each slot, may block their threads before slots are withheld.
const BLOCKED_PER_SLOT: usize = 1;

/// The shortest lease: it is renewed three times as often, which must not become a busy loop.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// How long the last writes of a shutdown may take, however short its patience.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How workers work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// How many runs execute at once. 16 by default, at least 1, and at most 400 where executors may block.
    pub slots: usize,
    /// For how long a claim holds without being renewed; it is renewed three times as often. 30 s by default.
    pub lease: Duration,
    /// How long an executor may take to stop after it was told to. 10 s by default.
    pub cancel_grace: Duration,
    /// After how many interruptions a run fails. 5 by default.
    pub interruption_bound: u32,
    /// Whether executors have threads of their own, as many as there are slots, so that they may block. On by default; off,
    /// they are tasks of the runtime, which suits executors that never block, and tests with paused time.
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

    /// Sets whether executors have threads of their own.
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

/// Running workers. Dropping this stops them at once, and their runs are executed again when the leases have ended.
/// [`shutdown`](Self::shutdown) hands the runs back instead.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// The task that claims runs, which ends by itself at shutdown.
    claiming: JoinSet<()>,
    /// The task that sends notifications, which also ends by itself at shutdown.
    delivering: JoinSet<()>,
}

/// A run and the fence under which it is claimed.
type ClaimKey = (RunId, u64);

/// What the tasks of one [`Workers`] share.
struct Shared {
    webhooks: Webhooks,
    options: WorkerOptions,
    runtime: Handle,
    slots: Slots,
    /// Threads that executors may block; `None` where they are tasks of the runtime.
    threads: Option<Arc<Threads>>,
    /// The claims whose outcome is not recorded yet. Those without an attempt are not to be executed.
    held: Mutex<HashMap<ClaimKey, Option<Arc<Attempt>>>>,
    /// Signalled when a claim is added to `held`.
    holds: Notify,
    /// Signalled when claims are removed from `held`.
    released: Notify,
    /// Cancelled at shutdown: from then on nothing is claimed.
    draining: CancellationSource,
    /// Attempts that were claimed ahead and have begun, for the store to show them as running.
    begun: Inbox<Weak<Attempt>>,
    settlements: Inbox<Settlement>,
    outbox: Arc<OutboxBound>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(webhooks: Webhooks, mut options: WorkerOptions) -> Arc<Self> {
        options.lease = options.lease.max(SHORTEST_LEASE);
        options.slots = options.slots.clamp(1, if options.threads { MOST_THREADS } else { usize::MAX });
        Arc::new(Self {
            webhooks,
            outbox: Arc::new(OutboxBound::new(options.outbox_limit)),
            slots: Slots::new(options.slots),
            threads: options.threads.then(|| Threads::new(options.slots)),
            options,
            runtime: Handle::current(),
            held: Mutex::default(),
            holds: Notify::new(),
            released: Notify::new(),
            draining: CancellationSource::new(),
            begun: Inbox::default(),
            settlements: Inbox::default(),
        })
    }

    /// Waits until runs may be claimed, and returns how many. Cancel safe.
    async fn room(&self) -> Room {
        loop {
            if self.may_claim()
                && let Some(room) = self.slots.room()
            {
                return room;
            }
            self.slots.changed.notified().await;
        }
    }

    /// Returns whether runs may be claimed. They may not while too many outcomes are unrecorded, nor while an attempt here
    /// has lost its lease: the claim could give the same run, which would then execute twice at once.
    fn may_claim(&self) -> bool {
        let (held, now) = (self.held.lock(), Instant::now());
        held.len() < self.options.slots.saturating_add(MOST_BESIDES)
            && !held.values().flatten().any(|attempt| attempt.has_lapsed(now))
    }

    fn hold(&self, key: ClaimKey, attempt: Option<Arc<Attempt>>) {
        self.held.lock().insert(key, attempt);
        self.holds.notify_one();
    }

    /// Returns a snapshot of the claims that are held.
    fn held(&self) -> Vec<(ClaimKey, Option<Arc<Attempt>>)> {
        self.held.lock().iter().map(|(key, attempt)| (*key, attempt.clone())).collect()
    }

    /// Hands in the outcome of an attempt. Its claim is held until the outcome is recorded.
    fn settle(&self, settlement: Settlement) {
        self.webhooks.inner.meters.attempt(&settlement.outcome);
        self.settlements.push(settlement);
    }

    /// Removes claims whose outcome is recorded.
    fn release(&self, settled: &[Settlement]) {
        let keys = || settled.iter().map(|settlement| (settlement.run, settlement.fence));
        let mut held = self.held.lock();
        let released: Vec<_> = keys().filter_map(|key| held.remove(&key)).collect();
        drop(held);
        drop(released);
        self.webhooks.inner.end_executing(keys());
        self.released.notify_waiters();
        self.slots.changed.notify_one();
        self.webhooks.inner.progress.notify_waiters();
    }

    /// Counts an executor that was given up while it blocks its thread, and lets another thread take its place. Returns
    /// whether its slot is free. The slot is withheld while too many threads are blocked.
    fn block(&self) -> bool {
        if let Some(threads) = &self.threads {
            threads.replace(true);
        }
        let is_free =
            self.webhooks.inner.trouble.blocked(1) <= self.options.slots.saturating_mul(BLOCKED_PER_SLOT);
        if !is_free {
            self.slots.withhold();
        }
        is_free
    }

    /// Takes note that a blocked thread has returned from its executor, and gives a withheld slot back.
    fn unblock(&self) {
        if let Some(threads) = &self.threads {
            threads.replace(false);
        }
        self.webhooks.inner.trouble.blocked(-1);
        if let Some(next) = self.slots.restore() {
            next.start();
        }
    }

    /// Waits until no claim is held. Cancel safe.
    async fn all_released(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.held.lock().is_empty() {
                return;
            }
            released.await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.shared.held.lock());
        for attempt in held.values().flatten() {
            attempt.abandon();
        }
        self.shared.webhooks.inner.end_executing(held.into_keys());
        self.shared.slots.take_waiting();
        if let Some(threads) = &self.shared.threads {
            threads.close();
        }
    }
}

impl Workers {
    pub(crate) fn start(webhooks: Webhooks, options: WorkerOptions) -> Self {
        let shared = Shared::new(webhooks, options);
        let (tasks, claiming, delivering) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        let mut workers = Self { shared: shared.clone(), tasks, claiming, delivering };
        workers.claiming.spawn(supervised(shared.clone(), "claims", claims::claim_and_execute));
        workers.spawn("beginnings", claims::note_begun);
        workers.spawn("leases", leases::renew);
        workers.spawn("watch", watch::watch);
        workers.spawn("settling", settling::settle);
        workers.spawn("housekeeping", housekeeping::keep_house);
        let deliveries = Deliveries::new(shared.webhooks.clone(), &shared.options, shared.outbox.clone());
        workers.delivering.spawn(deliveries.run(shared.draining.cancellation()));
        workers
    }

    fn spawn<F>(&mut self, name: &'static str, task: impl Fn(Arc<Shared>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(supervised(self.shared.clone(), name, task));
    }

    /// Refuses new calls, lets executing runs and deliveries under way finish, tells those that are left shortly before
    /// `patience` is over to stop, and hands back what has not ended, to be executed again after the next start.
    /// Returns within `patience`, give or take a durable write.
    ///
    /// # Cancel safety
    /// When dropped, the workers stop at once.
    pub async fn shutdown(mut self, patience: Duration) {
        self.shared.webhooks.stop_accepting();
        self.shared.draining.cancel(StopReason::ShuttingDown);
        let began = Instant::now();
        for attempt in self.attempts() {
            attempt.withdraw();
        }
        let stopping = self.shared.options.cancel_grace.min(patience / 4);
        let drained = tokio::time::timeout(patience - stopping, self.drained()).await;
        if drained.is_err() {
            for attempt in self.attempts() {
                attempt.withdraw();
                attempt.stop(StopReason::ShuttingDown);
            }
            let margin = stopping / 4;
            if tokio::time::timeout(stopping - margin, self.drained()).await.is_err() {
                for attempt in self.attempts() {
                    attempt.give_up();
                }
                let settled = tokio::time::timeout(margin.max(LAST_WRITES), self.drained());
                if settled.await.is_err() {
                    tracing::warn!(
                        "some runs could not be handed back; they are due again when their lease expires"
                    );
                }
            }
        }
        let left = patience.saturating_sub(began.elapsed());
        if tokio::time::timeout(left, self.delivering.join_next()).await.is_err() {
            tracing::warn!("some deliveries were cut off; they are tried again when their lease expires");
        }
        let left = patience.saturating_sub(began.elapsed()).max(LAST_WRITES);
        let webhooks = &self.shared.webhooks;
        let recording = caught(webhooks, "housekeeping", webhooks.inner.write_uses());
        if !matches!(tokio::time::timeout(left, recording).await, Ok(Ok(()))) {
            tracing::warn!("the last uses of webhooks were not recorded");
        }
        self.tasks.shutdown().await;
    }

    /// Waits until nothing is claimed any more and no claim is held. Cancel safe.
    async fn drained(&mut self) {
        while self.claiming.join_next().await.is_some() {}
        self.shared.all_released().await;
    }

    /// How many claims are held at this moment: of runs that execute, of some that are about to, and of some whose outcome
    /// is being recorded.
    #[must_use]
    pub fn executing(&self) -> usize {
        self.shared.held.lock().len()
    }

    fn attempts(&self) -> impl Iterator<Item = Arc<Attempt>> {
        self.shared.held().into_iter().filter_map(|(_, attempt)| attempt)
    }
}
