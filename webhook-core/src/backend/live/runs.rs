//! Every decision about live runs.

mod claims;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::backend::live::index::{RunIndex, RunPlace};
use crate::backend::live::listing::newest;
use crate::backend::live::outcome::{Admission, LiveCancel, NotAdmitted};
use crate::backend::live::queue::WebhookQueue;
use crate::backend::live::records::RecordCache;
use crate::clock::later;
use crate::id::{RunId, WebhookId};
use crate::run::{CancelReason, Ending, Run, RunState};
use crate::store::{Enqueue, Outcome, Renewal, Renewed, RunQuery, Settlement, Workflows};

/// A live run, by its id, and its record if that is in memory.
pub type ListedRun = (RunId, Option<Arc<Run>>);

/// The runs that have not ended, and every decision about them, for a store that one process opens.
///
/// `LiveRuns` decides which runs are admitted and claimed, which leases have ended, and which fences are stale. It is
/// synchronous and does no I/O; the store around it persists the records it returns. The time is passed in as
/// [`Instant`], so a jump of the clock changes nothing.
///
/// Of a queued run an index entry is in memory. Its record is too while it fits into a [cache](Self::with_cache).
/// A method that needs another record changes nothing and returns the missing ids. The store
/// [provides](Self::provide) the records and calls it again.
#[derive(Debug)]
pub struct LiveRuns {
    index: RunIndex,
    records: RecordCache,
    /// Runs that are claimed ahead, as they will be once they begin: those whose place is [`Place::Claimed`].
    ahead: HashMap<RunId, Arc<Run>>,
    last_fence: u64,
}

impl Default for LiveRuns {
    fn default() -> Self {
        Self::with_cache(usize::MAX)
    }
}

impl LiveRuns {
    /// Creates an index without runs, whose records all stay in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an index without runs, which keeps about so many bytes of queued runs' records in memory.
    #[must_use]
    pub fn with_cache(bytes: usize) -> Self {
        Self {
            index: RunIndex::default(),
            records: RecordCache::new(bytes),
            ahead: HashMap::new(),
            last_fence: 0,
        }
    }

    /// Creates an index without runs, whose fences are greater than all that this one has given out.
    pub(crate) fn emptied(&self) -> Self {
        Self { last_fence: self.last_fence, ..Self::new() }
    }

    /// Greatest fence that was given out, or that a run had when it was taken.
    pub(crate) fn last_fence(&self) -> u64 {
        self.last_fence
    }

    /// Takes a run that was read when the store was opened, and returns it as it is now. A running one is interrupted: the
    /// process that ran it is gone.
    ///
    /// `bytes` is the size of its parameters, which the run may lack, since its record does not stay in memory.
    pub fn restore(&mut self, run: Run, bytes: usize, now: SystemTime, instant: Instant) -> Run {
        self.last_fence = self.last_fence.max(run.fence());
        let run = run.interrupted(now).unwrap_or(run);
        let wait = run.due_at().duration_since(now).unwrap_or(Duration::ZERO);
        let place = if wait.is_zero() { RunPlace::Ready } else { RunPlace::Delayed(later(instant, wait)) };
        self.index.insert(&run, bytes, place);
        run
    }

    /// Takes a running run that continues: the process that executes it has reopened the store. It stays
    /// claimed until `lease_end`. `bytes` is the size of its parameters.
    pub fn resume(&mut self, run: Arc<Run>, bytes: usize, lease_end: Instant) {
        self.last_fence = self.last_fence.max(run.fence());
        self.index.insert(&run, bytes, RunPlace::Running(lease_end));
        self.records.put(run, false);
    }

    /// Takes the record of a queued run, as it was last written, after a method returned that it is missing.
    pub fn provide(&mut self, run: Arc<Run>) {
        let id = run.id();
        let is_wanted = self.index.get(id).is_some_and(|entry| entry.place.is_queued());
        if is_wanted && !self.records.has(id) {
            self.records.put(run, true);
        }
    }

    /// Admits a new run under its webhook's overlap rule and the queue limits, where `bound` is the bound on
    /// concurrency that the webhook has now. Once it is persisted, the caller calls [`commit`](Self::commit), or
    /// [`forget`](Self::forget) when that failed.
    ///
    /// Fails with [`NotAdmitted`]; nothing has changed then.
    pub fn admit(&mut self, request: &Enqueue, bound: Option<u32>) -> Result<Admission, NotAdmitted> {
        let now = request.run.queued_at();
        let webhook = request.run.webhook_id();
        let records = &self.records;
        let asked = |id: &RunId| records.get(*id).is_some_and(|run| run.cancel_requested().is_some());
        let plan = self.index.plan(webhook, bound, request.concurrency.on_overlap, asked);
        if plan.skip {
            self.index.refresh(webhook);
            let skipped = request.run.ended(Ending::Skipped, now);
            let run = skipped.map_or_else(|_| request.run.clone(), Arc::new);
            return Ok(Admission { run, superseded: Vec::new(), asked_to_stop: Vec::new() });
        }
        let refused = if self.is_full(request, &plan.supersede) {
            Some(NotAdmitted::QueueFull)
        } else {
            let missing: Vec<RunId> =
                plan.supersede.iter().copied().filter(|id| !self.records.has(*id)).collect();
            (!missing.is_empty()).then_some(NotAdmitted::Missing(missing))
        };
        if let Some(refused) = refused {
            self.index.refresh(webhook);
            return Err(refused);
        }
        let superseded = plan.supersede.iter().filter_map(|id| {
            let run = self.record(*id)?;
            self.end(run, Ending::Cancelled(CancelReason::Superseded), now)
        });
        let superseded = superseded.collect();
        let asked_to_stop =
            plan.stop.iter().filter_map(|id| self.ask(*id, CancelReason::Superseded)).collect();
        let run = request.run.clone();
        self.index.insert(&run, run.parameters().bytes(), RunPlace::Uncommitted);
        self.records.put(run.clone(), true);
        Ok(Admission { run, superseded, asked_to_stop })
    }

    /// Returns true if a queue has no room for a run that supersedes these.
    fn is_full(&self, request: &Enqueue, superseded: &[RunId]) -> bool {
        let freed: u64 = superseded.iter().map(|id| self.index.parameter_bytes(*id)).sum();
        let queue = self.index.queue(request.run.webhook_id());
        let (queued, queued_bytes) = queue.map_or((0, 0), |queue| (queue.queued_count(), queue.queued_bytes));
        let bytes = request.run.parameters().bytes() as u64;
        let of_webhook = queued + 1 - superseded.len();
        let in_all = self.index.queued() + 1 - superseded.len();
        request.webhook_queue_limit.is_some_and(|limit| of_webhook > limit as usize)
            || in_all > request.queue_limit as usize
            || queued_bytes + bytes - freed > request.webhook_queue_bytes
            || self.index.queued_bytes() + bytes - freed > request.queue_bytes
    }

    /// Lets an admitted run be claimed, now that it is durable.
    pub fn commit(&mut self, id: RunId) {
        if self.index.get(id).is_some_and(|entry| entry.place == RunPlace::Uncommitted) {
            self.place(id, RunPlace::Ready);
            self.records.trim();
        }
    }

    /// Forgets a run that could not be made durable, or of which the record cannot be read.
    pub fn forget(&mut self, id: RunId) {
        self.remove(id);
    }

    /// Returns true if something can be claimed at this moment.
    #[must_use]
    pub fn has_work(&self, instant: Instant) -> bool {
        self.work_at(&Workflows::All, instant).is_some_and(|from| from <= instant)
    }

    /// Earliest time at which a run of these workflows can be claimed if nothing changes: now, or when a run becomes due or a
    /// lease ends.
    #[must_use]
    pub fn work_at(&self, workflows: &Workflows, now: Instant) -> Option<Instant> {
        if self.index.next(workflows).is_some() {
            return Some(now);
        }
        let first = self.index.first_due().into_iter().chain(self.index.first_lease_end());
        first.map(|(at, _)| at).min()
    }

    /// Extends a lease to `end` and records progress, which only a run that has begun makes.
    pub fn renew(&mut self, renewal: &Renewal, end: Instant) -> Renewed {
        let Some(run) = self.held(renewal.run, renewal.fence) else { return Renewed::Lost };
        let cancel = run.cancel_requested();
        if renewal.progress.is_none() && self.ahead.contains_key(&renewal.run) {
            self.place(renewal.run, RunPlace::Claimed(end));
            return Renewed::Held { cancel };
        }
        let run = match &renewal.progress {
            Some(progress) => run.progressed(progress.clone()).map_or(run, Arc::new),
            None => run,
        };
        self.update(run, RunPlace::Running(end));
        Renewed::Held { cancel }
    }

    /// Records the outcome of an attempt. `None` when its fence is stale, and nothing has changed then.
    pub fn settle(&mut self, settlement: &Settlement, instant: Instant) -> Option<Arc<Run>> {
        let now = settlement.now;
        let run = self.held(settlement.run, settlement.fence)?;
        let run = self.started(run, settlement);
        let is_closed = self.is_closed(run.webhook_id());
        let ending = match (&settlement.outcome, run.cancel_requested()) {
            (Outcome::Ended { ending, .. }, _) => ending.clone(),
            (Outcome::Retry { .. } | Outcome::HandBack, Some(reason)) => Ending::Cancelled(reason),
            (Outcome::Retry { error, .. }, None) if is_closed => Ending::failed(error.clone()),
            (Outcome::HandBack, None) if is_closed => Ending::Cancelled(CancelReason::WebhookDeleted),
            (Outcome::Retry { error, delay }, None) => {
                let due_at = now.checked_add(*delay).unwrap_or(now);
                let run = Arc::new(run.retrying(error.clone(), due_at).ok()?);
                self.update(run.clone(), RunPlace::Delayed(later(instant, *delay)));
                self.records.trim();
                return Some(run);
            }
            (Outcome::HandBack, None) => {
                let run = Arc::new(run.handed_back(now).ok()?);
                self.update(run.clone(), RunPlace::Ready);
                self.records.trim();
                return Some(run);
            }
        };
        self.end(run, ending, now)
    }

    /// Cancels a queued run or asks for the cancellation of a claimed one. `None` when it is not live.
    pub fn cancel(&mut self, id: RunId, reason: CancelReason, now: SystemTime) -> Option<LiveCancel> {
        let is_queued = self.index.get(id)?.place.is_queued();
        let Some(run) = self.record(id) else { return Some(LiveCancel::Missing) };
        if is_queued {
            self.end(run, Ending::Cancelled(reason), now).map(LiveCancel::Ended)
        } else {
            self.ask(id, reason).map(LiveCancel::Requested)
        }
    }

    /// Sets how many runs of a webhook may execute at once, for the claims that follow.
    pub fn set_bound(&mut self, webhook: WebhookId, bound: Option<u32>) {
        self.index.change_queue(webhook, |queue| queue.set_bound(bound));
    }

    /// Closes the queue of a deleted webhook, and returns its queued runs, oldest first. They are not claimed any more; the
    /// caller [cancels](Self::cancel) them. Its running ones go on and are not executed again.
    pub fn close_webhook(&mut self, webhook: WebhookId) -> Vec<RunId> {
        self.index.change_queue(webhook, WebhookQueue::close).unwrap_or_default()
    }

    /// Live runs that a query asks for, newest first, at most `limit`, with the records that are in memory. Runs that are not
    /// durable are left out.
    #[must_use]
    pub fn list(&self, query: &RunQuery, limit: usize) -> Vec<ListedRun> {
        newest(&self.index, query, limit).into_iter().map(|id| (id, self.record(id))).collect()
    }

    /// Returns true if a run is queued or running.
    #[must_use]
    pub fn is_live(&self, id: RunId) -> bool {
        self.index.contains(id)
    }

    /// A live run, if its record is in memory. The record of a running one always is.
    #[must_use]
    pub fn record(&self, id: RunId) -> Option<Arc<Run>> {
        self.records.get(id).cloned()
    }

    /// Returns a run that executes under this fence: it has begun, and the claim is not lost.
    #[must_use]
    pub fn executing(&self, id: RunId, fence: u64) -> Option<Arc<Run>> {
        self.record(id).filter(|run| run.state() == RunState::Running && run.fence() == fence)
    }

    /// Ends the queued runs of a deleted webhook, whose records must be in memory, and returns them, oldest first. Its running
    /// ones go on and are not executed again.
    pub(crate) fn end_queued(&mut self, webhook: WebhookId, now: SystemTime) -> Vec<Arc<Run>> {
        let queued = self.close_webhook(webhook).into_iter();
        let end = |id| match self.cancel(id, CancelReason::WebhookDeleted, now) {
            Some(LiveCancel::Ended(run)) => Some(run),
            _ => None,
        };
        queued.filter_map(end).collect()
    }

    /// The runs that are claimed, by the end of their leases.
    pub fn claimed(&self) -> impl Iterator<Item = Arc<Run>> {
        self.index.claimed().filter_map(|id| self.claim_of(id))
    }

    /// Number of queued runs. Those that are claimed ahead count.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.index.queued() + self.ahead.len()
    }

    /// Bytes of the queued runs' parameters.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.index.queued_bytes()
    }

    /// Number of running runs.
    #[must_use]
    pub fn running(&self) -> usize {
        self.index.claimed().len() - self.ahead.len()
    }

    fn is_closed(&self, webhook: WebhookId) -> bool {
        self.index.queue(webhook).is_some_and(WebhookQueue::is_closed)
    }

    /// The run as its claim has it.
    fn claim_of(&self, id: RunId) -> Option<Arc<Run>> {
        self.ahead.get(&id).cloned().or_else(|| self.record(id))
    }

    /// The run, if it is claimed under this fence.
    fn held(&self, id: RunId, fence: u64) -> Option<Arc<Run>> {
        self.claim_of(id).filter(|run| run.state() == RunState::Running && run.fence() == fence)
    }

    /// A run that is being settled, with the time of its start. A run claimed ahead may be settled without a
    /// [`begin`](Self::begin).
    fn started(&self, run: Arc<Run>, settlement: &Settlement) -> Arc<Run> {
        match (self.ahead.get(&run.id()), self.records.get(run.id())) {
            (Some(_), Some(queued)) => {
                let started_at = queued.started_at().or(settlement.started_at);
                run.begun(started_at).map_or(run, Arc::new)
            }
            _ => run,
        }
    }

    fn ask(&mut self, id: RunId, reason: CancelReason) -> Option<Arc<Run>> {
        let run = self.record(id)?;
        if run.cancel_requested().is_some() {
            return Some(run);
        }
        if let Some(claimed) = self.ahead.get_mut(&id) {
            *claimed = Arc::new(claimed.asked_to_stop(reason).ok()?);
        }
        let run = Arc::new(run.asked_to_stop(reason).ok()?);
        self.records.put(run.clone(), false);
        Some(run)
    }

    fn end(&mut self, run: Arc<Run>, ending: Ending, now: SystemTime) -> Option<Arc<Run>> {
        let ended = run.ended(ending, now).ok()?;
        self.remove(run.id());
        Some(Arc::new(ended))
    }

    fn remove(&mut self, id: RunId) {
        self.records.remove(id);
        self.ahead.remove(&id);
        self.index.remove(id);
    }

    /// Replaces a run's record and moves it to another place.
    fn update(&mut self, run: Arc<Run>, place: RunPlace) {
        let id = run.id();
        if self.index.contains(id) {
            self.records.put(run, place.is_queued());
            self.place(id, place);
        }
    }

    fn place(&mut self, id: RunId, place: RunPlace) {
        if !matches!(place, RunPlace::Claimed(_)) {
            self.ahead.remove(&id);
        }
        self.index.place(id, place);
    }
}
