//! Entry points for the fuzz targets of this workspace only.

use std::path::Path;
use std::sync::Arc;

use webhook_core::executor::Workflow;
use webhook_process::Python;

/// Reads the text of a workflow file and returns the workflow it declares.
///
/// # Errors
/// The text declares no workflow; the message names the file and the line.
pub fn load_workflow(file: &Path, text: &str, python: &Python) -> Result<Arc<Workflow>, String> {
    let loaded = crate::workflow_file::load(file, text, python).map_err(|problem| problem.to_string())?;
    Ok(loaded.workflow)
}
