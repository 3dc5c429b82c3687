//! One webhook's live runs: its concurrency, what happens on overlap, and which run is next.

use std::collections::BTreeSet;

use crate::id::{RunId, WorkflowKey};
use crate::webhook::OnOverlap;

/// The live runs of one webhook.
#[derive(Debug, Default)]
pub(super) struct Lane {
    bound: Option<u32>,
    closed: bool,
    running: BTreeSet<RunId>,
    /// Claimed, and not begun yet.
    claimed: BTreeSet<RunId>,
    /// Queued, and not to be claimed yet.
    waiting: BTreeSet<RunId>,
    /// Queued, and to be claimed when there is room.
    ready: BTreeSet<RunId>,
    /// How many bytes of parameters the queued ones have.
    pub(super) queued_bytes: u64,
    /// What its runs execute: one workflow, unless the webhook was given another.
    workflows: Vec<WorkflowKey>,
    /// The next run as all lanes know it.
    pub(super) known_next: Option<RunId>,
}

/// Where in its lane a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Running,
    Claimed,
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

    /// How many more may be claimed; `None` without a bound.
    pub(super) fn room(&self) -> Option<usize> {
        self.bound.map(|bound| (bound as usize).saturating_sub(self.claimed_count()))
    }

    /// How many are claimed, whether they have begun or not.
    fn claimed_count(&self) -> usize {
        self.running.len() + self.claimed.len()
    }

    /// The run that is to be claimed next, if there is room for it.
    pub(super) fn next(&self) -> Option<RunId> {
        let has_room = !self.closed && self.room().is_none_or(|room| room > 0);
        self.ready.first().copied().filter(|_| has_room)
    }

    /// The runs that may be claimed, in the order in which they are.
    pub(super) fn ready(&self) -> impl Iterator<Item = RunId> {
        self.ready.iter().copied()
    }

    /// What a new run does to these, where `asked` tells which running ones are about to stop anyway.
    pub(super) fn plan(&self, on_overlap: OnOverlap, asked: impl Fn(&RunId) -> bool) -> Plan {
        let Some(bound) = self.bound.map(|bound| bound as usize) else { return Plan::default() };
        match on_overlap {
            OnOverlap::Queue => Plan::default(),
            OnOverlap::Skip => {
                let skip = self.claimed_count() + self.queued_count() >= bound;
                Plan { skip, ..Plan::default() }
            }
            OnOverlap::Replace => {
                // Those that have not begun are the first to go; then the oldest that run.
                let claimed = self.claimed.iter().chain(&self.running).copied();
                let staying: Vec<RunId> = claimed.filter(|id| !asked(id)).collect();
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
    }

    fn part(&mut self, part: Part) -> &mut BTreeSet<RunId> {
        match part {
            Part::Running => &mut self.running,
            Part::Claimed => &mut self.claimed,
            Part::Waiting => &mut self.waiting,
            Part::Ready => &mut self.ready,
        }
    }

    /// The number that this workflow has here from now on.
    pub(super) fn workflow_number(&mut self, workflow: &WorkflowKey) -> u16 {
        let known = self.workflows.iter().position(|known| known == workflow);
        let number = known.unwrap_or_else(|| {
            self.workflows.push(workflow.clone());
            self.workflows.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    /// The number of a workflow that may have runs here.
    pub(super) fn number_of(&self, workflow: &WorkflowKey) -> Option<u16> {
        let known = self.workflows.iter().position(|known| known == workflow);
        known.map(|number| u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// The runs in these parts that are older than `before`, newest first, each part for itself.
    pub(super) fn newest(
        &self,
        parts: &[Part],
        before: Option<RunId>,
    ) -> Vec<std::iter::Rev<std::collections::btree_set::Range<'_, RunId>>> {
        let of_part = |part: &Part| {
            let runs = match part {
                Part::Running => &self.running,
                Part::Claimed => &self.claimed,
                Part::Waiting => &self.waiting,
                Part::Ready => &self.ready,
            };
            match before {
                Some(before) => runs.range(..before).rev(),
                None => runs.range::<RunId, _>(..).rev(),
            }
        };
        parts.iter().map(of_part).collect()
    }

    /// Marks the webhook as deleted, so that none of its runs is claimed any more, and answers its queued runs.
    pub(super) fn close(&mut self) -> Vec<RunId> {
        self.closed = true;
        self.queued()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// All queued runs, oldest first.
    fn queued(&self) -> Vec<RunId> {
        let mut queued: Vec<RunId> = self.waiting.iter().chain(&self.ready).copied().collect();
        queued.sort_unstable();
        queued
    }

    pub(super) fn queued_count(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claimed_count() + self.queued_count() == 0
    }
}
