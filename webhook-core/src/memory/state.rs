//! The records of a memory store, and the operations that change several kinds of them. Synchronous; the store around it
//! locks and wakes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::deliveries::Deliveries;
use super::history::History;
use crate::backend::call_table::CallTable;
use crate::backend::run_log::RunLog;
use crate::backend::{EventLog, IdempotencyIndex, KeyMeaning, LiveCancel, LiveRuns, WebhookIndex};
use crate::calls::LoggedCall;
use crate::clock::later;
use crate::error::Resource;
use crate::id::{RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::{CancelReason, Run, RunState};
use crate::store::{
    Cancelled, Claim, ClaimRequest, Enqueue, Enqueued, Outcome, Page, PruneRequest, Pruned, Renewal, Renewed,
    RunQuery, Settled, Settlement, StoreError, StoreHealth,
};

#[derive(Default)]
pub(super) struct State {
    pub(super) webhooks: WebhookIndex,
    pub(super) live: LiveRuns,
    history: History,
    keys: IdempotencyIndex,
    pub(super) logs: HashMap<RunId, RunLog>,
    pub(super) deliveries: Deliveries,
    pub(super) calls: CallTable,
    pub(super) events: Arc<EventLog>,
}

impl State {
    pub(super) fn enqueue(&mut self, request: Enqueue, instant: Instant) -> Result<Enqueued, StoreError> {
        let (id, webhook_id) = (request.run.id(), request.run.webhook_id());
        let webhook = self.webhooks.get(webhook_id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if let Some(refusal) = request.refused_by(webhook) {
            return Ok(refusal);
        }
        if let Some(idempotency) = &request.idempotency {
            match self.keys.look_up(webhook_id, idempotency, instant) {
                KeyMeaning::Mismatch => return Ok(Enqueued::KeyMismatch),
                KeyMeaning::Run(run) => {
                    if let Some(run) = self.run(run) {
                        return Ok(Enqueued::Replayed(run));
                    }
                }
                KeyMeaning::Free => {}
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
            self.keys.insert(webhook_id, idempotency, &request.run, instant);
        }
        for run in admission.superseded {
            self.bury(run, Arc::default());
        }
        let run = admission.run;
        if run.state().is_ended() {
            self.bury(run.clone(), Arc::default());
        } else {
            self.live.commit(id);
            self.events.publish_state(&run, &Arc::default());
        }
        let asked_to_stop = admission.asked_to_stop.iter().map(|run| run.id()).collect();
        Ok(Enqueued::Created { run, asked_to_stop })
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest, instant: Instant) -> Vec<Claim> {
        let outcome = self.live.claim(request, instant);
        for run in outcome.ended {
            self.bury(run, Arc::default());
        }
        for run in outcome.interrupted.iter().chain(&outcome.claimed) {
            self.events.publish_state(run, &Arc::default());
        }
        let claim = |run: Arc<Run>, is_ahead: bool| {
            let webhook = self.webhooks.get(run.webhook_id()).cloned();
            Claim::new(run, webhook).with_ahead(is_ahead)
        };
        let claimed = outcome.claimed.into_iter().map(|run| claim(run, false));
        claimed.chain(outcome.ahead.into_iter().map(|run| claim(run, true))).collect()
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
            self.deliveries.add(delivery.clone(), instant);
        }
        if run.state().is_ended() {
            self.bury(run.clone(), deliveries.into());
        } else {
            self.events.publish_state(&run, &Arc::default());
        }
        Settled::Applied(run)
    }

    pub(super) fn cancel_run(&mut self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        match self.live.cancel(id, CancelReason::Requested, now) {
            Some(LiveCancel::Ended(run)) => {
                self.bury(run.clone(), Arc::default());
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
        items.sort_unstable_by_key(|run| std::cmp::Reverse(run.id()));
        Page::cut(items, query.limit, |run: &Arc<Run>| run.id())
    }

    pub(super) fn prune(&mut self, request: &PruneRequest, instant: Instant) -> Pruned {
        self.keys.expire(instant);
        self.calls.expire_contents(request.now);
        let (webhooks, deliveries, keys) = (&self.webhooks, &self.deliveries, &self.keys);
        let retention = |id: WebhookId| request.retention(webhooks.get(id).map(|webhook| &**webhook));
        let stays = |run: RunId| deliveries.has_pending(run) || keys.keeps(run, request.now);
        let mut runs = self.history.past_retention(request, retention, stays);
        let more = runs.len() > request.limit;
        runs.truncate(request.limit);
        for run in &runs {
            self.history.remove(*run);
            self.deliveries.remove_run(*run);
            self.logs.remove(run);
        }
        Pruned::new(runs, more)
    }

    pub(super) fn append_log(&mut self, id: RunId, fence: u64, text: &str) {
        let held = |run: &Arc<Run>| run.state() == RunState::Running && run.fence() == fence;
        if let Some(run) = self.live.record(id).filter(held) {
            self.logs.entry(id).or_default().append(text);
            self.events.publish_log(&run, text);
        }
    }

    pub(super) fn append_calls(&mut self, calls: Vec<LoggedCall>) {
        self.calls.append(calls, &self.webhooks, &self.events);
    }

    pub(super) fn health(&self) -> StoreHealth {
        let (queued, running) = (self.live.queued() as u64, self.live.running() as u64);
        StoreHealth::new(queued, running, self.deliveries.pending() as u64)
    }

    /// Moves an ended run into the history and publishes its end.
    pub(super) fn bury(&mut self, run: Arc<Run>, deliveries: Arc<[Delivery]>) {
        self.events.publish_state(&run, &deliveries);
        self.history.insert(run);
    }
}
