//! Errors of commands.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustix::process::Signal;
use webhook_core::executor::StopReason;
use webhook_core::id::WorkflowKey;

/// Error of an attempt of a command.
///
/// The messages contain the command's own lines on standard error, with secret values masked, and nothing of
/// its input. They name no folder of the server, since callers see them; the log does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The program cannot be started.
    #[error("cannot start the program {program:?}")]
    CannotStart {
        /// Name of the program without its folder.
        program: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The working folder does not exist or is not a folder.
    #[error("cannot start the program {program:?}: its working folder does not exist")]
    FolderMissing {
        /// Name of the program without its folder.
        program: String,
    },
    /// `/bin/sh`, the guard of the command, cannot be started.
    #[error("cannot start /bin/sh, which watches over the command")]
    CannotWatch {
        /// Error of the operating system.
        source: io::Error,
    },
    /// The command ended with another status than 0.
    #[error("exit status {status}{}", ErrorLines(.stderr))]
    ExitStatus {
        /// Exit status of the command.
        status: i32,
        /// Last lines on standard error.
        stderr: Vec<String>,
    },
    /// The command was killed by a signal that this crate did not send.
    #[error("killed by {}{}", SignalName(*.signal), ErrorLines(.stderr))]
    Killed {
        /// Number of the signal.
        signal: i32,
        /// Last lines on standard error.
        stderr: Vec<String>,
    },
    /// The command was stopped because its attempt was stopped.
    #[error("the command was stopped: {}", stop_text(*.0))]
    Stopped(StopReason),
    /// The end of the command is unknown.
    #[error("cannot wait for the command")]
    Lost(#[source] io::Error),
}

impl CommandError {
    /// Returns whether another attempt may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::CannotStart { source, .. } | Self::CannotWatch { source } => is_shortage(source),
            Self::FolderMissing { .. } => false,
            Self::ExitStatus { .. } | Self::Killed { .. } | Self::Stopped(_) | Self::Lost(_) => true,
        }
    }
}

/// Returns whether the system was short of a resource, or the program was being written at that moment.
fn is_shortage(reason: &io::Error) -> bool {
    let errno = Errno::from_io_error(reason);
    [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY]
        .into_iter()
        .any(|shortage| errno == Some(shortage))
}

fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cancelled(_) => "the run was cancelled",
        StopReason::TimedOut => "its time was over",
        StopReason::ShuttingDown => "the service shuts down",
        StopReason::LeaseLost => "the lease of the run was lost",
        _ => "the attempt was stopped",
    }
}

struct ErrorLines<'a>(&'a [String]);

impl fmt::Display for ErrorLines<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(formatter, "\n{line}"))
    }
}

struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Signal, &str); 18] = [
            (Signal::HUP, "SIGHUP"),
            (Signal::INT, "SIGINT"),
            (Signal::QUIT, "SIGQUIT"),
            (Signal::ILL, "SIGILL"),
            (Signal::TRAP, "SIGTRAP"),
            (Signal::ABORT, "SIGABRT"),
            (Signal::BUS, "SIGBUS"),
            (Signal::FPE, "SIGFPE"),
            (Signal::KILL, "SIGKILL"),
            (Signal::USR1, "SIGUSR1"),
            (Signal::SEGV, "SIGSEGV"),
            (Signal::USR2, "SIGUSR2"),
            (Signal::PIPE, "SIGPIPE"),
            (Signal::ALARM, "SIGALRM"),
            (Signal::TERM, "SIGTERM"),
            (Signal::XCPU, "SIGXCPU"),
            (Signal::XFSZ, "SIGXFSZ"),
            (Signal::SYS, "SIGSYS"),
        ];
        match NAMES.iter().find(|(signal, _)| signal.as_raw() == self.0) {
            Some((_, name)) => formatter.write_str(name),
            None => write!(formatter, "signal {}", self.0),
        }
    }
}

/// Error of a command that cannot be run for its workflow, whatever the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommand {
    /// Two parameters would have the same variable.
    #[error(
        "the parameters {first:?} and {second:?} would both be the environment variable {variable}; rename one"
    )]
    SameVariable {
        /// Name of the parameter declared first.
        first: String,
        /// Name of the parameter declared second.
        second: String,
        /// Name of their variable.
        variable: String,
    },
    /// A variable of the command has the name of one that is set for every run.
    #[error("the environment variable {variable} is set for every run; choose another name")]
    ReservedVariable {
        /// Name of the variable.
        variable: String,
    },
    /// The name of a variable is empty or contains a `=`.
    #[error("{variable:?} is not a name for an environment variable: it is empty or contains =")]
    VariableName {
        /// Name of the variable.
        variable: String,
    },
    /// A text contains a NUL character, which no program can receive.
    #[error("the {part} contains a NUL character")]
    Nul {
        /// Part of the command with the NUL character.
        part: CommandPart,
    },
    /// The workflow of a notebook has a parameter that the notebook does not declare.
    #[error("the notebook declares no parameter {parameter:?}")]
    UndeclaredParameter {
        /// Name of the parameter.
        parameter: String,
    },
    /// The name of the program is empty.
    #[error("the program is empty")]
    NoProgram,
}

/// Part of a command that is handed to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandPart {
    /// Name or path of the program.
    Program,
    /// One of the arguments.
    Argument,
    /// The folder in which the program starts.
    WorkingFolder,
    /// The value of a variable.
    EnvironmentValue,
}

impl std::fmt::Display for CommandPart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Program => "program",
            Self::Argument => "argument",
            Self::WorkingFolder => "working folder",
            Self::EnvironmentValue => "value of an environment variable",
        })
    }
}

/// Error for two workflows with the same kind and id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the workflow {0} is given twice")]
pub struct DuplicateWorkflow(pub WorkflowKey);
