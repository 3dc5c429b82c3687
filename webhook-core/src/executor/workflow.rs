//! Descriptions of workflows.

use std::sync::Arc;

use crate::id::WorkflowKey;
use crate::parameters::ParameterBlocks;

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
