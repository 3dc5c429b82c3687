//! Operations of runs.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use webhook_core::backend::{ClaimedRuns, LiveCancel, NotAdmitted};
use webhook_core::error::Resource;
use webhook_core::id::RunId;
use webhook_core::run::{CancelReason, Run};
use webhook_core::store::{
    Cancelled, Claim, ClaimRequest, Enqueue, Enqueued, Outcome, Settled, Settlement, StoreError,
};

use crate::format::keys;
use crate::format::value::{CLAIMS_PER_VALUE, EncodedRecord, encode_claims};
use crate::reader::prune::{ExpiredKey, Removal};
use crate::writer::idempotency::LookUp;
use crate::writer::reply::{Decided, Decision};
use crate::writer::state::Writer;

impl Writer {
    /// Enqueues a run, of which the caller has made the record.
    pub(crate) fn enqueue(
        &mut self,
        request: Enqueue,
        record: EncodedRecord,
        instant: Instant,
    ) -> Decided<Enqueued> {
        let enqueued = self.try_enqueue(request, record, instant)?;
        let is_all_durable = self.change.is_empty() && self.flusher.is_idle();
        match enqueued {
            Enqueued::Created { .. } => Decision::synced(enqueued),
            // The run, or its key, may be part of what is not durable yet.
            Enqueued::Replayed(_) if !is_all_durable => Decision::synced(enqueued),
            _ => Decision::now(enqueued),
        }
    }

    fn try_enqueue(
        &mut self,
        request: Enqueue,
        record: EncodedRecord,
        instant: Instant,
    ) -> Result<Enqueued, StoreError> {
        let (id, webhook_id) = (request.run.id(), request.run.webhook_id());
        let webhook = self.parts.webhooks().get(webhook_id).cloned();
        let webhook = webhook.ok_or(StoreError::NotFound(Resource::Webhook))?;
        if let Some(refusal) = request.refused_by(&webhook) {
            return Ok(refusal);
        }
        let bound = webhook.settings.concurrency.bound();
        let place = request.idempotency.as_ref().map(|given| keys::key_place(webhook_id, &given.key));
        let mut leftover = None;
        if let (Some(given), Some(place)) = (&request.idempotency, &place) {
            match self.look_up(given, place, instant)? {
                LookUp::Found(run) => return Ok(Enqueued::Replayed(run)),
                LookUp::Mismatch => return Ok(Enqueued::KeyMismatch),
                LookUp::Unknown(record) => leftover = record,
            }
        }
        if self.run(id)?.is_some() {
            return Err(StoreError::Conflict(Resource::Run));
        }
        self.parts.check_room()?;
        // Up to the admission nothing has changed, and an error refuses the call. From then on memory is ahead of the journal,
        // and an error fails the store: a recovery reads memory from disk again.
        let admission = loop {
            let mut runs = self.parts.runs();
            let admission = match runs.live.admit(&request, bound) {
                Ok(admission) => admission,
                Err(NotAdmitted::Missing(superseded)) => {
                    drop(runs);
                    self.load(&superseded)?;
                    continue;
                }
                Err(_) => return Ok(Enqueued::QueueFull),
            };
            // Under the same lock, so no reader finds a superseded run neither live nor ended.
            runs.ending.extend(admission.superseded.iter().map(|run| (run.id(), run.clone())));
            if admission.run.state().is_ended() {
                runs.end(admission.run.clone(), None);
            }
            break admission;
        };
        if let (Some(given), Some(place)) = (request.idempotency, place) {
            self.put_key(&given, place, leftover, &request.run, instant);
        }
        let asked_to_stop = admission.asked_to_stop.iter().map(|run| run.id()).collect();
        let ended = admission.superseded.into_iter().try_for_each(|run| self.end_run(run));
        let asked = admission.asked_to_stop.into_iter().try_for_each(|run| self.put_live(run));
        let run = admission.run;
        self.put_parameters(&run);
        let put = if run.state().is_ended() {
            self.end_run(run.clone())
        } else {
            self.put_live_record(&run, record, true);
            self.change.group.admitted.push(id);
            self.change.group.published.push((run.clone(), Arc::default()));
            Ok(())
        };
        if let Err(error) = ended.and(asked).and(put) {
            self.fail(&error);
        }
        Ok(Enqueued::Created { run, asked_to_stop })
    }

    pub(crate) fn claim(&mut self, request: &ClaimRequest, instant: Instant) -> Decided<Vec<Claim>> {
        let (claimed, load) = self.claim_and_load(request.clone(), instant);
        let ClaimedRuns { interrupted, ended, claimed, ahead, .. } = claimed;
        let all: Vec<Arc<Run>> = claimed.iter().chain(&ahead).cloned().collect();
        if interrupted.is_empty() && ended.is_empty() && all.is_empty() {
            load?;
            return Decision::now(Vec::new());
        }
        let interrupted = interrupted.into_iter().try_for_each(|run| self.put_live(run));
        let ended = ended.into_iter().try_for_each(|run| self.end_run(run));
        if let Err(error) = interrupted.and(ended) {
            self.fail(&error);
        }
        for runs in all.chunks(CLAIMS_PER_VALUE) {
            self.claims.open(runs);
            self.change.insert_fresh(&keys::claims(runs[0].fence()), encode_claims(runs));
        }
        let webhooks = self.parts.webhooks();
        let claim = |(index, run): (usize, Arc<Run>)| {
            let webhook = webhooks.get(run.webhook_id()).cloned();
            Claim::new(run, webhook).with_ahead(index >= claimed.len())
        };
        let claims: Vec<Claim> = all.into_iter().enumerate().map(claim).collect();
        drop(webhooks);
        self.change.group.published.extend(claimed.into_iter().map(|run| (run, Arc::default())));
        // A loss of power takes the workers along, so a claim need survive only the process.
        Decision::flushed(claims)
    }

    /// Claims, and reads the records that are missing. Where that fails, what was claimed before holds.
    fn claim_and_load(
        &mut self,
        mut request: ClaimRequest,
        instant: Instant,
    ) -> (ClaimedRuns, Result<(), StoreError>) {
        let mut all = ClaimedRuns::default();
        loop {
            let outcome = {
                let mut runs = self.parts.runs();
                let outcome = runs.claim(&request, instant);
                runs.ending.extend(outcome.ended.iter().map(|run| (run.id(), run.clone())));
                outcome
            };
            request.limit -= outcome.claimed.len();
            request.ahead -= outcome.ahead.len();
            all.interrupted.extend(outcome.interrupted);
            all.ended.extend(outcome.ended);
            all.claimed.extend(outcome.claimed);
            all.ahead.extend(outcome.ahead);
            if outcome.missing.is_empty() {
                return (all, Ok(()));
            }
            if let Err(error) = self.load(&outcome.missing) {
                return (all, Err(error));
            }
        }
    }

    pub(crate) fn settle(&mut self, settlements: Vec<Settlement>, instant: Instant) -> Decided<Vec<Settled>> {
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            settled.push(self.settle_run(settlement, instant));
        }
        Decision::synced(settled)
    }

    fn settle_run(&mut self, settlement: Settlement, instant: Instant) -> Settled {
        let run = {
            let mut runs = self.parts.runs();
            let before = runs.live.record(settlement.run);
            let Some(run) = runs.live.settle(&settlement, instant) else { return Settled::Stale };
            if run.state().is_ended() {
                runs.end(run.clone(), before);
            }
            run
        };
        let deliveries = match settlement.outcome {
            Outcome::Ended { deliveries, .. } => deliveries,
            _ => Vec::new(),
        };
        let put = if run.state().is_ended() {
            self.end_run_with(run.clone(), deliveries.as_slice().into())
        } else {
            self.put_live(run.clone())
        };
        let added = deliveries.into_iter().try_for_each(|delivery| self.add_delivery(delivery, instant));
        if let Err(error) = put.and(added) {
            self.fail(&error);
        }
        Settled::Applied(run)
    }

    pub(crate) fn cancel(&mut self, id: RunId, now: SystemTime) -> Decided<Cancelled> {
        let cancelled = loop {
            let mut runs = self.parts.runs();
            let before = runs.live.record(id);
            match runs.live.cancel(id, CancelReason::Requested, now) {
                Some(LiveCancel::Missing) => {}
                cancelled => {
                    if let Some(LiveCancel::Ended(run)) = &cancelled {
                        runs.end(run.clone(), before);
                    }
                    break cancelled;
                }
            }
            drop(runs);
            self.load(&[id])?;
        };
        let (put, outcome) = match cancelled {
            Some(LiveCancel::Ended(run)) => (self.end_run(run.clone()), Cancelled::Ended(run)),
            Some(LiveCancel::Requested(run)) => (self.put_live(run.clone()), Cancelled::Requested(run)),
            // It had ended before, or never was.
            _ => {
                let run = self.run(id)?.ok_or(StoreError::NotFound(Resource::Run))?;
                let is_unsynced = self.parts.runs().has_unsynced_end(id);
                let too_late = Cancelled::TooLate(run);
                return if is_unsynced { Decision::synced(too_late) } else { Decision::now(too_late) };
            }
        };
        if let Err(error) = put {
            self.fail(&error);
        }
        Decision::synced(outcome)
    }

    /// Removes runs with what belongs to them, and idempotency keys.
    pub(crate) fn prune(&mut self, removals: Vec<Removal>, expired: Vec<ExpiredKey>) -> Decided<Vec<RunId>> {
        let mut removed = Vec::with_capacity(removals.len());
        for removal in removals {
            // A delivery may have been sent again in the meantime, and a run may be there again after a recovery.
            let is_live = self.parts.runs().live.is_live(removal.run);
            if is_live || self.parts.deliveries().has_pending(removal.run) {
                continue;
            }
            for key in removal.keys {
                self.change.remove(key);
            }
            removed.push(removal.run);
        }
        for key in expired {
            let record = self.key_record(&key.place).ok().flatten();
            if let Some(record) = record.filter(|record| record.expires == key.expires) {
                self.change.remove(keys::idempotency(&key.place));
                self.change.remove(&keys::by_id(keys::KEPT, record.run.as_bytes()));
            }
            self.change.remove(keys::expiry(key.expires, &key.place));
        }
        Decision::flushed(removed)
    }
}
