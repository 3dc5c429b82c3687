//! Changes of runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use webhook_core::error::Resource;
use webhook_core::id::RunId;
use webhook_core::live::{ClaimedRuns, LiveCancel, NotAdmitted};
use webhook_core::notifier::Delivery;
use webhook_core::run::{CancelReason, Run};
use webhook_core::store::{
    Cancelled, Claim, ClaimRequest, Enqueue, Enqueued, Outcome, Settled, Settlement, StoreError,
};

use super::Writer;
use super::keys::LookUp;
use crate::engine::group::{Change, Level, acknowledge};
use crate::format::keys;
use crate::format::run::{Recorded, encode_recorded, encode_run, parameters_apart};
use crate::format::value::{CLAIMS_PER_VALUE, Encoded, VALUE_BYTES, damaged, encode_claims};
use crate::reader::prune::{ExpiredKey, Removal};
use crate::reader::read;
use crate::tree::damage::Kind;
use crate::writer::operation::Reply;

/// Which claims are kept where, so that each value goes with the last of its claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_run: HashMap<RunId, u64>,
    open: HashMap<u64, usize>,
}

impl Claims {
    /// These runs' claims are kept together.
    fn open(&mut self, runs: &[Arc<Run>]) {
        let first = runs[0].fence;
        self.open.insert(first, runs.len());
        self.by_run.extend(runs.iter().map(|run| (run.id, first)));
    }

    /// A run's claim is no longer needed. Answers which value is not either.
    fn close(&mut self, run: RunId) -> Option<u64> {
        let first = self.by_run.remove(&run)?;
        let count = self.open.get_mut(&first)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.open.remove(&first).map(|_| first)
    }
}

impl Writer {
    pub(super) fn enqueue(
        &mut self,
        request: Enqueue,
        record: Encoded,
        instant: Instant,
        reply: Reply<Enqueued>,
    ) {
        match self.try_enqueue(request, record, instant) {
            Ok(replayed @ Enqueued::Replayed(_)) => {
                let acknowledge = acknowledge(reply, replayed);
                if self.change.is_empty() && self.flusher.is_idle() {
                    acknowledge(Ok(()));
                } else {
                    // The run it stands for may be part of what is not durable yet.
                    self.change.group.when(Level::Synced, acknowledge);
                }
            }
            Ok(created @ Enqueued::Created { .. }) => {
                self.change.group.when(Level::Synced, acknowledge(reply, created));
            }
            outcome => drop(reply.send(outcome)),
        }
    }

    fn try_enqueue(
        &mut self,
        request: Enqueue,
        record: Encoded,
        instant: Instant,
    ) -> Result<Enqueued, StoreError> {
        let (id, webhook_id) = (request.run.id, request.run.webhook_id);
        let webhook = self.shared.webhooks().get(webhook_id).cloned();
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
        self.shared.check_room()?;
        let admission = loop {
            let mut runs = self.shared.runs();
            let admission = match runs.live.admit(&request, bound) {
                Ok(admission) => admission,
                Err(NotAdmitted::Missing(superseded)) => {
                    drop(runs);
                    self.load(&superseded)?;
                    continue;
                }
                Err(_) => return Ok(Enqueued::QueueFull),
            };
            runs.ending.extend(admission.superseded.iter().map(|run| (run.id, run.clone())));
            if admission.run.state.is_ended() {
                runs.end(admission.run.clone(), None);
            }
            break admission;
        };
        if let (Some(given), Some(place)) = (request.idempotency, place) {
            self.put_key(&given, place, leftover, &request.run, instant);
        }
        let asked_to_stop = admission.asked_to_stop.iter().map(|run| run.id).collect();
        let ended = admission.superseded.into_iter().try_for_each(|run| self.end_run(run));
        let asked = admission.asked_to_stop.into_iter().try_for_each(|run| self.put_live(run));
        let run = admission.run;
        self.put_parameters(&run);
        let put = if run.state.is_ended() {
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

    pub(super) fn claim(&mut self, request: &ClaimRequest, instant: Instant, reply: Reply<Vec<Claim>>) {
        let (claimed, load) = self.claim_and_load(*request, instant);
        let ClaimedRuns { interrupted, ended, claimed, ahead, .. } = claimed;
        let all: Vec<Arc<Run>> = claimed.iter().chain(&ahead).cloned().collect();
        if interrupted.is_empty() && ended.is_empty() && all.is_empty() {
            return drop(reply.send(load.map(|()| Vec::new())));
        }
        let interrupted = interrupted.into_iter().try_for_each(|run| self.put_live(run));
        let ended = ended.into_iter().try_for_each(|run| self.end_run(run));
        if let Err(error) = interrupted.and(ended) {
            self.fail(&error);
        }
        for runs in all.chunks(CLAIMS_PER_VALUE) {
            self.claims.open(runs);
            self.change.insert_fresh(&keys::claims(runs[0].fence), encode_claims(runs));
        }
        let webhooks = self.shared.webhooks();
        let claim = |(index, run): (usize, Arc<Run>)| {
            let webhook = webhooks.get(run.webhook_id).cloned();
            Claim::new(run, webhook).with_ahead(index >= claimed.len())
        };
        let claims: Vec<Claim> = all.into_iter().enumerate().map(claim).collect();
        drop(webhooks);
        self.change.group.published.extend(claimed.into_iter().map(|run| (run, Arc::default())));
        self.change.group.when(Level::Flushed, acknowledge(reply, claims));
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
                let mut runs = self.shared.runs();
                let outcome = runs.claim(&request, instant);
                runs.ending.extend(outcome.ended.iter().map(|run| (run.id, run.clone())));
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

    pub(super) fn settle(
        &mut self,
        settlements: Vec<Settlement>,
        instant: Instant,
        reply: Reply<Vec<Settled>>,
    ) {
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            settled.push(self.settle_run(settlement, instant));
        }
        self.change.group.when(Level::Synced, acknowledge(reply, settled));
    }

    fn settle_run(&mut self, settlement: Settlement, instant: Instant) -> Settled {
        let run = {
            let mut runs = self.shared.runs();
            let before = runs.live.record(settlement.run);
            let Some(run) = runs.live.settle(&settlement, instant) else { return Settled::Stale };
            if run.state.is_ended() {
                runs.end(run.clone(), before);
            }
            run
        };
        let deliveries = match settlement.outcome {
            Outcome::Ended { deliveries, .. } => deliveries,
            _ => Vec::new(),
        };
        let put = if run.state.is_ended() {
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

    pub(super) fn cancel(&mut self, id: RunId, now: SystemTime, reply: Reply<Cancelled>) {
        let cancelled = loop {
            let mut runs = self.shared.runs();
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
            if let Err(error) = self.load(&[id]) {
                return drop(reply.send(Err(error)));
            }
        };
        let (put, outcome) = match cancelled {
            Some(LiveCancel::Ended(run)) => (self.end_run(run.clone()), Cancelled::Ended(run)),
            Some(LiveCancel::Requested(run)) => (self.put_live(run.clone()), Cancelled::Requested(run)),
            // It had ended before, or never was.
            _ => {
                let ended = self.run(id).and_then(|run| run.ok_or(StoreError::NotFound(Resource::Run)));
                let is_durable = self.shared.runs().before_end(id).is_none();
                return match ended {
                    Ok(run) if !is_durable => {
                        self.change.group.when(Level::Synced, acknowledge(reply, Cancelled::TooLate(run)));
                    }
                    ended => drop(reply.send(ended.map(Cancelled::TooLate))),
                };
            }
        };
        if let Err(error) = put {
            self.fail(&error);
        }
        self.change.group.when(Level::Synced, acknowledge(reply, outcome));
    }

    pub(super) fn prune(
        &mut self,
        removals: Vec<Removal>,
        expired: Vec<ExpiredKey>,
        reply: Reply<Vec<RunId>>,
    ) {
        let mut removed = Vec::with_capacity(removals.len());
        for removal in removals {
            // A delivery may have been sent again in the meantime, and a run may be there again after a recovery.
            let is_live = self.shared.runs().live.is_live(removal.run);
            if is_live || self.shared.outbox().has_pending(removal.run) {
                continue;
            }
            removal.keys.into_iter().for_each(|key| self.change.remove(key));
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
        self.change.group.when(Level::Flushed, acknowledge(reply, removed));
    }

    /// Writes a live run's record anew.
    pub(super) fn put_live(&mut self, run: Arc<Run>) -> Result<(), StoreError> {
        let record = encode_run(&run)?;
        self.release_claim(run.id);
        self.move_parameters(&run);
        self.put_live_record(&run, record, false);
        self.change.group.published.push((run, Arc::default()));
        Ok(())
    }

    /// Writes down that a run was interrupted when the store was closed.
    pub(super) fn put_restored(&mut self, Recorded { run, apart }: Recorded) -> Result<(), StoreError> {
        if apart == 0 {
            return self.put_live(Arc::new(run));
        }
        let record = encode_recorded(&run, apart)?;
        self.put_live_record(&run, record, false);
        Ok(())
    }

    /// Writes the parameters of a run that are kept apart from its record.
    fn put_parameters(&mut self, run: &Run) {
        if parameters_apart(run) > 0 {
            for (number, part) in (0..).zip(run.parameters.as_json().as_bytes().chunks(VALUE_BYTES)) {
                self.change.insert_fresh(&keys::parameters(run.id, number), part);
            }
        }
    }

    /// Writes the parameters apart that an earlier format had in a run's record, which is about to be written anew.
    fn move_parameters(&mut self, run: &Run) {
        if self.with_large_parameters.remove(&run.id) {
            self.put_parameters(run);
        }
    }

    fn put_live_record(&mut self, run: &Run, record: Encoded, is_new: bool) {
        let key = keys::by_id(keys::LIVE, run.id.as_bytes());
        let old_tails = self.tails.remove(&run.id).unwrap_or(0);
        let tails = if is_new {
            self.change.insert_fresh_tails(&key, record.tails)
        } else {
            self.change.insert_tails(&key, record.tails, old_tails)
        };
        if tails > 0 {
            self.tails.insert(run.id, tails);
        }
        self.unapplied.push_back((self.number + 1, run.id));
        let put = if is_new { Change::insert_fresh } else { Change::insert };
        put(&mut self.change, &key, record.head);
    }

    /// Moves a run that ended without deliveries to the history.
    pub(super) fn end_run(&mut self, run: Arc<Run>) -> Result<(), StoreError> {
        self.end_run_with(run, Arc::default())
    }

    fn end_run_with(&mut self, run: Arc<Run>, deliveries: Arc<[Delivery]>) -> Result<(), StoreError> {
        let live = keys::by_id(keys::LIVE, run.id.as_bytes());
        self.change.remove(&live);
        let tails = self.tails.remove(&run.id).unwrap_or(0);
        (0..tails).for_each(|number| self.change.remove(keys::tail(&live, number)));
        self.release_claim(run.id);
        if self.logs.remove(&run.id).is_some() {
            self.change.ended_logs.push(run.id);
        }
        self.move_parameters(&run);
        let (key, record) = (keys::by_id(keys::ENDED, run.id.as_bytes()), encode_run(&run)?);
        self.change.insert_fresh_tails(&key, record.tails);
        self.change.insert_fresh(&key, record.head);
        self.newest_ended = self.newest_ended.max(Some(run.id));
        self.change.group.published.push((run, deliveries));
        Ok(())
    }

    /// A run's record is newer than its claim now, so the claim need not be kept.
    fn release_claim(&mut self, run: RunId) {
        if let Some(fence) = self.claims.close(run) {
            self.change.remove(&keys::claims(fence));
        }
    }

    /// The run with this id, wherever it is.
    pub(super) fn run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        let (record, is_live) = {
            let runs = self.shared.runs();
            (runs.record(id), runs.live.is_live(id))
        };
        if record.is_none() && is_live {
            self.load(&[id])?;
            return Ok(self.shared.runs().record(id));
        }
        if record.is_some() || self.newest_ended.is_none_or(|newest| id > newest) {
            return Ok(record);
        }
        self.shared.with_tree(|tree| read::ended_run(tree, id, &self.shared.damage))
    }

    /// Reads the records of queued runs into memory. A run whose record cannot be read is set aside: it is queued no
    /// longer, and its record stays where it is.
    pub(super) fn load(&mut self, ids: &[RunId]) -> Result<(), StoreError> {
        let wanted: HashSet<RunId> = ids.iter().copied().collect();
        let newest = self.unapplied.iter().rev().find(|(_, run)| wanted.contains(run));
        if let Some(number) = newest.map(|(number, _)| *number) {
            if number > self.number {
                self.commit();
            }
            self.wait_applied(number)?;
        }
        let mut read: HashMap<RunId, Result<Run, StoreError>> = self
            .shared
            .with_tree(|tree| Ok(read::queued_runs(tree, ids, &self.shared.damage)))?
            .into_iter()
            .collect();
        let mut runs = self.shared.runs();
        // Those that are due first come last, and so stay longest.
        for id in ids.iter().rev() {
            match read.remove(id).unwrap_or_else(|| Err(damaged("a queued run has no record"))) {
                Ok(run) => runs.live.provide(Arc::new(run)),
                Err(error @ StoreError::Corrupt { .. }) => {
                    let key = keys::by_id(keys::LIVE, id.as_bytes());
                    self.shared.damage.note(Kind::LiveRun, &key, &error);
                    runs.live.forget(*id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets which records the database shows by now.
    pub(super) fn forget_applied(&mut self) {
        if !self.unapplied.is_empty() {
            let applied = self.shared.backlog.applied();
            while self.unapplied.front().is_some_and(|(number, _)| *number <= applied) {
                self.unapplied.pop_front();
            }
        }
    }
}
