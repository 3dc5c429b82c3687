//! The live runs by every order in which they are looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use tokio::time::Instant;

use crate::backend::live::queue::{Plan, QueuePart, WebhookQueue};
use crate::id::{RunId, WebhookId};
use crate::run::Run;
use crate::store::Workflows;
use crate::webhook::OnOverlap;

/// Index entry of a live run.
#[derive(Debug)]
pub(crate) struct LiveEntry {
    pub(crate) webhook: WebhookId,
    pub(crate) place: RunPlace,
    /// Size of its parameters.
    pub(crate) bytes: u32,
    /// Number of its workflow in the queue of its webhook.
    pub(crate) workflow: u16,
}

/// Place of a live run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunPlace {
    /// Admitted, but not known to be durable.
    Uncommitted,
    /// Claimable, once its webhook's concurrency has room.
    Ready,
    /// Waiting for its due time.
    Delayed(Instant),
    /// Claimed ahead until then, and not begun.
    Claimed(Instant),
    /// Claimed until then, and executing.
    Running(Instant),
}

impl RunPlace {
    /// The part of its webhook's queue that the run is in.
    fn part(self) -> QueuePart {
        match self {
            Self::Running(_) => QueuePart::Running,
            Self::Claimed(_) => QueuePart::Claimed,
            Self::Ready => QueuePart::Ready,
            Self::Uncommitted | Self::Delayed(_) => QueuePart::Waiting,
        }
    }

    /// Returns true if no worker has claimed the run.
    pub(crate) fn is_queued(self) -> bool {
        self.lease_end().is_none()
    }

    pub(crate) fn lease_end(self) -> Option<Instant> {
        match self {
            Self::Claimed(end) | Self::Running(end) => Some(end),
            Self::Uncommitted | Self::Ready | Self::Delayed(_) => None,
        }
    }
}

/// The live runs, and where each of them is.
///
/// `runs` decides, and all else follows from it. A run is in `queues` under its webhook, and in `delayed` or `leases` if its
/// place has a time. It is in `next` if it is the first of its webhook that may be claimed.
#[derive(Debug, Default)]
pub(crate) struct RunIndex {
    runs: BTreeMap<RunId, LiveEntry>,
    /// Next claimable run of each webhook.
    next: BTreeMap<WebhookId, RunId>,
    /// Webhook that was served last.
    served: Option<WebhookId>,
    /// Runs that wait for their due time.
    delayed: BTreeSet<(Instant, RunId)>,
    /// Claimed runs by the end of their lease.
    leases: BTreeSet<(Instant, RunId)>,
    queues: HashMap<WebhookId, WebhookQueue>,
    /// Number of runs whose place [is queued](RunPlace::is_queued).
    queued: usize,
    /// Bytes of their parameters. Each webhook's queue counts its own.
    queued_bytes: u64,
}

impl RunIndex {
    pub(crate) fn get(&self, id: RunId) -> Option<&LiveEntry> {
        self.runs.get(&id)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn contains(&self, id: RunId) -> bool {
        self.runs.contains_key(&id)
    }

    /// Bytes of a run's parameters. Zero for an unknown one.
    pub(crate) fn parameter_bytes(&self, id: RunId) -> u64 {
        self.get(id).map_or(0, |entry| u64::from(entry.bytes))
    }

    pub(crate) fn queue(&self, webhook: WebhookId) -> Option<&WebhookQueue> {
        self.queues.get(&webhook)
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = (WebhookId, &WebhookQueue)> {
        self.queues.iter().map(|(webhook, queue)| (*webhook, queue))
    }

    /// Changes the queue of a webhook, if it has runs.
    pub(crate) fn change_queue<T>(
        &mut self,
        webhook: WebhookId,
        change: impl FnOnce(&mut WebhookQueue) -> T,
    ) -> Option<T> {
        let changed = change(self.queues.get_mut(&webhook)?);
        self.refresh(webhook);
        Some(changed)
    }

    /// Sets a webhook's bound on concurrency, and returns what a new run does to its runs.
    ///
    /// The caller then [inserts](Self::insert) the run, or [refreshes](Self::refresh) the webhook.
    pub(crate) fn plan(
        &mut self,
        webhook: WebhookId,
        bound: Option<u32>,
        on_overlap: OnOverlap,
        asked: impl Fn(&RunId) -> bool,
    ) -> Plan {
        let queue = self.queues.entry(webhook).or_default();
        queue.set_bound(bound);
        queue.plan(on_overlap, asked)
    }

    /// Run of these workflows to claim next, with its webhook.
    pub(crate) fn next(&self, workflows: &Workflows) -> Option<(RunId, WebhookId)> {
        self.in_turn().find_map(|(id, webhook)| Some((self.first_of(id, webhook, workflows)?, webhook)))
    }

    /// First claimable run of a webhook that is of these workflows, where `first` is the first of all its workflows.
    fn first_of(&self, first: RunId, webhook: WebhookId, workflows: &Workflows) -> Option<RunId> {
        if *workflows == Workflows::All {
            return Some(first);
        }
        let queue = self.queue(webhook)?;
        let Some(numbers) = queue.numbers_within(workflows) else { return Some(first) };
        if numbers.is_empty() {
            return None;
        }
        let is_within = |id: &RunId| self.get(*id).is_some_and(|entry| numbers.contains(&entry.workflow));
        queue.ready().find(is_within)
    }

    /// Next claimable run of each webhook, from the webhook after the one that was served last.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (RunId, WebhookId)> {
        let (after, until) = match self.served {
            Some(served) => (Bound::Excluded(served), Bound::Included(served)),
            None => (Bound::Unbounded, Bound::Excluded(WebhookId::from_bytes([0; 16]))),
        };
        let first = self.next.range((after, Bound::Unbounded));
        first.chain(self.next.range((Bound::Unbounded, until))).map(|(webhook, id)| (*id, *webhook))
    }

    /// Notes that a run of this webhook was claimed, so that those of others are next.
    pub(crate) fn note_served(&mut self, webhook: WebhookId) {
        self.served = Some(webhook);
    }

    /// Due time of the first run that waits for it.
    pub(crate) fn first_due(&self) -> Option<(Instant, RunId)> {
        self.delayed.first().copied()
    }

    /// End of the lease that ends first.
    pub(crate) fn first_lease_end(&self) -> Option<(Instant, RunId)> {
        self.leases.first().copied()
    }

    /// Claimed runs, by the end of their leases.
    pub(crate) fn claimed(&self) -> impl ExactSizeIterator<Item = RunId> {
        self.leases.iter().map(|(_, id)| *id)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    pub(crate) fn insert(&mut self, run: &Run, bytes: usize, place: RunPlace) {
        let (id, webhook) = (run.id(), run.webhook_id());
        let queue = self.queues.entry(webhook).or_default();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let workflow = queue.workflow_number(run.workflow());
        queue.moved(id, None, Some(place.part()));
        self.count(webhook, bytes, place);
        self.runs.insert(id, LiveEntry { webhook, place, bytes, workflow });
        self.index(id, place);
        self.refresh(webhook);
    }

    pub(crate) fn remove(&mut self, id: RunId) {
        let Some(LiveEntry { webhook, place, bytes, .. }) = self.runs.remove(&id) else { return };
        self.unindex(id, place);
        self.discount(webhook, bytes, place);
        if let Some(queue) = self.queues.get_mut(&webhook) {
            queue.moved(id, Some(place.part()), None);
        }
        self.refresh(webhook);
    }

    /// Moves a run to another place.
    pub(crate) fn place(&mut self, id: RunId, place: RunPlace) {
        let Some(entry) = self.runs.get_mut(&id) else { return };
        let (webhook, bytes) = (entry.webhook, entry.bytes);
        let old = std::mem::replace(&mut entry.place, place);
        self.unindex(id, old);
        self.discount(webhook, bytes, old);
        self.index(id, place);
        self.count(webhook, bytes, place);
        if old.part() != place.part()
            && let Some(queue) = self.queues.get_mut(&webhook)
        {
            queue.moved(id, Some(old.part()), Some(place.part()));
            self.refresh(webhook);
        }
    }

    fn count(&mut self, webhook: WebhookId, bytes: u32, place: RunPlace) {
        if place.is_queued() {
            self.queued += 1;
            self.queued_bytes += u64::from(bytes);
            if let Some(queue) = self.queues.get_mut(&webhook) {
                queue.queued_bytes += u64::from(bytes);
            }
        }
    }

    fn discount(&mut self, webhook: WebhookId, bytes: u32, place: RunPlace) {
        if place.is_queued() {
            self.queued -= 1;
            self.queued_bytes -= u64::from(bytes);
            if let Some(queue) = self.queues.get_mut(&webhook) {
                queue.queued_bytes -= u64::from(bytes);
            }
        }
    }

    fn index(&mut self, id: RunId, place: RunPlace) {
        match place {
            RunPlace::Delayed(due) => {
                self.delayed.insert((due, id));
            }
            RunPlace::Claimed(end) | RunPlace::Running(end) => {
                self.leases.insert((end, id));
            }
            RunPlace::Ready | RunPlace::Uncommitted => {}
        }
    }

    fn unindex(&mut self, id: RunId, place: RunPlace) {
        match place {
            RunPlace::Delayed(due) => {
                self.delayed.remove(&(due, id));
            }
            RunPlace::Claimed(end) | RunPlace::Running(end) => {
                self.leases.remove(&(end, id));
            }
            RunPlace::Ready | RunPlace::Uncommitted => {}
        }
    }

    /// Follows a change of a webhook's queue: its next run may be another one, and it may have no runs left.
    pub(crate) fn refresh(&mut self, webhook: WebhookId) {
        let Some(queue) = self.queues.get_mut(&webhook) else { return };
        let next = queue.next();
        let known = std::mem::replace(&mut queue.known_next, next);
        if known != next {
            match next {
                Some(id) => self.next.insert(webhook, id),
                None => self.next.remove(&webhook),
            };
        }
        if queue.is_empty() {
            self.queues.remove(&webhook);
        }
    }
}
