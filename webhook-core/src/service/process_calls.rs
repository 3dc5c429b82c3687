//! Rates and calls in the memory of this process, for a store that keeps neither.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::call_table::CallTable;
use crate::calls::{CallRecord, LoggedCall};
use crate::id::{CallId, WebhookId};
use crate::store::{CallQuery, CallStore, Page, StoreError};
use crate::webhook::RateLimit;

/// The [`CallStore`] of a service whose store has none.
///
/// Calls of webhooks that another process deletes stay until newer ones take their place, and nothing shows them.
#[derive(Debug, Default)]
pub(super) struct ProcessCalls(Mutex<CallTable>);

impl ProcessCalls {
    /// Drops all calls of a deleted webhook.
    pub(super) fn forget(&self, webhook: WebhookId) {
        self.0.lock().forget(webhook);
    }

    /// Drops the expired contents of calls.
    pub(super) fn expire_contents(&self, now: SystemTime) {
        self.0.lock().expire_contents(now);
    }
}

#[async_trait::async_trait]
impl CallStore for ProcessCalls {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        Ok(self.0.lock().take(webhook, limit, Instant::now()))
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        let mut table = self.0.lock();
        for call in calls {
            table.add(call);
        }
        Ok(())
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        Ok(self.0.lock().list(&query))
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        Ok(self.0.lock().get(webhook, call, now))
    }
}
