//! The [`Executor`] trait: lists, describes and executes the host's workflows.
//!
//! A complete implementation:
//!
//! ```
//! use std::sync::Arc;
//! use webhook_core::executor::*;
//! use webhook_core::id::{RunId, WorkflowKey};
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
//!     async fn artifact(&self, _run: RunId, _name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
//!         Ok(None)
//!     }
//!     async fn discard(&self, _runs: &[RunId]) -> Result<(), ExecutorError> {
//!         Ok(())
//!     }
//! }
//!
//! let name = ParameterBlock::new("name", ParameterType::Text).with_default("world");
//! let blocks = ParameterBlocks::new(vec![name])?;
//! let greeter = Greeter(Arc::new(Workflow::new("report/greeting".parse()?, "Greeting", blocks)));
//! # let _: &dyn Executor = &greeter;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod function;
mod report;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::BoxError;
use crate::id::{RunId, WorkflowKey};
use crate::masking::Masker;
use crate::parameters::{EffectiveParameters, ParameterBlocks};
use crate::run::{Artifact, Caller, CancelReason};

pub use function::{FixedWorkflows, FnExecutor};
pub use report::Reporter;
pub(crate) use report::Reports;

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
    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError>;

    /// Removes everything kept for these runs, whose records were pruned.
    ///
    /// Ignores unknown runs. It may be called again for the same runs.
    ///
    /// Fails with [`ExecutorError`] when something could not be removed, which is logged.
    ///
    /// # Cancel safety
    /// A dropped call may leave some files behind.
    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError>;
}

/// A workflow, as its executor describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Workflow {
    /// Kind and id.
    pub key: WorkflowKey,
    /// Title for people.
    pub title: String,
    /// Parameters that a run accepts.
    pub parameters: ParameterBlocks,
    /// Reason, for the administrator, why it cannot be executed here; `None` if it can.
    pub unavailable: Option<String>,
}

impl Workflow {
    /// Describes a workflow that can be executed.
    #[must_use]
    pub fn new(key: WorkflowKey, title: impl Into<String>, parameters: ParameterBlocks) -> Self {
        Self { key, title: title.into(), parameters, unavailable: None }
    }

    /// Marks it as unavailable, for a reason that says how to correct that.
    ///
    /// Lists show the reason. Calls are refused without it, since callers must not see paths of the server.
    #[must_use]
    pub fn with_unavailable(mut self, reason: impl Into<String>) -> Self {
        self.unavailable = Some(reason.into());
        self
    }
}

/// Page of an executor's workflows.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WorkflowPage {
    /// Workflows of this page.
    pub items: Vec<Arc<Workflow>>,
    /// Cursor of the next page; `None` at the end.
    pub next_cursor: Option<String>,
}

impl WorkflowPage {
    /// Returns a page that others follow.
    #[must_use]
    pub fn new(items: Vec<Arc<Workflow>>, next_cursor: String) -> Self {
        Self { items, next_cursor: Some(next_cursor) }
    }

    /// Returns the last or only page.
    #[must_use]
    pub fn last(items: Vec<Arc<Workflow>>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// Input of an executor for one attempt.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunContext {
    /// Id of the run, the same over all attempts. A host deduplicates by it.
    pub run: RunId,
    /// Workflow to execute.
    pub workflow: WorkflowKey,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Parameters, each with its source.
    pub parameters: EffectiveParameters,
    /// Facts about the call that started the run.
    pub caller: Arc<Caller>,
    /// Signal to stop.
    pub cancellation: Cancellation,
    /// Instant at which the attempt is cancelled for its time-out.
    pub deadline: Option<Instant>,
    masker: Masker,
    reports: Option<Arc<Reports>>,
}

impl RunContext {
    /// Creates a context for testing an executor by itself. Its reports are discarded.
    #[must_use]
    pub fn new(run: RunId, workflow: WorkflowKey, attempt: u32, parameters: EffectiveParameters) -> Self {
        let masker = Masker::of(&parameters);
        Self {
            run,
            workflow,
            attempt,
            parameters,
            caller: Arc::default(),
            cancellation: Cancellation::never(),
            deadline: None,
            masker,
            reports: None,
        }
    }

    /// Sets the facts about the call.
    #[must_use]
    pub fn with_caller(mut self, caller: impl Into<Arc<Caller>>) -> Self {
        self.caller = caller.into();
        self
    }

    /// Sets the signal to stop.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// Sets the deadline, as a duration from now.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self
    }

    /// Sends reports to the worker, through the mask.
    pub(crate) fn reporting(mut self) -> (Self, Arc<Reports>) {
        let reports = Arc::new(Reports::new(self.masker.clone()));
        self.reports = Some(reports.clone());
        (self, reports)
    }

    /// Reports progress: a fraction from 0 to 1, and the current step. Returns at once.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.reporter().progress(fraction, message);
    }

    /// Adds an artifact that stays with the run even if this attempt fails and no other follows.
    ///
    /// An artifact that the output of a successful attempt names too is listed once.
    pub fn leave_artifact(&self, artifact: Artifact) {
        if let Some(reports) = &self.reports {
            reports.leave(artifact);
        }
    }

    /// Adds a line to the run's log, of which the newest 256 KiB are kept. Returns at once.
    pub fn log(&self, line: impl Into<String>) {
        self.reporter().log(line);
    }

    /// Returns the masker of the run's secret values.
    ///
    /// Progress, log, summary and errors are masked anyway. An executor needs it for artifacts, and before it
    /// cuts a text: a cut secret no longer matches.
    #[must_use]
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Returns a handle for reporting from another task or thread.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter::new(self.reports.clone())
    }
}

/// Signal to an executor to stop, with the reason.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    reason: OnceLock<StopReason>,
    abandoned: AtomicBool,
    told: Notify,
}

/// Reason for stopping an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The run was cancelled.
    Cancelled(CancelReason),
    /// The attempt exceeded its time-out.
    TimedOut,
    /// The service is shutting down; the run will be executed again.
    ShuttingDown,
    /// The lease was lost: another worker may already be executing the run.
    LeaseLost,
}

/// Sender of a [`Cancellation`].
#[derive(Debug, Clone, Default)]
pub struct CancellationSource(Arc<Stop>);

impl CancellationSource {
    /// Creates a source that has not been cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells every [`Cancellation`] of this source to stop. The first reason is kept.
    pub fn cancel(&self, reason: StopReason) {
        if self.0.reason.set(reason).is_ok() {
            self.0.told.notify_waiters();
        }
    }

    /// Gives up the executor: its outcome no longer counts.
    pub(crate) fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.told.notify_waiters();
    }

    /// Returns whether the executor was given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::SeqCst)
    }

    /// Waits until the executor is given up. Cancel safe.
    pub(crate) async fn abandoned(&self) {
        self.0.told_that(|| self.is_abandoned().then_some(())).await;
    }

    /// Returns the signal for an executor.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        Cancellation(self.0.clone())
    }
}

impl Cancellation {
    /// Returns a signal that never fires.
    #[must_use]
    pub fn never() -> Self {
        CancellationSource::new().cancellation()
    }

    /// Returns whether the executor should stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Returns the reason to stop, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Waits for the signal to stop, and returns the reason. Cancel safe.
    pub async fn cancelled(&self) -> StopReason {
        self.0.told_that(|| self.reason()).await
    }
}

impl Stop {
    /// Waits until `look` returns a value. Cancel safe.
    async fn told_that<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            match look() {
                Some(found) => return found,
                None => told.await,
            }
        }
    }
}

/// Output of a successful attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutput {
    /// Summary of the result in a line or two, at most 4 KiB.
    pub summary: Option<String>,
    /// References to the created files.
    pub artifacts: Vec<Artifact>,
}

impl RunOutput {
    /// Returns an output without summary and artifacts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the summary.
    #[must_use]
    pub fn with_summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = Some(summary.into());
        self
    }

    /// Adds an artifact.
    #[must_use]
    pub fn with_artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact);
        self
    }
}

/// Content of an artifact.
#[derive(Clone)]
#[non_exhaustive]
pub enum ArtifactContent {
    /// Content in memory.
    Bytes {
        /// Media type (RFC 6838), such as `text/html`.
        content_type: String,
        /// The bytes themselves.
        bytes: Vec<u8>,
    },
    /// A file that is still to be opened.
    File {
        /// Media type (RFC 6838), such as `text/html`.
        content_type: String,
        /// Path of the file.
        path: PathBuf,
    },
    /// An open file, read from its current position.
    Open {
        /// Media type (RFC 6838), such as `text/html`.
        content_type: String,
        /// The open file.
        file: Arc<File>,
    },
}

impl ArtifactContent {
    /// Wraps a file that is already open.
    #[must_use]
    pub fn opened(content_type: impl Into<String>, file: File) -> Self {
        Self::Open { content_type: content_type.into(), file: Arc::new(file) }
    }
}

impl fmt::Debug for ArtifactContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { content_type, bytes } => {
                write!(formatter, "Bytes({content_type}, {} bytes)", bytes.len())
            }
            Self::File { content_type, path } => {
                write!(formatter, "File({content_type}, {})", path.display())
            }
            Self::Open { content_type, .. } => write!(formatter, "Open({content_type})"),
        }
    }
}

/// Error of an attempt, which says whether another may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// Another attempt may help. It is made if the webhook's retry policy allows one.
    #[error("{0}")]
    Retryable(#[source] BoxError),
    /// Another attempt will not help.
    #[error("{0}")]
    Fatal(#[source] BoxError),
}

impl ExecuteError {
    /// Returns an error after which another attempt may help.
    pub fn retryable(error: impl Into<BoxError>) -> Self {
        Self::Retryable(error.into())
    }

    /// Returns an error after which another attempt will not help.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::Fatal(error.into())
    }
}

/// Error of an executor that cannot answer now.
#[derive(Debug, thiserror::Error)]
#[error("the executor cannot answer")]
pub struct ExecutorError(#[source] BoxError);

impl ExecutorError {
    /// Keeps the cause as source.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}
