//! Operations on runs and their logs of a store around records.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{RecordCore, closed, failed, put};
use crate::backend::idempotency_index::KeyMeaning;
use crate::backend::live::outcome::LiveCancel;
use crate::backend::records::contract::{KeyRecord, RecordChange, Records};
use crate::clock::later;
use crate::error::Resource;
use crate::id::RunId;
use crate::run::{CancelReason, Run};
use crate::store::{
    Begun, Cancelled, Claim, ClaimRequest, Enqueue, Enqueued, LogPart, Page, PruneRequest, Pruned, Renewal,
    Renewed, RunQuery, Settled, Settlement, StoreError,
};

impl<R: Records> RecordCore<R> {
    pub(in crate::backend::records) fn get_run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        match self.live.record(id) {
            Some(run) => Ok(Some(run)),
            None => self.read(|records| records.get_run(id)),
        }
    }

    pub(in crate::backend::records) fn enqueue(
        &mut self,
        request: Enqueue,
        instant: Instant,
    ) -> Result<Enqueued, StoreError> {
        let (id, webhook_id) = (request.run.id(), request.run.webhook_id());
        let webhook = self.webhooks.get(webhook_id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if let Some(refusal) = request.refused_by(webhook) {
            return Ok(refusal);
        }
        // The call may have read the settings before they were last updated; the stored bound holds.
        let bound = webhook.settings.concurrency.bound();
        if let Some(given) = &request.idempotency {
            match self.keys.look_up(webhook_id, given, instant) {
                KeyMeaning::Mismatch => return Ok(Enqueued::KeyMismatch),
                KeyMeaning::Run(run) => {
                    if let Some(run) = self.get_run(run)? {
                        return Ok(Enqueued::Replayed(run));
                    }
                }
                KeyMeaning::Free => {}
            }
        }
        if self.get_run(id)?.is_some() {
            return Err(StoreError::Conflict(Resource::Run));
        }
        // No record is ever missing, since all stay in memory.
        let Ok(admission) = self.live.admit(&request, bound) else { return Ok(Enqueued::QueueFull) };
        let run = admission.run;
        let changed = admission.superseded.iter().chain(&admission.asked_to_stop).chain([&run]);
        let mut changes: Vec<_> = changed.map(put).collect();
        if let Some(given) = request.idempotency {
            let expires_at = run.queued_at().checked_add(given.keep_for);
            let expires_at =
                expires_at.unwrap_or_else(|| run.queued_at() + Duration::from_secs(100 * 365 * 86_400));
            let key = KeyRecord::new(webhook_id, given.key.as_str(), given.fingerprint, id, expires_at);
            self.keys.insert(webhook_id, given, &run, instant);
            changes.push(RecordChange::PutKey(key));
        }
        self.write(&changes)?;
        self.live.commit(id);
        for run in admission.superseded.iter().chain([&run]) {
            self.events.publish_state(run, &Arc::default());
        }
        let asked_to_stop = admission.asked_to_stop.iter().map(|run| run.id()).collect();
        Ok(Enqueued::Created { run, asked_to_stop })
    }

    pub(in crate::backend::records) fn claim(
        &mut self,
        request: &ClaimRequest,
        instant: Instant,
    ) -> Result<Vec<Claim>, StoreError> {
        self.lease = request.lease;
        let claimed = self.live.claim(request, instant);
        // The record of a run that is claimed ahead says that it is queued.
        self.write_states(claimed.ended.iter().chain(&claimed.interrupted).chain(&claimed.claimed))?;
        self.returned_fence = self.live.last_fence();
        let claim = |run: Arc<Run>, is_ahead| {
            let webhook = self.webhooks.get(run.webhook_id()).cloned();
            Claim::new(run, webhook).with_ahead(is_ahead)
        };
        let now = claimed.claimed.into_iter().map(|run| claim(run, false));
        Ok(now.chain(claimed.ahead.into_iter().map(|run| claim(run, true))).collect())
    }

    pub(in crate::backend::records) fn begin(&mut self, begun: &[Begun]) -> Result<(), StoreError> {
        let begun: Vec<_> = begun.iter().filter_map(|begun| self.live.begin(begun)).collect();
        self.write_states(begun.iter())
    }

    pub(in crate::backend::records) fn renew(
        &mut self,
        renewals: &[Renewal],
        lease: Duration,
        instant: Instant,
    ) -> Result<Vec<Renewed>, StoreError> {
        self.lease = lease;
        let end = later(instant, lease);
        let renewed: Vec<_> = renewals.iter().map(|renewal| self.live.renew(renewal, end)).collect();
        let mut progressed = Vec::new();
        for (renewal, renewed) in renewals.iter().zip(&renewed) {
            if *renewed != Renewed::Lost
                && let (Some(progress), Some(run)) = (&renewal.progress, self.live.record(renewal.run))
            {
                progressed.push((run, progress));
            }
        }
        self.write(&progressed.iter().map(|(run, _)| put(run)).collect::<Vec<_>>())?;
        for (run, progress) in progressed {
            self.events.publish_progress(&run, progress);
        }
        Ok(renewed)
    }

    pub(in crate::backend::records) fn settle(
        &mut self,
        settlements: &[Settlement],
        instant: Instant,
    ) -> Result<Vec<Settled>, StoreError> {
        let (mut settled, mut changes) = (Vec::with_capacity(settlements.len()), Vec::new());
        for settlement in settlements {
            let run = self.live.settle(settlement, instant);
            if let Some(run) = &run {
                changes.push(put(run));
                for delivery in settlement.deliveries() {
                    self.pending.follow(delivery, instant);
                    changes.push(RecordChange::PutDelivery(delivery.clone()));
                }
            }
            settled.push(run.map_or(Settled::Stale, Settled::Applied));
        }
        self.write(&changes)?;
        for (settlement, settled) in settlements.iter().zip(&settled) {
            if let Settled::Applied(run) = settled {
                self.events.publish_state(run, &settlement.deliveries().into());
            }
        }
        Ok(settled)
    }

    pub(in crate::backend::records) fn cancel_run(
        &mut self,
        id: RunId,
        now: SystemTime,
    ) -> Result<Cancelled, StoreError> {
        match self.live.cancel(id, CancelReason::Requested, now) {
            Some(LiveCancel::Ended(run)) => {
                self.write_states([&run].into_iter())?;
                Ok(Cancelled::Ended(run))
            }
            Some(LiveCancel::Requested(run)) => {
                self.write(&[put(&run)])?;
                Ok(Cancelled::Requested(run))
            }
            Some(LiveCancel::Missing) | None => {
                let run = self.read(|records| records.get_run(id))?;
                run.map(Cancelled::TooLate).ok_or(StoreError::NotFound(Resource::Run))
            }
        }
    }

    pub(in crate::backend::records) fn list_runs(
        &mut self,
        query: RunQuery,
    ) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        let limit = query.limit;
        let query = query.limit(limit.saturating_add(1));
        let runs = self.read(|records| records.list_runs(&query))?;
        Ok(Page::cut(runs, limit, |run: &Arc<Run>| run.id()))
    }

    pub(in crate::backend::records) fn prune(
        &mut self,
        request: PruneRequest,
        instant: Instant,
    ) -> Result<Pruned, StoreError> {
        self.calls.expire_contents(request.now);
        let mut search = request;
        search.limit = request.limit.saturating_add(1);
        let expired = self.keys.expire(instant);
        let (pending, keys) = (&self.pending, &self.keys);
        let stays = |run| pending.has_pending(run) || keys.keeps(run, request.now);
        let records = self.records.as_mut().ok_or_else(closed)?;
        let found = records.expired_runs(&search, &stays);
        // The expired keys have left memory only.
        self.is_ahead |= found.is_err() && !expired.is_empty();
        let mut runs = found.map_err(failed)?;
        let more = runs.len() > request.limit;
        runs.truncate(request.limit);
        let expired = expired
            .into_iter()
            .map(|(webhook_id, key)| RecordChange::RemoveKey { webhook_id, key: (*key).to_owned() });
        let changes: Vec<_> = expired.chain(runs.iter().copied().map(RecordChange::RemoveRun)).collect();
        self.write(&changes)?;
        Ok(Pruned::new(runs, more))
    }

    pub(in crate::backend::records) fn append_log(
        &mut self,
        id: RunId,
        fence: u64,
        text: String,
    ) -> Result<(), StoreError> {
        let Some(run) = self.live.executing(id, fence) else { return Ok(()) };
        let changes = [RecordChange::AppendLog { run: id, text }];
        self.write(&changes)?;
        if let [RecordChange::AppendLog { text, .. }] = &changes {
            self.events.publish_log(&run, text);
        }
        Ok(())
    }

    pub(in crate::backend::records) fn read_log(
        &mut self,
        id: RunId,
        offset: u64,
    ) -> Result<LogPart, StoreError> {
        let log = self.read(|records| records.get_log(id))?;
        Ok(log.map_or_else(|| LogPart::new(offset, String::new()), |log| log.read(offset)))
    }
}
