//! An executor made from a closure.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage};
use crate::id::WorkflowKey;

type Execution = Pin<Box<dyn Future<Output = Result<RunOutput, ExecuteError>> + Send>>;

/// Executes every run by calling one async closure. It keeps no artifacts.
///
/// ```
/// use webhook_core::executor::{ExecuteError, FnExecutor, RunContext, RunOutput, Workflow};
/// use webhook_core::parameters::ParameterBlocks;
/// # use webhook_core::executor::Executor;
/// # use webhook_core::{id::RunId, parameters::EffectiveParameters};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
/// let executor = FnExecutor::new([sales], |context: RunContext| async move {
///     let region = context.parameters.get("region").ok_or_else(|| ExecuteError::fatal("no region"))?;
///     Ok(RunOutput::new().with_summary(format!("sold in {}", region.value)))
/// });
/// # let run = RunId::generate(std::time::SystemTime::now());
/// # let context = RunContext::new(run, "report/sales".parse()?, 1, EffectiveParameters::new());
/// # assert!(matches!(executor.execute(context).await, Err(ExecuteError::Fatal(_))));
/// # Ok(())
/// # }
/// ```
///
/// A closure that uses something of the host's makes a copy for each run:
///
/// ```
/// # use std::sync::Arc;
/// # use webhook_core::executor::{FnExecutor, RunOutput, Workflow};
/// # use webhook_core::parameters::ParameterBlocks;
/// # let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
/// let regions = Arc::new(vec!["EMEA", "APAC"]); // such as a pool of connections
/// let executor = FnExecutor::new([sales], move |_context| {
///     let regions = regions.clone();
///     async move { Ok(RunOutput::new().with_summary(regions.join(", "))) }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FnExecutor {
    workflows: FixedWorkflows,
    function: Box<dyn Fn(RunContext) -> Execution + Send + Sync>,
}

impl FnExecutor {
    /// Executes the runs of `workflows` by calling `function`.
    pub fn new<F, R>(workflows: impl IntoIterator<Item = Workflow>, function: F) -> Self
    where
        F: Fn(RunContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<RunOutput, ExecuteError>> + Send + 'static,
    {
        let function = move |context| -> Execution { Box::pin(function(context)) };
        Self { workflows: FixedWorkflows::new(workflows), function: Box::new(function) }
    }
}

impl fmt::Debug for FnExecutor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("FnExecutor").field(&self.workflows).finish()
    }
}

#[async_trait::async_trait]
impl Executor for FnExecutor {
    async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        Ok(self.workflows.list())
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.workflows.get(workflow))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        (self.function)(context).await
    }
}

/// A fixed set of workflows by key, for executors whose workflows never change. Of two with one key, the later is kept.
pub struct FixedWorkflows(BTreeMap<WorkflowKey, Arc<Workflow>>);

impl FixedWorkflows {
    /// Collects the workflows.
    pub fn new(workflows: impl IntoIterator<Item = Workflow>) -> Self {
        let by_key = |workflow: Workflow| (workflow.key.clone(), Arc::new(workflow));
        Self(workflows.into_iter().map(by_key).collect())
    }

    /// Returns the workflow with this key, as [`Executor::describe`] must.
    #[must_use]
    pub fn get(&self, key: &WorkflowKey) -> Option<Arc<Workflow>> {
        self.0.get(key).cloned()
    }

    /// Returns all workflows on one page, as [`Executor::list`] must.
    #[must_use]
    pub fn list(&self) -> WorkflowPage {
        WorkflowPage::last(self.0.values().cloned().collect())
    }
}

impl fmt::Debug for FixedWorkflows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
