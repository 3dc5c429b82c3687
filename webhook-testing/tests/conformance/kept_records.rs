//! Records that outlive the store around them, with one defect each that shows when they are opened again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use webhook_core::backend::{KeyRecord, LiveRecords, RecordChange, RecordStore, Records, RunLog};
use webhook_core::error::BoxError;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::memory::MemoryRecords;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::{Run, RunState};
use webhook_core::store::{DeliveryQuery, PruneRequest, RunQuery};
use webhook_core::webhook::Webhook;

/// Defect of [`KeptRecords`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordDefect {
    None,
    LoadsNothing,
    IgnoresPutKey,
    IgnoresRemoveKey,
}

/// Records in memory that several stores open, one after the other.
#[derive(Clone)]
pub(crate) struct KeptRecords {
    kept: Arc<Mutex<Kept>>,
    defect: RecordDefect,
}

#[derive(Default)]
struct Kept {
    webhooks: HashMap<WebhookId, Arc<Webhook>>,
    keys: HashMap<(WebhookId, String), KeyRecord>,
    /// Everything else.
    memory: MemoryRecords,
}

impl KeptRecords {
    /// Returns the way to open new records, again and again.
    pub(crate) fn opener(defect: RecordDefect) -> impl AsyncFn() -> RecordStore<Self> + 'static {
        let records = Self { kept: Arc::default(), defect };
        async move || RecordStore::open(records.clone()).expect("records in memory are opened")
    }
}

impl Records for KeptRecords {
    fn load(&mut self) -> Result<LiveRecords, BoxError> {
        let mut live = LiveRecords::default();
        if self.defect == RecordDefect::LoadsNothing {
            return Ok(live);
        }
        let mut kept = self.kept.lock();
        live.webhooks = kept.webhooks.values().map(|webhook| Webhook::clone(webhook)).collect();
        live.keys = kept.keys.values().cloned().collect();
        for state in [RunState::Queued, RunState::Running] {
            let query = RunQuery::default().in_state(Some(state)).limit(usize::MAX);
            live.runs.extend(kept.memory.list_runs(&query)?.iter().map(|run| Run::clone(run)));
        }
        let pending = DeliveryQuery::default().in_state(Some(DeliveryState::Pending)).limit(usize::MAX);
        live.deliveries = kept.memory.find_deliveries(&pending)?;
        Ok(live)
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), BoxError> {
        let mut kept = self.kept.lock();
        for change in changes {
            match change {
                RecordChange::PutWebhook(webhook) => {
                    kept.webhooks.insert(webhook.id, webhook.clone());
                }
                RecordChange::RemoveWebhook(id) => {
                    kept.webhooks.remove(id);
                }
                RecordChange::PutKey(key) if self.defect != RecordDefect::IgnoresPutKey => {
                    kept.keys.insert((key.webhook_id, key.key.clone()), key.clone());
                }
                RecordChange::RemoveKey { webhook_id, key }
                    if self.defect != RecordDefect::IgnoresRemoveKey =>
                {
                    kept.keys.remove(&(*webhook_id, key.clone()));
                }
                _ => {}
            }
        }
        kept.memory.write(changes)
    }

    fn get_run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, BoxError> {
        self.kept.lock().memory.get_run(id)
    }

    fn list_runs(&mut self, query: &RunQuery) -> Result<Vec<Arc<Run>>, BoxError> {
        self.kept.lock().memory.list_runs(query)
    }

    fn expired_runs(
        &mut self,
        request: &PruneRequest,
        stays: &dyn Fn(RunId) -> bool,
    ) -> Result<Vec<RunId>, BoxError> {
        self.kept.lock().memory.expired_runs(request, stays)
    }

    fn get_log(&mut self, run: RunId) -> Result<Option<RunLog>, BoxError> {
        self.kept.lock().memory.get_log(run)
    }

    fn get_delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, BoxError> {
        self.kept.lock().memory.get_delivery(id)
    }

    fn deliveries_of(&mut self, run: RunId) -> Result<Vec<Delivery>, BoxError> {
        self.kept.lock().memory.deliveries_of(run)
    }

    fn find_deliveries(&mut self, query: &DeliveryQuery) -> Result<Vec<Delivery>, BoxError> {
        self.kept.lock().memory.find_deliveries(query)
    }
}
