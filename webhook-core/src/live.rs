//! Live runs: every decision about runs that have not ended, for stores that one process opens.
//!
//! [`LiveRuns`] holds the queued and running runs in memory and says what becomes of them: who is admitted, who
//! is claimed, which lease is over, whose fence is stale. It is synchronous and does no I/O; the store around it
//! persists the records it answers. Time that passes is handed in as [`Instant`], so a jump of the clock changes
//! nothing.

mod far;
mod lane;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::id::{RunId, WebhookId};
use crate::run::{CancelReason, Ending, Run, RunState};
use crate::store::{ClaimRequest, Enqueue, Outcome, Renewal, Renewed, RunQuery, Settlement};

use far::Depth;
pub use far::Packing;
use lane::{Lane, Part};
pub use waiting::{later, wait_for_work};

/// The runs that have not ended. See the [module](self).
#[derive(Debug, Default)]
pub struct LiveRuns {
    /// All of them but those that are far.
    runs: BTreeMap<RunId, Live>,
    /// The next run of each webhook that may be claimed now, oldest first.
    next: BTreeSet<(RunId, WebhookId)>,
    /// Runs that wait for their due time.
    delayed: BTreeSet<(Instant, RunId)>,
    /// Running runs by the end of their lease.
    leases: BTreeSet<(Instant, RunId)>,
    lanes: HashMap<WebhookId, Lane>,
    /// The webhooks that have far runs.
    deep: BTreeSet<WebhookId>,
    queued: usize,
    last_fence: u64,
    packing: Packing,
    depth: Depth,
}

/// A live run and where it is.
#[derive(Debug)]
struct Live {
    run: Arc<Run>,
    place: Place,
}

/// Where a live run is, besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is admitted, but not known to be durable.
    Uncommitted,
    /// It may be claimed, once its webhook's concurrency has room.
    Ready,
    /// It waits for its due time.
    Delayed(Instant),
    /// It is claimed until then.
    Running(Instant),
}

impl Place {
    /// Where that is in its lane.
    fn part(self) -> Part {
        match self {
            Self::Running(_) => Part::Running,
            Self::Ready => Part::Ready,
            Self::Uncommitted | Self::Delayed(_) => Part::Waiting,
        }
    }

    fn is_queued(self) -> bool {
        !matches!(self, Self::Running(_))
    }
}

/// What became of the live runs when one was admitted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Admission {
    /// The new run: queued, or skipped and thereby ended.
    pub run: Arc<Run>,
    /// Queued runs that it superseded; they have ended.
    pub superseded: Vec<Arc<Run>>,
    /// Running runs whose cancellation is now asked for.
    pub asked_to_stop: Vec<Arc<Run>>,
}

/// The queue has no room for another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// What a claim changed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClaimedRuns {
    /// Runs whose lease was over: queued again, and maybe claimed again below.
    pub interrupted: Vec<Arc<Run>>,
    /// Runs that were claimed.
    pub claimed: Vec<Arc<Run>>,
}

/// What became of a cancellation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveCancel {
    /// It was queued and has ended.
    Ended(Arc<Run>),
    /// It is running and its cancellation is asked for.
    Requested(Arc<Run>),
}

impl LiveRuns {
    /// No live runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No live runs; those that wait behind many others of their webhook are kept packed.
    #[must_use]
    pub fn packed(packing: Packing) -> Self {
        Self { packing, ..Self::default() }
    }

    /// Takes a run read when the store was opened. One that was running is interrupted, since the process that
    /// ran it is gone. Answers the run as it is now.
    pub fn restore(&mut self, run: Run, now: SystemTime, instant: Instant) -> Arc<Run> {
        self.last_fence = self.last_fence.max(run.fence);
        let run = Arc::new(run.interrupted(now).unwrap_or(run));
        let wait = run.due_at.duration_since(now).unwrap_or(Duration::ZERO);
        let place = if wait.is_zero() { Place::Ready } else { Place::Delayed(later(instant, wait)) };
        self.insert(run.clone(), place);
        self.keep_far(run.webhook_id);
        run
    }

    /// Admits a new run under its webhook's overlap rule and the queue limits. Whoever persists it then calls
    /// [`commit`](Self::commit), or [`forget`](Self::forget) when that failed.
    ///
    /// # Errors
    /// [`QueueFull`]; nothing has changed then.
    pub fn admit(&mut self, request: &Enqueue) -> Result<Admission, QueueFull> {
        let now = request.run.queued_at;
        let webhook = request.run.webhook_id;
        let lane = self.lanes.entry(webhook).or_default();
        lane.set_bound(request.concurrency.bound());
        let asked = |id: &RunId| self.runs.get(id).is_some_and(|live| live.run.cancel_requested.is_some());
        let plan = lane.plan(request.concurrency.on_overlap, asked);
        if plan.skip {
            self.refresh(webhook);
            let skipped = request.run.ended(Ending::Skipped, now);
            let run = skipped.map_or_else(|_| request.run.clone(), Arc::new);
            return Ok(Admission { run, superseded: Vec::new(), asked_to_stop: Vec::new() });
        }
        let freed = plan.supersede.len();
        let of_webhook = lane.queued_count() - freed + 1;
        let in_all = self.queued - freed + 1;
        let full = request.webhook_queue_limit.is_some_and(|limit| of_webhook > limit as usize)
            || in_all > request.queue_limit as usize;
        if full {
            self.refresh(webhook);
            return Err(QueueFull);
        }
        let superseded = plan.supersede.iter().filter_map(|id| {
            self.end(self.get_of(webhook, *id)?, Ending::Cancelled(CancelReason::Superseded), now)
        });
        let superseded = superseded.collect();
        let asked_to_stop =
            plan.stop.iter().filter_map(|id| self.ask(*id, CancelReason::Superseded)).collect();
        let run = request.run.clone();
        self.insert(run.clone(), Place::Uncommitted);
        Ok(Admission { run, superseded, asked_to_stop })
    }

    /// Lets an admitted run be claimed, now that it is durable.
    pub fn commit(&mut self, id: RunId) {
        if let Some(live) = self.runs.get(&id).filter(|live| live.place == Place::Uncommitted) {
            let webhook = live.run.webhook_id;
            self.place(id, Place::Ready);
            self.keep_far(webhook);
        }
    }

    /// Forgets an admitted run that could not be made durable.
    pub fn forget(&mut self, id: RunId) {
        self.remove(id);
    }

    /// Whether something can be claimed at this moment.
    #[must_use]
    pub fn has_work(&self, instant: Instant) -> bool {
        self.work_at(instant).is_some_and(|from| from <= instant)
    }

    /// From when on something can be claimed, if nothing changes: now, or once a run becomes due or a lease is over.
    #[must_use]
    pub fn work_at(&self, now: Instant) -> Option<Instant> {
        if !self.next.is_empty() {
            return Some(now);
        }
        let delayed = self.delayed.first().map(|first| first.0);
        let lease = self.leases.first().map(|first| first.0);
        delayed.into_iter().chain(lease).min()
    }

    /// Claims due runs, oldest first, after interrupting those whose lease is over.
    pub fn claim(&mut self, request: &ClaimRequest, instant: Instant) -> ClaimedRuns {
        let mut outcome = ClaimedRuns::default();
        while let Some((_, id)) = self.leases.first().copied().filter(|(end, _)| *end <= instant) {
            match self.get(id).map(|run| run.interrupted(request.now)) {
                Some(Ok(run)) => {
                    let run = Arc::new(run);
                    self.update(run.clone(), Place::Ready);
                    outcome.interrupted.push(run);
                }
                _ => self.remove(id),
            }
        }
        while let Some((_, id)) = self.delayed.first().copied().filter(|(due, _)| *due <= instant) {
            self.place(id, Place::Ready);
        }
        while outcome.claimed.len() < request.limit {
            let Some((id, webhook)) = self.next.first().copied() else { break };
            let fence = self.last_fence + 1;
            let claimed = |run: Arc<Run>| run.claimed(fence, request.interruption_bound, request.now).ok();
            match self.bring_near(id, webhook).and_then(claimed) {
                Some(run) => {
                    self.last_fence = fence;
                    let run = Arc::new(run);
                    self.update(run.clone(), Place::Running(later(instant, request.lease)));
                    outcome.claimed.push(run);
                }
                None => {
                    self.remove(id);
                    // What cannot be claimed must not stay next, or this would never end.
                    self.next.remove(&(id, webhook));
                }
            }
        }
        outcome
    }

    /// Extends a lease to `end` and records progress.
    pub fn renew(&mut self, renewal: &Renewal, end: Instant) -> Renewed {
        let Some(run) = self.held(renewal.run, renewal.fence) else { return Renewed::Lost };
        let cancel = run.cancel_requested;
        let run = match &renewal.progress {
            Some(progress) => Arc::new(Run { progress: Some(progress.clone()), ..(*run).clone() }),
            None => run,
        };
        self.update(run, Place::Running(end));
        Renewed::Held { cancel }
    }

    /// Records how an attempt went. `None` when its fence is stale, and nothing has changed then.
    pub fn settle(&mut self, settlement: &Settlement, instant: Instant) -> Option<Arc<Run>> {
        let now = settlement.now;
        let run = self.held(settlement.run, settlement.fence)?;
        let closed = self.lanes.get(&run.webhook_id).is_some_and(Lane::is_closed);
        let ending = match (&settlement.outcome, run.cancel_requested) {
            (Outcome::Ended { ending, .. }, _) => ending.clone(),
            (Outcome::Retry { .. } | Outcome::HandBack, Some(reason)) => Ending::Cancelled(reason),
            (Outcome::Retry { error, .. }, None) if closed => Ending::Failed(error.clone()),
            (Outcome::Retry { error, delay }, None) => {
                let due_at = now.checked_add(*delay).unwrap_or(now);
                let run = Arc::new(run.retrying(error.clone(), due_at).ok()?);
                self.update(run.clone(), Place::Delayed(later(instant, *delay)));
                return Some(run);
            }
            (Outcome::HandBack, None) => {
                let run = Arc::new(run.handed_back(now).ok()?);
                self.update(run.clone(), Place::Ready);
                return Some(run);
            }
        };
        self.end(run, ending, now)
    }

    /// Cancels a queued run or asks for the cancellation of a running one. `None` when it is not live.
    pub fn cancel(&mut self, id: RunId, reason: CancelReason, now: SystemTime) -> Option<LiveCancel> {
        let run = self.get(id)?;
        match run.state {
            RunState::Running => self.ask(id, reason).map(LiveCancel::Requested),
            _ => self.end(run, Ending::Cancelled(reason), now).map(LiveCancel::Ended),
        }
    }

    /// Sets how many runs of a webhook may execute at once, for the claims that follow.
    pub fn set_bound(&mut self, webhook: WebhookId, bound: Option<u32>) {
        if let Some(lane) = self.lanes.get_mut(&webhook) {
            lane.set_bound(bound);
            self.refresh(webhook);
        }
    }

    /// Cancels the queued runs of a deleted webhook and answers them. Its running ones go on and are not retried.
    pub fn close_webhook(&mut self, webhook: WebhookId, now: SystemTime) -> Vec<Arc<Run>> {
        let Some(lane) = self.lanes.get_mut(&webhook) else { return Vec::new() };
        let queued = lane.close();
        queued
            .into_iter()
            .filter_map(|id| {
                self.end(self.get_of(webhook, id)?, Ending::Cancelled(CancelReason::WebhookDeleted), now)
            })
            .collect()
    }

    /// A live run.
    #[must_use]
    pub fn get(&self, id: RunId) -> Option<Arc<Run>> {
        match self.runs.get(&id) {
            Some(live) => Some(live.run.clone()),
            None => self.deep.iter().find_map(|webhook| self.get_of(*webhook, id)),
        }
    }

    /// A live run that is of this webhook if it is far.
    fn get_of(&self, webhook: WebhookId, id: RunId) -> Option<Arc<Run>> {
        match self.runs.get(&id) {
            Some(live) => Some(live.run.clone()),
            None => self.lanes.get(&webhook)?.far.get(id, &self.packing),
        }
    }

    /// The live runs that a query asks for, newest first, at most `limit`. Those not yet durable are left out.
    #[must_use]
    pub fn list(&self, query: &RunQuery, limit: usize) -> Vec<Arc<Run>> {
        let older = match query.before {
            Some(before) => self.runs.range(..before),
            None => self.runs.range::<RunId, _>(..),
        };
        let near = older
            .rev()
            .map(|(_, live)| live)
            .filter(|live| live.place != Place::Uncommitted && query.matches(&live.run));
        let mut found: Vec<Arc<Run>> = near.map(|live| live.run.clone()).take(limit).collect();
        // Where there are enough near ones, only those that are newer than the last of them are of interest.
        let floor = limit.checked_sub(1).and_then(|last| found.get(last)).map(|run| run.id);
        let deep = self.deep.iter().filter(|id| query.webhook.is_none_or(|asked| asked == **id));
        for lane in deep.filter_map(|webhook| self.lanes.get(webhook)) {
            found.extend(lane.far.newest(query, floor, limit, &self.packing));
        }
        found.sort_unstable_by_key(|run| std::cmp::Reverse(run.id));
        found.truncate(limit);
        found
    }

    /// How many runs are queued.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// How many runs are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.leases.len()
    }

    /// The run if it is running under this very fence.
    fn held(&self, id: RunId, fence: u64) -> Option<Arc<Run>> {
        self.get(id).filter(|run| run.state == RunState::Running && run.fence == fence)
    }

    fn ask(&mut self, id: RunId, reason: CancelReason) -> Option<Arc<Run>> {
        let run = self.get(id)?;
        if run.cancel_requested.is_some() {
            return Some(run);
        }
        let run = Arc::new(Run { cancel_requested: Some(reason), ..(*run).clone() });
        self.runs.get_mut(&id)?.run = run.clone();
        Some(run)
    }

    fn end(&mut self, run: Arc<Run>, ending: Ending, now: SystemTime) -> Option<Arc<Run>> {
        let ended = run.ended(ending, now).ok()?;
        if self.runs.contains_key(&run.id) {
            self.remove(run.id);
        } else if self.lanes.get_mut(&run.webhook_id).is_some_and(|lane| lane.far.remove(run.id)) {
            self.queued -= 1;
            self.refresh(run.webhook_id);
        }
        Some(Arc::new(ended))
    }

    fn insert(&mut self, run: Arc<Run>, place: Place) {
        let (id, webhook) = (run.id, run.webhook_id);
        self.runs.insert(id, Live { run, place });
        self.index(id, place);
        self.lanes.entry(webhook).or_default().moved(id, None, Some(place.part()));
        self.refresh(webhook);
    }

    /// Forgets a run that is not far.
    fn remove(&mut self, id: RunId) {
        let Some(Live { run, place }) = self.runs.remove(&id) else { return };
        self.unindex(id, place);
        if let Some(lane) = self.lanes.get_mut(&run.webhook_id) {
            lane.moved(id, Some(place.part()), None);
        }
        self.refresh(run.webhook_id);
    }

    /// Replaces a run's record and moves it to another place.
    fn update(&mut self, run: Arc<Run>, place: Place) {
        let id = run.id;
        let Some(live) = self.runs.get_mut(&id) else { return };
        live.run = run;
        self.place(id, place);
    }

    fn place(&mut self, id: RunId, place: Place) {
        let Some(live) = self.runs.get_mut(&id) else { return };
        let (webhook, old) = (live.run.webhook_id, std::mem::replace(&mut live.place, place));
        self.unindex(id, old);
        self.index(id, place);
        if old.part() != place.part()
            && let Some(lane) = self.lanes.get_mut(&webhook)
        {
            lane.moved(id, Some(old.part()), Some(place.part()));
            self.refresh(webhook);
        }
    }

    fn index(&mut self, id: RunId, place: Place) {
        self.queued += usize::from(place.is_queued());
        match place {
            Place::Delayed(due) => drop(self.delayed.insert((due, id))),
            Place::Running(end) => drop(self.leases.insert((end, id))),
            Place::Ready | Place::Uncommitted => {}
        }
    }

    fn unindex(&mut self, id: RunId, place: Place) {
        self.queued -= usize::from(place.is_queued());
        match place {
            Place::Delayed(due) => drop(self.delayed.remove(&(due, id))),
            Place::Running(end) => drop(self.leases.remove(&(end, id))),
            Place::Ready | Place::Uncommitted => {}
        }
    }

    /// Notes what has changed of a webhook: which run of it is next now, and whether it has far runs, or runs at all.
    fn refresh(&mut self, webhook: WebhookId) {
        let Some(lane) = self.lanes.get_mut(&webhook) else { return };
        let next = lane.next();
        let known = std::mem::replace(&mut lane.known_next, next);
        if known != next {
            if let Some(id) = known {
                self.next.remove(&(id, webhook));
            }
            self.next.extend(next.map(|id| (id, webhook)));
        }
        if lane.far.is_empty() {
            self.deep.remove(&webhook);
        }
        if lane.is_empty() {
            self.lanes.remove(&webhook);
        }
    }

    /// Packs runs of a webhook that wait far behind others of it.
    fn keep_far(&mut self, webhook: WebhookId) {
        let Some(lane) = self.lanes.get_mut(&webhook) else { return };
        if !self.packing.packs() || !lane.has_grown(&self.depth) {
            return;
        }
        for id in lane.take_far(&self.depth) {
            let packed = self.runs.get(&id).and_then(|live| self.packing.pack(&live.run));
            match packed.and_then(|packed| Some((self.runs.remove(&id)?.run, packed))) {
                Some((run, packed)) => lane.far.push(&run, &packed, &self.depth),
                None => lane.moved(id, None, Some(Part::Ready)),
            }
        }
        lane.has_looked();
        if !lane.far.is_empty() {
            self.deep.insert(webhook);
        }
    }

    /// The next run of a webhook. If it is far, it is so no longer, nor are those that were packed together with it.
    fn bring_near(&mut self, id: RunId, webhook: WebhookId) -> Option<Arc<Run>> {
        if !self.runs.contains_key(&id)
            && let Some(lane) = self.lanes.get_mut(&webhook)
            && let Some((count, runs)) = lane.far.take_first(&self.packing)
        {
            self.queued -= count - runs.len();
            for run in runs {
                lane.moved(run.id, None, Some(Part::Ready));
                self.runs.insert(run.id, Live { run, place: Place::Ready });
            }
            self.refresh(webhook);
        }
        self.runs.get(&id).map(|live| live.run.clone())
    }
}

#[cfg(test)]
mod tests;
