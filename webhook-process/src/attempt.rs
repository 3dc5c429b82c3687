//! One attempt: starts the command, feeds it, listens to it, and sees to its end.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep_until, timeout};
use webhook_core::executor::{RunContext, RunOutput, StopReason};

use crate::command::{Command, CommandOptions};
use crate::environment::{self, ParameterVariable};
use crate::error::CommandError;
use crate::group::ProcessGroup;
use crate::output::{Line, LineCutter};

/// How long output is still read after the group was killed: only a process that left the group can hold it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// How long after the deadline an attempt stops that nobody cancelled.
const DEADLINE_PATIENCE: Duration = Duration::from_millis(250);

/// How many lines of standard error an error repeats, and how many characters of each.
const ERROR_LINES: usize = 5;
const ERROR_LINE_CHARACTERS: usize = 400;

const READ_BYTES: usize = 64 * 1024;

/// Takes a line for the run's log.
pub(crate) type Log<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Runs `command` for one attempt. Dropping the future kills its process group.
pub(crate) async fn run(
    command: &Command,
    variables: &[ParameterVariable],
    context: &RunContext,
    options: &CommandOptions,
    log: Log<'_>,
) -> Result<RunOutput, CommandError> {
    if let Some(reason) = context.cancellation.reason() {
        return Err(CommandError::Stopped(reason));
    }
    let group = ProcessGroup::start().map_err(|source| CommandError::CannotWatch { source })?;
    let mut child = start(command, variables, context, &group, log)?;
    // From here on the group is dropped before the child, so that the child is dead when it is dropped.
    let mut group = group;
    let mut feeding = pin!(feed(child.stdin.take(), input(context)));
    let mut output = Output::new(child.stdout.take(), child.stderr.take(), log);

    let mut is_fed = false;
    let mut stopped = None;
    let mut kill_at = Instant::now();
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status),
            reason = stop(context), if stopped.is_none() => {
                stopped = Some(reason);
                // Another worker may be executing the run already, so there is no time to wait.
                if reason == StopReason::LeaseLost {
                    break None;
                }
                group.terminate();
                kill_at = Instant::now() + options.termination_grace;
            }
            () = sleep_until(kill_at), if stopped.is_some() => break None,
            () = &mut feeding, if !is_fed => is_fed = true,
            () = output.read(), if output.is_open() => {}
        }
    };

    group.kill();
    let status = match status {
        Some(status) => status,
        None => {
            timeout(LAST_OUTPUT, child.wait()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    };
    // What cannot be read by now comes from a process that left the group.
    let _ = timeout(LAST_OUTPUT, output.read()).await;
    output.finish();
    match stopped {
        Some(reason) => Err(CommandError::Stopped(reason)),
        None => output.judge(status.map_err(CommandError::Lost)?),
    }
}

fn start(
    command: &Command,
    variables: &[ParameterVariable],
    context: &RunContext,
    group: &ProcessGroup,
    log: Log<'_>,
) -> Result<Child, CommandError> {
    let (given, left_out) = environment::run_variables(context.run, variables, &context.parameters);
    for variable in left_out {
        log(format!("[{variable} is not set: its value does not fit into an environment variable]"));
    }
    let mut process = tokio::process::Command::new(&command.program);
    process.args(&command.arguments).process_group(group.id());
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(folder) = &command.folder {
        process.current_dir(folder);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| environment::is_withheld(name)) {
        process.env_remove(name);
    }
    // The trace that this process is part of is not that of the run.
    process.env_remove(environment::TRACEPARENT);
    process.envs(&command.environment).envs(given);
    if let Some(traceparent) = &context.caller.traceparent {
        process.env(environment::TRACEPARENT, traceparent);
    }
    process.spawn().map_err(|source| {
        let program = command.program.to_string_lossy().into_owned();
        match &command.folder {
            Some(folder) if !folder.is_dir() => {
                CommandError::FolderMissing { program, folder: folder.to_string_lossy().into_owned() }
            }
            _ => CommandError::CannotStart { program, source },
        }
    })
}

/// What the command reads: one JSON object with plain values, and a line end.
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

/// Writes the input and closes the pipe. A command that does not care to read it is no error.
async fn feed(stdin: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

/// Waits until the attempt is to stop. Cancel safe.
///
/// Whoever set the deadline cancels at the deadline too. That comes first, so that it decides how the run ends.
async fn stop(context: &RunContext) -> StopReason {
    let deadline = async {
        match context.deadline {
            Some(deadline) => sleep_until(deadline + DEADLINE_PATIENCE).await,
            None => pending().await,
        }
    };
    tokio::select! {
        reason = context.cancellation.cancelled() => reason,
        () = deadline => StopReason::TimedOut,
    }
}

/// What a command has written so far.
struct Output<'a> {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    stdout_bytes: Vec<u8>,
    stderr_bytes: Vec<u8>,
    stdout_lines: LineCutter,
    stderr_lines: LineCutter,
    log: Log<'a>,
    /// The last line of standard output when it may be a JSON object.
    last_object: Option<String>,
    last_errors: VecDeque<String>,
}

impl<'a> Output<'a> {
    fn new(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>, log: Log<'a>) -> Self {
        Self {
            stdout,
            stderr,
            stdout_bytes: vec![0; READ_BYTES],
            stderr_bytes: vec![0; READ_BYTES],
            stdout_lines: LineCutter::default(),
            stderr_lines: LineCutter::default(),
            log,
            last_object: None,
            last_errors: VecDeque::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Reads until both streams have ended. Cancel safe.
    async fn read(&mut self) {
        while self.is_open() {
            tokio::select! {
                count = read_some(&mut self.stdout, &mut self.stdout_bytes) => self.take_stdout(count),
                count = read_some(&mut self.stderr, &mut self.stderr_bytes) => self.take_stderr(count),
            }
        }
    }

    fn take_stdout(&mut self, count: usize) {
        let Self { stdout_lines, stdout_bytes, log, last_object, .. } = self;
        stdout_lines.push(&stdout_bytes[..count], |line| take_stdout_line(line, log, last_object));
    }

    fn take_stderr(&mut self, count: usize) {
        let Self { stderr_lines, stderr_bytes, log, last_errors, .. } = self;
        stderr_lines.push(&stderr_bytes[..count], |line| take_stderr_line(line, log, last_errors));
    }

    /// Takes what follows the last line ends.
    fn finish(&mut self) {
        let Self { stdout_lines, stderr_lines, log, last_object, last_errors, .. } = self;
        stdout_lines.finish(|line| take_stdout_line(line, log, last_object));
        stderr_lines.finish(|line| take_stderr_line(line, log, last_errors));
    }

    fn judge(self, status: ExitStatus) -> Result<RunOutput, CommandError> {
        let stderr = Vec::from(self.last_errors);
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(match self.last_object.as_deref().and_then(summary) {
                Some(summary) => RunOutput::new().with_summary(summary),
                None => RunOutput::new(),
            }),
            (Some(status), _) => Err(CommandError::ExitStatus { status, stderr }),
            (None, signal) => Err(CommandError::Killed { signal: signal.unwrap_or_default(), stderr }),
        }
    }
}

/// Reads what is there and answers how much; a stream that has ended is dropped. Cancel safe.
async fn read_some<R: AsyncRead + Unpin>(stream: &mut Option<R>, bytes: &mut [u8]) -> usize {
    let Some(open) = stream else { return pending().await };
    match open.read(bytes).await {
        Ok(count) if count > 0 => count,
        _ => {
            *stream = None;
            0
        }
    }
}

fn take_stdout_line(line: Line, log: Log<'_>, last_object: &mut Option<String>) {
    if !line.text.trim().is_empty() {
        let may_be_object = line.is_whole && line.text.trim_start().starts_with('{');
        *last_object = may_be_object.then(|| line.text.clone());
    }
    log(line.text);
}

fn take_stderr_line(line: Line, log: Log<'_>, last_errors: &mut VecDeque<String>) {
    if !line.text.trim().is_empty() {
        if last_errors.len() == ERROR_LINES {
            last_errors.pop_front();
        }
        last_errors.push_back(line.text.chars().take(ERROR_LINE_CHARACTERS).collect());
    }
    log(line.text);
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
