//! One attempt of a command, and the meaning of its output.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::{Map, Value, json};
use webhook_core::executor::{RunContext, RunOutput};

use crate::command::{Command, CommandOptions};
use crate::environment::{self, ParameterVariable};
use crate::error::CommandError;
use crate::output::Line;
use crate::process::{self, Launch, Listener};

/// Number of lines of standard error that an error repeats, and the characters of each.
const ERROR_LINES: usize = 5;
const ERROR_LINE_CHARACTERS: usize = 400;

/// Takes one line for the run's log.
pub(crate) type Log<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Runs `command` for one attempt. Dropping the future kills its process group.
pub(crate) async fn run(
    command: &Command,
    variables: &[ParameterVariable],
    context: &RunContext,
    options: &CommandOptions,
    log: Log<'_>,
) -> Result<RunOutput, CommandError> {
    let (given, left_out) = environment::run_variables(context.run, variables, &context.parameters);
    for variable in left_out {
        log(format!("[{variable} is not set: its value does not fit into an environment variable]"));
    }
    let stdout_masker = context.masker().clone();
    let launch = Launch { command, variables: given, input: input(context), stdout_masker };
    let mut listener = CommandListener { log, last: SummaryLine::default(), errors: LastErrors::default() };
    let status = process::run(launch, context, options, &mut listener).await?;
    listener.errors.judge(status)?;
    Ok(listener.last.output())
}

/// Returns the standard input: one JSON object with plain values, and a line end.
fn input(context: &RunContext) -> Vec<u8> {
    let parameters: Map<String, Value> =
        context.parameters.values().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let object = json!({
        "run_id": context.run.to_string(),
        "workflow": { "kind": context.workflow.kind.as_str(), "id": context.workflow.id.as_str() },
        "attempt": context.attempt,
        "parameters": parameters,
    });
    let mut bytes = object.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

struct CommandListener<'a> {
    log: Log<'a>,
    last: SummaryLine,
    errors: LastErrors,
}

impl Listener for CommandListener<'_> {
    fn stdout(&mut self, line: Line) {
        self.last.take(&line.text, line.is_whole);
        (self.log)(line.text);
    }

    fn stderr(&mut self, line: Line) {
        self.errors.take(&line.text);
        (self.log)(line.text);
    }
}

/// Last line of standard output if it may be a JSON object with the summary.
#[derive(Debug, Default)]
pub(crate) struct SummaryLine(Option<String>);

impl SummaryLine {
    pub(crate) fn take(&mut self, line: &str, is_whole: bool) {
        if !line.trim().is_empty() {
            let may_be_object = is_whole && line.trim_start().starts_with('{');
            self.0 = may_be_object.then(|| line.to_owned());
        }
    }

    pub(crate) fn output(&self) -> RunOutput {
        match self.0.as_deref().and_then(summary) {
            Some(summary) => RunOutput::new().with_summary(summary),
            None => RunOutput::new(),
        }
    }
}

/// Last lines of standard error.
#[derive(Debug, Default)]
pub(crate) struct LastErrors(VecDeque<String>);

impl LastErrors {
    pub(crate) fn take(&mut self, line: &str) {
        if !line.trim().is_empty() {
            if self.0.len() == ERROR_LINES {
                self.0.pop_front();
            }
            self.0.push_back(line.chars().take(ERROR_LINE_CHARACTERS).collect());
        }
    }

    /// Returns an error with these lines, unless the process succeeded.
    pub(crate) fn judge(self, status: ExitStatus) -> Result<(), CommandError> {
        let stderr = Vec::from(self.0);
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(status), _) => Err(CommandError::ExitStatus { status, stderr }),
            (None, signal) => Err(CommandError::Killed { signal: signal.unwrap_or_default(), stderr }),
        }
    }
}

fn summary(line: &str) -> Option<String> {
    match serde_json::from_str::<Value>(line).ok()?.get("summary")? {
        Value::String(text) => Some(text.clone()),
        number @ (Value::Number(_) | Value::Bool(_)) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_member_of_a_json_object() {
        assert_eq!(summary(r#"{"summary":"8 rows","more":1}"#).as_deref(), Some("8 rows"));
        assert_eq!(summary(r#"{"summary":8}"#).as_deref(), Some("8"));
        for line in [r#"{"summary":null}"#, r#"{"summary":{}}"#, r#"{"other":1}"#, "{", r#"["summary"]"#] {
            assert_eq!(summary(line), None, "{line}");
        }
    }
}
