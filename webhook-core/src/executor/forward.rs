//! `Executor` for `Arc<E>`, forwarded to `E`. So a shared executor is an executor, also when `E` is `dyn Executor`.

use std::sync::Arc;

use super::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use crate::id::{RunId, WorkflowKey};

#[async_trait::async_trait]
impl<E: Executor + ?Sized> Executor for Arc<E> {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        (**self).list(cursor).await
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        (**self).describe(workflow).await
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        (**self).execute(context).await
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        (**self).artifact(run, name).await
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        (**self).discard(runs).await
    }
}
