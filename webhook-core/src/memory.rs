//! The store in memory, for tests and for trying things out.
//!
//! [`MemoryStore`] keeps every promise of the [store](crate::store) except that its records survive the process.
//! It is small because [`RecordStore`] decides.

mod deliveries;
mod history;

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::{LiveRecords, RecordChange, RecordStore, Records, RunLog};
use crate::error::BoxError;
use crate::id::{DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::Run;
use crate::store::{DeliveryQuery, PruneRequest, RunQuery};
use crate::webhook::Webhook;

use deliveries::Deliveries;
use history::History;

/// A store that keeps everything in memory, for tests and for trying things out. Its clones share what they hold.
///
/// It is safe for any number of threads, holds as much as memory does until it is [pruned](crate::store::Store::prune), and
/// loses all of it when its last clone is dropped. Leases and pauses follow tokio's time, so a paused runtime
/// lets a test skip them. [Closing](crate::store::Store::close) it does nothing.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use webhook_core::id::{RunId, WebhookId};
/// use webhook_core::memory::MemoryStore;
/// use webhook_core::run::{Caller, Run, RunParameters};
/// use webhook_core::store::{ClaimRequest, Enqueue, Store};
/// use webhook_core::token::Token;
/// use webhook_core::webhook::{Webhook, WebhookSettings};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (store, now) = (MemoryStore::new(), SystemTime::now());
/// let (webhook, workflow) = (WebhookId::generate(now), "report/sales".parse()?);
/// let settings = WebhookSettings::default();
/// store.create_webhook(Webhook::new(webhook, workflow, settings, &Token::generate(), None, now)).await?;
/// let parameters = RunParameters::default();
/// let run = Run::new(
///     RunId::generate(now), "report/sales".parse()?, webhook, parameters, 1, Caller::default(), now,
/// );
/// store.enqueue(Enqueue::new(run)).await?;
/// let claims = store.claim(ClaimRequest::new(10, Duration::from_secs(30), now)).await?;
/// assert_eq!(claims[0].run.attempt(), 1);
/// # Ok(())
/// # }
/// ```
pub type MemoryStore = RecordStore<MemoryRecords>;

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::empty(MemoryRecords::default())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// The records of a [`MemoryStore`].
#[derive(Debug, Default)]
pub struct MemoryRecords {
    /// For the retention of their runs.
    webhooks: HashMap<WebhookId, Arc<Webhook>>,
    runs: History,
    logs: HashMap<RunId, RunLog>,
    deliveries: Deliveries,
}

impl Records for MemoryRecords {
    const IN_MEMORY: bool = true;

    fn load(&mut self) -> Result<LiveRecords, BoxError> {
        // The store has them in memory already: a write never fails.
        Err("records in memory are not loaded".into())
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), BoxError> {
        for change in changes {
            match change {
                RecordChange::PutWebhook(webhook) => {
                    self.webhooks.insert(webhook.id, webhook.clone());
                }
                RecordChange::RemoveWebhook(id) => {
                    self.webhooks.remove(id);
                }
                RecordChange::PutRun(run) => self.runs.put(run.clone()),
                RecordChange::RemoveRun(id) => {
                    self.runs.remove(*id);
                    self.logs.remove(id);
                    self.deliveries.remove_run(*id);
                }
                RecordChange::AppendLog { run, text } => self.logs.entry(*run).or_default().append(text),
                // The store has them in memory.
                RecordChange::PutKey(_) | RecordChange::RemoveKey { .. } => {}
                RecordChange::PutDelivery(delivery) => self.deliveries.put(delivery.clone()),
            }
        }
        Ok(())
    }

    fn get_run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, BoxError> {
        Ok(self.runs.get(id))
    }

    fn list_runs(&mut self, query: &RunQuery) -> Result<Vec<Arc<Run>>, BoxError> {
        Ok(self.runs.list(query))
    }

    fn expired_runs(
        &mut self,
        request: &PruneRequest,
        stays: &dyn Fn(RunId) -> bool,
    ) -> Result<Vec<RunId>, BoxError> {
        let retention = |id| request.retention(self.webhooks.get(&id).map(|webhook| &**webhook));
        Ok(self.runs.past_retention(request, retention, stays))
    }

    fn get_log(&mut self, run: RunId) -> Result<Option<RunLog>, BoxError> {
        Ok(self.logs.get(&run).cloned())
    }

    fn get_delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, BoxError> {
        Ok(self.deliveries.get(id))
    }

    fn deliveries_of(&mut self, run: RunId) -> Result<Vec<Delivery>, BoxError> {
        Ok(self.deliveries.of_run(run).cloned().collect())
    }

    fn find_deliveries(&mut self, query: &DeliveryQuery) -> Result<Vec<Delivery>, BoxError> {
        Ok(self.deliveries.find(query))
    }
}

#[cfg(test)]
mod tests;
