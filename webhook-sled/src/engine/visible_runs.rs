//! The runs in memory, as the writer has decided and as callers see them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use webhook_core::backend::{ClaimedRuns, LiveRuns};
use webhook_core::clock::later;
use webhook_core::id::RunId;
use webhook_core::run::{Run, RunState};
use webhook_core::store::{ClaimRequest, Renewal, Renewed, RunQuery};

/// The runs in memory.
///
/// A run is in `live`, then in `ending`, then in sled alone. `unsynced` hides ends that are not durable: callers see such a
/// run as it was before.
#[derive(Default)]
pub(crate) struct VisibleRuns {
    pub(crate) live: LiveRuns,
    /// Ended runs that sled lacks.
    pub(crate) ending: HashMap<RunId, Arc<Run>>,
    /// Runs whose end is not durable, as they are shown until it is.
    unsynced: HashMap<RunId, Shown>,
    /// Length of the lease that was last asked for.
    lease: Duration,
}

/// A run as callers see it while its end is not durable.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    /// As missing: it was skipped when it was enqueued, and neither is durable.
    Hidden,
    /// As it was before.
    As(Arc<Run>),
}

impl Shown {
    pub(crate) fn into_run(self) -> Option<Arc<Run>> {
        match self {
            Self::Hidden => None,
            Self::As(run) => Some(run),
        }
    }

    pub(crate) fn run(&self) -> Option<&Arc<Run>> {
        match self {
            Self::Hidden => None,
            Self::As(run) => Some(run),
        }
    }
}

impl VisibleRuns {
    /// A run as the writer has decided, durable or not, if its record is in memory.
    pub(crate) fn record(&self, id: RunId) -> Option<Arc<Run>> {
        self.live.record(id).or_else(|| self.ending.get(&id).cloned())
    }

    /// Takes a run that has ended, and shows it as `before` until that is durable.
    pub(crate) fn end(&mut self, run: Arc<Run>, before: Option<Arc<Run>>) {
        debug_assert!(run.state().is_ended());
        self.unsynced.insert(run.id(), before.map_or(Shown::Hidden, Shown::As));
        self.ending.insert(run.id(), run);
    }

    /// Drops ended runs that are in sled now.
    pub(crate) fn forget_ended(&mut self, ids: &[RunId]) {
        for id in ids {
            self.ending.remove(id);
        }
    }

    /// Shows the end of a run, which is durable.
    pub(crate) fn show_end(&mut self, id: RunId) {
        self.unsynced.remove(&id);
    }

    /// Returns true if the end of a run is not durable.
    pub(crate) fn has_unsynced_end(&self, id: RunId) -> bool {
        self.unsynced.contains_key(&id)
    }

    /// A run as callers see it, or `None` when only sled knows.
    pub(crate) fn shown(&self, id: RunId) -> Option<Shown> {
        self.unsynced.get(&id).cloned().or_else(|| self.record(id).map(Shown::As))
    }

    /// Begins again with the live runs of a database that was opened again.
    pub(crate) fn replace(&mut self, live: LiveRuns) {
        *self = Self { live, lease: self.lease, ..Self::default() };
    }

    /// Extends a lease. The lease of an ended run is still held while its end is not durable: if the disk refuses the end, the
    /// worker must settle it again.
    pub(crate) fn renew(&mut self, renewal: &Renewal, lease: Duration, now: Instant) -> Renewed {
        self.lease = lease;
        match (self.live.renew(renewal, later(now, lease)), self.unsynced.get(&renewal.run)) {
            (Renewed::Lost, Some(Shown::As(before)))
                if before.state() == RunState::Running && before.fence() == renewal.fence =>
            {
                Renewed::Held { cancel: before.cancel_requested() }
            }
            (renewed, _) => renewed,
        }
    }

    pub(crate) fn claim(&mut self, request: &ClaimRequest, now: Instant) -> ClaimedRuns {
        self.lease = request.lease;
        self.live.claim(request, now)
    }

    /// Runs that are executing as far as the disk knows, and the length of their leases.
    pub(crate) fn executing(&self) -> (HashMap<RunId, Arc<Run>>, Duration) {
        let ending = self
            .unsynced
            .values()
            .filter_map(Shown::run)
            .filter(|run| run.state() == RunState::Running)
            .cloned();
        (self.live.claimed().chain(ending).map(|run| (run.id(), run)).collect(), self.lease)
    }

    /// Runs in memory that a query asks for, as callers see them: at least the newest `limit`. `None` stands for a record that
    /// only the database has.
    pub(crate) fn list(&self, query: &RunQuery, limit: usize) -> BTreeMap<Reverse<RunId>, Option<Arc<Run>>> {
        let ending = self.ending.values().filter(|run| !self.unsynced.contains_key(&run.id()));
        let shown = ending.chain(self.unsynced.values().filter_map(Shown::run));
        let asked =
            |run: &&Arc<Run>| query.matches(run) && query.before.is_none_or(|before| run.id() < before);
        let mut found: BTreeMap<_, _> =
            shown.filter(asked).map(|run| (Reverse(run.id()), Some(run.clone()))).collect();
        if !query.state.is_some_and(RunState::is_ended) {
            found.extend(self.live.list(query, limit).into_iter().map(|(id, run)| (Reverse(id), run)));
        }
        found
    }
}
