//! Workflows as their files declare them.

use std::sync::Arc;

use webhook_core::executor::Workflow;
use webhook_process::{CommandWorkflow, NotebookWorkflow};

use crate::report::Report;

/// A workflow with its execution.
#[derive(Debug)]
pub(crate) struct LoadedWorkflow {
    /// The workflow, as hosts see it.
    pub(crate) workflow: Arc<Workflow>,
    /// Execution of the workflow.
    pub(crate) action: Action,
}

/// Execution of a workflow.
#[derive(Debug)]
pub(crate) enum Action {
    /// Runs an external command.
    Command(Box<CommandWorkflow>),
    /// Runs a notebook.
    Notebook(Box<NotebookWorkflow>),
    /// Runs queries and renders a template.
    Report(Box<Report>),
    /// Succeeds at once.
    Noop,
    /// Fails: the notebook cannot be run here; the workflow has the reason.
    Unavailable,
}
