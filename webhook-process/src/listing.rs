//! Lists a fixed set of workflows, page by page.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use webhook_core::executor::{ExecutorError, Workflow, WorkflowPage};
use webhook_core::id::WorkflowKey;

use crate::error::DuplicateWorkflow;

/// Number of workflows in a page.
pub(crate) const PAGE: usize = 100;

/// Pairs a workflow with its execution.
pub(crate) trait Executes {
    fn workflow(&self) -> &Arc<Workflow>;
}

pub(crate) fn by_key<W: Executes>(
    workflows: impl IntoIterator<Item = W>,
) -> Result<BTreeMap<WorkflowKey, W>, DuplicateWorkflow> {
    let mut found = BTreeMap::new();
    for workflow in workflows {
        let key = workflow.workflow().key.clone();
        if found.insert(key.clone(), workflow).is_some() {
            return Err(DuplicateWorkflow(key));
        }
    }
    Ok(found)
}

pub(crate) fn page<W: Executes>(
    workflows: &BTreeMap<WorkflowKey, W>,
    cursor: Option<&str>,
) -> Result<WorkflowPage, ExecutorError> {
    let start = match cursor {
        None => Bound::Unbounded,
        Some(last) => Bound::Excluded(last.parse::<WorkflowKey>().map_err(ExecutorError::new)?),
    };
    let mut following = workflows.range((start, Bound::Unbounded));
    let items: Vec<_> = following.by_ref().take(PAGE).map(|(_, own)| own.workflow().clone()).collect();
    Ok(match (items.last(), following.next()) {
        (Some(last), Some(_)) => {
            let next_cursor = last.key.to_string();
            WorkflowPage::new(items, next_cursor)
        }
        _ => WorkflowPage::last(items),
    })
}
