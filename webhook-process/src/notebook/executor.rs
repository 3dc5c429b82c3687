//! Executor over a fixed set of notebooks.

use std::collections::BTreeMap;
use std::sync::Arc;

use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};

use super::NotebookWorkflow;
use crate::artifact::ArtifactFolder;
use crate::command::CommandOptions;
use crate::error::DuplicateWorkflow;
use crate::listing::{self, Executes};

impl Executes for NotebookWorkflow {
    fn workflow(&self) -> &Arc<Workflow> {
        self.workflow()
    }
}

/// Executes every workflow by its notebook, and keeps the executed notebooks with their HTML pages.
#[derive(Debug, Clone)]
pub struct NotebookExecutor {
    workflows: BTreeMap<WorkflowKey, NotebookWorkflow>,
    artifacts: ArtifactFolder,
    options: CommandOptions,
}

impl NotebookExecutor {
    /// Creates an executor for these workflows.
    ///
    /// Fails with [`DuplicateWorkflow`] when two have the same kind and id.
    pub fn new(
        workflows: impl IntoIterator<Item = NotebookWorkflow>,
        artifacts: ArtifactFolder,
    ) -> Result<Self, DuplicateWorkflow> {
        let workflows = listing::by_key(workflows)?;
        Ok(Self { workflows, artifacts, options: CommandOptions::default() })
    }

    /// Sets the options for running Python.
    #[must_use]
    pub fn with_options(mut self, options: CommandOptions) -> Self {
        self.options = options;
        self
    }
}

#[async_trait::async_trait]
impl Executor for NotebookExecutor {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        listing::page(&self.workflows, cursor.as_deref())
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.workflows.get(workflow).map(|own| own.workflow().clone()))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        match self.workflows.get(&context.workflow) {
            Some(own) => own.run(&context, &self.options, &self.artifacts).await,
            None => Err(ExecuteError::fatal(format!("there is no workflow {}", context.workflow))),
        }
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        self.artifacts.content(run, name).map_err(ExecutorError::new)
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        self.artifacts.discard(runs).map_err(ExecutorError::new)
    }
}
