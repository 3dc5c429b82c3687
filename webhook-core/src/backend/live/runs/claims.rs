//! Claims: which runs execute next, and which of them must be read first.

use std::sync::Arc;

use tokio::time::Instant;

use super::LiveRuns;
use crate::backend::live::index::RunPlace;
use crate::backend::live::outcome::ClaimedRuns;
use crate::clock::later;
use crate::id::RunId;
use crate::run::{CancelReason, Ending, Run};
use crate::store::{Begun, ClaimRequest};

/// Records that are asked for at once, when that of the next run is missing.
pub(super) const READ_AHEAD: usize = 128;
/// Upper bound on the webhooks that these runs belong to.
const QUEUES_READ_AHEAD: usize = 16;
/// Bytes of their parameters, unless the first alone has more.
pub(super) const READ_AHEAD_BYTES: u64 = 1 << 20;
/// Runs behind the next one that are read along, even where the webhook has room for fewer.
pub(super) const LEAST_READ_AHEAD: usize = 16;

impl LiveRuns {
    /// Claims due runs: some to execute now, and those behind them ahead of need. Webhooks are served in turn, oldest
    /// runs first.
    ///
    /// Runs whose lease has ended are interrupted before. A claim stops at a run whose record is
    /// [missing](ClaimedRuns::missing); once that is provided, the rest can be claimed.
    pub fn claim(&mut self, request: &ClaimRequest, instant: Instant) -> ClaimedRuns {
        let mut outcome = ClaimedRuns::default();
        self.interrupt_expired(request, instant, &mut outcome);
        while let Some((_, id)) = self.index.first_due().filter(|(due, _)| *due <= instant) {
            self.place(id, RunPlace::Ready);
        }
        while outcome.claimed.len() + outcome.ahead.len() < request.limit + request.ahead {
            let Some((id, webhook)) = self.index.next(&request.workflows) else { break };
            let Some(queued) = self.records.get(id) else {
                outcome.missing = self.read_ahead(id);
                break;
            };
            let fence = self.last_fence + 1;
            match queued.claimed(fence, request.interruption_bound, request.now) {
                Ok(run) => {
                    self.last_fence = fence;
                    self.index.note_served(webhook);
                    let (queued, run) = (queued.clone(), Arc::new(run));
                    let lease_end = later(instant, request.lease);
                    if outcome.claimed.len() < request.limit {
                        self.update(run.clone(), RunPlace::Running(lease_end));
                        outcome.claimed.push(run);
                    } else {
                        self.update(queued, RunPlace::Claimed(lease_end));
                        self.ahead.insert(id, run.clone());
                        outcome.ahead.push(run);
                    }
                }
                // A run that cannot be claimed must not stay next, or this loop would not end.
                Err(_) => self.remove(id),
            }
        }
        self.records.trim();
        outcome
    }

    fn interrupt_expired(&mut self, request: &ClaimRequest, instant: Instant, outcome: &mut ClaimedRuns) {
        while let Some((_, id)) = self.index.first_lease_end().filter(|(end, _)| *end <= instant) {
            let Some(run) = self.claim_of(id) else {
                self.remove(id);
                continue;
            };
            if self.is_closed(run.webhook_id()) {
                let ending = Ending::Cancelled(CancelReason::WebhookDeleted);
                outcome.ended.extend(self.end(run, ending, request.now));
                continue;
            }
            match run.interrupted(request.now) {
                Ok(run) => {
                    let run = Arc::new(run);
                    self.update(run.clone(), RunPlace::Ready);
                    outcome.interrupted.push(run);
                }
                Err(_) => self.remove(id),
            }
        }
    }

    /// The next run, and those after it whose records are missing too: of several webhooks, since these are served in turn.
    fn read_ahead(&self, next: RunId) -> Vec<RunId> {
        let queues = self.index.in_turn().take(QUEUES_READ_AHEAD);
        let queues: Vec<_> = queues.filter_map(|(_, webhook)| self.index.queue(webhook)).collect();
        let share = READ_AHEAD.div_ceil(queues.len().max(1));
        let (mut missing, mut bytes) = (vec![next], self.index.parameter_bytes(next));
        for queue in queues {
            let count = queue.room().map_or(share, |room| room.clamp(LEAST_READ_AHEAD.min(share), share));
            for id in queue.ready().take(count).filter(|id| *id != next && !self.records.has(*id)) {
                bytes += self.index.parameter_bytes(id);
                if bytes > READ_AHEAD_BYTES {
                    return missing;
                }
                missing.push(id);
            }
        }
        missing
    }

    /// Begins a run that was claimed ahead, and returns it. `None` when it began before, or its fence is stale; nothing has
    /// changed then.
    pub fn begin(&mut self, begun: &Begun) -> Option<Arc<Run>> {
        let lease_end = self.index.get(begun.run)?.place.lease_end()?;
        let claimed = self.ahead.get(&begun.run).filter(|run| run.fence() == begun.fence)?;
        let started_at =
            self.records.get(begun.run).and_then(|queued| queued.started_at()).or(Some(begun.now));
        let run = Arc::new(claimed.begun(started_at).ok()?);
        self.update(run.clone(), RunPlace::Running(lease_end));
        Some(run)
    }
}
