//! Which live runs a query asks for, found without going through all of them.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::lane::Part;
use super::{LiveRuns, Place};
use crate::id::{RunId, WebhookId};
use crate::run::{Run, RunState};
use crate::store::RunQuery;

/// A live run, by its id, and its record if that is in memory.
pub type ListedRun = (RunId, Option<Arc<Run>>);

impl LiveRuns {
    /// The live runs that a query asks for, newest first, at most `limit`, with the records that are in memory. Those
    /// not yet durable are left out.
    #[must_use]
    pub fn list(&self, query: &RunQuery, limit: usize) -> Vec<ListedRun> {
        let parts: &[Part] = match query.state {
            None => &[Part::Running, Part::Claimed, Part::Waiting, Part::Ready],
            Some(RunState::Queued) => &[Part::Claimed, Part::Waiting, Part::Ready],
            Some(RunState::Running) => &[Part::Running],
            Some(_) => return Vec::new(),
        };
        let mut found = Vec::new();
        let mut newest = Newest::of(self, query, parts);
        while found.len() < limit
            && let Some((id, webhook)) = newest.next()
        {
            if self.is_asked_for(id, webhook, query) {
                found.push((id, self.record(id)));
            }
        }
        found
    }

    fn is_asked_for(&self, id: RunId, webhook: WebhookId, query: &RunQuery) -> bool {
        let Some(live) = self.runs.get(&id) else { return false };
        let is_of_workflow = |workflow| {
            let number = self.lanes.get(&webhook).and_then(|lane| lane.number_of(workflow));
            number == Some(live.workflow)
        };
        live.place != Place::Uncommitted && query.workflow.as_ref().is_none_or(is_of_workflow)
    }
}

type NewestOfPart<'a> = std::iter::Rev<std::collections::btree_set::Range<'a, RunId>>;

/// Goes through the runs of several lanes at once, newest first.
struct Newest<'a> {
    lanes: Vec<(WebhookId, NewestOfPart<'a>)>,
    heads: BinaryHeap<(RunId, usize)>,
}

impl<'a> Newest<'a> {
    fn of(live: &'a LiveRuns, query: &RunQuery, parts: &[Part]) -> Self {
        let mut lanes = Vec::new();
        let mut add = |webhook: WebhookId| {
            let lane = live.lanes.get(&webhook);
            let asked = lane.filter(|lane| {
                query.workflow.as_ref().is_none_or(|workflow| lane.number_of(workflow).is_some())
            });
            if let Some(lane) = asked {
                lanes.extend(lane.newest(parts, query.before).into_iter().map(|runs| (webhook, runs)));
            }
        };
        match query.webhook {
            Some(webhook) => add(webhook),
            None => live.lanes.keys().for_each(|webhook| add(*webhook)),
        }
        let mut newest = Self { lanes, heads: BinaryHeap::new() };
        (0..newest.lanes.len()).for_each(|place| newest.advance(place));
        newest
    }

    fn next(&mut self) -> Option<(RunId, WebhookId)> {
        let (id, place) = self.heads.pop()?;
        self.advance(place);
        Some((id, self.lanes[place].0))
    }

    fn advance(&mut self, place: usize) {
        if let Some(id) = self.lanes[place].1.next() {
            self.heads.push((*id, place));
        }
    }
}
