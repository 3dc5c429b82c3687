//! State shared by the tasks of one [`Workers`](crate::work::Workers).

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::claimed::ClaimedRegistry;
use super::inbox::Inbox;
use super::slots::{Room, RunSlots};
use super::threads::ExecutorThreads;
use crate::executor::{CancellationSource, StopReason};
use crate::id::RunId;
use crate::service::executing::ClaimRegistry;
use crate::service::parts::Parts;
use crate::service::work::deliveries::OutboxBound;
use crate::service::work::options::WorkerOptions;
use crate::store::Settlement;

/// Upper bound on slots whose executors may block: each has a thread while it does.
const MOST_THREADS: usize = 400;
/// Upper bound on claims that do not execute: runs claimed ahead, and outcomes that are not recorded yet.
const MOST_BESIDES: usize = 1_024;
/// Lower bound on the lease: it is renewed three times as often, which must not become a busy loop.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

pub(in crate::service::work) struct RunPool {
    pub(in crate::service::work) parts: Arc<Parts>,
    pub(in crate::service::work) options: WorkerOptions,
    pub(super) runtime: Handle,
    pub(in crate::service::work) slots: RunSlots,
    /// Threads that executors may block; `None` if executors are tasks of the runtime.
    pub(in crate::service::work) threads: Option<Arc<ExecutorThreads>>,
    pub(in crate::service::work) claimed: ClaimedRegistry,
    /// Cancelled at shutdown. After that, nothing is claimed.
    pub(in crate::service::work) draining: CancellationSource,
    /// Attempts that were claimed ahead and have begun, to be reported to the store.
    pub(super) begun: Inbox<Weak<Attempt>>,
    pub(super) settlements: Inbox<Settlement>,
    pub(super) outbox: Arc<OutboxBound>,
}

impl std::fmt::Debug for RunPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RunPool").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ClaimRegistry for RunPool {
    fn stop(&self, runs: &[RunId], reason: StopReason) {
        self.claimed.stop(runs, reason);
    }
}

impl RunPool {
    /// Creates a pool, and registers it with the service, so that its runs can be cancelled.
    pub(in crate::service::work) fn new(
        parts: Arc<Parts>,
        mut options: WorkerOptions,
        outbox: Arc<OutboxBound>,
    ) -> Arc<Self> {
        options.lease = options.lease.max(SHORTEST_LEASE);
        options.slots = options.slots.clamp(1, if options.threads { MOST_THREADS } else { usize::MAX });
        let pool = Arc::new(Self {
            parts,
            outbox,
            slots: RunSlots::new(options.slots),
            threads: options.threads.then(|| ExecutorThreads::new(options.slots)),
            options,
            runtime: Handle::current(),
            claimed: ClaimedRegistry::default(),
            draining: CancellationSource::new(),
            begun: Inbox::default(),
            settlements: Inbox::default(),
        });
        pool.parts.executing.add(&pool);
        pool
    }

    /// Waits until runs may be claimed, and returns their number. Cancel safe.
    pub(super) async fn room(&self) -> Room {
        loop {
            if self.may_claim()
                && let Some(room) = self.slots.room()
            {
                return room;
            }
            self.slots.changed.notified().await;
        }
    }

    /// Returns whether runs may be claimed.
    ///
    /// They may not while too many outcomes are unrecorded, nor while an attempt here has lost its lease. A claim
    /// could return the run of that attempt, which would then execute twice at the same time.
    fn may_claim(&self) -> bool {
        let most = self.options.slots.saturating_add(MOST_BESIDES);
        self.claimed.may_grow(most, Instant::now())
    }

    /// Submits the outcome of an attempt. Its claim is held until the outcome is recorded.
    pub(super) fn settle(&self, settlement: Settlement) {
        self.parts.meters.attempt(&settlement.outcome);
        self.settlements.push(settlement);
    }

    /// Releases claims whose outcome is recorded.
    pub(super) fn release(&self, settled: &[Settlement]) {
        self.claimed.release(settled.iter().map(|settlement| (settlement.run, settlement.fence)));
        // A claim may have waited for these, either for their number or for a lapsed lease.
        self.slots.changed.notify_one();
        self.parts.progress.notify_waiters();
    }
}
