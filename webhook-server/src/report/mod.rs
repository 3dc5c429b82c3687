//! Reports: named SQL queries over a database or CSV files, rendered by a template into one HTML page.

mod data;
mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::Value;
use minijinja::value::Serde;
use webhook_core::executor::{Cancellation, ExecuteError, Reporter, RunContext, Workflow};
use webhook_core::parameters::ParameterBlocks;

use crate::regular_file;
use crate::section::{FileProblem, Section};
use data::{Data, DataError, DataFile, Query};
use page::{PageError, ReportPage};

/// Names that a query cannot have, because the template already has them.
const PARAMETERS: &str = "parameters";
const WORKFLOW: &str = "workflow";
const RUN_ID: &str = "run_id";

/// A report, checked against its data when it was loaded.
#[derive(Debug)]
pub(crate) struct Report {
    data: Data,
    queries: Vec<Query>,
    page: ReportPage,
}

/// Result of a report.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The HTML page.
    pub(crate) html: Vec<u8>,
    /// Summary of the result, in a line.
    pub(crate) summary: String,
}

/// Error of a report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The attempt was stopped.
    #[error("the report was stopped")]
    Stopped,
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The page cannot be rendered.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl From<ReportError> for ExecuteError {
    fn from(error: ReportError) -> Self {
        let may_pass = match &error {
            ReportError::Stopped => true,
            ReportError::Data(error) => error.may_pass(),
            ReportError::Page(_) => false,
        };
        if may_pass { Self::retryable(error) } else { Self::fatal(error) }
    }
}

impl Report {
    /// Parses a `[report]` section. Opens the data, prepares every query and compiles the template, so
    /// mistakes show at start-up and not in the first run.
    pub(crate) fn load(
        section: &mut Section<'_>,
        folder: &Path,
        workflow: &Workflow,
    ) -> Result<Self, FileProblem> {
        let (data, place) = match (section.take("database"), section.take("csv")) {
            (Some(file), None) => (Data::Database(DataFile::new(folder, file.text()?)), file),
            (None, Some(tables)) => {
                let mut files = Vec::new();
                for (table, file) in tables.section()?.take_all() {
                    files.push((table.to_owned(), DataFile::new(folder, file.text()?)));
                }
                (Data::Csv(files), tables)
            }
            (Some(_), Some(csv)) => return Err(csv.problem("a report has a database or csv files, not both")),
            (None, None) => return Err(section.problem("the key database or csv is missing")),
        };
        let connection = data.open(&Cancellation::never()).map_err(|error| place.problem(chain(&error)))?;

        let mut queries = Vec::new();
        let given = section.require("queries")?;
        for (name, sql) in given.section()?.take_all() {
            if !is_identifier(name) || [PARAMETERS, WORKFLOW, RUN_ID].contains(&name) {
                return Err(sql.problem(
                    "the name of a query is made of letters, digits and _, and is not parameters, workflow or run_id",
                ));
            }
            let query = Query::prepare(&connection, name, sql.text()?, &workflow.parameters);
            queries.push(query.map_err(|error| sql.problem(chain(&error)))?);
        }
        if queries.is_empty() {
            return Err(given.problem("a report needs at least one query"));
        }

        let known: Vec<_> =
            queries.iter().map(|query| query.name.as_str()).chain([PARAMETERS, WORKFLOW, RUN_ID]).collect();
        let template = section.require("template")?;
        let file = folder.join(template.text()?);
        let source = regular_file::read_to_string(&file)
            .map_err(|error| template.problem(format!("{} cannot be read: {error}", file.display())))?;
        let mut page = ReportPage::new(source, &known).map_err(|error| template.problem(chain(&error)))?;
        if let Some(summary) = section.take("summary") {
            page = page
                .with_summary(summary.text()?.to_owned(), &known)
                .map_err(|error| summary.problem(chain(&error)))?;
        }
        Ok(Self { data, queries, page })
    }

    /// Runs the queries and renders the page. Blocks its thread; both end soon after the attempt is to stop.
    pub(crate) fn run(&self, context: &RunContext, workflow: &Workflow) -> Result<Finished, ReportError> {
        let stop = &context.cancellation;
        let outcome = self.run_unless_stopped(context, workflow, &context.reporter());
        if let Err(ReportError::Data(error)) = &outcome
            && let Some(file) = error.path()
        {
            tracing::error!(file = %file.display(), error = chain(error), "the data of a report cannot be read");
        }
        // A failure after the attempt was told to stop is a consequence of that.
        if stop.is_cancelled() { Err(ReportError::Stopped) } else { outcome }
    }

    fn run_unless_stopped(
        &self,
        context: &RunContext,
        workflow: &Workflow,
        reporter: &Reporter,
    ) -> Result<Finished, ReportError> {
        let steps = (self.queries.len() + 2) as f64;
        reporter.progress(0.0, "reading data");
        let connection = self.data.open(&context.cancellation)?;
        let mut values = BTreeMap::new();
        let mut total = 0;
        for (done, query) in (1_u32..).zip(&self.queries) {
            if context.cancellation.is_cancelled() {
                return Err(ReportError::Stopped);
            }
            reporter.progress(f64::from(done) / steps, format!("query {}", query.name));
            let rows = query.rows(&connection, &context.parameters)?;
            reporter.log(format!("query {}: {}", query.name, counted(rows.len())));
            total += rows.len();
            values.insert(query.name.clone(), Value::from(rows));
        }
        reporter.progress((steps - 1.0) / steps, "laying out");
        values.insert(PARAMETERS.to_owned(), shown_parameters(context, &workflow.parameters));
        values.insert(WORKFLOW.to_owned(), shown_workflow(workflow));
        values.insert(RUN_ID.to_owned(), Value::from(context.run.to_string()));
        let values = Value::from(values);
        let mut mask = context.masker().stream();
        let mut html = mask.push(&self.page.html(&values, &context.cancellation)?);
        html.append(&mut mask.finish());
        let summary = self.page.summary(&values)?.unwrap_or_else(|| counted(total));
        Ok(Finished { html, summary })
    }
}

/// Returns the parameters for the template: a secret is masked, and a declared parameter without value is
/// none.
fn shown_parameters(context: &RunContext, blocks: &ParameterBlocks) -> Value {
    let mut shown: BTreeMap<String, Value> =
        blocks.iter().map(|block| (block.name.clone(), Value::from(()))).collect();
    for (name, parameter) in context.parameters.iter() {
        let value = if parameter.secret {
            Value::from(webhook_core::masking::MASK)
        } else {
            Value::from(Serde(&parameter.value))
        };
        shown.insert(name.to_owned(), value);
    }
    Value::from(shown)
}

fn shown_workflow(workflow: &Workflow) -> Value {
    Value::from(BTreeMap::from([
        ("kind", workflow.key.kind.to_string()),
        ("id", workflow.key.id.to_string()),
        ("title", workflow.title.clone()),
    ]))
}

fn counted(rows: usize) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

fn is_identifier(name: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_start)
        && name.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit())
}

/// Formats an error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    webhook_core::error::chain(error).lines().collect::<Vec<_>>().join(" ")
}
