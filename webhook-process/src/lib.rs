//! Runs external commands and Jupyter notebooks for inbound webhook triggers, as an
//! [`Executor`](webhook_core::executor::Executor).
//!
//! ```
//! use webhook_core::executor::Workflow;
//! use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
//! use webhook_process::{Command, CommandExecutor, CommandWorkflow};
//!
//! let blocks = ParameterBlocks::new(vec![ParameterBlock::new("region", ParameterType::Text)])?;
//! let workflow = Workflow::new("report/sales".parse()?, "Sales", blocks);
//! let command = Command::new("python3").with_arguments(["sales.py"]).with_folder("/srv/reports");
//! let executor = CommandExecutor::new([CommandWorkflow::new(workflow, command)?])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`NotebookExecutor`] does the same for Jupyter notebooks.
//!
//! # Input of a command
//!
//! - The program and its arguments are exactly those that the host wrote. No shell reads them, and nothing of
//!   a call is inserted.
//! - Standard input is one JSON object on one line, and then ends:
//!   `{"run_id":"…","workflow":{"kind":"report","id":"sales"},"attempt":1,"parameters":{"region":"EMEA"}}`. A
//!   command need not read it.
//! - The environment is that of this process without its `WEBHOOK_*` variables, plus the command's own
//!   variables, plus `WEBHOOK_RUN_ID`, plus one variable per scalar parameter.
//!
//! A declared scalar parameter is in the variable `PARAM_<NAME>`: its name in upper case, with `_` for every
//! character other than `A-Z` and `0-9`.
//! Secret parameters, values over 32 KiB, and text with a NUL character have no variable.
//! Undeclared parameters, lists and `json` parameters have none either, so a caller cannot choose the name of
//! a variable.
//! Standard input has all of them.
//!
//! # Output of a command
//!
//! - Lines on standard output and standard error become the run's log. First secret values are masked, then
//!   bytes that are not UTF-8 are replaced, and a line over 64 KiB is split. So a command that writes without
//!   end takes bounded memory.
//! - If the last line of standard output is a JSON object with a `summary`, that is the run's summary.
//! - Exit status 0 is success. Another status, or death by a signal, is a retryable failure; its message has
//!   the status and the last lines of standard error.
//! - A program that cannot be started is a fatal failure, unless the system was short of processes, files or
//!   memory.
//! - Error messages name no folder of the server; the log (`tracing`) does.
//!
//! # End of a command
//!
//! Every attempt has its own process group. When the run is cancelled or exceeds its time-out, the group gets
//! SIGTERM. If the command still runs after [`CommandOptions::termination_grace`], the group gets SIGKILL.
//! When the command ends, when its future is dropped, or when the run's lease is lost, the group gets SIGKILL
//! at once. So nothing that the command started in its group outlives it.
//!
//! One guard serves all runs of this process: `/bin/sh` with a constant script, which reads a pipe from this
//! process. It knows every group before a run starts in it.
//! When this process dies in any way, SIGKILL included, the pipe ends and the guard kills all groups. A guard
//! that dies is replaced at once, and the runs continue. The guard and unused groups end 10 s after the last
//! run.
//!
//! The number of a group is held by its leader, a process that has ended. So process lists show a defunct
//! `sh` for each group.
//! Therefore a host must wait for its own children only, and must not ignore SIGCHLD.
//!
//! A process that leaves the group (`setsid`, a daemon) escapes all of this.
//!
//! # Notebooks
//!
//! A [`Notebook`] is run by papermill in a [`Python`] that the host chooses. [`Notebook::parameters`] are the
//! parameters declared in its cell with the tag `parameters`.
//!
//! - Declared parameters that a call gives are set in a cell after that one, as Python values of their types;
//!   dates are text. A default that no call overrides stays as the notebook has it.
//! - Undeclared parameters are never variables: they are in the dictionary `webhook_parameters`.
//! - All parameters travel on standard input.
//! - The output of cells is the run's log, line by line, and each cell is a step of its progress. A last line
//!   that is a JSON object with a `summary` is the summary, as for a command.
//! - The artifacts are `notebook.ipynb`, as executed, and `notebook.html`, even if a cell fails. In them,
//!   each cell keeps up to 256 KiB of printed text, and the notebook up to 8 MiB of output; a note replaces
//!   the rest. Secret parameters are masked in both.
//! - The error of a failing cell is the error of the run, and is retryable.
//! - The kernel stays in the process group of its attempt and ends with it. A program that a cell starts by
//!   `!command` has its own terminal, and gets SIGHUP when the kernel ends.
//!
//! Unix only, with a `/bin/sh`. The futures need a tokio runtime with I/O and time enabled.

#[cfg(not(unix))]
compile_error!("webhook-process needs process groups and signals, which only Unix has");

mod artifact;
mod attempt;
mod command;
mod environment;
mod error;
mod executor;
mod group;
mod guard;
mod listing;
mod notebook;
mod output;
mod process;
mod workflow;

pub use artifact::{ArtifactError, ArtifactFolder, Draft};
pub use command::{Command, CommandOptions};
pub use error::{CommandError, CommandPart, DuplicateWorkflow, InvalidCommand};
pub use executor::CommandExecutor;
pub use notebook::{InvalidNotebook, Notebook, NotebookError, NotebookExecutor, NotebookWorkflow, Python};
pub use workflow::CommandWorkflow;

#[cfg(test)]
mod tests;
