//! The runs, found by id, by webhook and by state without reading all of them.

use std::cmp::Reverse;
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
    /// Those that have ended, by when they did, for retention.
    by_end: BTreeSet<(SystemTime, RunId)>,
}

impl History {
    pub(super) fn get(&self, id: RunId) -> Option<Arc<Run>> {
        self.runs.get(&id).cloned()
    }

    /// Adds a run, or replaces the one with its id.
    pub(super) fn put(&mut self, run: Arc<Run>) {
        self.remove(run.id());
        let webhook = self.webhooks.entry(run.webhook_id()).or_default();
        if !webhook.workflows.contains(run.workflow()) {
            webhook.workflows.push(run.workflow().clone());
        }
        webhook.by_state.entry(run.state()).or_default().insert(run.id());
        webhook.by_end.extend(end(&run));
        self.runs.insert(run.id(), run);
    }

    pub(super) fn remove(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        let Some(webhook) = self.webhooks.get_mut(&run.webhook_id()) else { return };
        if let Some(ids) = webhook.by_state.get_mut(&run.state()) {
            ids.remove(&id);
        }
        if let Some(end) = end(&run) {
            webhook.by_end.remove(&end);
        }
        if webhook.by_state.values().all(BTreeSet::is_empty) {
            self.webhooks.remove(&run.webhook_id());
        }
    }

    /// The newest runs that a query asks for, newest first, at most its limit.
    pub(super) fn list(&self, query: &RunQuery) -> Vec<Arc<Run>> {
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
            runs.filter(|run| query.matches(run)).take(query.limit).cloned().collect()
        };
        let mut runs: Vec<_> = states.flat_map(newest).collect();
        runs.sort_unstable_by_key(|run| Reverse(run.id()));
        runs.truncate(query.limit);
        runs
    }

    /// Runs past their retention, at most the limit of the request.
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
                if past.len() >= request.limit || !is_past {
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

fn end(run: &Run) -> Option<(SystemTime, RunId)> {
    Some((run.finished_at()?, run.id()))
}
