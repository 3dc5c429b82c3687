//! The executor of the example server: all loaded workflows, and the folder of artifacts.

use std::collections::BTreeMap;
use std::sync::Arc;

use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};
use webhook_process::{ArtifactError, ArtifactFolder, CommandOptions};

use crate::loaded_workflow::{Action, LoadedWorkflow};

/// Name of a report's artifact.
const PAGE: &str = "report.html";

/// Executes the loaded workflows, and keeps the artifacts of reports and notebooks.
#[derive(Debug)]
pub(crate) struct ServerExecutor {
    workflows: BTreeMap<WorkflowKey, LoadedWorkflow>,
    artifacts: ArtifactFolder,
    command_options: CommandOptions,
}

impl ServerExecutor {
    /// Creates an executor that keeps artifacts in this folder.
    pub(crate) fn new(workflows: Vec<LoadedWorkflow>, artifacts: ArtifactFolder) -> Self {
        let workflows = workflows.into_iter().map(|own| (own.workflow.key.clone(), own)).collect();
        Self { workflows, artifacts, command_options: CommandOptions::default() }
    }
}

#[async_trait::async_trait]
impl Executor for ServerExecutor {
    async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        Ok(WorkflowPage::last(self.workflows.values().map(|own| own.workflow.clone()).collect()))
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.workflows.get(workflow).map(|own| own.workflow.clone()))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        let own = self.workflows.get(&context.workflow).ok_or_else(|| {
            ExecuteError::fatal(format!("there is no workflow file for {} any more", context.workflow))
        })?;
        match &own.action {
            Action::Noop => Ok(RunOutput::new()),
            Action::Command(command) => command.run(&context, &self.command_options).await,
            Action::Notebook(notebook) => {
                notebook.run(&context, &self.command_options, &self.artifacts).await
            }
            // The run was accepted before the workflow became unavailable. The reason may name paths, so
            // callers do not see it.
            Action::Unavailable => Err(ExecuteError::fatal("the workflow is not available on this server")),
            Action::Report(report) => {
                let finished = report.run(&context, &own.workflow)?;
                let artifact = self
                    .artifacts
                    .write(context.run, context.attempt, PAGE, &finished.html)
                    .map_err(execute_error)?;
                context.progress(1.0, "done");
                Ok(RunOutput::new().with_summary(finished.summary).with_artifact(artifact))
            }
        }
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        self.artifacts.content(run, name).map_err(ExecutorError::new)
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        self.artifacts.discard(runs).map_err(ExecutorError::new)
    }
}

fn execute_error(error: ArtifactError) -> ExecuteError {
    if error.is_retryable() { ExecuteError::retryable(error) } else { ExecuteError::fatal(error) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;
    use std::{fs, io};

    use webhook_core::executor::ExecuteError;
    use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use webhook_process::Python;

    use super::*;
    use crate::workflow_file::load_folder;

    fn bundled(artifacts: &Path) -> ServerExecutor {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate::options::BUNDLED_WORKFLOWS);
        ServerExecutor::new(
            load_folder(&folder, &Python::new("/no/such/python")).unwrap(),
            ArtifactFolder::new(artifacts),
        )
    }

    fn context(workflow: &str, given: &[(&str, &str)]) -> RunContext {
        let given = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), EffectiveParameter::new(*value, Source::Query)));
        let parameters: EffectiveParameters = given.collect();
        RunContext::new(RunId::generate(SystemTime::now()), workflow.parse().unwrap(), 1, parameters)
    }

    #[tokio::test]
    async fn the_bundled_report_names_its_parameters_and_differs_by_them() {
        let folder = tempfile::tempdir().unwrap();
        let executor = bundled(folder.path());
        let mut pages = Vec::new();
        for (date, region) in [("2026-01-14", "EMEA"), ("2026-01-14", "APAC"), ("2026-01-13", "EMEA")] {
            let context = context("report/daily-sales", &[("date", date), ("region", region)]);
            let run = context.run;
            let output = executor.execute(context).await.unwrap();
            let summary = output.summary.unwrap();
            assert!(
                summary.contains("8 rows") && summary.contains(region) && summary.contains(date),
                "{summary}"
            );
            let content = executor.artifact(run, &output.artifacts[0].name).await.unwrap().unwrap();
            let ArtifactContent::Open { content_type, file } = content else { panic!("no file") };
            assert_eq!(content_type, "text/html; charset=utf-8");
            let page = io::read_to_string(&*file).unwrap();
            assert_eq!(page.len() as u64, output.artifacts[0].size);
            assert!(page.contains(date) && page.contains(region));
            pages.push(page);
        }
        assert!(pages[0] != pages[1] && pages[0] != pages[2]);
    }

    #[tokio::test]
    async fn the_bundled_report_says_when_there_is_nothing_to_report() {
        let folder = tempfile::tempdir().unwrap();
        let executor = bundled(folder.path());
        let context = context("report/daily-sales", &[("date", "1999-01-01"), ("region", "EMEA")]);
        let path = folder.path().join(context.run.to_string()).join(PAGE);
        assert!(executor.execute(context).await.unwrap().summary.unwrap().contains("0 rows"));
        assert!(fs::read_to_string(path).unwrap().contains("No sales"));
    }

    #[tokio::test]
    async fn the_bundled_command_and_the_bundled_noop_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let executor = bundled(folder.path());
        executor.execute(context("report/echo", &[("message", "hello")])).await.unwrap();
        assert_eq!(executor.execute(context("report/noop", &[])).await.unwrap(), RunOutput::new());
        let error = executor.execute(context("report/gone", &[])).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Fatal(_)));
    }

    #[tokio::test]
    async fn a_notebook_that_cannot_be_run_here_fails_and_the_list_says_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let executor = bundled(folder.path());
        let listed = executor.describe(&"notebook/daily-sales".parse().unwrap()).await.unwrap().unwrap();
        assert!(
            listed.unavailable.as_ref().unwrap().contains("python3 -m venv /no/such/python"),
            "{listed:?}"
        );
        let error = executor.execute(context("notebook/daily-sales", &[])).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Fatal(_)));
        assert_eq!(error.to_string(), "the workflow is not available on this server");
    }

    #[tokio::test]
    async fn only_the_artifacts_of_a_run_can_be_read_and_discarding_removes_them() {
        let folder = tempfile::tempdir().unwrap();
        let executor = bundled(&folder.path().join("artifacts"));
        fs::write(folder.path().join("secret"), "x").unwrap();
        let context = context("report/daily-sales", &[("date", "2026-01-14"), ("region", "AMER")]);
        let run = context.run;
        executor.execute(context).await.unwrap();
        for name in
            ["../../secret", "..", "", ".", "report.html/..", "./report.html", ".report.html.1", "other"]
        {
            assert!(executor.artifact(run, name).await.unwrap().is_none(), "{name}");
        }
        let other = RunId::generate(SystemTime::now());
        assert!(executor.artifact(other, PAGE).await.unwrap().is_none());
        executor.discard(&[other, run]).await.unwrap();
        executor.discard(&[run]).await.unwrap();
        assert!(executor.artifact(run, PAGE).await.unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_artifact_that_cannot_be_written_is_retryable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let executor = bundled(file.path());
        let context = context("report/daily-sales", &[("date", "2026-01-14"), ("region", "AMER")]);
        assert!(matches!(executor.execute(context).await, Err(ExecuteError::Retryable(_))));
    }
}
