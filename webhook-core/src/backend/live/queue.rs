//! One webhook's live runs: its concurrency, what happens on overlap, and which run is next.

use std::collections::BTreeSet;

use crate::id::{RunId, WorkflowKey};
use crate::store::Workflows;
use crate::webhook::OnOverlap;

/// The live runs of one webhook.
#[derive(Debug, Default)]
pub(crate) struct WebhookQueue {
    bound: Option<u32>,
    closed: bool,
    running: BTreeSet<RunId>,
    /// Claimed, and not begun.
    claimed: BTreeSet<RunId>,
    /// Queued, and not claimable yet.
    waiting: BTreeSet<RunId>,
    /// Queued, and claimable when there is room.
    ready: BTreeSet<RunId>,
    /// Bytes of the queued runs' parameters.
    pub(crate) queued_bytes: u64,
    /// Workflows of its runs, by their numbers: one, unless the webhook was given another.
    workflows: Vec<WorkflowKey>,
    /// Next run of this queue that [`RunIndex`](super::index::RunIndex) has.
    pub(crate) known_next: Option<RunId>,
}

/// Part of a webhook's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueuePart {
    Running,
    Claimed,
    Waiting,
    Ready,
}

/// Effect of a new run on those before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The new run is not executed.
    pub(crate) skip: bool,
    /// Queued runs that end.
    pub(crate) supersede: Vec<RunId>,
    /// Running runs that are asked to stop.
    pub(crate) stop: Vec<RunId>,
}

impl WebhookQueue {
    pub(crate) fn set_bound(&mut self, bound: Option<u32>) {
        self.bound = bound;
    }

    /// Number of runs that may still be claimed. `None` without a bound.
    pub(crate) fn room(&self) -> Option<usize> {
        self.bound.map(|bound| (bound as usize).saturating_sub(self.claimed_count()))
    }

    /// Number of claimed runs, whether they have begun or not.
    fn claimed_count(&self) -> usize {
        self.running.len() + self.claimed.len()
    }

    /// Run to claim next, if the concurrency allows another.
    pub(crate) fn next(&self) -> Option<RunId> {
        let has_room = !self.closed && self.room().is_none_or(|room| room > 0);
        self.ready.first().copied().filter(|_| has_room)
    }

    /// Claimable runs, in the order in which they are claimed.
    pub(crate) fn ready(&self) -> impl Iterator<Item = RunId> {
        self.ready.iter().copied()
    }

    /// Effect of a new run. `asked` returns whether the cancellation of a running run is already requested.
    pub(crate) fn plan(&self, on_overlap: OnOverlap, asked: impl Fn(&RunId) -> bool) -> Plan {
        let Some(bound) = self.bound.map(|bound| bound as usize) else { return Plan::default() };
        match on_overlap {
            OnOverlap::Queue => Plan::default(),
            OnOverlap::Skip => {
                let skip = self.claimed_count() + self.queued_count() >= bound;
                Plan { skip, ..Plan::default() }
            }
            OnOverlap::Replace => {
                // Runs that have not begun go first, then the oldest running ones.
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

    /// Moves a run from one part to another. `None` is outside of the queue.
    pub(crate) fn moved(&mut self, id: RunId, old: Option<QueuePart>, new: Option<QueuePart>) {
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

    fn part(&mut self, part: QueuePart) -> &mut BTreeSet<RunId> {
        match part {
            QueuePart::Running => &mut self.running,
            QueuePart::Claimed => &mut self.claimed,
            QueuePart::Waiting => &mut self.waiting,
            QueuePart::Ready => &mut self.ready,
        }
    }

    /// Number of a workflow, which gets one here if it has none.
    pub(crate) fn workflow_number(&mut self, workflow: &WorkflowKey) -> u16 {
        let known = self.workflows.iter().position(|known| known == workflow);
        let number = known.unwrap_or_else(|| {
            self.workflows.push(workflow.clone());
            self.workflows.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    /// Number of a workflow. `None` when it has no runs here.
    pub(crate) fn number_of(&self, workflow: &WorkflowKey) -> Option<u16> {
        let known = self.workflows.iter().position(|known| known == workflow);
        known.map(|number| u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// Numbers of its workflows that are in the set. `None` if all are.
    pub(crate) fn numbers_within(&self, workflows: &Workflows) -> Option<Vec<u16>> {
        let within: Vec<&WorkflowKey> = self.workflows.iter().filter(|it| workflows.include(it)).collect();
        let is_all = within.len() == self.workflows.len();
        (!is_all).then(|| within.into_iter().filter_map(|workflow| self.number_of(workflow)).collect())
    }

    /// Runs of each of these parts that are older than `before`, newest first.
    pub(crate) fn newest(
        &self,
        parts: &[QueuePart],
        before: Option<RunId>,
    ) -> Vec<std::iter::Rev<std::collections::btree_set::Range<'_, RunId>>> {
        let of_part = |part: &QueuePart| {
            let runs = match part {
                QueuePart::Running => &self.running,
                QueuePart::Claimed => &self.claimed,
                QueuePart::Waiting => &self.waiting,
                QueuePart::Ready => &self.ready,
            };
            match before {
                Some(before) => runs.range(..before).rev(),
                None => runs.range::<RunId, _>(..).rev(),
            }
        };
        parts.iter().map(of_part).collect()
    }

    /// Marks the webhook as deleted, so none of its runs is claimed any more, and returns its queued runs.
    pub(crate) fn close(&mut self) -> Vec<RunId> {
        self.closed = true;
        self.queued()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// All queued runs, oldest first.
    fn queued(&self) -> Vec<RunId> {
        let mut queued: Vec<RunId> = self.waiting.iter().chain(&self.ready).copied().collect();
        queued.sort_unstable();
        queued
    }

    pub(crate) fn queued_count(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.claimed_count() + self.queued_count() == 0
    }
}
