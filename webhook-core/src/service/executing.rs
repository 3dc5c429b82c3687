//! Access to the runs that execute in this process.
//!
//! Each [`Workers`](crate::work::Workers) keeps the one registry of the runs that it has claimed. The service
//! only knows these registries.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::executor::StopReason;
use crate::id::RunId;
use crate::run::CancelReason;

/// A registry of claimed runs.
pub(super) trait ClaimRegistry: Send + Sync {
    /// Tells the executors of these runs to stop. Ignores runs that are not claimed here.
    fn stop(&self, runs: &[RunId], reason: StopReason);
}

/// The registries of this process, one for each of its `Workers`: a host may start several.
#[derive(Default)]
pub(super) struct Executing(Mutex<Vec<Weak<dyn ClaimRegistry>>>);

impl Executing {
    /// Adds a registry, for as long as it lives.
    pub(super) fn add<T: ClaimRegistry + 'static>(&self, claimed: &Arc<T>) {
        let mut registries = self.0.lock();
        registries.retain(|registry| registry.strong_count() > 0);
        let registry: Weak<T> = Arc::downgrade(claimed);
        registries.push(registry);
    }

    /// Cancels runs that execute in this process. The store tells other processes.
    pub(super) fn cancel(&self, runs: &[RunId], reason: CancelReason) {
        if runs.is_empty() {
            return;
        }
        let registries: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        for registry in registries {
            registry.stop(runs, StopReason::Cancelled(reason));
        }
    }
}
