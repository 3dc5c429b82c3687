//! An executor that follows a test's script.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, watch};

use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, FixedWorkflows, RunContext, RunOutput, Workflow,
    WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};
use webhook_core::parameters::EffectiveParameters;
use webhook_core::run::Artifact;

/// Executes scripts: each run gets a list of [steps](Step), and its attempts work through them. Its clones
/// share all state.
///
/// A run without a script, or at the end of its script, succeeds. Executions are recorded, and a test can
/// await them.
///
/// ```
/// use webhook_core::executor::{Executor, RunContext, Workflow};
/// use webhook_core::id::RunId;
/// use webhook_testing::{ScriptedExecutor, Step};
/// use webhook_core::parameters::{EffectiveParameters, ParameterBlocks};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
/// let executor = ScriptedExecutor::new([sales]);
/// executor.script_next([Step::FailRetryable("try again".into()), Step::Succeed]);
/// let run = RunId::generate(std::time::SystemTime::now());
/// let context = |attempt| -> Result<_, Box<dyn std::error::Error>> {
///     Ok(RunContext::new(run, "report/sales".parse()?, attempt, EffectiveParameters::new()))
/// };
/// assert!(executor.execute(context(1)?).await.is_err());
/// assert!(executor.execute(context(2)?).await.is_ok());
/// assert_eq!(executor.executed(2).await[1].attempt, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ScriptedExecutor(Arc<Shared>);

/// One step of a script. After a step that ends the attempt, the next attempt continues with the following
/// step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Ends the attempt with success.
    Succeed,
    /// Ends the attempt with success and this summary.
    SucceedWith(String),
    /// Ends the attempt with an error after which another attempt may help.
    FailRetryable(String),
    /// Ends the attempt with an error after which another attempt will not help.
    FailFatal(String),
    /// Panics with this message.
    Panic(String),
    /// Sleeps. A cancellation ends the sleep, and ends the attempt with a retryable error.
    Sleep(Duration),
    /// Waits until the test [releases](ScriptedExecutor::release) it. A cancellation ends the wait, and ends
    /// the attempt with a retryable error.
    WaitForRelease,
    /// Ignores cancellations for the rest of the attempt.
    IgnoreCancellation,
    /// Blocks the thread, like code that never awaits.
    Block(Duration),
    /// Adds a line to the run's log.
    Log(String),
    /// Reports progress: a fraction from 0 to 1, and a message.
    Progress(f64, String),
    /// Leaves an artifact.
    Artifact {
        /// Name within the run.
        name: String,
        /// Media type (RFC 6838).
        content_type: String,
        /// Content of the artifact.
        bytes: Vec<u8>,
    },
}

/// Attempt that a [`ScriptedExecutor`] was asked to execute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Execution {
    /// Id of the run.
    pub run: RunId,
    /// Workflow of the run.
    pub workflow: WorkflowKey,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Parameters of the attempt.
    pub parameters: EffectiveParameters,
}

struct Shared {
    workflows: FixedWorkflows,
    scripts: Mutex<Scripts>,
    executed: watch::Sender<Vec<Execution>>,
    ended: watch::Sender<usize>,
    releases: Semaphore,
}

#[derive(Default)]
struct Scripts {
    of_run: HashMap<RunId, VecDeque<Step>>,
    next: VecDeque<VecDeque<Step>>,
    artifacts: HashMap<RunId, HashMap<String, (String, Vec<u8>)>>,
    executing: usize,
    most_at_once: usize,
}

impl ScriptedExecutor {
    /// Creates an executor for `workflows`. Every run succeeds until a script says otherwise.
    #[must_use]
    pub fn new(workflows: impl IntoIterator<Item = Workflow>) -> Self {
        Self(Arc::new(Shared {
            workflows: FixedWorkflows::new(workflows),
            scripts: Mutex::default(),
            executed: watch::Sender::new(Vec::new()),
            ended: watch::Sender::new(0),
            releases: Semaphore::new(0),
        }))
    }

    /// Adds a script for the next run that begins without one. A second call adds one for the run after it.
    pub fn script_next(&self, steps: impl IntoIterator<Item = Step>) {
        self.scripts().next.push_back(steps.into_iter().collect());
    }

    /// Adds steps to the script of this run.
    pub fn script_run(&self, run: RunId, steps: impl IntoIterator<Item = Step>) {
        self.scripts().of_run.entry(run).or_default().extend(steps);
    }

    /// Lets `count` steps [`WaitForRelease`](Step::WaitForRelease) pass, now or later.
    pub fn release(&self, count: usize) {
        self.0.releases.add_permits(count);
    }

    /// Lets every present and later [`WaitForRelease`](Step::WaitForRelease) pass.
    pub fn release_all(&self) {
        self.0.releases.close();
    }

    /// Waits until at least `count` attempts have begun, and returns all that have. Cancel safe.
    pub async fn executed(&self, count: usize) -> Vec<Execution> {
        let mut executed = self.0.executed.subscribe();
        match executed.wait_for(|executions| executions.len() >= count).await {
            Ok(executions) => executions.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until at least `count` attempts have ended in any way. Cancel safe.
    pub async fn ended(&self, count: usize) {
        // The sender lives as long as this executor, so the wait cannot fail.
        let _ = self.0.ended.subscribe().wait_for(|ended| *ended >= count).await;
    }

    /// Returns the largest number of concurrent attempts so far.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.scripts().most_at_once
    }

    fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.0.scripts.lock()
    }

    /// Counts an attempt, takes the run's script if it begins, and returns a guard that ends the count.
    fn begin(&self, context: &RunContext) -> Attempt {
        let mut scripts = self.scripts();
        scripts.executing += 1;
        scripts.most_at_once = scripts.most_at_once.max(scripts.executing);
        if !scripts.of_run.contains_key(&context.run)
            && let Some(script) = scripts.next.pop_front()
        {
            scripts.of_run.insert(context.run, script);
        }
        drop(scripts);
        let execution = Execution {
            run: context.run,
            workflow: context.workflow.clone(),
            attempt: context.attempt,
            parameters: context.parameters.clone(),
        };
        self.0.executed.send_modify(|executed| executed.push(execution));
        Attempt(self.clone())
    }

    fn next_step(&self, run: RunId) -> Step {
        self.scripts().of_run.get_mut(&run).and_then(VecDeque::pop_front).unwrap_or(Step::Succeed)
    }

    fn keep(&self, run: RunId, name: String, content_type: String, bytes: Vec<u8>) -> Artifact {
        let artifact = Artifact::new(name.clone(), content_type.clone(), bytes.len() as u64);
        self.scripts().artifacts.entry(run).or_default().insert(name, (content_type, bytes));
        artifact
    }
}

impl fmt::Debug for ScriptedExecutor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ScriptedExecutor").field(&self.0.workflows).finish()
    }
}

#[async_trait::async_trait]
impl Executor for ScriptedExecutor {
    async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        Ok(self.0.workflows.list())
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.0.workflows.get(workflow))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        let _attempt = self.begin(&context);
        let mut output = RunOutput::new();
        let mut listens = true;
        loop {
            match self.next_step(context.run) {
                Step::Succeed => return Ok(output),
                Step::SucceedWith(summary) => return Ok(output.with_summary(summary)),
                Step::FailRetryable(message) => return Err(ExecuteError::retryable(message)),
                Step::FailFatal(message) => return Err(ExecuteError::fatal(message)),
                Step::Panic(message) => std::panic::panic_any(message),
                Step::Sleep(duration) => pass(&context, listens, tokio::time::sleep(duration)).await?,
                Step::WaitForRelease => pass(&context, listens, self.released()).await?,
                Step::IgnoreCancellation => listens = false,
                Step::Block(duration) => std::thread::sleep(duration),
                Step::Log(line) => context.log(line),
                Step::Progress(fraction, message) => context.progress(fraction, message),
                Step::Artifact { name, content_type, bytes } => {
                    output = output.with_artifact(self.keep(context.run, name, content_type, bytes));
                }
            }
        }
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        let scripts = self.scripts();
        let kept = scripts.artifacts.get(&run).and_then(|artifacts| artifacts.get(name)).cloned();
        Ok(kept.map(|(content_type, bytes)| ArtifactContent::Bytes { content_type, bytes }))
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        let mut scripts = self.scripts();
        for run in runs {
            scripts.artifacts.remove(run);
            scripts.of_run.remove(run);
        }
        Ok(())
    }
}

impl ScriptedExecutor {
    async fn released(&self) {
        if let Ok(permit) = self.0.releases.acquire().await {
            permit.forget();
        }
    }
}

/// An attempt in progress. Its count ends on drop, even after a panic.
struct Attempt(ScriptedExecutor);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.scripts().executing -= 1;
        self.0.0.ended.send_modify(|ended| *ended += 1);
    }
}

/// Waits for `step`, or for a cancellation if the attempt listens to it.
async fn pass(
    context: &RunContext,
    listens: bool,
    step: impl Future<Output = ()>,
) -> Result<(), ExecuteError> {
    if !listens {
        step.await;
        return Ok(());
    }
    tokio::select! {
        reason = context.cancellation.cancelled() => {
            Err(ExecuteError::retryable(format!("told to stop: {reason:?}")))
        }
        () = step => Ok(()),
    }
}
