//! Executor over a fixed set of workflows.

use std::collections::BTreeMap;
use std::sync::Arc;

use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};

use crate::command::CommandOptions;
use crate::error::DuplicateWorkflow;
use crate::listing::{self, Executes};
use crate::workflow::CommandWorkflow;

impl Executes for CommandWorkflow {
    fn workflow(&self) -> &Arc<Workflow> {
        self.workflow()
    }
}

/// Executes every workflow by its command. Commands leave no artifacts.
#[derive(Debug, Clone, Default)]
pub struct CommandExecutor {
    workflows: BTreeMap<WorkflowKey, CommandWorkflow>,
    options: CommandOptions,
}

impl CommandExecutor {
    /// Creates an executor for these workflows.
    ///
    /// Fails with [`DuplicateWorkflow`] when two have the same kind and id.
    pub fn new(workflows: impl IntoIterator<Item = CommandWorkflow>) -> Result<Self, DuplicateWorkflow> {
        Ok(Self { workflows: listing::by_key(workflows)?, options: CommandOptions::default() })
    }

    /// Sets the options for running commands.
    #[must_use]
    pub fn with_options(mut self, options: CommandOptions) -> Self {
        self.options = options;
        self
    }
}

#[async_trait::async_trait]
impl Executor for CommandExecutor {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        listing::page(&self.workflows, cursor.as_deref())
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.workflows.get(workflow).map(|own| own.workflow().clone()))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        match self.workflows.get(&context.workflow) {
            Some(own) => own.run(&context, &self.options).await,
            None => Err(ExecuteError::fatal(format!("there is no workflow {}", context.workflow))),
        }
    }

    async fn artifact(&self, _run: RunId, _name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        Ok(None)
    }

    async fn discard(&self, _runs: &[RunId]) -> Result<(), ExecutorError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use webhook_core::parameters::ParameterBlocks;

    use super::*;
    use crate::command::Command;
    use crate::listing::PAGE;

    fn workflow(key: &str) -> CommandWorkflow {
        let workflow = Workflow::new(key.parse().unwrap(), key, ParameterBlocks::default());
        CommandWorkflow::new(workflow, Command::new("true")).unwrap()
    }

    #[tokio::test]
    async fn every_workflow_is_listed_once_over_several_pages_and_described() {
        let keys: Vec<_> = (0..250).map(|number| format!("report/r{number:03}")).collect();
        let executor = CommandExecutor::new(keys.iter().rev().map(|key| workflow(key))).unwrap();
        let mut listed = Vec::new();
        let mut cursor = None;
        loop {
            let page = executor.list(cursor).await.unwrap();
            listed.extend(page.items.iter().map(|workflow| workflow.key.to_string()));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(listed, keys);
        assert!(executor.describe(&"report/r007".parse().unwrap()).await.unwrap().is_some());
        assert!(executor.describe(&"report/other".parse().unwrap()).await.unwrap().is_none());
        assert!(executor.list(Some("no cursor".to_owned())).await.is_err());
    }

    #[tokio::test]
    async fn a_full_last_page_names_no_cursor() {
        let executor =
            CommandExecutor::new((0..PAGE).map(|number| workflow(&format!("report/r{number}")))).unwrap();
        let page = executor.list(None).await.unwrap();
        assert_eq!((page.items.len(), page.next_cursor), (PAGE, None));
    }

    #[test]
    fn the_same_workflow_twice_is_refused() {
        let refused = CommandExecutor::new([workflow("report/a"), workflow("report/a")]).unwrap_err();
        assert_eq!(refused.to_string(), "the workflow report/a is given twice");
    }
}
