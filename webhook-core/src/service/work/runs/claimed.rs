//! The registry of the runs that these workers have claimed: the only one in the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attempt::Attempt;
use crate::executor::StopReason;
use crate::id::RunId;

/// A run and the fence of its claim. A run may be claimed twice, if the older claim has lost its lease.
pub(super) type ClaimKey = (RunId, u64);

/// Claims whose outcome is not recorded yet. A claim without an attempt is not to be executed.
#[derive(Default)]
pub(in crate::service::work) struct ClaimedRegistry {
    /// Ordered, so that all claims of one run are adjacent.
    claims: Mutex<BTreeMap<ClaimKey, Option<Arc<Attempt>>>>,
    /// Signalled when a claim is added.
    pub(super) added: Notify,
    /// Signalled when claims are released.
    released: Notify,
}

impl ClaimedRegistry {
    pub(super) fn add(&self, key: ClaimKey, attempt: Option<Arc<Attempt>>) {
        self.claims.lock().insert(key, attempt);
        self.added.notify_one();
    }

    /// Removes claims whose outcome is recorded.
    pub(super) fn release(&self, keys: impl Iterator<Item = ClaimKey>) {
        let mut claims = self.claims.lock();
        let released: Vec<_> = keys.filter_map(|key| claims.remove(&key)).collect();
        drop(claims);
        // Attempts are dropped without the lock, since that frees the input of their executors.
        drop(released);
        self.released.notify_waiters();
    }

    pub(in crate::service::work) fn len(&self) -> usize {
        self.claims.lock().len()
    }

    /// Returns whether fewer than `most` claims are held, and each attempt has its lease.
    pub(super) fn may_grow(&self, most: usize, now: Instant) -> bool {
        let claims = self.claims.lock();
        claims.len() < most && !claims.values().flatten().any(|attempt| attempt.has_lapsed(now))
    }

    pub(in crate::service::work) fn snapshot(&self) -> Vec<(ClaimKey, Option<Arc<Attempt>>)> {
        self.claims.lock().iter().map(|(key, attempt)| (*key, attempt.clone())).collect()
    }

    /// Removes all claims, and returns their attempts.
    pub(in crate::service::work) fn take_all(&self) -> Vec<Arc<Attempt>> {
        std::mem::take(&mut *self.claims.lock()).into_values().flatten().collect()
    }

    /// Tells the executors of these runs to stop, whatever their fence.
    pub(super) fn stop(&self, runs: &[RunId], reason: StopReason) {
        let claims = self.claims.lock();
        let of = |run: &RunId| {
            claims.range((*run, 0)..=(*run, u64::MAX)).filter_map(|(_, attempt)| attempt.clone())
        };
        let attempts: Vec<_> = runs.iter().flat_map(of).collect();
        drop(claims);
        // Without the lock, since it wakes the executors' own tasks.
        for attempt in attempts {
            attempt.stop(reason);
        }
    }

    /// Waits until no claim is held. Cancel safe.
    pub(in crate::service::work) async fn until_empty(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the check, so that a release in between is not missed.
            released.as_mut().enable();
            if self.claims.lock().is_empty() {
                return;
            }
            released.await;
        }
    }
}
