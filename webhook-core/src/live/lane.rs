//! One webhook's live runs: its concurrency and what happens on overlap.

use std::collections::BTreeSet;

use crate::id::RunId;
use crate::webhook::OnOverlap;

/// The live runs of one webhook.
#[derive(Debug, Default)]
pub(super) struct Lane {
    bound: Option<u32>,
    closed: bool,
    running: BTreeSet<RunId>,
    queued: BTreeSet<RunId>,
    /// Those of `queued` that wait for the bound.
    parked: BTreeSet<RunId>,
}

/// Where in its lane a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Running,
    Queued,
    /// Queued, and waiting for the bound.
    Parked,
}

/// What a new run does to the ones before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The new run is not executed.
    pub(super) skip: bool,
    /// Queued runs that end.
    pub(super) supersede: Vec<RunId>,
    /// Running runs that are asked to stop.
    pub(super) stop: Vec<RunId>,
}

impl Lane {
    pub(super) fn set_bound(&mut self, bound: Option<u32>) {
        self.bound = bound;
    }

    pub(super) fn may_start(&self) -> bool {
        self.room().is_none_or(|room| room > 0)
    }

    /// How many more may run; `None` without a bound.
    fn room(&self) -> Option<usize> {
        self.bound.map(|bound| (bound as usize).saturating_sub(self.running.len()))
    }

    /// What a new run does to these, where `asked` tells which running ones are about to stop anyway.
    pub(super) fn plan(&self, on_overlap: OnOverlap, asked: impl Fn(&RunId) -> bool) -> Plan {
        let Some(bound) = self.bound.map(|bound| bound as usize) else { return Plan::default() };
        let staying: Vec<RunId> = self.running.iter().copied().filter(|id| !asked(id)).collect();
        let overlaps = self.running.len() + self.queued.len() >= bound;
        match on_overlap {
            OnOverlap::Queue => Plan::default(),
            OnOverlap::Skip => Plan { skip: overlaps, ..Plan::default() },
            OnOverlap::Replace => {
                // The queued ones have not begun, so they are the first to go; then the oldest that run.
                let excess = (staying.len() + self.queued.len() + 1).saturating_sub(bound);
                let supersede: Vec<RunId> = self.queued.iter().copied().take(excess).collect();
                let stop = staying.into_iter().take(excess - supersede.len()).collect();
                Plan { skip: false, supersede, stop }
            }
            OnOverlap::Coalesce => {
                let room = self.room().unwrap_or(usize::MAX);
                let waiting = self.queued.len().saturating_sub(room);
                let supersede = self.queued.iter().copied().skip(room).take(waiting).collect();
                let begins_at_once = self.queued.len() < room;
                if begins_at_once { Plan::default() } else { Plan { supersede, ..Plan::default() } }
            }
        }
    }

    /// A run comes, goes, or is in another part from now on.
    pub(super) fn moved(&mut self, id: RunId, old: Option<Part>, new: Option<Part>) {
        let is_queued = |part| matches!(part, Some(Part::Queued | Part::Parked));
        follow(&mut self.queued, id, is_queued(old), is_queued(new));
        follow(&mut self.parked, id, old == Some(Part::Parked), new == Some(Part::Parked));
        follow(&mut self.running, id, old == Some(Part::Running), new == Some(Part::Running));
    }

    /// The oldest parked runs, as many as there is room for.
    pub(super) fn unparkable(&self) -> Vec<RunId> {
        self.parked.iter().copied().take(self.room().unwrap_or(usize::MAX)).collect()
    }

    /// Marks the webhook as deleted and answers its queued runs.
    pub(super) fn close(&mut self) -> Vec<RunId> {
        self.closed = true;
        self.queued.iter().copied().collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn queued_count(&self) -> usize {
        self.queued.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.queued.is_empty()
    }
}

/// Has a set hold a run or not, as it should now.
fn follow(set: &mut BTreeSet<RunId>, id: RunId, was_in: bool, is_in: bool) {
    match (was_in, is_in) {
        (true, false) => drop(set.remove(&id)),
        (false, true) => drop(set.insert(id)),
        _ => {}
    }
}
