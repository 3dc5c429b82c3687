//! Several executors as one.

use std::fmt;
use std::sync::Arc;

use super::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use crate::id::{RunId, WorkflowKey};

/// Several executors as one, for an application with several kinds of work.
///
/// - A workflow belongs to the first executor that describes it. Only that one executes it.
/// - The list has the workflows of all, executor by executor.
/// - An artifact comes from the first executor that has it, and every executor is told which runs to discard.
///
/// While an executor cannot describe its workflows, those of the executors after it are unknown too: calls are answered
/// with 503, and attempts are retried. So a workflow never changes its executor because of a failure.
///
/// ```
/// use webhook_core::executor::{Executor, Executors, FnExecutor, RunContext, RunOutput, Workflow};
/// use webhook_core::{id::RunId, parameters::{EffectiveParameters, ParameterBlocks}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let invoices = Workflow::new("billing/invoices".parse()?, "Invoices", ParameterBlocks::default());
/// let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
/// let billing = FnExecutor::new([invoices], async |_| Ok(RunOutput::new().with_summary("sent")));
/// let reports = FnExecutor::new([sales], async |_| Ok(RunOutput::new().with_summary("printed")));
///
/// let executor = Executors::new().with(billing).with(reports);
/// assert_eq!(executor.list(None).await?.items[0].title, "Invoices");
/// # let run = RunId::generate(std::time::SystemTime::now());
/// let context = RunContext::new(run, "report/sales".parse()?, 1, EffectiveParameters::new());
/// assert_eq!(executor.execute(context).await?.summary.as_deref(), Some("printed"));
/// # Ok(())
/// # }
/// ```
///
/// A service knows the kinds `report` and `notebook`; others are registered with
/// [`kind`](crate::WebhooksBuilder::kind).
#[derive(Clone, Default)]
pub struct Executors {
    in_order: Vec<Arc<dyn Executor>>,
}

impl Executors {
    /// Returns an executor without workflows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an executor, behind those that were added before.
    #[must_use]
    pub fn with(mut self, executor: impl Executor) -> Self {
        self.in_order.push(Arc::new(executor));
        self
    }

    /// Returns the executor of a workflow, with the description.
    async fn find(
        &self,
        workflow: &WorkflowKey,
    ) -> Result<Option<(&Arc<dyn Executor>, Arc<Workflow>)>, ExecutorError> {
        for executor in &self.in_order {
            if let Some(described) = executor.describe(workflow).await? {
                return Ok(Some((executor, described)));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Executors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Executors").field("executors", &self.in_order.len()).finish()
    }
}

/// Position in the list of all workflows: the executor, and its own cursor. On the wire `INDEX` or `INDEX:CURSOR`.
struct Position {
    index: usize,
    cursor: Option<String>,
}

impl Position {
    /// Reads a position, or returns `None` for a text that no page had as its cursor.
    fn parse(text: &str) -> Option<Self> {
        let (index, cursor) = match text.split_once(':') {
            Some((index, cursor)) => (index, Some(cursor.to_owned())),
            None => (text, None),
        };
        Some(Self { index: index.parse().ok()?, cursor })
    }

    fn format(&self) -> String {
        match &self.cursor {
            Some(cursor) => format!("{}:{cursor}", self.index),
            None => self.index.to_string(),
        }
    }
}

#[async_trait::async_trait]
impl Executor for Executors {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        let position = match &cursor {
            None => Some(Position { index: 0, cursor: None }),
            Some(text) => Position::parse(text),
        };
        let Some(Position { index, cursor }) = position else { return Ok(WorkflowPage::default()) };
        let Some(executor) = self.in_order.get(index) else { return Ok(WorkflowPage::default()) };
        let page = executor.list(cursor).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for workflow in page.items {
            // One that an earlier executor describes is that executor's, and is listed there.
            let owner = self.find(&workflow.key).await?;
            if owner.is_none_or(|(owner, _)| Arc::ptr_eq(owner, executor)) {
                items.push(workflow);
            }
        }
        let next = match page.next_cursor {
            Some(cursor) => Some(Position { index, cursor: Some(cursor) }),
            None if index + 1 < self.in_order.len() => Some(Position { index: index + 1, cursor: None }),
            None => None,
        };
        Ok(match next {
            Some(next) => WorkflowPage::new(items, next.format()),
            None => WorkflowPage::last(items),
        })
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.find(workflow).await?.map(|(_, described)| described))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        match self.find(&context.workflow).await.map_err(ExecuteError::retryable)? {
            Some((executor, _)) => executor.execute(context).await,
            None => Err(ExecuteError::fatal(format!(
                "no executor has the workflow {} any more",
                context.workflow
            ))),
        }
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        let mut failed = None;
        for executor in &self.in_order {
            match executor.artifact(run, name).await {
                Ok(Some(content)) => return Ok(Some(content)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        let mut failed = None;
        for executor in &self.in_order {
            if let Err(error) = executor.discard(runs).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use parking_lot::Mutex;

    use super::*;
    use crate::parameters::{EffectiveParameters, ParameterBlocks};

    /// Workflows on pages of one, an artifact of its own, and a switch to fail.
    struct Sample {
        name: &'static str,
        workflows: Vec<Arc<Workflow>>,
        is_failing: bool,
        discarded: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Sample {
        fn new(name: &'static str, keys: &[&str]) -> Self {
            let workflow =
                |key: &&str| Arc::new(Workflow::new(key.parse().unwrap(), name, ParameterBlocks::default()));
            let workflows = keys.iter().map(workflow).collect();
            Self { name, workflows, is_failing: false, discarded: Arc::default() }
        }

        fn check(&self) -> Result<(), ExecutorError> {
            if self.is_failing { Err(ExecutorError::new(self.name)) } else { Ok(()) }
        }
    }

    #[async_trait::async_trait]
    impl Executor for Sample {
        async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
            self.check()?;
            let index: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
            let items = self.workflows.get(index).cloned().into_iter().collect();
            Ok(match index + 1 < self.workflows.len() {
                true => WorkflowPage::new(items, (index + 1).to_string()),
                false => WorkflowPage::last(items),
            })
        }

        async fn describe(&self, key: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
            self.check()?;
            Ok(self.workflows.iter().find(|workflow| workflow.key == *key).cloned())
        }

        async fn execute(&self, _: RunContext) -> Result<RunOutput, ExecuteError> {
            Ok(RunOutput::new().with_summary(self.name))
        }

        async fn artifact(&self, _: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
            self.check()?;
            let content = ArtifactContent::Bytes { content_type: self.name.to_owned(), bytes: Vec::new() };
            Ok((name == self.name).then_some(content))
        }

        async fn discard(&self, _: &[RunId]) -> Result<(), ExecutorError> {
            self.check()?;
            self.discarded.lock().push(self.name);
            Ok(())
        }
    }

    fn context(key: &str) -> RunContext {
        RunContext::new(run(), key.parse().unwrap(), 1, EffectiveParameters::new())
    }

    fn run() -> RunId {
        RunId::generate(SystemTime::now())
    }

    async fn listed(executor: &dyn Executor) -> Vec<(String, String)> {
        let (mut cursor, mut found) = (None, Vec::new());
        loop {
            let page = executor.list(cursor).await.unwrap();
            found.extend(page.items.iter().map(|own| (own.key.to_string(), own.title.clone())));
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return found,
            }
        }
    }

    #[tokio::test]
    async fn a_workflow_is_listed_once_and_executed_by_the_first_that_describes_it() {
        let executor = Executors::new()
            .with(Sample::new("first", &["report/a", "report/b"]))
            .with(Sample::new("none", &[]))
            .with(Executors::new().with(Sample::new("nested", &["report/b", "report/c", "report/d"])));
        let expected = [("a", "first"), ("b", "first"), ("c", "nested"), ("d", "nested")];
        let expected = expected.map(|(id, owner)| (format!("report/{id}"), owner.to_owned()));
        assert_eq!(listed(&executor).await, expected);
        for (key, owner) in expected {
            let described = executor.describe(&key.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!(described.title, owner);
            assert_eq!(executor.execute(context(&key)).await.unwrap().summary, Some(owner));
        }
        assert!(executor.describe(&"report/e".parse().unwrap()).await.unwrap().is_none());
        assert!(matches!(executor.execute(context("report/e")).await, Err(ExecuteError::Fatal(_))));
    }

    #[tokio::test]
    async fn a_cursor_of_no_page_lists_nothing() {
        let executor = Executors::new().with(Sample::new("first", &["report/a"]));
        for cursor in ["", "x", "1", "99999999999999999999", "-1:a"] {
            let page = executor.list(Some(cursor.to_owned())).await.unwrap();
            assert!(page.items.is_empty() && page.next_cursor.is_none(), "{cursor}");
        }
    }

    #[tokio::test]
    async fn no_workflow_changes_its_executor_because_of_a_failure() {
        let failing = Sample { is_failing: true, ..Sample::new("failing", &["report/a"]) };
        let executor = Executors::new().with(failing).with(Sample::new("other", &["report/a"]));
        assert!(executor.describe(&"report/a".parse().unwrap()).await.is_err());
        assert!(matches!(executor.execute(context("report/a")).await, Err(ExecuteError::Retryable(_))));
        assert!(executor.list(None).await.is_err());
    }

    #[tokio::test]
    async fn artifacts_are_found_and_discarded_in_spite_of_an_executor_that_fails() {
        let failing = Sample { is_failing: true, ..Sample::new("failing", &[]) };
        let (first, second) = (Sample::new("first", &[]), Sample::new("second", &[]));
        let discarded = [first.discarded.clone(), second.discarded.clone()];
        let executor = Executors::new().with(first).with(failing).with(second);
        for name in ["first", "second"] {
            let Some(ArtifactContent::Bytes { content_type, .. }) =
                executor.artifact(run(), name).await.unwrap()
            else {
                panic!("no artifact")
            };
            assert_eq!(content_type, name);
        }
        assert!(executor.artifact(run(), "third").await.is_err());
        assert!(executor.discard(&[run()]).await.is_err());
        assert_eq!(discarded.map(|own| own.lock().clone()), [["first"], ["second"]]);
    }
}
