//! The runs that have ended, found by id, by webhook and by state without reading all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::run::{Run, RunState};
use crate::store::{PruneRequest, RunQuery};

#[derive(Debug, Default)]
pub(super) struct History {
    runs: BTreeMap<RunId, Arc<Run>>,
    webhooks: BTreeMap<WebhookId, OfWebhook>,
}

/// The runs of one webhook.
#[derive(Debug, Default)]
struct OfWebhook {
    /// The workflows it has started: one, unless it was given another.
    workflows: Vec<WorkflowKey>,
    by_state: BTreeMap<RunState, BTreeSet<RunId>>,
    /// By when they ended, for retention.
    by_end: BTreeSet<(SystemTime, RunId)>,
}

impl History {
    pub(super) fn get(&self, id: RunId) -> Option<Arc<Run>> {
        self.runs.get(&id).cloned()
    }

    pub(super) fn insert(&mut self, run: Arc<Run>) {
        let webhook = self.webhooks.entry(run.webhook_id()).or_default();
        if !webhook.workflows.contains(run.workflow()) {
            webhook.workflows.push(run.workflow().clone());
        }
        webhook.by_state.entry(run.state()).or_default().insert(run.id());
        webhook.by_end.insert(end(&run));
        self.runs.insert(run.id(), run);
    }

    pub(super) fn remove(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        let Some(webhook) = self.webhooks.get_mut(&run.webhook_id()) else { return };
        if let Some(ids) = webhook.by_state.get_mut(&run.state()) {
            ids.remove(&id);
        }
        webhook.by_end.remove(&end(&run));
        if webhook.by_end.is_empty() {
            self.webhooks.remove(&run.webhook_id());
        }
    }

    /// The newest runs that a query asks for, at most `limit` of each webhook and state, in no order.
    pub(super) fn list(&self, query: &RunQuery, limit: usize) -> Vec<Arc<Run>> {
        let asked = |(id, webhook): &(&WebhookId, &OfWebhook)| {
            query.webhook.is_none_or(|asked| asked == **id)
                && query.workflow.as_ref().is_none_or(|asked| webhook.workflows.contains(asked))
        };
        let states = self.webhooks.iter().filter(asked).flat_map(|(_, webhook)| &webhook.by_state);
        let states = states.filter(|(state, _)| query.state.is_none_or(|asked| asked == **state));
        let newest = |(_, ids): (&RunState, &BTreeSet<RunId>)| -> Vec<Arc<Run>> {
            let older = match query.before {
                Some(before) => ids.range(..before),
                None => ids.range::<RunId, _>(..),
            };
            let runs = older.rev().filter_map(|id| self.runs.get(id));
            runs.filter(|run| query.matches(run)).take(limit).cloned().collect()
        };
        states.flat_map(newest).collect()
    }

    /// Runs past their retention, at most one more than are to be removed.
    pub(super) fn past_retention(
        &self,
        request: &PruneRequest,
        retention: impl Fn(WebhookId) -> Duration,
        stays: impl Fn(RunId) -> bool,
    ) -> Vec<RunId> {
        let mut past = Vec::new();
        let keep = request.keep_per_webhook.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX));
        for (webhook, OfWebhook { by_end: ends, .. }) in &self.webhooks {
            let too_many = keep.map_or(0, |keep| ends.len().saturating_sub(keep));
            let newest_gone = request.now.checked_sub(retention(*webhook));
            for (place, (end, run)) in ends.iter().enumerate() {
                let is_past = place < too_many || newest_gone.is_some_and(|newest| *end <= newest);
                if past.len() > request.limit || !is_past {
                    break;
                }
                if !stays(*run) {
                    past.push(*run);
                }
            }
        }
        past
    }
}

fn end(run: &Run) -> (SystemTime, RunId) {
    (run.finished_at().unwrap_or(run.queued_at()), run.id())
}
