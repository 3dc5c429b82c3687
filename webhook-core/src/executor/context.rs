//! The input of an executor.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cancellation::Cancellation;
use super::recorded::RecordedReports;
use super::report::{Reporter, Reports};
use crate::id::{RunId, WorkflowKey};
use crate::masking::Masker;
use crate::parameters::EffectiveParameters;
use crate::run::{Artifact, Caller};

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
    /// Creates a context for testing an executor by itself. Its reports are discarded unless they are
    /// [recorded](Self::recorded).
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

    /// Records the reports, for a test that executes the context by itself.
    ///
    /// ```
    /// # use webhook_core::executor::{FnExecutor, Executor, RunContext, RunOutput, Workflow};
    /// # use webhook_core::{id::RunId, parameters::{EffectiveParameters, ParameterBlocks}};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
    /// # let run = RunId::generate(std::time::SystemTime::now());
    /// let executor = FnExecutor::new([sales], async |context| {
    ///     context.log("reading");
    ///     context.progress(0.5, "half");
    ///     Ok(RunOutput::new())
    /// });
    /// let context = RunContext::new(run, "report/sales".parse()?, 1, EffectiveParameters::new());
    /// let (context, reports) = context.recorded();
    /// executor.execute(context).await?;
    /// assert_eq!(reports.log(), "reading\n");
    /// assert_eq!(reports.progress().map(|progress| progress.fraction), Some(0.5));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recorded(self) -> (Self, RecordedReports) {
        let (context, reports) = self.reporting();
        (context, RecordedReports::new(reports))
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
