//! The decisions of a store around [`Records`], and what it keeps in memory for them. Synchronous: the store locks and wakes.
//!
//! An operation reads what it needs, decides in memory, writes the changes in one transaction, and then tells of them.

mod deliveries;
mod runs;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::contract::{KeyRecord, LiveRecords, RecordChange, Records};
use crate::backend::call_table::CallTable;
use crate::backend::due_index::DueIndex;
use crate::backend::event_log::EventLog;
use crate::backend::idempotency_index::{IdempotencyIndex, KeyHolder};
use crate::backend::live::runs::LiveRuns;
use crate::backend::webhook_index::WebhookIndex;
use crate::clock::later;
use crate::error::BoxError;
use crate::id::{RunId, WebhookId};
use crate::run::{Run, RunState};
use crate::store::{StoreError, StoreHealth, Work, Workflows};
use crate::webhook::Webhook;

pub(super) struct RecordCore<R> {
    /// `None` once the store is closed.
    records: Option<R>,
    /// True while memory may differ from the records: changes were decided and may not be written.
    is_ahead: bool,
    pub(super) webhooks: WebhookIndex,
    pub(super) live: LiveRuns,
    keys: IdempotencyIndex,
    pending: DueIndex,
    pub(super) calls: CallTable,
    pub(super) events: Arc<EventLog>,
    /// Length of the lease that was last asked for.
    lease: Duration,
    /// Greatest fence of a claim that was returned.
    returned_fence: u64,
}

fn failed(error: BoxError) -> StoreError {
    let other = |error| StoreError::unavailable_because("the records cannot be read or written", error);
    error.downcast::<StoreError>().map_or_else(other, |error| *error)
}

fn closed() -> StoreError {
    StoreError::unavailable("it is closed")
}

fn put(run: &Arc<Run>) -> RecordChange {
    RecordChange::PutRun(run.clone())
}

impl<R: Records> RecordCore<R> {
    pub(super) fn new(records: R) -> Self {
        Self {
            records: Some(records),
            is_ahead: false,
            webhooks: WebhookIndex::default(),
            live: LiveRuns::new(),
            keys: IdempotencyIndex::default(),
            pending: DueIndex::default(),
            calls: CallTable::default(),
            events: Arc::default(),
            lease: Duration::ZERO,
            returned_fence: 0,
        }
    }

    /// Loads the records. Running runs are interrupted: the process that executed them is gone.
    pub(super) fn open(&mut self) -> Result<(), StoreError> {
        self.load(|live, run, bytes, now, instant| Arc::new(live.restore(run, bytes, now, instant)))
    }

    /// Returns whether the store is open and memory is as the records are.
    pub(super) fn is_ready(&self) -> bool {
        self.records.is_some() && !self.is_ahead
    }

    /// Executes a call. If it panics, memory may be ahead of the records.
    pub(super) fn execute<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> T {
        catch_unwind(AssertUnwindSafe(|| call(self))).unwrap_or_else(|panic| {
            // Records in memory cannot be loaded again.
            self.is_ahead |= !R::IN_MEMORY;
            resume_unwind(panic)
        })
    }

    /// Loads the records again after a write has failed. Running runs go on, unless their claim was never returned.
    pub(super) fn make_ready(&mut self) -> Result<(), StoreError> {
        if self.records.is_none() {
            return Err(closed());
        }
        if self.is_ahead {
            let (lease, returned_fence) = (self.lease, self.returned_fence);
            self.load(|live, run, bytes, now, instant| match run.state() {
                RunState::Running if run.fence() <= returned_fence => {
                    let run = Arc::new(run);
                    live.resume(run.clone(), bytes, later(instant, lease));
                    run
                }
                _ => Arc::new(live.restore(run, bytes, now, instant)),
            })?;
            // A write that failed may be there all the same, and no reader was told of it.
            self.events.note_missed();
        }
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.records = None;
    }

    /// Replaces what is in memory by the records. `take` takes a live run, and returns it as it is now.
    fn load(
        &mut self,
        take: impl Fn(&mut LiveRuns, Run, usize, SystemTime, Instant) -> Arc<Run>,
    ) -> Result<(), StoreError> {
        let LiveRecords { webhooks, runs, keys, deliveries } = self.records()?.load().map_err(failed)?;
        let (now, instant) = (SystemTime::now(), Instant::now());
        self.webhooks = WebhookIndex::default();
        for webhook in webhooks {
            self.webhooks.put(webhook);
        }
        self.keys = IdempotencyIndex::default();
        for key in keys {
            let KeyRecord { webhook_id, key, fingerprint, run, expires_at } = key;
            let holder = KeyHolder { run, fingerprint, expires: expires_at };
            self.keys.restore(webhook_id, key, holder, now, instant);
        }
        let (deadlines, _) = self.pending.deadlines();
        self.pending = DueIndex::default();
        for delivery in deliveries {
            let left = delivery.next_at.and_then(|next| next.duration_since(now).ok()).unwrap_or_default();
            // The lease of one that is claimed goes on.
            let due = deadlines.get(&delivery.id).copied().unwrap_or_else(|| later(instant, left));
            self.pending.follow(&delivery, due);
        }
        self.live = self.live.emptied();
        let mut changes = Vec::new();
        for run in runs {
            let (state, bytes) = (run.state(), run.parameters().bytes());
            let run = take(&mut self.live, run, bytes, now, instant);
            if run.state() != state {
                changes.push(put(&run));
            }
            self.live.provide(run.clone());
            match self.webhooks.get(run.webhook_id()) {
                Some(webhook) => self.live.set_bound(webhook.id, webhook.settings.concurrency.bound()),
                None => changes.extend(self.live.end_queued(run.webhook_id(), now).iter().map(put)),
            }
        }
        self.write(&changes)?;
        self.is_ahead = false;
        Ok(())
    }

    fn records(&mut self) -> Result<&mut R, StoreError> {
        self.records.as_mut().ok_or_else(closed)
    }

    fn read<T>(&mut self, read: impl FnOnce(&mut R) -> Result<T, BoxError>) -> Result<T, StoreError> {
        read(self.records()?).map_err(failed)
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        // Stays set if the write fails or panics.
        self.is_ahead = true;
        self.read(|records| records.write(changes))?;
        self.is_ahead = false;
        Ok(())
    }

    /// Writes runs whose state has changed, and tells of them.
    fn write_states<'a>(
        &mut self,
        runs: impl Iterator<Item = &'a Arc<Run>> + Clone,
    ) -> Result<(), StoreError> {
        self.write(&runs.clone().map(put).collect::<Vec<_>>())?;
        for run in runs {
            self.events.publish_state(run, &Arc::default());
        }
        Ok(())
    }
}

/// Operations on webhooks.
impl<R: Records> RecordCore<R> {
    pub(super) fn create_webhook(&mut self, webhook: Webhook) -> Result<(), StoreError> {
        self.webhooks.check_new(&webhook)?;
        self.put_webhook(webhook)
    }

    pub(super) fn update_webhook(&mut self, webhook: Webhook, expected: u64) -> Result<(), StoreError> {
        let webhook = self.webhooks.updated(webhook, expected)?;
        self.live.set_bound(webhook.id, webhook.settings.concurrency.bound());
        self.put_webhook(webhook)
    }

    fn put_webhook(&mut self, webhook: Webhook) -> Result<(), StoreError> {
        let id = webhook.id;
        self.webhooks.put(webhook);
        self.write_webhooks(&[id])
    }

    fn write_webhooks(&mut self, ids: &[WebhookId]) -> Result<(), StoreError> {
        let webhooks = ids.iter().filter_map(|id| self.webhooks.get(*id));
        let changes: Vec<_> = webhooks.map(|webhook| RecordChange::PutWebhook(webhook.clone())).collect();
        self.write(&changes)
    }

    pub(super) fn delete_webhook(
        &mut self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        self.webhooks.check_removal(id, expected_revision)?;
        self.webhooks.remove(id);
        let ended = self.live.end_queued(id, now);
        let changes: Vec<_> =
            [RecordChange::RemoveWebhook(id)].into_iter().chain(ended.iter().map(put)).collect();
        self.write(&changes)?;
        self.calls.forget(id);
        for run in &ended {
            self.events.publish_state(run, &Arc::default());
        }
        Ok(ended.iter().map(|run| run.id()).collect())
    }

    pub(super) fn record_use(&mut self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        let mut used = Vec::new();
        for (id, at) in uses {
            if self.webhooks.record_use(*id, *at) {
                used.push(*id);
            }
        }
        self.write_webhooks(&used)
    }
}

/// Waiting and health.
impl<R: Records> RecordCore<R> {
    /// Returns the time at which there is work, if nothing changes.
    pub(super) fn work_at(&self, work: &Work, now: Instant) -> Option<Instant> {
        match work {
            Work::Runs => self.live.work_at(&Workflows::All, now),
            Work::RunsOf(workflows) => self.live.work_at(workflows, now),
            Work::Deliveries(channels) => self.pending.next_deadline(channels),
        }
    }

    pub(super) fn health(&mut self) -> Result<StoreHealth, StoreError> {
        self.read(|records| records.write(&[]))?;
        let (queued, running) = (self.live.queued() as u64, self.live.running() as u64);
        Ok(StoreHealth::new(queued, running, self.pending.len() as u64))
    }
}
