//! Jupyter notebooks, run by papermill.

mod error;
mod executor;
mod listener;
mod problem;
mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use webhook_core::executor::{ExecuteError, RunContext, RunOutput, Workflow};
use webhook_core::masking::Masker;
use webhook_core::parameters::{EffectiveParameter, ParameterBlock, ParameterType, Source};

use crate::artifact::{ArtifactError, ArtifactFolder};
use crate::command::{Command, CommandOptions};
use crate::environment;
use crate::error::CommandError;
use crate::process::{self, Launch};
pub use error::{InvalidNotebook, NotebookError};
pub use executor::NotebookExecutor;
use listener::NotebookListener;
pub use python::Python;

const RUNNER: &str = include_str!("notebook/runner.py");
const DESCRIBE: &str = include_str!("notebook/describe.py");

/// Names of a run's artifacts.
const EXECUTED: &str = "notebook.ipynb";
const PAGE: &str = "notebook.html";

/// Upper bound on the output that an executed notebook keeps, in characters.
const OUTPUT_CHARACTERS: usize = 8 * 1024 * 1024;

/// Notebook that Python can run, with its declared parameters.
#[derive(Debug, Clone)]
pub struct Notebook {
    path: PathBuf,
    python: Python,
    kernel: String,
    parameters: Vec<ParameterBlock>,
    environment: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Description {
    kernel: String,
    parameters: Vec<DescribedParameter>,
}

#[derive(Deserialize)]
struct DescribedParameter {
    name: String,
    #[serde(rename = "type")]
    parameter_type: ParameterType,
    choices: Vec<String>,
    default: Option<Value>,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Described(Description),
    Unusable { problem: problem::Problem },
}

impl Notebook {
    /// Reads the declared parameters of a notebook and checks that `python` can run it. Blocks for up to a
    /// few seconds.
    ///
    /// The parameters are the assignments in the code cell with the tag `parameters`.
    ///
    /// - The type comes from the annotation or type comment, otherwise from the literal. A literal such as
    ///   `None` or a set gives `json`, and a computed value gives `text`.
    /// - A comment at the end of its line is the description.
    /// - Lines for IPython are ignored.
    ///
    /// Nothing of the cell is executed. So a value that is not a literal gives no default: if a call omits
    /// the parameter, the notebook sets it.
    ///
    /// Fails with [`InvalidNotebook`], which says how to correct the problem.
    pub fn load(path: impl AsRef<Path>, python: &Python) -> Result<Self, InvalidNotebook> {
        Self::load_with_kernel(path, python, None)
    }

    /// Reads a notebook like [`load`](Self::load), for another Jupyter kernel than the one it names.
    ///
    /// Fails like [`load`](Self::load).
    pub fn load_with_kernel(
        path: impl AsRef<Path>,
        python: &Python,
        kernel: Option<&str>,
    ) -> Result<Self, InvalidNotebook> {
        let given = path.as_ref();
        let unreadable = |message: String| InvalidNotebook::Notebook { path: given.to_owned(), message };
        let path = given.canonicalize().map_err(|error| unreadable(format!("it cannot be read: {error}")))?;
        if !path.is_file() {
            return Err(unreadable("it is no regular file".to_owned()));
        }
        let text = path.to_str().ok_or_else(|| unreadable("its path is not UTF-8".to_owned()))?;
        let request = json!({ "path": text, "kernel": kernel });
        let answer = python.answer(&python::input(DESCRIBE, &request))?;
        match serde_json::from_slice(&answer) {
            Ok(Answer::Described(Description { kernel, parameters })) => Ok(Self {
                path,
                python: python.clone(),
                kernel,
                parameters: parameters.into_iter().map(block).collect(),
                environment: BTreeMap::new(),
            }),
            Ok(Answer::Unusable { problem }) => Err(problem.error(given, python)),
            Err(source) => Err(InvalidNotebook::Answer {
                python: python.shown(),
                mended_by: python.replaced_by(),
                source,
            }),
        }
    }

    /// Adds a variable to the environment of its runs.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Returns the declared parameters, in their order. A host may refine them before it builds a workflow
    /// from them.
    #[must_use]
    pub fn parameters(&self) -> &[ParameterBlock] {
        &self.parameters
    }

    fn parameter(&self, name: &str) -> Option<&ParameterBlock> {
        self.parameters.iter().find(|block| block.name == name)
    }

    /// Returns the command that runs it: Python, which reads the runner and then its request from standard
    /// input.
    fn command(&self) -> Command {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let mut command = self.python.command().with_folder(folder);
        command.environment.clone_from(&self.environment);
        command
    }
}

fn block(described: DescribedParameter) -> ParameterBlock {
    let mut block = ParameterBlock::new(described.name, described.parameter_type);
    block.choices = described.choices;
    block.default = described.default;
    block.description = described.description;
    block
}

/// Workflow with the notebook that executes it.
#[derive(Debug, Clone)]
pub struct NotebookWorkflow {
    workflow: Arc<Workflow>,
    notebook: Notebook,
}

impl NotebookWorkflow {
    /// Combines a workflow with its notebook.
    ///
    /// Fails with [`InvalidCommand`](crate::InvalidCommand) when a variable of the notebook has an invalid
    /// name or value, or when the workflow has a parameter that the notebook does not declare.
    pub fn new(workflow: Workflow, notebook: Notebook) -> Result<Self, crate::InvalidCommand> {
        environment::check(&notebook.command(), &[])?;
        // Python treats names that are equal after NFKC as one; declared names are in that form.
        if let Some(block) =
            workflow.parameters.iter().find(|block| notebook.parameter(&block.name).is_none())
        {
            return Err(crate::InvalidCommand::UndeclaredParameter { parameter: block.name.clone() });
        }
        Ok(Self { workflow: Arc::new(workflow), notebook })
    }

    /// Returns the workflow.
    #[must_use]
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// Runs the notebook for one attempt, as the [crate] describes, and keeps its files in `artifacts`.
    ///
    /// Fails with an [`ExecuteError`] that holds a [`NotebookError`]. It is retryable when a cell fails, the kernel
    /// dies or the attempt is stopped. It is fatal when Python, a package or the kernel is missing.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    /// On drop, the kernel and its whole process group are killed before the drop returns.
    pub async fn run(
        &self,
        context: &RunContext,
        options: &CommandOptions,
        artifacts: &ArtifactFolder,
    ) -> Result<RunOutput, ExecuteError> {
        self.try_run(context, options, artifacts).await.map_err(|error| {
            if error.is_retryable() { ExecuteError::retryable(error) } else { ExecuteError::fatal(error) }
        })
    }

    async fn try_run(
        &self,
        context: &RunContext,
        options: &CommandOptions,
        artifacts: &ArtifactFolder,
    ) -> Result<RunOutput, NotebookError> {
        let draft = artifacts.draft(context.run, context.attempt)?;
        let command = self.notebook.command();
        let (variables, _) = environment::run_variables(context.run, &[], &context.parameters);
        let input = self.input(context, draft.path());
        // The runner's standard output is its protocol, not text, and the runner has masked the secrets in
        // it.
        let launch = Launch { command: &command, variables, input, stdout_masker: Masker::default() };
        let mut listener = NotebookListener::new(context.reporter());
        let status = process::run(launch, context, options, &mut listener).await?;
        match listener.judge(status, &self.notebook.python) {
            Ok(mut output) => {
                for name in [PAGE, EXECUTED] {
                    output = output.with_artifact(draft.keep(name)?);
                }
                context.progress(1.0, "done");
                Ok(output)
            }
            Err(failed) => {
                for name in [PAGE, EXECUTED].into_iter().filter(|name| draft.has(name)) {
                    match draft.keep(name) {
                        Ok(artifact) => context.leave_artifact(artifact),
                        Err(error) => {
                            context.log(format!("[{name} of the failed notebook is not kept: {error}]"));
                        }
                    }
                }
                Err(failed)
            }
        }
    }

    /// Returns whether a value is the notebook's own default. Such a value stays as the notebook has it.
    fn is_own_value(&self, name: &str, parameter: &EffectiveParameter) -> bool {
        let own = self.notebook.parameter(name).and_then(|block| block.default.as_ref());
        parameter.source == Source::Default && own == Some(&parameter.value)
    }

    fn input(&self, context: &RunContext, folder: &Path) -> Vec<u8> {
        let [mut parameters, mut rest, mut secret] = [(); 3].map(|()| serde_json::Map::new());
        for (name, parameter) in context.parameters.iter() {
            if parameter.secret {
                secret.insert(name.to_owned(), parameter.value.clone());
            }
            if self.notebook.parameter(name).is_none() {
                rest.insert(name.to_owned(), parameter.value.clone());
            } else if !self.is_own_value(name, parameter) {
                parameters.insert(name.to_owned(), parameter.value.clone());
            }
        }
        let request = json!({
            "notebook": self.notebook.path.to_string_lossy(),
            "kernel": self.notebook.kernel,
            "title": self.workflow.title,
            "parameters": parameters,
            "rest": rest,
            "secret": secret,
            "output_limit": OUTPUT_CHARACTERS,
            "folder": folder.to_string_lossy(),
            "executed": EXECUTED,
            "page": PAGE,
        });
        python::input(RUNNER, &request)
    }
}

impl From<CommandError> for NotebookError {
    fn from(error: CommandError) -> Self {
        Self::Process(error)
    }
}

impl From<ArtifactError> for NotebookError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifact(error)
    }
}

#[cfg(test)]
mod tests;
