//! The runs that have ended, found by id, by workflow, by webhook and by state without reading all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::run::{Run, RunState};
use crate::store::{PruneRequest, RunQuery};

#[derive(Debug, Default)]
pub(super) struct History {
    runs: BTreeMap<RunId, Arc<Run>>,
    index: BTreeMap<(Group, RunState), BTreeSet<RunId>>,
    /// Each webhook's runs by when they ended, for retention.
    by_end: BTreeMap<WebhookId, BTreeSet<(SystemTime, RunId)>>,
}

/// What a list may be narrowed to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    All,
    Workflow(WorkflowKey),
    Webhook(WebhookId),
}

impl History {
    pub(super) fn get(&self, id: RunId) -> Option<Arc<Run>> {
        self.runs.get(&id).cloned()
    }

    pub(super) fn insert(&mut self, run: Arc<Run>) {
        for group in groups(&run) {
            self.index.entry((group, run.state)).or_default().insert(run.id);
        }
        self.by_end.entry(run.webhook_id).or_default().insert(end(&run));
        self.runs.insert(run.id, run);
    }

    pub(super) fn remove(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        for group in groups(&run) {
            let place = (group, run.state);
            if self.index.get_mut(&place).is_some_and(|ids| ids.remove(&id) && ids.is_empty()) {
                self.index.remove(&place);
            }
        }
        if self.by_end.get_mut(&run.webhook_id).is_some_and(|ends| ends.remove(&end(&run)) && ends.is_empty())
        {
            self.by_end.remove(&run.webhook_id);
        }
    }

    /// The newest runs that a query asks for, at most `limit` of each state, in no order.
    pub(super) fn list(&self, query: &RunQuery, limit: usize) -> Vec<Arc<Run>> {
        let group = match (&query.webhook, &query.workflow) {
            (Some(webhook), _) => Group::Webhook(*webhook),
            (None, Some(workflow)) => Group::Workflow(workflow.clone()),
            (None, None) => Group::All,
        };
        let states =
            RunState::ALL.into_iter().filter(|state| query.state.is_none_or(|wanted| wanted == *state));
        let of_state = |state| self.index.get(&(group.clone(), state));
        let newest = |ids: &BTreeSet<RunId>| -> Vec<Arc<Run>> {
            let older = match query.before {
                Some(before) => ids.range(..before),
                None => ids.range::<RunId, _>(..),
            };
            let runs = older.rev().filter_map(|id| self.runs.get(id));
            runs.filter(|run| query.matches(run)).take(limit).cloned().collect()
        };
        states.filter_map(of_state).flat_map(newest).collect()
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
        for (webhook, ends) in &self.by_end {
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

fn groups(run: &Run) -> [Group; 3] {
    [Group::All, Group::Workflow(run.workflow.clone()), Group::Webhook(run.webhook_id)]
}

fn end(run: &Run) -> (SystemTime, RunId) {
    (run.finished_at.unwrap_or(run.queued_at), run.id)
}
