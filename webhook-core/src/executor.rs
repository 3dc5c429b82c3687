//! The [`Executor`] trait: lists, describes and executes the host's workflows.
//!
//! A complete implementation:
//!
//! ```
//! use std::sync::Arc;
//! use webhook_core::executor::*;
//! use webhook_core::id::WorkflowKey;
//! use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
//!
//! struct Greeter(Arc<Workflow>);
//!
//! #[async_trait::async_trait]
//! impl Executor for Greeter {
//!     async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
//!         Ok(WorkflowPage::last(vec![self.0.clone()]))
//!     }
//!     async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
//!         Ok((self.0.key == *workflow).then(|| self.0.clone()))
//!     }
//!     async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
//!         let name = context.parameters.get("name").map(|parameter| parameter.value.to_string());
//!         context.log("greeting");
//!         Ok(RunOutput::new().with_summary(format!("Hello {}", name.unwrap_or_default())))
//!     }
//! }
//!
//! let name = ParameterBlock::new("name", ParameterType::Text).with_default("world");
//! let blocks = ParameterBlocks::new(vec![name])?;
//! let greeter = Greeter(Arc::new(Workflow::new("report/greeting".parse()?, "Greeting", blocks)));
//! # let _: &dyn Executor = &greeter;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cancellation;
mod context;
mod error;
mod executors;
mod forward;
mod function;
mod output;
mod recorded;
mod report;
mod workflow;

use std::sync::Arc;

use crate::id::{RunId, WorkflowKey};

pub use cancellation::{Cancellation, CancellationSource, StopReason};
pub use context::RunContext;
pub use error::{ExecuteError, ExecutorError};
pub use executors::Executors;
pub use function::{FixedWorkflows, FnExecutor};
pub use output::{ArtifactContent, RunOutput};
pub use recorded::RecordedReports;
pub use report::Reporter;
pub(crate) use report::Reports;
pub use workflow::{Workflow, WorkflowPage};

/// Lists, describes and executes the host's workflows.
///
/// # Contract
///
/// Unless a method says otherwise:
///
/// - **Errors:** [`ExecutorError`] means that the executor cannot do it now.
/// - **Cancel safety:** a call may be dropped at any time.
#[async_trait::async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Lists the workflows, one page at a time, in a stable order.
    ///
    /// `None` starts at the beginning. Each page has the cursor of the next one; the last page has none.
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError>;

    /// Describes one workflow, or returns `None` if it does not exist.
    ///
    /// Every call of a webhook asks for it, so it should return from memory.
    ///
    /// Fails with [`ExecutorError`] when it cannot be described now. The caller of the webhook is told to try
    /// again later.
    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError>;

    /// Executes one attempt of a run.
    ///
    /// Runs are delivered at least once under a stable run id: after a crash or a lost lease, the same run
    /// may be executed again.
    /// The executor should watch [`RunContext::cancellation`]. After a cancellation and the grace period that
    /// follows, its work has no effect on the run.
    /// It may block its thread, which delays no other run. It may panic, which fails the attempt.
    ///
    /// Fails with [`ExecuteError`], which says whether another attempt may help.
    ///
    /// # Cancel safety
    /// The future is dropped if it ignores a cancellation for longer than the grace period. Nothing it
    /// started may continue after that.
    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError>;

    /// Returns the content of an artifact that a run's output named, or `None` if there is none.
    ///
    /// `name` comes from outside. Look it up among the run's artifacts; never use it as a path.
    ///
    /// Default: there is none. An executor whose runs name artifacts implements it.
    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        let _ = (run, name);
        Ok(None)
    }

    /// Removes everything kept for these runs, whose records were pruned.
    ///
    /// Ignores unknown runs. It may be called again for the same runs.
    ///
    /// Fails with [`ExecutorError`] when something could not be removed, which is logged.
    ///
    /// # Cancel safety
    /// A dropped call may leave some files behind.
    ///
    /// Default: nothing is kept. An executor that keeps artifacts implements it.
    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        let _ = runs;
        Ok(())
    }
}
