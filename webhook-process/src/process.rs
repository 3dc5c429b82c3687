//! One process of an attempt: its start, input, output and end.

use std::future::pending;
use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::ioctl_fionbio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep_until, timeout};
use webhook_core::executor::{RunContext, StopReason};
use webhook_core::masking::{Masker, MaskingStream};

use crate::command::{Command, CommandOptions};
use crate::environment;
use crate::error::CommandError;
use crate::group::ProcessGroup;
use crate::output::{Line, LineCutter};

/// Time for reading output after the group was killed. Only a process that left the group can keep it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Time after the deadline at which an attempt stops that the workers have not cancelled.
const DEADLINE_PATIENCE: Duration = Duration::from_millis(250);

const READ_BYTES: usize = 64 * 1024;

/// Description of a process to start for one attempt.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a Command,
    /// Variables of this run, in addition to those of the command.
    pub(crate) variables: Vec<(&'a str, String)>,
    /// Whole content of standard input.
    pub(crate) input: Vec<u8>,
    /// Masker of standard output. It may be empty if the listener masks.
    pub(crate) stdout_masker: Masker,
}

/// Receiver of the lines of a process.
pub(crate) trait Listener: Send {
    /// Takes a line of standard output.
    fn stdout(&mut self, line: Line);
    /// Takes a line of standard error.
    fn stderr(&mut self, line: Line);
}

/// Runs a process for one attempt and returns its exit status. Dropping the future kills its process group.
pub(crate) async fn run(
    launch: Launch<'_>,
    context: &RunContext,
    options: &CommandOptions,
    listener: &mut dyn Listener,
) -> Result<ExitStatus, CommandError> {
    if let Some(reason) = context.cancellation.reason() {
        return Err(CommandError::Stopped(reason));
    }
    let group = ProcessGroup::take().map_err(|source| CommandError::CannotWatch { source })?;
    let cannot_start = |source| CommandError::CannotStart { program: launch.command.name(), source };
    let input = Input::new(launch.input).map_err(cannot_start)?;
    let traceparent = context.caller.traceparent.as_deref();
    let mut child = start(launch.command, launch.variables, traceparent, input.reader, &group)?;
    // From here on the group is dropped before the child, so the child is dead when it is dropped.
    let group = group;
    let mut is_fed = input.rest.is_none();
    let mut feeding = pin!(feed(input.rest));
    let mut stop = pin!(stop(context));
    let stdout = OutputLines::new(child.stdout.take(), &launch.stdout_masker);
    let stderr = OutputLines::new(child.stderr.take(), context.masker());
    let mut output = Output { stdout, stderr, listener };

    let mut stopped = None;
    let mut kill_at = Instant::now();
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status),
            reason = &mut stop, if stopped.is_none() => {
                stopped = Some(reason);
                // Another worker may already be executing the run, so there is no time to wait.
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
    // Output that cannot be read by now comes from a process that left the group.
    let _ = timeout(LAST_OUTPUT, output.read()).await;
    output.finish();
    match stopped {
        Some(reason) => Err(CommandError::Stopped(reason)),
        None => status.map_err(CommandError::Lost),
    }
}

fn start(
    command: &Command,
    variables: Vec<(&str, String)>,
    traceparent: Option<&str>,
    stdin: PipeReader,
    group: &ProcessGroup,
) -> Result<Child, CommandError> {
    let mut process = tokio::process::Command::new(command.found_program());
    process.arg0(&command.program).args(&command.arguments).process_group(group.id());
    process.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(folder) = &command.folder {
        process.current_dir(folder);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| environment::is_withheld(name)) {
        process.env_remove(name);
    }
    // The trace context of this process is not that of the run.
    process.env_remove(environment::TRACEPARENT);
    process.envs(&command.environment).envs(variables);
    if let Some(traceparent) = traceparent {
        process.env(environment::TRACEPARENT, traceparent);
    }
    process.spawn().map_err(|source| {
        // Callers see the error, so it must not contain paths of the server.
        let error = &source as &dyn std::error::Error;
        tracing::error!(program = %command.program.display(), folder = ?command.folder, error, "a program cannot be started");
        let program = command.name();
        match &command.folder {
            Some(folder) if !folder.is_dir() => CommandError::FolderMissing { program },
            _ => CommandError::CannotStart { program, source },
        }
    })
}

/// Standard input of a process: a pipe, which is already closed if it holds the whole input.
struct Input {
    reader: PipeReader,
    rest: Option<(ChildStdin, Vec<u8>)>,
}

impl Input {
    fn new(mut bytes: Vec<u8>) -> io::Result<Self> {
        let (reader, mut writer) = io::pipe()?;
        ioctl_fionbio(&writer, true)?;
        let written = match writer.write(&bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if written == bytes.len() {
            return Ok(Self { reader, rest: None });
        }
        bytes.drain(..written);
        let writer = ChildStdin::from_std(OwnedFd::from(writer).into())?;
        Ok(Self { reader, rest: Some((writer, bytes)) })
    }
}

/// Writes the rest of the input and closes the pipe. A command that does not read it is not an error.
async fn feed(rest: Option<(ChildStdin, Vec<u8>)>) {
    if let Some((mut writer, bytes)) = rest {
        let _ = writer.write_all(&bytes).await;
    }
}

/// Waits until the attempt is to stop. Cancel safe.
///
/// The workers cancel at the deadline too. This waits a little longer, so their cancellation decides how the
/// run ends.
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

/// Output streams of a process.
struct Output<'a> {
    stdout: OutputLines<ChildStdout>,
    stderr: OutputLines<ChildStderr>,
    listener: &'a mut dyn Listener,
}

impl Output<'_> {
    fn is_open(&self) -> bool {
        self.stdout.stream.is_some() || self.stderr.stream.is_some()
    }

    /// Reads until both streams have ended. Cancel safe.
    async fn read(&mut self) {
        while self.is_open() {
            let Self { stdout, stderr, listener } = self;
            tokio::select! {
                () = stdout.read_some() => stdout.take(|line| listener.stdout(line)),
                () = stderr.read_some() => stderr.take(|line| listener.stderr(line)),
            }
        }
    }

    /// Takes the text after the last line ends.
    fn finish(&mut self) {
        let Self { stdout, stderr, listener } = self;
        stdout.finish(|line| listener.stdout(line));
        stderr.finish(|line| listener.stderr(line));
    }
}

/// Output stream of a process, which is masked and then split into lines.
///
/// The mask comes first: it would not find a secret that a split went through.
struct OutputLines<R> {
    stream: Option<R>,
    bytes: Vec<u8>,
    mask: MaskingStream,
    cutter: LineCutter,
}

impl<R: AsyncRead + Unpin> OutputLines<R> {
    fn new(stream: Option<R>, masker: &Masker) -> Self {
        let bytes = Vec::with_capacity(READ_BYTES);
        Self { stream, bytes, mask: masker.stream(), cutter: LineCutter::default() }
    }

    /// Reads the available bytes, and drops a stream that has ended. Cancel safe.
    async fn read_some(&mut self) {
        let Some(stream) = &mut self.stream else { return pending().await };
        if !matches!(stream.read_buf(&mut self.bytes).await, Ok(count) if count > 0) {
            self.stream = None;
        }
    }

    /// Passes on the lines that the read bytes complete.
    fn take(&mut self, take: impl FnMut(Line)) {
        self.cutter.push(&self.mask.push(&self.bytes), take);
        self.bytes.clear();
    }

    fn finish(&mut self, mut take: impl FnMut(Line)) {
        // A killed process may have been about to write the rest of a secret.
        self.cutter.push(&self.mask.cut(), &mut take);
        self.cutter.finish(take);
    }
}
