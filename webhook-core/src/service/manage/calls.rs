//! Calls at webhooks: how they were answered.

use std::sync::Arc;

use super::Management;
use super::error::ManagementError;
use crate::calls::{CallRecord, RefusedCalls};
use crate::id::{CallId, WorkflowKey};
use crate::store::{CallQuery, Page};

impl Management<'_> {
    /// Lists the newest calls of a webhook, newest first: accepted, refused, ignored ones, dry runs and handshakes.
    pub async fn list_calls(
        &self,
        query: CallQuery,
    ) -> Result<Page<Arc<CallRecord>, CallId>, ManagementError> {
        self.get_webhook(query.webhook).await?;
        self.parts.write_calls().await?;
        Ok(self.parts.store.list_calls(query).await?)
    }

    /// Returns the number of calls of a workflow that this process refused because they had no valid token. `None` if there
    /// were none. They belong to no webhook, so no call log has them.
    #[must_use]
    pub fn get_refused_calls(&self, workflow: &WorkflowKey) -> Option<RefusedCalls> {
        self.parts.calls.refused(workflow)
    }
}
