//! The `[notebook]` section: the notebook, and the file's additions to its parameters.

use std::path::Path;
use std::sync::Arc;

use webhook_core::executor::Workflow;
use webhook_core::id::WorkflowKey;
use webhook_core::parameters::ParameterBlocks;
use webhook_process::{Notebook, NotebookWorkflow, Python};

use crate::loaded_workflow::{Action, LoadedWorkflow};
use crate::parameter_section::{self, Unrefined};
use crate::report::chain;
use crate::section::{Entry, FileProblem};

/// Reads the section, and the notebook for its parameters.
///
/// A notebook that cannot be run, or contradicts the file, gives an unavailable workflow: it is listed with
/// the reason, and all others are served. A fault in the file itself is a problem.
pub(crate) fn load(
    entry: &Entry<'_>,
    parameters: Option<&Entry<'_>>,
    (key, title): (WorkflowKey, &str),
    folder: &Path,
    python: &Python,
) -> Result<LoadedWorkflow, FileProblem> {
    let mut section = entry.section()?;
    let path = section.require("path")?;
    let kernel = section.take("kernel").map(|kernel| kernel.text()).transpose()?;
    // Once only a notebook with this key could be unavailable; now every notebook can.
    section.take("optional").map_or(Ok(false), |optional| optional.boolean())?;
    let variables = section.take("env");
    section.finish()?;
    let mut notebook = match Notebook::load_with_kernel(folder.join(path.text()?), python, kernel) {
        Ok(notebook) => notebook,
        Err(error) => return Ok(unavailable(key, title, chain(&error))),
    };
    if let Some(variables) = variables {
        for (name, value) in variables.section()?.take_all() {
            notebook = notebook.with_variable(name, value.any_text()?);
        }
    }
    let blocks = match parameter_section::refined(notebook.parameters(), parameters) {
        Ok(blocks) => blocks,
        Err(Unrefined::File(problem)) => return Err(problem),
        Err(Unrefined::Notebook(message)) => {
            return Ok(unavailable(key, title, format!("{}: {message}", path.text()?)));
        }
    };
    let own = NotebookWorkflow::new(Workflow::new(key, title, blocks), notebook)
        .map_err(|error| entry.problem(error.to_string()))?;
    Ok(LoadedWorkflow { workflow: own.workflow().clone(), action: Action::Notebook(Box::new(own)) })
}

fn unavailable(key: WorkflowKey, title: &str, reason: String) -> LoadedWorkflow {
    let workflow = Workflow::new(key, title, ParameterBlocks::default()).with_unavailable(reason);
    LoadedWorkflow { workflow: Arc::new(workflow), action: Action::Unavailable }
}
