//! Live runs: every decision about runs that have not ended, for stores that one process opens.
//!
//! [`LiveRuns`] knows the queued and running runs and says what becomes of them: which are admitted, which are claimed,
//! which lease is over, whose fence is stale. It is synchronous and does no I/O; the store around it
//! persists the records it answers. Time that passes is handed in as [`Instant`], so a jump of the clock changes
//! nothing.
//!
//! Of a queued run an index entry is in memory. Its record is too while it fits into a [cache](LiveRuns::with_cache);
//! otherwise the methods that need it answer that it is missing, have changed nothing, and are called again once the
//! store has [provided](LiveRuns::provide) it.

mod lane;
mod listing;
mod records;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::later;
use crate::id::{RunId, WebhookId};
use crate::run::{CancelReason, Ending, Run, RunState};
use crate::store::{Begun, ClaimRequest, Enqueue, Outcome, Renewal, Renewed, Settlement};

use lane::{Lane, Part};
pub use listing::ListedRun;
use records::Records;
pub use waiting::wait_for_work;

/// The runs that have not ended. See the [module](self).
#[derive(Debug)]
pub struct LiveRuns {
    runs: BTreeMap<RunId, Live>,
    records: Records,
    /// The next run of each webhook that may be claimed now, oldest first.
    next: BTreeSet<(RunId, WebhookId)>,
    /// Runs that wait for their due time.
    delayed: BTreeSet<(Instant, RunId)>,
    /// Claimed runs by the end of their lease.
    leases: BTreeSet<(Instant, RunId)>,
    /// The runs that are claimed ahead, as they will be once they begin.
    ahead: HashMap<RunId, Arc<Run>>,
    lanes: HashMap<WebhookId, Lane>,
    queued: usize,
    /// How many bytes of parameters the queued runs have.
    queued_bytes: u64,
    last_fence: u64,
}

/// How many records are asked for at once, when the next run's is missing.
const READ_AHEAD: usize = 128;
/// How many bytes of parameters they have, unless the first alone has more.
const READ_AHEAD_BYTES: u64 = 1 << 20;
/// How many runs behind the next one are read along where the webhook has room for fewer.
const LEAST_READ_AHEAD: usize = 16;

/// What is known of every live run.
#[derive(Debug)]
struct Live {
    webhook: WebhookId,
    place: Place,
    /// Of its parameters.
    bytes: u32,
    /// The number of its workflow in its lane.
    workflow: u16,
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
    /// It is claimed ahead until then, and has not begun.
    Claimed(Instant),
    /// It is claimed until then, and executes.
    Running(Instant),
}

impl Place {
    /// Where that is in its lane.
    fn part(self) -> Part {
        match self {
            Self::Running(_) => Part::Running,
            Self::Claimed(_) => Part::Claimed,
            Self::Ready => Part::Ready,
            Self::Uncommitted | Self::Delayed(_) => Part::Waiting,
        }
    }

    /// Whether nobody has claimed it.
    fn is_queued(self) -> bool {
        self.lease_end().is_none()
    }

    fn lease_end(self) -> Option<Instant> {
        match self {
            Self::Claimed(end) | Self::Running(end) => Some(end),
            Self::Uncommitted | Self::Ready | Self::Delayed(_) => None,
        }
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

/// Why a run was not admitted. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// The queue has no room for another run, or for its parameters.
    #[error("the queue is full")]
    QueueFull,
    /// It supersedes these runs, whose records must be [provided](LiveRuns::provide) first.
    #[error("records of queued runs are missing")]
    Missing(Vec<RunId>),
}

/// What a claim changed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClaimedRuns {
    /// Runs whose lease was over: queued again, and maybe claimed again below.
    pub interrupted: Vec<Arc<Run>>,
    /// Runs whose lease was over and whose webhook is gone: cancelled.
    pub ended: Vec<Arc<Run>>,
    /// Runs that were claimed and execute from now on.
    pub claimed: Vec<Arc<Run>>,
    /// Runs that were claimed ahead, as they will be once they [begin](LiveRuns::begin).
    pub ahead: Vec<Arc<Run>>,
    /// The next run to claim and some behind it, if it has room and its record must be
    /// [provided](LiveRuns::provide) first.
    pub missing: Vec<RunId>,
}

/// What became of a cancellation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveCancel {
    /// It was queued and has ended.
    Ended(Arc<Run>),
    /// It is claimed and its cancellation is asked for.
    Requested(Arc<Run>),
    /// It is queued, and its record must be [provided](LiveRuns::provide) first. Nothing has changed.
    Missing,
}

impl Default for LiveRuns {
    fn default() -> Self {
        Self::with_cache(usize::MAX)
    }
}

impl LiveRuns {
    /// No live runs; all records will stay in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No live runs; of the records of queued ones, about so many bytes will stay in memory.
    #[must_use]
    pub fn with_cache(bytes: usize) -> Self {
        Self {
            runs: BTreeMap::new(),
            records: Records::new(bytes),
            next: BTreeSet::new(),
            delayed: BTreeSet::new(),
            leases: BTreeSet::new(),
            ahead: HashMap::new(),
            lanes: HashMap::new(),
            queued: 0,
            queued_bytes: 0,
            last_fence: 0,
        }
    }

    /// Takes a run read when the store was opened, which has so many bytes of parameters; they may be left out of it,
    /// since its record does not stay in memory. One that was running is interrupted, since the process that ran it is
    /// gone. Answers the run as it is now.
    pub fn restore(&mut self, run: Run, bytes: usize, now: SystemTime, instant: Instant) -> Run {
        self.last_fence = self.last_fence.max(run.fence);
        let run = run.interrupted(now).unwrap_or(run);
        let wait = run.due_at.duration_since(now).unwrap_or(Duration::ZERO);
        let place = if wait.is_zero() { Place::Ready } else { Place::Delayed(later(instant, wait)) };
        self.insert(&run, bytes, place);
        run
    }

    /// Takes a running run that goes on: its store was opened anew within the process that executes it. It has so many bytes
    /// of parameters, and stays claimed until `lease_end`.
    pub fn resume(&mut self, run: Arc<Run>, bytes: usize, lease_end: Instant) {
        self.last_fence = self.last_fence.max(run.fence);
        self.insert(&run, bytes, Place::Running(lease_end));
        self.records.put(run, false);
    }

    /// Takes the record of a queued run, as it was last written, which was found missing.
    pub fn provide(&mut self, run: Arc<Run>) {
        let id = run.id;
        let is_wanted = self.runs.get(&id).is_some_and(|live| live.place.is_queued());
        if is_wanted && !self.records.has(id) {
            self.records.put(run, true);
        }
    }

    /// Admits a new run under its webhook's overlap rule and the queue limits, where `bound` is the bound on
    /// concurrency that the webhook has now. Whoever persists it then calls [`commit`](Self::commit), or
    /// [`forget`](Self::forget) when that failed.
    ///
    /// # Errors
    /// [`NotAdmitted`]; nothing has changed then.
    pub fn admit(&mut self, request: &Enqueue, bound: Option<u32>) -> Result<Admission, NotAdmitted> {
        let now = request.run.queued_at;
        let webhook = request.run.webhook_id;
        let lane = self.lanes.entry(webhook).or_default();
        lane.set_bound(bound);
        let records = &self.records;
        let asked = |id: &RunId| records.get(*id).is_some_and(|run| run.cancel_requested.is_some());
        let plan = lane.plan(request.concurrency.on_overlap, asked);
        if plan.skip {
            self.refresh(webhook);
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
            self.refresh(webhook);
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
        self.insert(&run, run.parameters.bytes(), Place::Uncommitted);
        self.records.put(run.clone(), true);
        Ok(Admission { run, superseded, asked_to_stop })
    }

    /// Whether a queue has no room for a run that supersedes these.
    fn is_full(&self, request: &Enqueue, superseded: &[RunId]) -> bool {
        let bytes_of = |id: &RunId| self.runs.get(id).map_or(0, |live| u64::from(live.bytes));
        let freed: u64 = superseded.iter().map(bytes_of).sum();
        let (queued, queued_bytes) = self
            .lanes
            .get(&request.run.webhook_id)
            .map_or((0, 0), |lane| (lane.queued_count(), lane.queued_bytes));
        let bytes = request.run.parameters.bytes() as u64;
        let of_webhook = queued + 1 - superseded.len();
        let in_all = self.queued + 1 - superseded.len();
        request.webhook_queue_limit.is_some_and(|limit| of_webhook > limit as usize)
            || in_all > request.queue_limit as usize
            || queued_bytes + bytes - freed > request.webhook_queue_bytes
            || self.queued_bytes + bytes - freed > request.queue_bytes
    }

    /// Lets an admitted run be claimed, now that it is durable.
    pub fn commit(&mut self, id: RunId) {
        if self.runs.get(&id).is_some_and(|live| live.place == Place::Uncommitted) {
            self.place(id, Place::Ready);
            self.records.trim();
        }
    }

    /// Forgets a run that could not be made durable, or of which the record cannot be read.
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

    /// Claims due runs, oldest first, after interrupting those whose lease is over: some to execute now, and those behind
    /// them ahead of need. It stops at a run whose record is [missing](ClaimedRuns::missing); once that is provided, the
    /// rest can be claimed.
    pub fn claim(&mut self, request: &ClaimRequest, instant: Instant) -> ClaimedRuns {
        let mut outcome = ClaimedRuns::default();
        self.interrupt_expired(request, instant, &mut outcome);
        while let Some((_, id)) = self.delayed.first().copied().filter(|(due, _)| *due <= instant) {
            self.place(id, Place::Ready);
        }
        while outcome.claimed.len() + outcome.ahead.len() < request.limit + request.ahead {
            let Some((id, webhook)) = self.next.first().copied() else { break };
            let Some(queued) = self.records.get(id) else {
                outcome.missing = self.read_ahead(webhook);
                break;
            };
            let fence = self.last_fence + 1;
            match queued.claimed(fence, request.interruption_bound, request.now) {
                Ok(run) => {
                    self.last_fence = fence;
                    let (queued, run) = (queued.clone(), Arc::new(run));
                    let lease_end = later(instant, request.lease);
                    if outcome.claimed.len() < request.limit {
                        self.update(run.clone(), Place::Running(lease_end));
                        outcome.claimed.push(run);
                    } else {
                        self.update(queued, Place::Claimed(lease_end));
                        self.ahead.insert(id, run.clone());
                        outcome.ahead.push(run);
                    }
                }
                // What cannot be claimed must not stay next, or this would never end.
                Err(_) => self.remove(id),
            }
        }
        self.records.trim();
        outcome
    }

    fn interrupt_expired(&mut self, request: &ClaimRequest, instant: Instant, outcome: &mut ClaimedRuns) {
        while let Some((_, id)) = self.leases.first().copied().filter(|(end, _)| *end <= instant) {
            let Some(run) = self.claim_of(id) else {
                self.remove(id);
                continue;
            };
            if self.is_closed(run.webhook_id) {
                let ending = Ending::Cancelled(CancelReason::WebhookDeleted);
                outcome.ended.extend(self.end(run, ending, request.now));
                continue;
            }
            match run.interrupted(request.now) {
                Ok(run) => {
                    let run = Arc::new(run);
                    self.update(run.clone(), Place::Ready);
                    outcome.interrupted.push(run);
                }
                Err(_) => self.remove(id),
            }
        }
    }

    /// The next runs of a webhook whose records are missing.
    fn read_ahead(&self, webhook: WebhookId) -> Vec<RunId> {
        let Some(lane) = self.lanes.get(&webhook) else { return Vec::new() };
        let count = lane.room().map_or(READ_AHEAD, |room| room.clamp(LEAST_READ_AHEAD, READ_AHEAD));
        let (mut missing, mut bytes) = (Vec::new(), 0);
        for id in lane.ready().take(count).filter(|id| !self.records.has(*id)) {
            bytes += self.runs.get(&id).map_or(0, |live| u64::from(live.bytes));
            if !missing.is_empty() && bytes > READ_AHEAD_BYTES {
                break;
            }
            missing.push(id);
        }
        missing
    }

    /// Takes note that a run that was claimed ahead executes from now on. `None` when it does already, or its fence is stale;
    /// nothing has changed then.
    pub fn begin(&mut self, begun: &Begun) -> Option<Arc<Run>> {
        let lease_end = self.runs.get(&begun.run)?.place.lease_end()?;
        let claimed = self.ahead.get(&begun.run).filter(|run| run.fence == begun.fence)?;
        let started_at = self.records.get(begun.run).and_then(|queued| queued.started_at).or(Some(begun.now));
        let run = Arc::new(Run { started_at, ..(**claimed).clone() });
        self.update(run.clone(), Place::Running(lease_end));
        Some(run)
    }

    /// Extends a lease to `end` and records progress, which only a run that has begun makes.
    pub fn renew(&mut self, renewal: &Renewal, end: Instant) -> Renewed {
        let Some(run) = self.held(renewal.run, renewal.fence) else { return Renewed::Lost };
        let cancel = run.cancel_requested;
        if renewal.progress.is_none() && self.ahead.contains_key(&renewal.run) {
            self.place(renewal.run, Place::Claimed(end));
            return Renewed::Held { cancel };
        }
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
        let run = self.started(run, settlement);
        let is_closed = self.is_closed(run.webhook_id);
        let ending = match (&settlement.outcome, run.cancel_requested) {
            (Outcome::Ended { ending, .. }, _) => ending.clone(),
            (Outcome::Retry { .. } | Outcome::HandBack, Some(reason)) => Ending::Cancelled(reason),
            (Outcome::Retry { error, .. }, None) if is_closed => Ending::failed(error.clone()),
            (Outcome::HandBack, None) if is_closed => Ending::Cancelled(CancelReason::WebhookDeleted),
            (Outcome::Retry { error, delay }, None) => {
                let due_at = now.checked_add(*delay).unwrap_or(now);
                let run = Arc::new(run.retrying(error.clone(), due_at).ok()?);
                self.update(run.clone(), Place::Delayed(later(instant, *delay)));
                self.records.trim();
                return Some(run);
            }
            (Outcome::HandBack, None) => {
                let run = Arc::new(run.handed_back(now).ok()?);
                self.update(run.clone(), Place::Ready);
                self.records.trim();
                return Some(run);
            }
        };
        self.end(run, ending, now)
    }

    /// Cancels a queued run or asks for the cancellation of a claimed one. `None` when it is not live.
    pub fn cancel(&mut self, id: RunId, reason: CancelReason, now: SystemTime) -> Option<LiveCancel> {
        let live = self.runs.get(&id)?;
        let Some(run) = self.record(id) else { return Some(LiveCancel::Missing) };
        if live.place.is_queued() {
            self.end(run, Ending::Cancelled(reason), now).map(LiveCancel::Ended)
        } else {
            self.ask(id, reason).map(LiveCancel::Requested)
        }
    }

    /// Sets how many runs of a webhook may execute at once, for the claims that follow.
    pub fn set_bound(&mut self, webhook: WebhookId, bound: Option<u32>) {
        if let Some(lane) = self.lanes.get_mut(&webhook) {
            lane.set_bound(bound);
            self.refresh(webhook);
        }
    }

    /// Closes the queue of a deleted webhook and answers its queued runs, oldest first: none of them is claimed any
    /// more, and whoever closes it [cancels](Self::cancel) them. Its running ones go on and are not executed again.
    pub fn close_webhook(&mut self, webhook: WebhookId) -> Vec<RunId> {
        let Some(lane) = self.lanes.get_mut(&webhook) else { return Vec::new() };
        let queued = lane.close();
        self.refresh(webhook);
        queued
    }

    /// Whether a run is queued or running.
    #[must_use]
    pub fn is_live(&self, id: RunId) -> bool {
        self.runs.contains_key(&id)
    }

    /// A live run, if its record is in memory; that of a running one is.
    #[must_use]
    pub fn record(&self, id: RunId) -> Option<Arc<Run>> {
        self.records.get(id).cloned()
    }

    /// The runs that are claimed, by the end of their leases.
    pub fn claimed(&self) -> impl Iterator<Item = Arc<Run>> {
        self.leases.iter().filter_map(|(_, id)| self.claim_of(*id))
    }

    /// How many runs are queued; those that are claimed ahead are.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued + self.ahead.len()
    }

    /// How many bytes of parameters the queued runs have.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// How many runs are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.leases.len() - self.ahead.len()
    }

    fn is_closed(&self, webhook: WebhookId) -> bool {
        self.lanes.get(&webhook).is_some_and(Lane::is_closed)
    }

    /// The run as its claim has it.
    fn claim_of(&self, id: RunId) -> Option<Arc<Run>> {
        self.ahead.get(&id).cloned().or_else(|| self.record(id))
    }

    /// The run if it is claimed under this very fence.
    fn held(&self, id: RunId, fence: u64) -> Option<Arc<Run>> {
        self.claim_of(id).filter(|run| run.state == RunState::Running && run.fence == fence)
    }

    /// A run that is settled, with when it began if nobody had [said so](Self::begin).
    fn started(&self, run: Arc<Run>, settlement: &Settlement) -> Arc<Run> {
        match (self.ahead.get(&run.id), self.records.get(run.id)) {
            (Some(_), Some(queued)) => {
                let started_at = queued.started_at.or(settlement.started_at);
                Arc::new(Run { started_at, ..(*run).clone() })
            }
            _ => run,
        }
    }

    fn ask(&mut self, id: RunId, reason: CancelReason) -> Option<Arc<Run>> {
        let run = self.record(id)?;
        if run.cancel_requested.is_some() {
            return Some(run);
        }
        let asked = |run: &Run| Arc::new(Run { cancel_requested: Some(reason), ..run.clone() });
        if let Some(claimed) = self.ahead.get_mut(&id) {
            *claimed = asked(claimed);
        }
        let run = asked(&run);
        self.records.put(run.clone(), false);
        Some(run)
    }

    fn end(&mut self, run: Arc<Run>, ending: Ending, now: SystemTime) -> Option<Arc<Run>> {
        let ended = run.ended(ending, now).ok()?;
        self.remove(run.id);
        Some(Arc::new(ended))
    }

    fn insert(&mut self, run: &Run, bytes: usize, place: Place) {
        let (id, webhook) = (run.id, run.webhook_id);
        let lane = self.lanes.entry(webhook).or_default();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let workflow = lane.workflow_number(&run.workflow);
        lane.moved(id, None, Some(place.part()));
        self.count(webhook, bytes, place);
        self.runs.insert(id, Live { webhook, place, bytes, workflow });
        self.index(id, place);
        self.refresh(webhook);
    }

    fn remove(&mut self, id: RunId) {
        self.records.remove(id);
        self.ahead.remove(&id);
        let Some(Live { webhook, place, bytes, .. }) = self.runs.remove(&id) else { return };
        self.unindex(id, place);
        self.discount(webhook, bytes, place);
        if let Some(lane) = self.lanes.get_mut(&webhook) {
            lane.moved(id, Some(place.part()), None);
        }
        self.refresh(webhook);
    }

    /// Replaces a run's record and moves it to another place.
    fn update(&mut self, run: Arc<Run>, place: Place) {
        let id = run.id;
        if self.runs.contains_key(&id) {
            self.records.put(run, place.is_queued());
            self.place(id, place);
        }
    }

    fn place(&mut self, id: RunId, place: Place) {
        let Some(live) = self.runs.get_mut(&id) else { return };
        if !matches!(place, Place::Claimed(_)) {
            self.ahead.remove(&id);
        }
        let (webhook, bytes) = (live.webhook, live.bytes);
        let old = std::mem::replace(&mut live.place, place);
        self.unindex(id, old);
        self.discount(webhook, bytes, old);
        self.index(id, place);
        self.count(webhook, bytes, place);
        if old.part() != place.part()
            && let Some(lane) = self.lanes.get_mut(&webhook)
        {
            lane.moved(id, Some(old.part()), Some(place.part()));
            self.refresh(webhook);
        }
    }

    fn count(&mut self, webhook: WebhookId, bytes: u32, place: Place) {
        if place.is_queued() {
            self.queued += 1;
            self.queued_bytes += u64::from(bytes);
            if let Some(lane) = self.lanes.get_mut(&webhook) {
                lane.queued_bytes += u64::from(bytes);
            }
        }
    }

    fn discount(&mut self, webhook: WebhookId, bytes: u32, place: Place) {
        if place.is_queued() {
            self.queued -= 1;
            self.queued_bytes -= u64::from(bytes);
            if let Some(lane) = self.lanes.get_mut(&webhook) {
                lane.queued_bytes -= u64::from(bytes);
            }
        }
    }

    fn index(&mut self, id: RunId, place: Place) {
        match place {
            Place::Delayed(due) => drop(self.delayed.insert((due, id))),
            Place::Claimed(end) | Place::Running(end) => drop(self.leases.insert((end, id))),
            Place::Ready | Place::Uncommitted => {}
        }
    }

    fn unindex(&mut self, id: RunId, place: Place) {
        match place {
            Place::Delayed(due) => drop(self.delayed.remove(&(due, id))),
            Place::Claimed(end) | Place::Running(end) => drop(self.leases.remove(&(end, id))),
            Place::Ready | Place::Uncommitted => {}
        }
    }

    /// Notes what has changed of a webhook: which run of it is next now, and whether it has runs at all.
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
        if lane.is_empty() {
            self.lanes.remove(&webhook);
        }
    }
}

#[cfg(test)]
mod tests;
