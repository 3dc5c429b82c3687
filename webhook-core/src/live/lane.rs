//! One webhook's live runs: its concurrency, what happens on overlap, and which run is next.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::far::{Depth, Far};
use crate::id::RunId;
use crate::webhook::OnOverlap;

/// The live runs of one webhook.
#[derive(Debug, Default)]
pub(super) struct Lane {
    bound: Option<u32>,
    closed: bool,
    running: BTreeSet<RunId>,
    /// Queued, and not to be claimed yet.
    waiting: BTreeSet<RunId>,
    /// Queued, and to be claimed when there is room.
    ready: BTreeSet<RunId>,
    /// Those that are ready as well, behind many others.
    pub(super) far: Far,
    /// At most how many were ready when it was last looked which of them are far.
    ready_when_looked: usize,
    /// The next run as all lanes know it.
    pub(super) known_next: Option<RunId>,
}

/// Where in its lane a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Running,
    Waiting,
    Ready,
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

    /// How many more may run; `None` without a bound.
    fn room(&self) -> Option<usize> {
        self.bound.map(|bound| (bound as usize).saturating_sub(self.running.len()))
    }

    /// The run that is to be claimed next, if there is room for it.
    pub(super) fn next(&self) -> Option<RunId> {
        let near = self.ready.first().copied();
        let next = near.into_iter().chain(self.far.first()).min();
        next.filter(|_| self.room().is_none_or(|room| room > 0))
    }

    /// What a new run does to these, where `asked` tells which running ones are about to stop anyway.
    pub(super) fn plan(&self, on_overlap: OnOverlap, asked: impl Fn(&RunId) -> bool) -> Plan {
        let Some(bound) = self.bound.map(|bound| bound as usize) else { return Plan::default() };
        match on_overlap {
            OnOverlap::Queue => Plan::default(),
            OnOverlap::Skip => {
                let skip = self.running.len() + self.queued_count() >= bound;
                Plan { skip, ..Plan::default() }
            }
            OnOverlap::Replace => {
                let staying: Vec<RunId> = self.running.iter().copied().filter(|id| !asked(id)).collect();
                // The queued ones have not begun, so they are the first to go; then the oldest that run.
                let excess = (staying.len() + self.queued_count() + 1).saturating_sub(bound);
                if excess == 0 {
                    return Plan::default();
                }
                let supersede: Vec<RunId> = self.queued().into_iter().take(excess).collect();
                let stop = staying.into_iter().take(excess - supersede.len()).collect();
                Plan { skip: false, supersede, stop }
            }
            OnOverlap::Coalesce => {
                let room = self.room().unwrap_or(usize::MAX);
                let begins_at_once = self.queued_count() < room;
                let supersede =
                    if begins_at_once { Vec::new() } else { self.queued().into_iter().skip(room).collect() };
                Plan { supersede, ..Plan::default() }
            }
        }
    }

    /// A run comes, goes, or is in another part from now on.
    pub(super) fn moved(&mut self, id: RunId, old: Option<Part>, new: Option<Part>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.part(old).remove(&id);
        }
        if let Some(new) = new {
            self.part(new).insert(id);
        }
        self.ready_when_looked = self.ready_when_looked.min(self.ready.len());
    }

    fn part(&mut self, part: Part) -> &mut BTreeSet<RunId> {
        match part {
            Part::Running => &mut self.running,
            Part::Waiting => &mut self.waiting,
            Part::Ready => &mut self.ready,
        }
    }

    /// Whether it is time to look which ready runs are far.
    pub(super) fn has_grown(&self, depth: &Depth) -> bool {
        let near = if self.far.is_empty() { depth.near } else { 0 };
        self.ready.len() >= (self.ready_when_looked + depth.step).max(near + depth.newest + 1)
    }

    /// The ready runs that are far from now on.
    pub(super) fn take_far(&mut self, depth: &Depth) -> Vec<RunId> {
        let mut far: Vec<RunId> = match self.far.last() {
            Some(last) => self.ready.range((Bound::Excluded(last), Bound::Unbounded)).copied().collect(),
            None => self.ready.iter().skip(depth.near).copied().collect(),
        };
        far.truncate(far.len().saturating_sub(depth.newest));
        for id in &far {
            self.ready.remove(id);
        }
        far
    }

    /// It was looked which runs are far.
    pub(super) fn has_looked(&mut self) {
        self.ready_when_looked = self.ready.len();
    }

    /// Marks the webhook as deleted and answers its queued runs.
    pub(super) fn close(&mut self) -> Vec<RunId> {
        self.closed = true;
        self.queued()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// All queued runs, oldest first.
    fn queued(&self) -> Vec<RunId> {
        let near = self.waiting.iter().chain(&self.ready).copied();
        let mut queued: Vec<RunId> = near.chain(self.far.ids()).collect();
        queued.sort_unstable();
        queued
    }

    pub(super) fn queued_count(&self) -> usize {
        self.waiting.len() + self.ready.len() + self.far.count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.queued_count() == 0
    }
}
