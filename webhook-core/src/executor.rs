//! The executor: what the host brings to list, describe and execute its workflows.
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

pub use function::FnExecutor;
pub(crate) use function::Workflows;
pub use report::Reporter;
pub(crate) use report::Reports;

/// Lists, describes and executes the host's workflows.
#[async_trait::async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Lists the workflows, some at a time, in an order that stays the same.
    ///
    /// # Behavior
    /// `None` starts at the beginning; each page names the cursor of the next, the last one none.
    ///
    /// # Errors
    /// [`ExecutorError`] when the list cannot be had now.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError>;

    /// Describes one workflow, or answers `None` when there is no such workflow.
    ///
    /// # Behavior
    /// It is asked for on every call of a webhook, so it should answer from memory.
    ///
    /// # Errors
    /// [`ExecutorError`] when it cannot be known now; the caller of the webhook is told to come again.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError>;

    /// Executes one attempt of a run.
    ///
    /// # Behavior
    /// Runs are delivered at least once under a stable run id: after a crash or a lost lease the same run may be
    /// executed again. It should watch [`RunContext::cancellation`]; what it still does after the grace period
    /// that follows has no effect on the run. It may block its thread, which holds up no other run, and it may
    /// panic, which fails the attempt.
    ///
    /// # Errors
    /// [`ExecuteError`], which says whether another attempt may help.
    ///
    /// # Cancel safety
    /// It is dropped when it ignores a cancellation for longer than the grace period; it must leave nothing
    /// running behind then.
    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError>;

    /// The content of an artifact that a run's output named, or `None` when there is none.
    ///
    /// # Behavior
    /// `name` comes from outside: it must be looked up among the run's artifacts, not used as a path.
    ///
    /// # Errors
    /// [`ExecutorError`] when it cannot be read now.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError>;

    /// Forgets what is kept for these runs, whose records were pruned.
    ///
    /// # Behavior
    /// Unknown runs are passed over. It may be called again for the same runs.
    ///
    /// # Errors
    /// [`ExecutorError`] when something could not be removed; it is logged.
    ///
    /// # Cancel safety
    /// What was not removed when it is dropped is left behind.
    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError>;
}

/// A workflow as its executor describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Workflow {
    /// Its kind and id.
    pub key: WorkflowKey,
    /// Its name for people.
    pub title: String,
    /// What may be set for a run.
    pub parameters: ParameterBlocks,
    /// Why it cannot be executed here, for the administrator; `None` when it can.
    pub unavailable: Option<String>,
}

impl Workflow {
    /// Describes a workflow.
    #[must_use]
    pub fn new(key: WorkflowKey, title: impl Into<String>, parameters: ParameterBlocks) -> Self {
        Self { key, title: title.into(), parameters, unavailable: None }
    }

    /// Marks it as one that cannot be executed here, for a reason that says what would mend it.
    ///
    /// It is listed with the reason. Calls are refused without it, for callers see no paths of the server.
    #[must_use]
    pub fn with_unavailable(mut self, reason: impl Into<String>) -> Self {
        self.unavailable = Some(reason.into());
        self
    }
}

/// Some of the executor's workflows.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WorkflowPage {
    /// The workflows.
    pub items: Vec<Arc<Workflow>>,
    /// Where to go on; `None` at the end.
    pub next_cursor: Option<String>,
}

impl WorkflowPage {
    /// A page that others follow.
    #[must_use]
    pub fn new(items: Vec<Arc<Workflow>>, next_cursor: String) -> Self {
        Self { items, next_cursor: Some(next_cursor) }
    }

    /// The last or only page.
    #[must_use]
    pub fn last(items: Vec<Arc<Workflow>>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// What an executor is given for one attempt.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunContext {
    /// The run, the same over all attempts: a host deduplicates on it.
    pub run: RunId,
    /// What to execute.
    pub workflow: WorkflowKey,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The parameters with where each value came from.
    pub parameters: EffectiveParameters,
    /// Who asked for it.
    pub caller: Arc<Caller>,
    /// Tells when to stop.
    pub cancellation: Cancellation,
    /// When the attempt's time is over; it is then cancelled.
    pub deadline: Option<Instant>,
    masker: Masker,
    reports: Option<Arc<Reports>>,
}

impl RunContext {
    /// A context for trying an executor by itself. What it reports goes nowhere.
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

    /// Sets who asked for it.
    #[must_use]
    pub fn with_caller(mut self, caller: impl Into<Arc<Caller>>) -> Self {
        self.caller = caller.into();
        self
    }

    /// Sets what tells it to stop.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// Sets how long it may take from now.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self
    }

    /// Sends what is reported to the worker, through the mask.
    pub(crate) fn reporting(mut self) -> (Self, Arc<Reports>) {
        let reports = Arc::new(Reports::new(self.masker.clone()));
        self.reports = Some(reports.clone());
        (self, reports)
    }

    /// Says how far the run is: a fraction from 0 to 1 and what it is doing. Returns at once.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.reporter().progress(fraction, message);
    }

    /// Names an artifact that stays with the run also when this attempt fails and no other follows.
    ///
    /// One that is in the output of a successful attempt as well is named once.
    pub fn leave_artifact(&self, artifact: Artifact) {
        if let Some(reports) = &self.reports {
            reports.leave(artifact);
        }
    }

    /// Adds a line to the run's log, of which the newest 256 KiB are kept. Returns at once.
    pub fn log(&self, line: impl Into<String>) {
        self.reporter().log(line);
    }

    /// What masks the run's secret values.
    ///
    /// Progress, log, summary and errors are masked anyway. An executor needs this where it cuts a text before it
    /// reports it, since half a secret is not found any more, and for artifacts.
    #[must_use]
    pub fn masker(&self) -> &Masker {
        &self.masker
    }

    /// A handle for reporting from another task or thread.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter::new(self.reports.clone())
    }
}

/// Tells an executor to stop, and why.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    reason: OnceLock<StopReason>,
    abandoned: AtomicBool,
    told: Notify,
}

/// Why an attempt is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The run was cancelled.
    Cancelled(CancelReason),
    /// The attempt's time is over.
    TimedOut,
    /// The service shuts down; the run will be executed again.
    ShuttingDown,
    /// The lease was lost: another worker may be executing the run already.
    LeaseLost,
}

/// Makes a [`Cancellation`] stop.
#[derive(Debug, Clone, Default)]
pub struct CancellationSource(Arc<Stop>);

impl CancellationSource {
    /// A source that has not told anyone to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells all to stop. The first reason stays.
    pub fn cancel(&self, reason: StopReason) {
        if self.0.reason.set(reason).is_ok() {
            self.0.told.notify_waiters();
        }
    }

    /// Gives the executor up: whatever it does now comes too late.
    pub(crate) fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.told.notify_waiters();
    }

    /// Whether the executor was given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::SeqCst)
    }

    /// Waits until the executor is given up. Cancel safe.
    pub(crate) async fn abandoned(&self) {
        self.0.told_that(|| self.is_abandoned().then_some(())).await;
    }

    /// What an executor is given.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        Cancellation(self.0.clone())
    }
}

impl Cancellation {
    /// One that never tells to stop.
    #[must_use]
    pub fn never() -> Self {
        CancellationSource::new().cancellation()
    }

    /// Whether to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Why to stop, if so.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Waits until it is time to stop, and says why. Cancel safe.
    pub async fn cancelled(&self) -> StopReason {
        self.0.told_that(|| self.reason()).await
    }
}

impl Stop {
    /// Waits until `look` finds what it looks for. Cancel safe.
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

/// What a successful attempt leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutput {
    /// The result in a line or two, at most 4 KiB.
    pub summary: Option<String>,
    /// References to what was made.
    pub artifacts: Vec<Artifact>,
}

impl RunOutput {
    /// An output without summary and artifacts.
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

/// The content of an artifact.
#[derive(Clone)]
#[non_exhaustive]
pub enum ArtifactContent {
    /// Bytes in memory.
    Bytes {
        /// The media type.
        content_type: String,
        /// The content.
        bytes: Vec<u8>,
    },
    /// A file to read.
    File {
        /// The media type.
        content_type: String,
        /// Where it is.
        path: PathBuf,
    },
    /// A file that was opened already, read from where it stands.
    Open {
        /// The media type.
        content_type: String,
        /// The file.
        file: Arc<File>,
    },
}

impl ArtifactContent {
    /// A file that was opened already.
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

/// Why an attempt failed, and whether another may help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// Another attempt may help; it is made if the webhook's retry policy allows one.
    #[error("{0}")]
    Retryable(#[source] BoxError),
    /// Another attempt will not help.
    #[error("{0}")]
    Fatal(#[source] BoxError),
}

impl ExecuteError {
    /// An error after which another attempt may help.
    pub fn retryable(error: impl Into<BoxError>) -> Self {
        Self::Retryable(error.into())
    }

    /// An error after which another attempt will not help.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::Fatal(error.into())
    }
}

/// The executor cannot answer now.
#[derive(Debug, thiserror::Error)]
#[error("the executor cannot answer")]
pub struct ExecutorError(#[source] BoxError);

impl ExecutorError {
    /// Keeps the reason as source.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}
