//! Last uses of webhooks: recorded in memory, and written to the store at intervals.

use std::collections::HashMap;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::id::WebhookId;
use crate::store::{Store, StoreError};

/// Uses that the store does not have yet.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<WebhookId, SystemTime>>);

impl Uses {
    pub(super) fn note(&self, webhook: WebhookId, now: SystemTime) {
        self.0.lock().insert(webhook, now);
    }

    pub(super) fn last(&self, webhook: WebhookId) -> Option<SystemTime> {
        self.0.lock().get(&webhook).copied()
    }

    /// Writes the recorded uses. They are kept if that fails.
    pub(super) async fn write_to(&self, store: &dyn Store) -> Result<(), StoreError> {
        let noted: Vec<_> = self.0.lock().iter().map(|(id, time)| (*id, *time)).collect();
        if noted.is_empty() {
            return Ok(());
        }
        store.record_use(&noted).await?;
        let mut uses = self.0.lock();
        for (id, time) in noted {
            // A use that was recorded during the write is kept for the next one.
            if uses.get(&id) == Some(&time) {
                uses.remove(&id);
            }
        }
        Ok(())
    }
}
