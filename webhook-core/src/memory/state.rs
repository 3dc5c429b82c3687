//! What a memory store holds, and what each operation does to it. Synchronous; the store around it locks and wakes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::history::History;
use super::keys::{Keys, LookUp};
use super::log::RunLog;
use super::outbox::Outbox;
use crate::clock::later;
use crate::error::Resource;
use crate::events::EventLog;
use crate::id::{RunId, WebhookId};
use crate::live::{LiveCancel, LiveRuns};
use crate::notifier::Delivery;
use crate::run::{CancelReason, Run, RunState};
use crate::store::{
    Begun, Cancelled, Claim, ClaimRequest, Enqueue, Enqueued, LogPart, Outcome, Page, PruneRequest, Pruned,
    Renewal, Renewed, RunQuery, Settled, Settlement, StoreError, StoreHealth, WebhookQuery, Work,
};
use crate::token::TokenDigest;
use crate::webhook::Webhook;

#[derive(Default)]
pub(super) struct State {
    pub(super) outbox: Outbox,
    webhooks: BTreeMap<WebhookId, Arc<Webhook>>,
    by_digest: HashMap<[u8; 32], WebhookId>,
    live: LiveRuns,
    history: History,
    keys: Keys,
    logs: HashMap<RunId, RunLog>,
    events: Arc<EventLog>,
}

impl State {
    pub(super) fn new(events: Arc<EventLog>) -> Self {
        Self { events, ..Self::default() }
    }

    pub(super) fn create_webhook(&mut self, webhook: Webhook) -> Result<(), StoreError> {
        let digest = *webhook.token_digest.as_bytes();
        if self.webhooks.contains_key(&webhook.id) {
            return Err(StoreError::Conflict(Resource::Webhook));
        }
        if self.by_digest.contains_key(&digest) {
            return Err(StoreError::Conflict(Resource::TokenDigest));
        }
        self.by_digest.insert(digest, webhook.id);
        self.webhooks.insert(webhook.id, Arc::new(webhook));
        Ok(())
    }

    pub(super) fn webhook(&self, id: WebhookId) -> Option<Arc<Webhook>> {
        self.webhooks.get(&id).cloned()
    }

    pub(super) fn find_webhook(&self, digest: &TokenDigest) -> Option<Arc<Webhook>> {
        self.by_digest.get(digest.as_bytes()).and_then(|id| self.webhook(*id))
    }

    pub(super) fn update_webhook(&mut self, mut webhook: Webhook, expected: u64) -> Result<(), StoreError> {
        let id = webhook.id;
        let stored = self.webhook(id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if stored.revision != expected {
            return Err(StoreError::Conflict(Resource::Webhook));
        }
        let digest = *webhook.token_digest.as_bytes();
        if self.by_digest.get(&digest).is_some_and(|holder| *holder != id) {
            return Err(StoreError::Conflict(Resource::TokenDigest));
        }
        self.by_digest.remove(stored.token_digest.as_bytes());
        self.by_digest.insert(digest, id);
        self.live.set_bound(id, webhook.settings.concurrency.bound());
        webhook.last_used_at = stored.last_used_at;
        self.webhooks.insert(id, Arc::new(webhook));
        Ok(())
    }

    pub(super) fn delete_webhook(
        &mut self,
        id: WebhookId,
        expected: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        let webhook = self.webhooks.get(&id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if expected.is_some_and(|expected| expected != webhook.revision) {
            return Err(StoreError::Conflict(Resource::Webhook));
        }
        self.by_digest.remove(webhook.token_digest.as_bytes());
        self.webhooks.remove(&id);
        let queued = self.live.close_webhook(id);
        for run in &queued {
            if let Some(LiveCancel::Ended(run)) = self.live.cancel(*run, CancelReason::WebhookDeleted, now) {
                self.bury(run, Vec::new());
            }
        }
        Ok(queued)
    }

    pub(super) fn list_webhooks(&self, query: &WebhookQuery) -> Page<Arc<Webhook>, WebhookId> {
        let older = match query.before {
            Some(before) => self.webhooks.range(..before),
            None => self.webhooks.range::<WebhookId, _>(..),
        };
        let items = older
            .rev()
            .map(|(_, webhook)| webhook)
            .filter(|webhook| query.workflow.as_ref().is_none_or(|workflow| *workflow == webhook.workflow))
            .take(query.limit.saturating_add(1))
            .cloned()
            .collect();
        Page::cut(items, query.limit, |webhook: &Arc<Webhook>| webhook.id)
    }

    pub(super) fn record_use(&mut self, uses: &[(WebhookId, SystemTime)]) {
        for (id, at) in uses {
            if let Some(webhook) = self.webhooks.get_mut(id)
                && webhook.last_used_at.is_none_or(|last| last < *at)
            {
                Arc::make_mut(webhook).last_used_at = Some(*at);
            }
        }
    }

    pub(super) fn enqueue(&mut self, request: Enqueue, instant: Instant) -> Result<Enqueued, StoreError> {
        let (id, webhook_id) = (request.run.id, request.run.webhook_id);
        let webhook = self.webhook(webhook_id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if let Some(refusal) = request.refused_by(&webhook) {
            return Ok(refusal);
        }
        if let Some(idempotency) = &request.idempotency {
            match self.keys.look_up(webhook_id, idempotency, instant) {
                LookUp::Mismatch => return Ok(Enqueued::KeyMismatch),
                // A key whose run was pruned stands for nothing any more.
                LookUp::Found(run) => {
                    if let Some(run) = self.run(run) {
                        return Ok(Enqueued::Replayed(run));
                    }
                }
                LookUp::Unknown => {}
            }
        }
        if self.run(id).is_some() {
            return Err(StoreError::Conflict(Resource::Run));
        }
        // The call may have read the settings before they were last updated; the stored bound holds. No record is ever
        // missing, since all stay in memory.
        let bound = webhook.settings.concurrency.bound();
        let Ok(admission) = self.live.admit(&request, bound) else { return Ok(Enqueued::QueueFull) };
        if let Some(idempotency) = request.idempotency {
            self.keys.record(webhook_id, idempotency, &request.run, instant);
        }
        admission.superseded.into_iter().for_each(|run| self.bury(run, Vec::new()));
        let run = admission.run;
        if run.state.is_ended() {
            self.bury(run.clone(), Vec::new());
        } else {
            self.live.commit(id);
            self.events.publish_state(&run, &Arc::default());
        }
        let asked_to_stop = admission.asked_to_stop.iter().map(|run| run.id).collect();
        Ok(Enqueued::Created { run, asked_to_stop })
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest, instant: Instant) -> Vec<Claim> {
        let outcome = self.live.claim(request, instant);
        outcome.ended.into_iter().for_each(|run| self.bury(run, Vec::new()));
        for run in outcome.interrupted.iter().chain(&outcome.claimed) {
            self.events.publish_state(run, &Arc::default());
        }
        let claim = |run: Arc<Run>, is_ahead: bool| {
            let webhook = self.webhook(run.webhook_id);
            Claim::new(run, webhook).with_ahead(is_ahead)
        };
        let claimed = outcome.claimed.into_iter().map(|run| claim(run, false));
        claimed.chain(outcome.ahead.into_iter().map(|run| claim(run, true))).collect()
    }

    pub(super) fn begin(&mut self, begun: &[Begun]) {
        for run in begun.iter().filter_map(|begun| self.live.begin(begun)) {
            self.events.publish_state(&run, &Arc::default());
        }
    }

    pub(super) fn renew(&mut self, renewals: &[Renewal], lease: Duration, instant: Instant) -> Vec<Renewed> {
        let end = later(instant, lease);
        let renew = |renewal: &Renewal| {
            let renewed = self.live.renew(renewal, end);
            if renewed != Renewed::Lost
                && let (Some(progress), Some(run)) = (&renewal.progress, self.live.record(renewal.run))
            {
                self.events.publish_progress(&run, progress);
            }
            renewed
        };
        renewals.iter().map(renew).collect()
    }

    pub(super) fn settle(&mut self, settlements: Vec<Settlement>, instant: Instant) -> Vec<Settled> {
        settlements.into_iter().map(|settlement| self.settle_one(settlement, instant)).collect()
    }

    fn settle_one(&mut self, settlement: Settlement, instant: Instant) -> Settled {
        let Some(run) = self.live.settle(&settlement, instant) else { return Settled::Stale };
        let deliveries = match settlement.outcome {
            Outcome::Ended { deliveries, .. } => deliveries,
            Outcome::Retry { .. } | Outcome::HandBack => Vec::new(),
        };
        for delivery in &deliveries {
            self.outbox.add(delivery.clone(), instant);
        }
        if run.state.is_ended() {
            self.bury(run.clone(), deliveries);
        } else {
            self.events.publish_state(&run, &Arc::default());
        }
        Settled::Applied(run)
    }

    pub(super) fn cancel_run(&mut self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        match self.live.cancel(id, CancelReason::Requested, now) {
            Some(LiveCancel::Ended(run)) => {
                self.bury(run.clone(), Vec::new());
                Ok(Cancelled::Ended(run))
            }
            Some(LiveCancel::Requested(run)) => Ok(Cancelled::Requested(run)),
            // Nor is a record ever missing.
            Some(LiveCancel::Missing) | None => {
                self.history.get(id).map(Cancelled::TooLate).ok_or(StoreError::NotFound(Resource::Run))
            }
        }
    }

    pub(super) fn run(&self, id: RunId) -> Option<Arc<Run>> {
        self.live.record(id).or_else(|| self.history.get(id))
    }

    pub(super) fn list_runs(&self, query: &RunQuery) -> Page<Arc<Run>, RunId> {
        let enough = query.limit.saturating_add(1);
        let mut items = self.history.list(query, enough);
        if !query.state.is_some_and(RunState::is_ended) {
            items.extend(self.live.list(query, enough).into_iter().filter_map(|(_, run)| run));
        }
        items.sort_unstable_by_key(|run| std::cmp::Reverse(run.id));
        Page::cut(items, query.limit, |run: &Arc<Run>| run.id)
    }

    pub(super) fn prune(&mut self, request: &PruneRequest, instant: Instant) -> Pruned {
        self.keys.expire(instant);
        let (webhooks, outbox, keys) = (&self.webhooks, &self.outbox, &self.keys);
        let retention = |id: WebhookId| request.retention(webhooks.get(&id).map(|webhook| &**webhook));
        let stays = |run: RunId| outbox.has_pending(run) || keys.keep(run, request.now);
        let mut runs = self.history.past_retention(request, retention, stays);
        let more = runs.len() > request.limit;
        runs.truncate(request.limit);
        for run in &runs {
            self.history.remove(*run);
            self.outbox.remove_run(*run);
            self.logs.remove(run);
        }
        Pruned::new(runs, more)
    }

    pub(super) fn append_log(&mut self, id: RunId, fence: u64, text: String) {
        let held = |run: &Arc<Run>| run.state == RunState::Running && run.fence == fence;
        if let Some(run) = self.live.record(id).filter(held) {
            self.logs.entry(id).or_default().append(&text);
            self.events.publish_log(&run, &text);
        }
    }

    pub(super) fn read_log(&self, id: RunId, offset: u64) -> LogPart {
        self.logs.get(&id).map_or_else(|| LogPart::new(offset, String::new()), |log| log.read(offset))
    }

    pub(super) fn work_at(&self, work: &Work, now: Instant) -> Option<Instant> {
        match work {
            Work::Runs => self.live.work_at(now),
            Work::Deliveries(channels) => self.outbox.next_deadline(channels),
        }
    }

    pub(super) fn health(&self) -> StoreHealth {
        let (queued, running) = (self.live.queued() as u64, self.live.running() as u64);
        StoreHealth::new(queued, running, self.outbox.pending() as u64)
    }

    /// Moves a run that has ended into the history and tells of it.
    fn bury(&mut self, run: Arc<Run>, deliveries: Vec<Delivery>) {
        self.events.publish_state(&run, &deliveries.into());
        self.history.insert(run);
    }
}
