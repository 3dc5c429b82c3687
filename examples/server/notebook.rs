//! The `[notebook]` section: which notebook, and what the file says of its parameters.

use std::path::Path;
use std::sync::Arc;

use webhook_core::executor::Workflow;
use webhook_core::id::WorkflowKey;
use webhook_core::parameters::ParameterBlocks;
use webhook_process::{InvalidNotebook, Notebook, NotebookWorkflow, Python};

use crate::parameter_section;
use crate::report::chain;
use crate::section::{Entry, Problem};
use crate::workflow_file::{Action, LoadedWorkflow};

/// Reads the section, and the notebook for its parameters. A notebook that is `optional` and that Python is not
/// prepared for is a workflow whose runs fail and say why.
pub(crate) fn load(
    entry: &Entry<'_>,
    parameters: Option<&Entry<'_>>,
    (key, title): (WorkflowKey, &str),
    folder: &Path,
    python: &Python,
) -> Result<LoadedWorkflow, Problem> {
    let mut section = entry.section()?;
    let path = section.require("path")?;
    let kernel = section.take("kernel").map(|kernel| kernel.text()).transpose()?;
    let optional = section.take("optional").map_or(Ok(false), |optional| optional.boolean())?;
    let variables = section.take("env");
    section.finish()?;
    let mut notebook = match Notebook::load_with_kernel(folder.join(path.text()?), python, kernel) {
        Ok(notebook) => notebook,
        Err(error) if optional && error.is_unprepared() => {
            return Ok(unavailable(key, title, &error));
        }
        Err(error) => return Err(path.problem(chain(&error))),
    };
    if let Some(variables) = variables {
        for (name, value) in variables.section()?.take_all() {
            notebook = notebook.with_variable(name, value.any_text()?);
        }
    }
    let blocks = parameter_section::refined(notebook.parameters(), parameters)
        .map_err(|problem| problem.unwrap_or_else(|message| path.problem(message)))?;
    let own = NotebookWorkflow::new(Workflow::new(key, title, blocks), notebook)
        .map_err(|error| entry.problem(error.to_string()))?;
    Ok(LoadedWorkflow { workflow: own.workflow().clone(), action: Action::Notebook(Box::new(own)) })
}

fn unavailable(key: WorkflowKey, title: &str, error: &InvalidNotebook) -> LoadedWorkflow {
    let title = format!("{title} (unavailable: Python is not set up)");
    let workflow = Arc::new(Workflow::new(key, title, ParameterBlocks::default()));
    LoadedWorkflow { workflow, action: Action::Unavailable(chain(error)) }
}
