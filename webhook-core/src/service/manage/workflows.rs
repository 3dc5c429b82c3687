//! Workflows, as the executor describes them.

use std::sync::Arc;

use super::Management;
use super::error::ManagementError;
use crate::error::Resource;
use crate::executor::{Workflow, WorkflowPage};
use crate::id::WorkflowKey;

impl Management<'_> {
    /// Lists workflows as the executor does.
    ///
    /// Fails with [`ManagementError::Executor`].
    pub async fn list_workflows(&self, cursor: Option<String>) -> Result<WorkflowPage, ManagementError> {
        Ok(self.parts.executor.list(cursor).await?)
    }

    /// Returns a workflow.
    ///
    /// Fails with [`ManagementError::NotFound`] also for a kind that is not registered, and with
    /// [`ManagementError::Executor`].
    pub async fn get_workflow(&self, key: &WorkflowKey) -> Result<Arc<Workflow>, ManagementError> {
        let missing = ManagementError::NotFound(Resource::Workflow);
        if !self.parts.knows_kind(&key.kind) {
            return Err(missing);
        }
        self.parts.executor.describe(key).await?.ok_or(missing)
    }
}
