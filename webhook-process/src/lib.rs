//! An [`Executor`](webhook_core::executor::Executor) for inbound webhook triggers that runs external commands
//! and Jupyter notebooks.
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
//! # What a command is given
//!
//! - The program and its arguments exactly as the host wrote them. No shell reads them and nothing of a call is
//!   put into them.
//! - On standard input one JSON object on one line, and then the end of the input:
//!   `{"run_id":"…","workflow":{"kind":"report","id":"sales"},"attempt":1,"parameters":{"region":"EMEA"}}`.
//!   A command that does not read it is fine.
//! - The environment of this process less every `WEBHOOK_*` variable, plus the command's own variables, plus
//!   `WEBHOOK_RUN_ID`, plus `PARAM_<NAME>` for every declared parameter that is a scalar: its name in upper case,
//!   with `_` for every character other than `A-Z` and `0-9`. Left out are secret parameters, values over 32 KiB,
//!   and text with a NUL character in it. Standard input has them all. Undeclared parameters, lists and `json`
//!   parameters are on standard input only, so that a caller cannot choose the name of a variable.
//!
//! # What becomes of it
//!
//! - Lines on standard output and standard error become the run's log. Secret values are masked first; then bytes that
//!   are not UTF-8 are replaced, and a line over 64 KiB is cut into pieces. A command that writes without end costs no
//!   memory.
//! - When the last line of standard output is a JSON object with a `summary`, that is the run's summary.
//! - Exit status 0 is success. Another status, or death by a signal, is a failure that may be retried; the message
//!   has the status and the last lines of standard error. A program that cannot be started is a failure that is
//!   not retried, except when the system was short of processes, files or memory. Messages name no folder of the
//!   server; the log (`tracing`) does.
//!
//! # When it ends
//!
//! Every attempt has a process group of its own. When the run is cancelled or out of time, the group gets SIGTERM,
//! and SIGKILL when the command is still there after [`CommandOptions::termination_grace`]. When the command
//! ends, when its future is dropped, or when the lease of its run was lost, the group gets SIGKILL at once: nothing
//! that the command started in its group outlives it.
//!
//! One guard serves all runs of this process: `/bin/sh` with a constant script, which holds one end of a pipe from this
//! process. It knows every group before a run starts in it. When this process dies in any way, SIGKILL
//! included, the pipe ends and the guard kills all groups. A guard that dies is replaced at once, and the
//! runs go on. Guard and unused groups end 10 s after the last run.
//!
//! The number of a group is held by a process that has ended, its leader, so process lists show a defunct `sh` for
//! each group. A host must therefore wait for no children but its own, and must not ignore SIGCHLD.
//!
//! A process that leaves the group (`setsid`, a daemon) is beyond all this.
//!
//! # Notebooks
//!
//! A [`Notebook`] is run by papermill in a [`Python`] of the host's choice, and [`Notebook::parameters`] are the
//! parameters that it declares in its cell with the tag `parameters`.
//!
//! - Declared parameters that a call gives stand in a cell after that one, as Python values of their types; dates are
//!   text. A default that no call overrides stays as the notebook has it. Parameters that are not declared are never
//!   variables: they are in the dictionary `webhook_parameters`. All of them travel on standard input.
//! - What cells print is the run's log, line by line, and each cell is a step of its progress. A last line that is a
//!   JSON object with a `summary` is the summary, as for a command.
//! - The artifacts are `notebook.ipynb`, as executed, and `notebook.html`, also when a cell fails. Each cell keeps up to 256 KiB of what it
//!   prints there, and the notebook up to 8 MiB of output; what is cut is replaced by a note. Secret parameters
//!   are masked in both.
//! - The error of a failing cell is the error of the run; it may be retried.
//! - The kernel stays in the process group of its attempt and ends with it, as all above. What a cell starts by
//!   `!command` has a terminal of its own, whose end it is told of by SIGHUP when the kernel ends.
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

pub use artifact::{ArtifactError, ArtifactFolder, Draft};
pub use command::{Command, CommandOptions, CommandWorkflow};
pub use error::{CommandError, DuplicateWorkflow, InvalidCommand};
pub use executor::CommandExecutor;
pub use notebook::{InvalidNotebook, Notebook, NotebookError, NotebookExecutor, NotebookWorkflow, Python};

#[cfg(test)]
mod tests;
