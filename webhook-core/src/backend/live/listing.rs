//! Live runs that a query asks for, found without going through all of them.

use std::collections::BinaryHeap;

use crate::backend::live::index::{RunIndex, RunPlace};
use crate::backend::live::queue::QueuePart;
use crate::id::{RunId, WebhookId};
use crate::run::RunState;
use crate::store::RunQuery;

/// The newest durable runs that a query asks for, at most `limit`, newest first.
pub(crate) fn newest(index: &RunIndex, query: &RunQuery, limit: usize) -> Vec<RunId> {
    let parts: &[QueuePart] = match query.state {
        None => &[QueuePart::Running, QueuePart::Claimed, QueuePart::Waiting, QueuePart::Ready],
        Some(RunState::Queued) => &[QueuePart::Claimed, QueuePart::Waiting, QueuePart::Ready],
        Some(RunState::Running) => &[QueuePart::Running],
        Some(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    let mut newest = Newest::of(index, query, parts);
    while found.len() < limit
        && let Some((id, webhook)) = newest.next()
    {
        if is_asked_for(index, id, webhook, query) {
            found.push(id);
        }
    }
    found
}

fn is_asked_for(index: &RunIndex, id: RunId, webhook: WebhookId, query: &RunQuery) -> bool {
    let Some(entry) = index.get(id) else { return false };
    let is_of_workflow = |workflow| {
        let number = index.queue(webhook).and_then(|queue| queue.number_of(workflow));
        number == Some(entry.workflow)
    };
    entry.place != RunPlace::Uncommitted && query.workflow.as_ref().is_none_or(is_of_workflow)
}

type NewestOfPart<'a> = std::iter::Rev<std::collections::btree_set::Range<'a, RunId>>;

/// Merges the runs of several queues, newest first.
struct Newest<'a> {
    parts: Vec<(WebhookId, NewestOfPart<'a>)>,
    /// Next run of each of `parts` that is left, with the part's place.
    heads: BinaryHeap<(RunId, usize)>,
}

impl<'a> Newest<'a> {
    fn of(index: &'a RunIndex, query: &RunQuery, parts: &[QueuePart]) -> Self {
        let queues: Vec<_> = match query.webhook {
            Some(webhook) => index.queue(webhook).map(|queue| (webhook, queue)).into_iter().collect(),
            None => index.queues().collect(),
        };
        let mut newest = Self { parts: Vec::new(), heads: BinaryHeap::new() };
        for (webhook, queue) in queues {
            if query.workflow.as_ref().is_none_or(|workflow| queue.number_of(workflow).is_some()) {
                let of_queue = queue.newest(parts, query.before).into_iter();
                newest.parts.extend(of_queue.map(|runs| (webhook, runs)));
            }
        }
        for place in 0..newest.parts.len() {
            newest.advance(place);
        }
        newest
    }

    fn next(&mut self) -> Option<(RunId, WebhookId)> {
        let (id, place) = self.heads.pop()?;
        self.advance(place);
        Some((id, self.parts[place].0))
    }

    fn advance(&mut self, place: usize) {
        if let Some(id) = self.parts[place].1.next() {
            self.heads.push((*id, place));
        }
    }
}
