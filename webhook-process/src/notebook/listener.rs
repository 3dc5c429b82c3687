//! Reads the messages of the runner.

use std::process::ExitStatus;

use serde::Deserialize;
use webhook_core::executor::{Reporter, RunOutput};

use super::error::NotebookError;
use super::python::Python;
use crate::attempt::{LastErrors, SummaryLine};
use crate::error::CommandError;
use crate::output::Line;
use crate::process::Listener;

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Printed {
        stream: String,
        lines: Vec<String>,
    },
    Progress {
        progress: f64,
        message: String,
    },
    Failed {
        failed: String,
        may_pass: bool,
        #[serde(default)]
        lacks_package: bool,
    },
    Finished {
        #[serde(rename = "finished")]
        _finished: bool,
    },
}

/// Passes on the messages of the runner, and remembers the outcome.
pub(super) struct NotebookListener {
    reporter: Reporter,
    last: SummaryLine,
    errors: LastErrors,
    verdict: Option<Verdict>,
}

enum Verdict {
    Finished,
    Failed { message: String, may_pass: bool },
    PackageMissing { message: String },
}

impl NotebookListener {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { reporter, last: SummaryLine::default(), errors: LastErrors::default(), verdict: None }
    }

    /// Returns the outcome of the attempt, once the runner has ended.
    pub(super) fn judge(self, status: ExitStatus, python: &Python) -> Result<RunOutput, NotebookError> {
        match self.verdict {
            Some(Verdict::Failed { message, may_pass }) => Err(NotebookError::Failed { message, may_pass }),
            Some(Verdict::PackageMissing { message }) => {
                tracing::error!(python = python.shown(), message, "a Python package is missing");
                Err(NotebookError::PackageMissing { message })
            }
            Some(Verdict::Finished) => {
                self.errors.judge(status)?;
                Ok(self.last.output())
            }
            None => {
                self.errors.judge(status)?;
                // Status 0 without the final message: code in the notebook ended the process.
                Err(CommandError::ExitStatus { status: 0, stderr: Vec::new() }.into())
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Printed { stream, lines } => {
                for line in lines {
                    if stream == "stdout" {
                        self.last.take(&line, true);
                    }
                    self.reporter.log(line);
                }
            }
            Event::Progress { progress, message } => self.reporter.progress(progress, message),
            Event::Failed { failed: message, lacks_package: true, .. } => {
                self.verdict = Some(Verdict::PackageMissing { message });
            }
            Event::Failed { failed: message, may_pass, .. } => {
                self.verdict = Some(Verdict::Failed { message, may_pass });
            }
            Event::Finished { .. } => self.verdict = Some(Verdict::Finished),
        }
    }
}

impl Listener for NotebookListener {
    fn stdout(&mut self, line: Line) {
        match serde_json::from_str(&line.text) {
            Ok(event) => self.take(event),
            Err(_) => self.reporter.log(line.text),
        }
    }

    fn stderr(&mut self, line: Line) {
        self.errors.take(&line.text);
        self.reporter.log(line.text);
    }
}
